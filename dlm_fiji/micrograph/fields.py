"""The fields of view in a file: how many images it holds, and where each lay on the stage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlm_fiji.micrograph.files import format_of, open_image

__all__ = ["Field", "fields_of"]


@dataclass(frozen=True)
class Field:
    """One image of a file.

    Attributes
    ----------
    path, series
        For :func:`open_image`.
    count
        Images in the file.
    pixel_um, stage_um
        Pixel size and place on the stage, (y, x) in µm; None where the file does not say.
    """

    path: Path
    series: int
    count: int
    pixel_um: tuple[float, float] | None
    stage_um: tuple[float, float] | None

    @property
    def name(self) -> str:
        """The file's name, with the number of the image where it holds several."""
        return self.path.name if self.count == 1 else f"{self.path.name} [{self.series}]"


def fields_of(path: str | os.PathLike[str]) -> list[Field]:
    """The images in the file at ``path``: those of an OME-TIFF, ND2, LIF or CZI, one of every other file.

    Images that an OME-TIFF's metadata place in other files of its set are left to those files. Pixels are read
    only of vendors' files.

    Raises
    ------
    InputError
        The file is missing, damaged or of an unknown format.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "tiff":
        return _tiff_fields(path)
    if kind in ("czi", "nd2", "lif"):
        from dlm_fiji.micrograph import vendor_formats

        first = open_image(path)  # says what is wrong with the file, or which package is missing
        try:
            count = vendor_formats.count(path, kind)
        except ImportError:  # Bio-Formats has read it
            count = 1
        images = (first if k == 0 else open_image(path, series=k) for k in range(count))
        return [Field(path, k, count, i.attrs.get("pixel_um"), _place(i.attrs)) for k, i in enumerate(images)]
    return [Field(path, 0, 1, None, None)]


def _tiff_fields(path: Path) -> list[Field]:
    from dlm_fiji.micrograph import tiff

    with tiff.opened(path) as tif:
        # the other images of a slide (thumbnail, label) or of a plain TIFF are none of the same scan
        own = [0] if not tif.is_ome else [k for k, s in enumerate(tif.series) if _lies_in(s, path)] or [0]
        facts = [tiff.facts_of(tif, k) for k in own]
    return [Field(path, k, len(own), f.pixel_um, _place(f.attrs)) for k, f in zip(own, facts, strict=True)]


def _lies_in(series: object, path: Path) -> bool:
    """Whether a series of an OME set has its pixels in the file at ``path``."""
    return Path(series.keyframe.parent.filehandle.path).name == path.name  # type: ignore[attr-defined]


def _place(attrs: dict[str, object]) -> tuple[float, float] | None:
    stage = np.asarray(attrs.get("stage_um", ()), dtype=float)
    return (float(stage[0]), float(stage[1])) if stage.shape == (2,) and np.isfinite(stage).all() else None
