"""One image and one label, without training: the report of a shipped model against Richardson-Lucy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.inference import load_model
from dlm_fiji.micrograph import (
    check_content,
    from_array,
    open_image,
    to_array,
    write_json,
)
from dlm_fiji.pipeline.area import save_area, save_matrix, save_table
from dlm_fiji.pipeline.configuration import DeconvolveSettings
from dlm_fiji.pipeline.context import as_rgb8, known_pixel_um
from dlm_fiji.pipeline.run_folder import RunFolder
from dlm_fiji.pipeline.trusting import write_trust
from dlm_fiji.report import write_report
from dlm_fiji.steps.brightfield_lucy import brightfield_psf, search_brightfield
from dlm_fiji.steps.brightfield_trust import BrightfieldTiles, TrustSettings
from dlm_fiji.steps.comparison import BORDER, apply_gains, area_measures, brightness_gains, enlarged_bicubic
from dlm_fiji.steps.enhancement import enhance
from dlm_fiji.steps.pairing import find_label, pair_with_label

__all__ = ["compare_image"]


def compare_image(
    image: Path,
    label: Path,
    out: Path,
    model: str = "brightfield-x2.5",
    optics: DeconvolveSettings | None = None,
    pixel_um: float | None = None,
    command: str = "",
    tolerance: float | None = None,
    others: Sequence[str] = (),
) -> Path:
    """Compare bicubic, Richardson-Lucy at its best and a model on one bright-field image with a label.

    Parameters
    ----------
    image
        Low-resolution image; the label shows a part of it.
    label
        The better lens' image, ``model.scale`` times as finely sampled.
    out
        Folder for images and report.
    optics
        Of the low-resolution image, for Richardson-Lucy.
    pixel_um
        Pixel of the image, where the file does not say.
    tolerance
        Of :class:`~dlm_fiji.steps.TrustSettings`.
    others
        More models of the same enlargement, for the matrix of models and specimens.

    Returns
    -------
    The report's page. All three methods get the label's brightness (one gain a channel).

    Raises
    ------
    InputError
        The label is not in the image, is the image itself, or a pixel size is missing.
    """
    started = time.perf_counter()
    trusting = TrustSettings.given(tolerance=tolerance)
    network = load_model(model)
    scale = network.scale
    optics = optics or DeconvolveSettings()
    low, high = open_image(image), open_image(label)
    for path, content in ((image, low), (label, high)):
        check_content(content, str(path))
    if low.shape == high.shape and np.array_equal(low.values, high.values):
        raise InputError(f"{label} is the image itself; a label is the same field by a better lens.")
    camera = known_pixel_um(low, pixel_um)
    if camera is None:
        raise InputError(f"{image} carries no pixel size, which Richardson-Lucy needs; give it with --pixel.")
    mosaic = as_rgb8(to_array(low))
    found = find_label(mosaic, as_rgb8(to_array(high)), label.name, scale)
    pair = pair_with_label(mosaic, as_rgb8(to_array(high)), found, scale)
    run = RunFolder(out)
    run.begin(
        preset="compare",
        specimen=image.stem,
        command=command,
        settings={"image": str(image), "label": str(label), "deconvolve": optics.model_dump(mode="json")},
        simulated=False,
        model={"name": network.name, "sha256": network.sha256},
        question=f"How much closer to {label.name} does {network.name} come than Richardson-Lucy?",
    )
    gains = brightness_gains([(pair.lr, pair.hr)])
    psfs = [brightfield_psf(optics.na, optics.condenser_na, w, camera / scale, camera) for w in optics.wavelengths_um]
    rival = search_brightfield(
        pair.lr, psfs, scale, optics.iterations, lambda e: area_measures(e, pair.hr)["ssim"], gains
    )
    bicubic = enlarged_bicubic(pair.lr, scale)
    enhanced = enhance(from_array(pair.lr, camera), network)
    made = enhanced.attrs.pop("provenance")
    images = {
        "bicubic": apply_gains(bicubic, gains),
        "richardson_lucy": rival.image,
        "network": apply_gains(as_rgb8(to_array(enhanced)), gains),
    }
    folder = run.folder("evaluate")
    facts = {"": {"made_by": "dlm_fiji compare"}, "network": {"made_by": "dlm_fiji compare", **made}}
    area = save_area(folder, images, pair.hr, pair.lr, camera, camera / scale, facts)
    area["richardson_lucy"] |= {"iterations": rival.iterations, "iterations_tried": optics.iterations}
    scores = {network.name if name == "network" else name: found["ssim"] for name, found in area.items()}
    for other in map(load_model, others):
        if other.scale != scale:
            raise InputError(f"{other.name} enlarges {other.scale:g} times, {network.name} {scale:g} times.")
        further = apply_gains(as_rgb8(to_array(enhance(from_array(pair.lr, camera), other))), gains)
        scores[other.name] = area_measures(further, pair.hr)["ssim"]
    save_matrix(run.folder("measures"), [(name, image.stem, score) for name, score in scores.items()])
    measured_on = f"luminance Y of 8-bit RGB, data range 255, {BORDER} px border left out"
    write_json(folder / "metrics.json", {"test_area": area, "measured_on": measured_on, "gains": gains})
    save_table(run.folder("deconvolve") / "search.csv", ["iterations", "ssim"], rival.scores)
    note = f"{rival.iterations} iterations, chosen with the label"
    run.finish("deconvolve", "", 0.0, {"engine": "native", "note": note})
    run.finish("evaluate", "", time.perf_counter() - started, {"engine": "native", "note": f"{network.name}"})
    tiles = BrightfieldTiles(
        [mosaic], np.zeros((1, 2)), optics.na, optics.condenser_na, optics.wavelengths_um, camera, scale
    )
    judging = time.perf_counter()
    try:
        controls = {name: images[name] for name in ("richardson_lucy", "network", "bicubic")}
        verdict = write_trust(
            run.folder("trust"),
            tiles,
            images["network"],
            found.corner,
            {"label": pair.hr, **controls},
            found.corner,
            trusting,
            facts[""],
        )
    except InputError as error:
        verdict = f"not judged: {error}"
    run.finish("trust", "", time.perf_counter() - judging, {"engine": "native", "note": verdict})
    return write_report(out)
