"""What the camera's images say of a prediction, as the files that the report reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.measures import Roc, Trust
from dlm_fiji.micrograph import from_array, save_image, write_json
from dlm_fiji.pipeline.area import save_table
from dlm_fiji.steps.fluorescence_trust import FluorescenceCamera, gaussian_lens, optical_psf

__all__ = ["Judge", "fluorescence_camera", "write_trust"]


class Judge(Protocol):
    """What a microscope took: `BrightfieldTiles` or `FluorescenceCamera`."""

    @property
    def scale(self) -> float:
        """Pixels of the prediction in a camera pixel."""

    @property
    def trim(self) -> int:
        """Camera pixels at the edge that are not judged."""

    def describe(self, prediction: NDArray[Any]) -> str:
        """What a prediction is judged by."""

    def judge(self, prediction: NDArray[Any], corner: tuple[int, int], settings: Any) -> Trust:
        """The verdict."""

    def roc(self, prediction: NDArray[Any], corner: tuple[int, int], seed: int) -> Roc:
        """How well faults are found."""


def write_trust(
    folder: Path,
    camera: Judge,
    prediction: NDArray[Any],
    corner: tuple[int, int],
    controls: Mapping[str, NDArray[Any]],
    control_corner: tuple[int, int],
    settings: Any,
    provenance: Mapping[str, Any],
    seed: int = 0,
) -> str:
    """Judge a prediction, write ``trust.json``, its maps and curves, and return the verdict in a few words.

    Parameters
    ----------
    folder
        Where the files go.
    camera
        What the microscope took.
    prediction, corner
        Judged image and the camera pixel where it begins.
    controls, control_corner
        Images of one area, the label among them, judged in the same way.
    settings, provenance, seed
        Thresholds (the camera's own class), what is written into the maps, and the seed of the simulated structures.

    Raises
    ------
    InputError
        The prediction is too small to be judged.
    """
    found = camera.judge(prediction, corner, settings)
    judged = {}
    for name, image in controls.items():
        try:
            control = camera.judge(image, control_corner, settings)
        except InputError:
            # A small area has no middle that its surroundings do not shine into.
            continue
        judged[name] = {
            "regions": int(control.flags.size),
            "flagged_share": control.flagged,
            "contradicted_share": control.contradicted,
            "chi2": control.chi2,
            "judged_by": camera.describe(image),
        }
    height, width = (round(n / camera.scale) for n in prediction.shape[:2])
    summary = {
        **found.summary(),
        "judged_by": camera.describe(prediction),
        "rectangle_px": [
            corner[0] + camera.trim,
            corner[1] + camera.trim,
            corner[0] + height - camera.trim,
            corner[1] + width - camera.trim,
        ],
        "test_area": judged,
    }
    try:
        roc = camera.roc(prediction, corner, seed)
    except InputError:
        # No room for ten structures of a kind.
        roc = None
    if roc is not None:
        rates = dict(zip(("false_alarm", "inserted", "erased"), roc.at_used, strict=True))
        summary["roc"] = {"d_prime": roc.d_prime, "structures": roc.structures, **rates}
        save_table(
            folder / "roc.csv",
            ["false_alarm", "inserted", "erased"],
            zip(*(a.tolist() for a in (roc.false_alarm, roc.inserted, roc.erased)), strict=True),
        )
        save_table(
            folder / "detectability.csv",
            ["d_prime", "inserted", "erased"],
            zip(*(a.tolist() for a in (roc.strengths, roc.found["inserted"], roc.found["erased"])), strict=True),
        )
    write_json(folder / "trust.json", summary)
    maps = {"map": found.significance, "deviation": found.deviation, "uncheckable": found.uncheckable}
    maps["flags"] = found.flag_map.astype(np.uint8)
    for name, array in maps.items():
        save_image(from_array(array), folder / f"{name}.tif", provenance=dict(provenance))
    label = f"; of the label's {judged['label']['flagged_share']:.1%}" if "label" in judged else ""
    return f"{found.flagged:.1%} of {found.flags.size} regions flagged{label}"


def fluorescence_camera(
    image: NDArray[Any],
    ratio: int,
    pixel: float | None,
    na: float | None,
    wavelength_um: float | None,
    sigma: float | None,
) -> FluorescenceCamera:
    """The image and what is known of the lens that took it."""
    if na is not None or wavelength_um is not None:
        if na is None or wavelength_um is None or pixel is None:
            raise InputError(
                "A fluorescence lens is known by its aperture, the emission wavelength and the pixel of the image: "
                "give --na, --wavelength and, where the file does not say, --pixel, or none of them."
            )
        psf = optical_psf(na, wavelength_um, pixel / ratio, pixel)
        return FluorescenceCamera(image, ratio, psf, f"the lens's own blur (NA {na:g}, {wavelength_um:g} µm)")
    if sigma is not None:
        return FluorescenceCamera(image, ratio, gaussian_lens(sigma, ratio), f"a Gaussian of σ {sigma:g} px, as given")
    return FluorescenceCamera(image, ratio)
