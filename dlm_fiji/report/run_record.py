"""A run folder as the report sees it: everything is optional, and what is missing is said in a sentence.

Files read, beside ``run.json`` (keys ``preset command settings versions seeds machine started stages
simulated question model specimen``):

``evaluate/*.tif``
    ``input`` (low resolution), ``bicubic`` (or ``unprocessed``, where the label is no larger), ``richardson_lucy``,
    ``network``, ``network_before``, ``label``: the same area, all but the first of one size;
    ``squirrel_<image>.tif`` the error map of each against the input. Further test fields in ``field_01`` and so on.
``evaluate/metrics.json``
    Figures of the area, see :mod:`dlm_fiji.report.figures_of_merit`.
``train/history.csv``
    ``step, loss, val_loss, val_ssim, lr, seconds``; empty cells where not measured.
``deconvolve/search.csv``
    ``iterations, ssim``, or ``iterations, damping, ssim`` for a surface.
``stitch/links.json``
    ``positions`` (y, x) in px, ``tile_shape``, ``placed_by_stage``, ``links``.
``stitch/mosaic.tif``, ``predict/mosaic_enhanced.tif``, ``deconvolve/mosaic_deconvolved.tif``
    The specimen at low resolution, and twice at high resolution.
``illumination/flat_field.tif``
    The flat field that every tile was divided by.
``trust/trust.json``
    ``dlm_fiji.measures.Trust.summary()``; ``test_area`` the same figures of the label and the rivals; ``roc``.
    ``trust/map.tif`` its ``significance`` (standard deviations), ``trust/deviation.tif`` its ``deviation`` (share of
    the brightness there), ``trust/uncheckable.tif`` its ``uncheckable`` (0–1), ``trust/flags.tif`` 1
    where flagged, ``trust/roc.csv`` (``false_alarm, inserted, erased``), ``trust/detectability.csv`` (``d_prime,
    inserted, erased``).
``measures/fwhm.csv``
    ``image, fwhm_um``, a row a bead; ``measures/fwhm.json`` the fits, ``{image: {"mean_um": …, "low_um": …,
    "high_um": …}}``.
``measures/mtf.csv``
    ``cycles_per_mm`` and one column of contrasts an image.
``measures/depth_of_field.csv``
    ``defocus_um`` and one column of SSIM an image; ``measures/defocus_contrast.csv`` the same of contrast.
``measures/cross_matrix.csv``
    ``model, specimen, ssim``.
``measures/runtime.csv``
    ``pixels, seconds`` and, where measured, ``seconds_self_feeding``: a row an image size (side of the square input).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import xarray as xr

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import open_image

__all__ = ["IMAGES", "METHODS", "RunRecord"]

#: The images of the test area in the order in which they are shown, with the names a reader sees.
IMAGES = {
    "input": "Input",
    "unprocessed": "Input, unprocessed",
    "bicubic": "Bicubic",
    "richardson_lucy": "Richardson–Lucy",
    "network_before": "Network before fine-tuning",
    "network": "Network",
    "label": "Label",
}
#: The images that compete, with the name of their figures in ``metrics.json``.
METHODS = {
    "unprocessed": "unprocessed",
    "bicubic": "bicubic",
    "richardson_lucy": "richardson_lucy",
    "network_before": "network_before_fine_tuning",
    "network": "network",
}


@dataclass
class RunRecord:
    """A run folder.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    InputError
        The folder does not exist, or neither ``run.json`` nor ``evaluate`` is in it.
    """

    path: Path
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if not self.path.is_dir():
            raise InputError(f"{self.path} is no folder; give the folder of a run.")
        if not (self.path / "run.json").is_file() and not (self.path / "evaluate").is_dir():
            raise InputError(f"{self.path} is no run folder: it holds neither run.json nor a folder evaluate.")

    @cached_property
    def run(self) -> dict[str, Any]:
        """``run.json``, or an empty record."""
        return self.json("run.json", "run.json: settings, versions and timings are not known") or {}

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """What each stage says of itself, in the order of the run."""
        stages = self.run.get("stages") or {}
        return {name: stage for name, stage in stages.items() if isinstance(stage, dict)}

    @property
    def simulated(self) -> bool:
        """Whether the images were taken by the virtual microscope."""
        return bool(self.run.get("simulated") or (self.metrics or {}).get("simulated"))

    @cached_property
    def metrics(self) -> dict[str, Any] | None:
        """``evaluate/metrics.json``."""
        return self.json("evaluate/metrics.json")

    @cached_property
    def area(self) -> dict[str, xr.DataArray]:
        """The images of the test area that are there, in the order of ``IMAGES``."""
        found = {}
        figures = (self.metrics or {}).get("test_area")
        for name, title in IMAGES.items():
            key = METHODS.get(name)
            # An image that was never made is not missed.
            never = name in ("unprocessed", "network_before") or bool(figures and key and key not in figures)
            # So in a run without a label.
            never = never or not (self.path / "evaluate").is_dir() or figures == {}
            image = self.image(f"evaluate/{name}.tif", None if never else f"the image {title!r}")
            if image is not None:
                found[name] = image
        return found

    def file(self, name: str) -> Path | None:
        """The path of ``name`` in the run folder, if it is there."""
        path = self.path / name
        return path if path.is_file() else None

    def image(self, name: str, what: str | None = None) -> xr.DataArray | None:
        """An image of the run; None, with a sentence in ``missing``, where it is absent or damaged."""
        path = self.file(name)
        if path is None:
            self._miss(what, f"{name} is not in the run folder")
            return None
        try:
            return open_image(path)
        except InputError as error:
            self._miss(what or name, str(error).rstrip("."))
            return None

    def json(self, name: str, what: str | None = None) -> Any:
        """The content of a JSON file, or None."""
        path = self.file(name)
        if path is None:
            self._miss(what, f"{name} is not in the run folder")
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._miss(what or name, f"{name} is not readable as JSON ({error})")
            return None

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a CSV file with numbers as numbers, empty cells as None; no rows where it is absent."""
        path = self.file(name)
        if path is None:
            return []
        try:
            with open(path, newline="", encoding="utf-8") as file:
                return [{key: _number(cell) for key, cell in row.items() if key} for row in csv.DictReader(file)]
        except (OSError, ValueError, csv.Error) as error:
            self._miss(name, f"{name} is not readable as CSV ({error})")
            return []

    def _miss(self, what: str | None, why: str) -> None:
        if what is not None:
            sentence = f"Left out: {what}, as {why}."
            if sentence not in self.missing:
                self.missing.append(sentence)


def _number(cell: str | None) -> Any:
    if cell is None or not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        return cell
