"""One fluorescence image and a registered label: unprocessed, Richardson-Lucy at its best and, where given, a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.inference import Model, load_model
from dlm_fiji.micrograph import from_array, open_image, to_array, write_json
from dlm_fiji.pipeline.area import save_area, save_matrix, save_table
from dlm_fiji.pipeline.context import known_pixel_um, single_plane
from dlm_fiji.pipeline.run_folder import RunFolder
from dlm_fiji.pipeline.trusting import fluorescence_camera, write_trust
from dlm_fiji.registration.sampling import resample
from dlm_fiji.report import write_report
from dlm_fiji.steps.enhancement import enhance
from dlm_fiji.steps.fluorescence_area import (
    BORDER,
    compare_fluorescence,
    enlargement,
    registered_label,
    search_fluorescence,
    unit_label,
)
from dlm_fiji.steps.fluorescence_trust import FluorescenceTrustSettings

__all__ = ["compare_fluorescence_image"]


def compare_fluorescence_image(
    image: Path,
    label: Path,
    out: Path,
    model: str | None = None,
    iterations: int = 300,
    sigma: float | None = None,
    pixel_um: float | None = None,
    command: str = "",
    na: float | None = None,
    wavelength_um: float | None = None,
    tolerance: float | None = None,
    others: Sequence[str] = (),
) -> Path:
    """Compare the image as it is, Richardson-Lucy at its best and a model with the label; returns the report's page.

    Parameters
    ----------
    image, label
        One channel of one field; the label as large as the image, or a whole number of times as large. It is moved
        onto the image by the few pixels, or parts of one, that it lies beside it.
    out
        Folder for images and report.
    model
        A fluorescence model; without one only Richardson-Lucy competes. Where the label is no larger than the image,
        a model that enlarges gets the image reduced (means of pixels), so that its output has the label's size;
        Richardson-Lucy keeps all pixels.
    iterations, sigma
        Of Richardson-Lucy: largest number tried, and width of its point spread function in label pixels.
    pixel_um
        Pixel of the image, where the file does not say.
    na, wavelength_um
        Numerical aperture and emission wavelength, both or none: by them the result is judged without the label.
        Without them ``sigma`` is used, or a Gaussian is fitted.
    tolerance
        Of :class:`~dlm_fiji.steps.FluorescenceTrustSettings`.
    others
        More models, for the matrix of models and specimens.

    Raises
    ------
    InputError
        The sizes do not belong together, one is empty, has several channels, or is the other; the model does not fit;
        of aperture, wavelength and pixel only some are known.
    """
    started = time.perf_counter()
    trusting = FluorescenceTrustSettings.given(tolerance=tolerance)
    network = None if model is None else load_model(model)
    taken = open_image(image)
    low, high = single_plane(taken, image), single_plane(open_image(label), label)
    if low.shape == high.shape and np.array_equal(low, high):
        raise InputError(f"{label} is the image itself; a label is the same field by a better lens.")
    ratio = enlargement(low, high)
    pixel = known_pixel_um(taken, pixel_um)
    fine = None if pixel is None else pixel / ratio
    camera = fluorescence_camera(low, ratio, pixel, na, wavelength_um, sigma)
    enlarged = low if ratio == 1 else resample(low, ratio, "linear")
    high, moved = registered_label(enlarged, high)
    truth = unit_label(high)
    run = RunFolder(out)
    named = "Richardson-Lucy" if network is None else f"{network.name}, next to Richardson-Lucy,"
    run.begin(
        preset="compare",
        specimen=image.stem,
        command=command,
        settings={
            "image": str(image),
            "label": str(label),
            "iterations": iterations,
            "sigma_px": sigma,
            "na": na,
            "wavelength_um": wavelength_um,
        },
        simulated=False,
        model=None if network is None else {"name": network.name, "sha256": network.sha256},
        question=f"How close to {label.name} does {named} come?",
    )
    rival = search_fluorescence(enlarged, truth, iterations, sigma)
    searched = time.perf_counter()
    images: dict[str, NDArray[Any]] = {
        "unprocessed" if ratio == 1 else "bicubic": low if ratio == 1 else resample(low, ratio),
        "richardson_lucy": rival.image,
    }
    facts: dict[str, dict[str, Any]] = {"": {"made_by": "dlm_fiji compare"}}
    if network is not None:
        images["network"], facts["network"] = _enhanced(network, low, ratio)
    fitted, figures = compare_fluorescence(images, truth)
    folder = run.folder("evaluate")
    measured = save_area(folder, fitted, truth, low, pixel, fine, facts, figures)
    measured["richardson_lucy"] |= {
        "iterations": rival.iterations,
        "iterations_tried": iterations,
        "sigma_px": rival.sigma,
    }
    own = figures.pop("label")
    if network is not None:
        further = {m.name: _enhanced(m, low, ratio)[0] for m in map(load_model, others) if m.name != network.name}
        _, compared = compare_fluorescence(further, truth)
        scores = {network.name if name == "network" else name: found["ssim"] for name, found in measured.items()}
        scores |= {name: compared[name]["ssim"] for name in further}
        save_matrix(run.folder("measures"), [(name, image.stem, score) for name, score in scores.items()])
    write_json(
        folder / "metrics.json",
        {
            "test_area": measured,
            "label": own,
            "brightness": "the label's 0.5th and 99.8th percentiles are 0 and 1; every image is fitted to it by a line",
            "measured_on": f"SSIM (Gaussian window of 11 px, σ 1.5) and PSNR with data range 1, "
            f"{BORDER} px of border left out; the label was moved onto the image by "
            f"({moved[0]:.2f}, {moved[1]:.2f}) px",
        },
    )
    save_table(run.folder("deconvolve") / "search.csv", ["iterations", "ssim"], rival.scores[rival.sigma])
    save_table(
        run.folder("deconvolve") / "widths.csv",
        ["sigma_px", "iterations", "ssim"],
        [(width, *row) for width, rows in rival.scores.items() for row in rows],
    )
    edge = "; the search ended at its last iteration" if rival.iterations == iterations else ""
    note = f"Gaussian of σ {rival.sigma:g} px, {rival.iterations} iterations, chosen with the label{edge}"
    run.finish("deconvolve", "", searched - started, {"engine": "native", "note": note})
    note = network.name if network is not None else "without a model"
    run.finish("evaluate", "", time.perf_counter() - searched, {"engine": "native", "note": note})
    judging = time.perf_counter()
    judged = {name: image for name, image in images.items() if name in ("network", "richardson_lucy")}
    try:
        verdict = write_trust(
            run.folder("trust"),
            camera,
            judged.get("network", rival.image),
            (0, 0),
            {"label": high, **judged},
            (0, 0),
            trusting,
            facts[""],
        )
    except InputError as error:
        verdict = f"not judged: {error}"
    run.finish("trust", "", time.perf_counter() - judging, {"engine": "native", "note": verdict})
    return write_report(out)


def _enhanced(network: Model, low: NDArray[np.float32], ratio: int) -> tuple[NDArray[Any], dict[str, Any]]:
    """The model's output at the label's size, and how it was made."""
    reduce = network.scale / ratio
    whole = round(reduce)
    if whole < 1 or abs(reduce - whole) > 1e-6 or any(n % whole for n in low.shape):
        raise InputError(
            f"{network.name} enlarges {network.scale:g} times and the label is {ratio} times as large as the image of "
            f"{low.shape[1]} × {low.shape[0]} px; choose another model or crop the image."
        )
    rows, columns = (n // whole for n in low.shape)
    camera = low.reshape(rows, whole, columns, whole).mean((1, 3))
    enhanced = enhance(from_array(camera), network)
    made = enhanced.attrs.pop("provenance")
    note = f"the image reduced {whole} times" if whole > 1 else "the image"
    return np.squeeze(to_array(enhanced)).astype(np.float32), {**made, "network_input": note}
