"""An enhanced image judged by the image it was made from, where nobody has a label."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, open_image, save_image, to_array, write_json
from dlm_fiji.pipeline.configuration import DeconvolveSettings
from dlm_fiji.pipeline.context import as_rgb8, known_pixel_um, single_plane
from dlm_fiji.pipeline.run_folder import RunFolder
from dlm_fiji.pipeline.trusting import Judge, fluorescence_camera, write_trust
from dlm_fiji.report import write_report
from dlm_fiji.steps.brightfield_trust import BrightfieldTiles, TrustSettings
from dlm_fiji.steps.fluorescence_area import enlargement
from dlm_fiji.steps.fluorescence_trust import FluorescenceTrustSettings

__all__ = ["judge_image"]


def judge_image(
    image: Path,
    enhanced: Path,
    out: Path,
    *,
    na: float | None = None,
    condenser_na: float | None = None,
    wavelength_um: float | None = None,
    sigma: float | None = None,
    pixel_um: float | None = None,
    tolerance: float | None = None,
    command: str = "",
) -> Path:
    """Pass an enhanced image through the microscope's forward model and compare it with the image; returns the page.

    Parameters
    ----------
    image, enhanced
        What the camera gave, and what was made of it; colour images are bright field, grey ones fluorescence.
    out
        Folder for ``trust/trust.json``, its maps and the report.
    na, condenser_na
        Of the lens and, in bright field, the condenser; by default those of the pipeline's Richardson-Lucy.
    wavelength_um, sigma
        Fluorescence: emission wavelength (with ``na``), or the width of the point spread function in pixels of
        ``enhanced``. Without either a Gaussian is fitted.
    pixel_um
        Pixel of the image, where the file does not say.
    tolerance
        Of the settings of trust.

    Raises
    ------
    InputError
        The two do not show one field, a pixel size is missing, or the image is too small.
    """
    started = time.perf_counter()
    taken, made = open_image(image), open_image(enhanced)
    pixel = known_pixel_um(taken, pixel_um)
    camera: Judge
    low: NDArray[Any]
    prediction: NDArray[Any]
    settings: Any
    if taken.sizes.get("c", 1) == 3:
        low, prediction = as_rgb8(to_array(taken)), as_rgb8(to_array(made))
        ratios = [a / b for a, b in zip(prediction.shape, low.shape[:2], strict=False)]
        if abs(ratios[0] - ratios[1]) > 0.02:
            raise InputError(f"{enhanced} and {image} do not show one field: their sizes differ in another ratio.")
        if pixel is None:
            raise InputError(f"{image} carries no pixel size, by which the lens blurs; give it with --pixel.")
        optics = DeconvolveSettings.given(na=na, condenser_na=condenser_na)
        camera = BrightfieldTiles(
            [low], np.zeros((1, 2)), optics.na, optics.condenser_na, optics.wavelengths_um, pixel, _scale(ratios)
        )
        settings = TrustSettings.given(tolerance=tolerance)
    else:
        low, prediction = single_plane(taken, image), single_plane(made, enhanced)
        ratio = enlargement(low, prediction)
        camera = fluorescence_camera(low, ratio, pixel, na, wavelength_um, sigma)
        settings = FluorescenceTrustSettings.given(tolerance=tolerance)
    run = RunFolder(out)
    run.begin(
        preset="trust",
        specimen=image.stem,
        command=command,
        settings={"image": str(image), "enhanced": str(enhanced), "trust": settings.model_dump(mode="json")},
        simulated=False,
        question=f"Can {enhanced.name} be what the camera saw as {image.name}?",
    )
    facts = {"made_by": "dlm_fiji trust"}
    verdict = write_trust(run.folder("trust"), camera, prediction, (0, 0), {}, (0, 0), settings, facts)
    run.record["answer"] = f"{verdict}."
    folder = run.folder("evaluate")
    fine = None if pixel is None else pixel / camera.scale
    save_image(from_array(low, pixel), folder / "input.tif", provenance=facts)
    save_image(from_array(prediction, fine), folder / "network.tif", provenance=facts)
    # No figures without a label; the report then asks for none.
    write_json(folder / "metrics.json", {"test_area": {}, "label": None})
    run.finish("trust", "", time.perf_counter() - started, {"engine": "native", "note": verdict})
    return write_report(out)


def _scale(ratios: list[float]) -> float:
    """The enlargement: a network's (2, 2.5), of which rounding to whole pixels leaves a little."""
    mean = float(np.mean(ratios))
    near = round(2 * mean) / 2
    return near if abs(mean - near) < 0.02 else mean
