"""JPEG, 8 bit, grey and RGB, with pixel size (JFIF density and EXIF resolution) and our record (comment)."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IFDRational

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph.calibrated import pixel_size_um, to_array
from dlm_fiji.micrograph.metadata import Facts, record

__all__ = ["facts_of", "read", "write"]

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296


def read(path: Path) -> xr.DataArray:
    """The image of a JPEG file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["JPEG", "MPO"]) as picture:
                facts = _facts(picture)
                array = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = "truncated" if "truncated" in str(error) else "damaged, or no JPEG"
        raise InputError(f"{path} cannot be read: it is {reason}; copy or write it again.") from error
    if array.ndim == 2:
        return facts.image(array, ("y", "x"))
    facts.channels = facts.channels or ["red", "green", "blue"]
    return facts.image(array, ("y", "x", "c"))


def facts_of(path: Path) -> Facts:
    """Pixel size and our record of a JPEG file."""
    with Image.open(path, formats=["JPEG", "MPO"]) as picture:
        return _facts(picture)


def write(image: xr.DataArray, path: Path, provenance: dict[str, Any] | None, quality: int | None) -> None:
    """Write ``image`` to ``path``; ``quality`` is 1–100, 95 by default, colour never subsampled."""
    array = to_array(image)
    if array.dtype != np.uint8:
        raise InputError(f"JPEG holds 8 bits, not {array.dtype}; save as .tif or .png.")
    if {"t", "z"} & set(image.dims) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        sizes = " × ".join(f"{dim} {size}" for dim, size in image.sizes.items())
        raise InputError(f"JPEG holds one grey or RGB image, not {sizes}; save as .tif.")
    if max(array.shape[:2]) > 65535:
        raise InputError(f"JPEG holds at most 65,535 pixels a side, not {array.shape[1]} × {array.shape[0]}.")
    pixel = pixel_size_um(image)
    exif = Image.Exif()
    if pixel is not None:
        # EXIF holds a fraction, so small pixels are exact; JFIF only whole numbers of pixels a cm.
        exif[_X_RESOLUTION] = IFDRational(round(1e7 / pixel[1]), 1000)
        exif[_Y_RESOLUTION] = IFDRational(round(1e7 / pixel[0]), 1000)
        exif[_RESOLUTION_UNIT] = 3
    comment = record(image, provenance).encode()
    options: dict[str, Any] = {"comment": comment} if len(comment) < 65000 else {}
    picture = Image.fromarray(np.ascontiguousarray(np.squeeze(array)))
    picture.save(path, format="JPEG", quality=quality or 95, subsampling=0, exif=exif, **options)
    if pixel is not None:
        _set_density(path, pixel)


def _facts(picture: Image.Image) -> Facts:
    facts = Facts()
    comment = picture.info.get("comment", b"")
    facts.read_record(comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment)
    exif = picture.getexif()
    unit = {2: 25400.0, 3: 10000.0}.get(int(exif.get(_RESOLUTION_UNIT, 0) or 0))
    per_x, per_y = float(exif.get(_X_RESOLUTION) or 0), float(exif.get(_Y_RESOLUTION) or 0)
    if facts.pixel_um is None and not facts.ours and unit is not None and per_x > 0 and per_y > 0:
        facts.trust_resolution(unit / per_y, unit / per_x)
    density = picture.info.get("jfif_density")
    jfif_unit = {1: 25400.0, 2: 10000.0}.get(picture.info.get("jfif_unit", 0))
    if facts.pixel_um is None and not facts.ours and density and jfif_unit is not None and min(density) > 0:
        facts.trust_resolution(jfif_unit / density[1], jfif_unit / density[0])
    return facts


def _set_density(path: Path, pixel: tuple[float, float]) -> None:
    """Pixels a cm in the JFIF header (Pillow writes inches only); left alone where 16 bits are too few."""
    density = [round(10000 / size) for size in pixel]
    with open(path, "r+b") as file:
        head = file.read(64)
        start = head.find(b"JFIF\0")
        if start >= 0 and max(density) <= 65535:
            file.seek(start + 7)
            file.write(struct.pack(">BHH", 2, density[1], density[0]))
