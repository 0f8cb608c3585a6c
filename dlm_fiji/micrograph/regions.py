"""Read parts of an image that need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph.files import format_of, open_image
from dlm_fiji.micrograph.metadata import Facts
from dlm_fiji.micrograph.raw import RawPixels

__all__ = ["RegionReader", "open_region_reader"]


class RegionReader:
    """A window on an image on disk; use it in a ``with`` block.

    Attributes
    ----------
    path
        The file or folder.
    shape
        (H, W) or (H, W, C).
    dtype
        Type of the pixels.
    pixel_um
        (dy, dx) in µm, or None.
    channels
        Names of the channels, or None.
    attrs
        Optics and other attributes, as :func:`open_image` gives them.
    in_memory
        The format cannot be read in parts, so the whole image is in memory (PNG, JPEG, TIFF in one compressed
        strip).
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        facts: Facts,
        read: Callable[[slice, slice], np.ndarray],
        close: Callable[[], None] = lambda: None,
        in_memory: bool = False,
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self.pixel_um, self.attrs = facts.pixel_um, facts.attrs
        rgb = ["red", "green", "blue"] if len(shape) == 3 and shape[2] == 3 else None
        self.channels = facts.channels or rgb
        self.in_memory = in_memory
        self._read, self._close = read, close

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Rows ``y0:y1`` and columns ``x0:x1`` as (h, w) or (h, w, C), a new array in native byte order.

        Raises
        ------
        InputError
            The region is empty or outside the image, or the file is damaged there.
        """
        height, width = self.shape[:2]
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"Region y {y0}:{y1}, x {x0}:{x1} is empty or outside of {self.path} ({height} × {width})."
            )
        try:
            values = self._read(slice(y0, y1), slice(x0, x1))
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.path} cannot be read at y {y0}:{y1}, x {x0}:{x1}; it is damaged.") from error
        return np.array(values, dtype=self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._close()

    def __enter__(self) -> RegionReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_region_reader(path: str | os.PathLike[str]) -> RegionReader:
    """Open a two-dimensional image for reading in parts.

    Memory holds the region asked for (and the tiles it touches) for OME-Zarr, tiled or striped TIFF, OME-TIFF
    and SVS, and uncompressed TIFF in one piece; PNG and JPEG are read whole.

    Raises
    ------
    InputError
        The file cannot be read, or is a stack.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "zarr":
        return _zarr_reader(path)
    if kind == "tiff":
        return _tiff_reader(path)
    return _whole(path)


def _whole(path: Path) -> RegionReader:
    from dlm_fiji.micrograph.calibrated import pixel_size_um, to_array

    image = open_image(path)
    if {"t", "z"} & set(image.dims):
        raise _stack(path, dict(image.sizes))
    array = to_array(image)
    channels = [str(c) for c in image.coords["c"].values] if "c" in image.coords else None
    facts = Facts(pixel_um=pixel_size_um(image), channels=channels, attrs=dict(image.attrs))
    return RegionReader(path, array.shape, array.dtype, facts, lambda y, x: array[y, x], in_memory=True)


def _zarr_reader(path: Path) -> RegionReader:
    from dlm_fiji.micrograph import ome_zarr

    array, dims = ome_zarr.level_zero(path)
    return _reader(path, array, dims, ome_zarr.facts_of(path), lambda: None)


def _tiff_reader(path: Path) -> RegionReader:
    import tifffile
    import zarr

    from dlm_fiji.micrograph import tiff

    with tiff.opened(path) as probe:
        series = probe.series[0]
        tiff.check_complete(probe, series, path)
        facts = tiff.facts_of(probe)
        dims = tiff.ordered_dims(series.axes, path)
        one_strip = len(series.keyframe.dataoffsets) == 1
        if series.dataoffset is not None:
            return _raw_reader(path, series, probe.byteorder, dims, facts)
        if one_strip:
            return _whole(path)
    tif = tifffile.TiffFile(path)
    store = tif.series[0].aszarr(level=0)
    array = zarr.open(store, mode="r")
    if isinstance(array, zarr.Group):
        array = array["0"]

    def close() -> None:
        store.close()
        tif.close()

    try:
        return _reader(path, array, dims, facts, close)
    except BaseException:
        close()
        raise


def _raw_reader(path: Path, series: Any, byteorder: str, dims: tuple[str, ...], facts: Facts) -> RegionReader:
    """Plain pixels in one piece: interleaved colour, or whole planes one after the other."""
    sizes = dict(zip(dims, series.shape, strict=True))
    if any(sizes.get(dim, 1) > 1 for dim in "tz"):
        raise _stack(path, sizes)
    samples = sizes.get("c", 1) if dims[-1] == "c" else 1
    planes = sizes.get("c", 1) // samples
    dtype = np.dtype(series.dtype).newbyteorder(byteorder)  # type: ignore[arg-type]
    raw = RawPixels(path, (planes, sizes["y"], sizes["x"], samples), dtype, offset=series.dataoffset)

    def read(y: slice, x: slice) -> np.ndarray:
        window = np.moveaxis(raw.read(y, x), 0, 2)
        window = window.reshape(*window.shape[:2], planes * samples)
        return window if planes * samples > 1 else window[..., 0]

    shape = (sizes["y"], sizes["x"]) + ((planes * samples,) if planes * samples > 1 else ())
    return RegionReader(path, shape, dtype.newbyteorder("="), facts, read, raw.close)


def _reader(path: Path, array: Any, dims: tuple[str, ...], facts: Facts, close: Callable[[], None]) -> RegionReader:
    """A reader on an array of any axis order: singleton ``t z`` dropped, channels last."""
    sizes = dict(zip(dims, array.shape, strict=True))
    if any(sizes.get(dim, 1) > 1 for dim in "tz"):
        raise _stack(path, sizes)
    colour = sizes.get("c", 1) > 1
    shape = (sizes["y"], sizes["x"]) + ((sizes["c"],) if colour else ())

    def read(y: slice, x: slice) -> np.ndarray:
        index = tuple({"y": y, "x": x}.get(dim, slice(None) if dim == "c" else 0) for dim in dims)
        values = np.asarray(array[index])
        left = [dim for dim in dims if dim in "cyx"]
        values = np.moveaxis(values, [left.index("y"), left.index("x")], [0, 1])
        return values if colour or values.ndim == 2 else values[..., 0]

    return RegionReader(path, shape, np.dtype(array.dtype).newbyteorder("="), facts, read, close)


def _stack(path: Path, sizes: Any) -> InputError:
    text = ", ".join(f"{dim} {size}" for dim, size in sizes.items())
    return InputError(f"{path} is a stack ({text}); only a single plane can be read in parts.")
