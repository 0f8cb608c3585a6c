"""``open_image`` and ``save_image``: one call for every format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import vendor_formats
from dlm_fiji.micrograph.calibrated import from_array
from dlm_fiji.micrograph.writing import atomic_write

__all__ = ["format_of", "is_image_file", "open_image", "provenance", "save_image"]

_ENDINGS = {
    ".ome.tif": "ome", ".ome.tiff": "ome", ".tif": "tiff", ".tiff": "tiff", ".svs": "tiff",
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".zarr": "zarr", **vendor_formats.ENDINGS,
}  # fmt: skip
_MAGIC = {
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
    b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", **vendor_formats.MAGIC,
}  # fmt: skip
_KNOWN = "TIFF, OME-TIFF, SVS, STK, LSM, PNG, JPEG, OME-Zarr, CZI, ND2 and LIF"


def open_image(path: str | os.PathLike[str], *, series: int = 0) -> xr.DataArray:
    """Read a micrograph.

    TIFF (plain, ImageJ hyperstack, OME, SVS, STK, LSM; either byte order), PNG, JPEG, OME-Zarr, and the files of
    vendors (:mod:`dlm_fiji.micrograph.vendor_formats`). The format is told by the content, not by the name.

    Parameters
    ----------
    path
        The file.
    series
        Which image of a file that holds several (TIFF, vendors' files).

    Returns
    -------
    xarray.DataArray
        Dimensions a subset of ``t z c y x`` in that order, axes of length one left out, values as stored. RGB
        is ``c`` with ``red green blue``. ``y x z`` have coordinates in µm where the file gives a pixel size.
        A pixel larger than 20 µm that only a resolution tag gives is taken for a print resolution (72 dpi …)
        and ignored.

    Raises
    ------
    InputError
        The file is missing, empty, truncated, damaged or of an unknown format.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "tiff":
        from dlm_fiji.micrograph import tiff

        return tiff.read(path, series)
    if kind == "png":
        from dlm_fiji.micrograph import png

        return png.read(path)
    if kind == "jpeg":
        from dlm_fiji.micrograph import jpeg

        return jpeg.read(path)
    if kind == "zarr":
        from dlm_fiji.micrograph import ome_zarr

        return ome_zarr.read(path)
    return vendor_formats.read(path, kind, series)


def save_image(
    image: xr.DataArray | np.ndarray,
    path: str | os.PathLike[str],
    *,
    provenance: dict[str, Any] | None = None,
    compression: str | int | None = None,
) -> Path:
    """Write a micrograph, whole or not at all; the ending of the name chooses the format.

    Parameters
    ----------
    image
        A calibrated image, or a plain (H, W) or (H, W, C) array.
    path
        ``.tif`` (as ImageJ writes it where ImageJ has the type), ``.ome.tif``, ``.png``, ``.jpg`` or
        ``.ome.zarr``. Boolean images become 0 and 255.
    provenance
        What made the image: any mapping that JSON can hold. It is stored in the file's metadata and read back
        by :func:`provenance`.
    compression
        TIFF: a codec such as ``"zlib"`` or ``"zstd"``; PNG: level 0–9; JPEG: quality 1–100 (95).

    Returns
    -------
    pathlib.Path
        ``path``.

    Raises
    ------
    InputError
        The format cannot hold the image.
    SetupError
        The disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    kind = _kind_by_name(path)
    if not isinstance(image, xr.DataArray):
        image = from_array(image)
    with atomic_write(path) as part:
        if kind in ("tiff", "ome"):
            from dlm_fiji.micrograph import tiff

            tiff.write(image, part, provenance, compression, ome=kind == "ome")
        elif kind == "png":
            from dlm_fiji.micrograph import png

            png.write(image, part, provenance, compression if isinstance(compression, int) else None)
        elif kind == "jpeg":
            from dlm_fiji.micrograph import jpeg

            jpeg.write(image, part, provenance, compression if isinstance(compression, int) else None)
        else:
            from dlm_fiji.micrograph import ome_zarr

            ome_zarr.write(image, part, provenance)
    return path


def provenance(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What made the file at ``path``, as given to :func:`save_image`; None where another program wrote it.

    Raises
    ------
    InputError
        The file is missing or not readable.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "tiff":
        from dlm_fiji.micrograph import tiff

        with tiff.opened(path) as tif:
            return tiff.facts_of(tif).provenance
    if kind == "png":
        from dlm_fiji.micrograph import png

        return png.facts_of(path.read_bytes(), path).provenance
    if kind == "jpeg":
        from dlm_fiji.micrograph import jpeg

        return jpeg.facts_of(path).provenance
    if kind == "zarr":
        from dlm_fiji.micrograph import ome_zarr

        return ome_zarr.facts_of(path).provenance
    return None  # a vendor's file


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is named like an image that :func:`open_image` reads; hidden files do not count."""
    name = Path(path).name.lower()
    return not name.startswith(".") and any(name.endswith(ending) for ending in _ENDINGS)


def format_of(path: Path) -> str:
    """``tiff``, ``png``, ``jpeg``, ``zarr`` or a kind of vendors' files, told by the first bytes."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder.")
    if path.is_dir():
        if any((path / name).is_file() for name in (".zattrs", ".zgroup", ".zarray", "zarr.json")):
            return "zarr"
        raise InputError(f"{path} is a folder, not an image.")
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise InputError(f"{path} is an empty file (0 bytes); copy or write it again.")
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if vendor_formats.ENDINGS.get(path.suffix.lower()) == "other":
        return "other"
    raise InputError(f"{path} is of no format that is read here ({_KNOWN}).")


def _kind_by_name(path: Path) -> str:
    name = path.name.lower()
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending) and ending != ".svs" and ending not in vendor_formats.ENDINGS:
            return kind
    raise InputError(f"{path}: the ending {path.suffix!r} is none that can be written; use .tif, .ome.tif, .png, .jpg.")
