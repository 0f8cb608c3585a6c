"""Write an image larger than memory by regions, with the resolution pyramid that viewers need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import ome_zarr, tiff
from dlm_fiji.micrograph.calibrated import from_array
from dlm_fiji.micrograph.metadata import record
from dlm_fiji.micrograph.writing import atomic_write

__all__ = ["PyramidWriter", "add_levels"]

#: A level no larger than this on its longer side is the last.
SMALLEST = 512


class PyramidWriter:
    """Regions in, in any order; a pyramidal OME-TIFF or OME-Zarr out.

    Use it in a ``with`` block: the file appears at ``path`` when the block ends without an error, whole. OME-TIFF
    needs as much disk again for the time of writing, as TIFF wants its tiles in order. Memory holds one region and
    a few rows of tiles. Regions that were never written are zero.

    Parameters
    ----------
    path
        ``.ome.tif``, ``.tif`` (both pyramidal OME-TIFF) or ``.ome.zarr``/``.zarr``.
    shape
        (H, W) or (H, W, C).
    dtype
        Type of the pixels.
    pixel_um
        One number or (dy, dx) in µm, or None.
    channels
        Names of the channels; three are red, green, blue by default.
    provenance
        What made the image, stored as :func:`save_image` does.
    tile
        Side of a tile in pixels, a multiple of 16.
    compression
        TIFF codec, ``"zlib"`` (which Fiji reads), ``"zstd"`` or None.
    **attrs
        Optics and other attributes.

    Raises
    ------
    InputError
        The ending is unknown, or a region does not fit.
    SetupError
        The disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        dtype: Any,
        *,
        pixel_um: float | tuple[float, float] | None = None,
        channels: list[str] | None = None,
        provenance: dict[str, Any] | None = None,
        tile: int = 512,
        compression: str | None = "zlib",
        **attrs: Any,
    ) -> None:
        self.path = Path(path)
        name = self.path.name.lower()
        if not name.endswith((".tif", ".tiff", ".zarr")):
            raise InputError(f"{path}: a large image is written as .ome.tif or .ome.zarr.")
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise InputError(f"A large image has the shape (H, W) or (H, W, C), not {shape}.")
        if tile < 16 or tile % 16:
            raise InputError(f"The tile of a large image is a multiple of 16 pixels (given: {tile}).")
        self.shape, self.dtype = tuple(int(n) for n in shape), np.dtype(dtype)
        self._zarr, self._tile, self._compression = name.endswith(".zarr"), tile, compression
        self._provenance = provenance
        # A stand-in of one pixel carries calibration and names through the code of small images.
        self._facts = from_array(
            np.zeros((2, 2, *self.shape[2:]), self.dtype), pixel_um, channels=channels, **attrs
        )
        self._stack = ExitStack()
        self._group: Any = None

    def __enter__(self) -> PyramidWriter:
        self._part = self._stack.enter_context(atomic_write(self.path))
        self._scratch = self._part if self._zarr else self._part.with_name(self._part.name + ".scratch")
        if not self._zarr:
            self._stack.callback(shutil.rmtree, self._scratch, ignore_errors=True)
        self._dims = ["y", "x"] if len(self.shape) == 2 else ["c", "y", "x"]
        sizes = self.shape[:2] if len(self.shape) == 2 else (self.shape[2], *self.shape[:2])
        chunks = tuple(
            min(n, self._tile) if dim in "yx" else 1 for n, dim in zip(sizes, self._dims, strict=True)
        )
        try:
            self._group = zarr.open_group(str(self._scratch), mode="w", zarr_format=2)
            self._base = self._group.create_array(
                "0", shape=sizes, chunks=chunks, dtype=self.dtype, fill_value=0, **ome_zarr.SEPARATOR
            )
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, y0: int, x0: int, region: np.ndarray) -> None:
        """Put ``region``, (h, w) or (h, w, C) of the writer's type, with its top left pixel at (y0, x0)."""
        region = np.asarray(region)
        height, width = region.shape[:2]
        fits = 0 <= y0 and y0 + height <= self.shape[0] and 0 <= x0 and x0 + width <= self.shape[1]
        if region.shape[2:] != self.shape[2:] or not fits or region.dtype != self.dtype:
            raise InputError(
                f"A region {region.shape} of {region.dtype} at ({y0}, {x0}) does not fit into {self.path.name} "
                f"({self.shape}, {self.dtype})."
            )
        if region.ndim == 2:
            self._base[y0 : y0 + height, x0 : x0 + width] = region
        else:
            self._base[:, y0 : y0 + height, x0 : x0 + width] = np.moveaxis(region, 2, 0)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._stack:
            if error is not None:
                # Handing the error to atomic_write makes it take everything away.
                raise error
            levels = add_levels(self._group, self._dims)
            if self._zarr:
                self._group.attrs.update(
                    ome_zarr.attributes(self._facts, self._provenance, self._dims, levels, self.path.name)
                )
            else:
                self._write_tiff(levels)

    def _write_tiff(self, levels: int) -> None:
        colour = len(self.shape) == 3
        rgb = colour and self.shape[2] == 3 and self.dtype.name in ("uint8", "uint16")
        text = record(self._facts, self._provenance)
        options: dict[str, Any] = {
            "tile": (self._tile, self._tile),
            "compression": self._compression,
            "photometric": "rgb" if rgb else "minisblack",
        }
        big = int(np.prod(self.shape)) * self.dtype.itemsize > 2_000_000_000
        with tifffile.TiffWriter(self._part, ome=True, bigtiff=big) as writer:
            for level in range(levels):
                array = self._group[str(level)]
                height, width = array.shape[-2:]
                shape = (height, width, array.shape[0]) if rgb else array.shape
                extra: dict[str, Any] = {"subfiletype": 1}
                if level == 0:
                    metadata = {"axes": "YXS" if rgb else "CYX" if colour else "YX"}
                    metadata |= tiff.ome_metadata(self._facts, text, rgb)
                    extra = {"subifds": levels - 1, "metadata": metadata, "software": tiff.software()}
                pixel = self._facts.attrs.get("pixel_um")
                if pixel is not None:
                    per_cm = (1e4 / (pixel[1] * 2**level), 1e4 / (pixel[0] * 2**level))
                    extra |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
                writer.write(self._tiles(array, rgb), shape=shape, dtype=self.dtype, **options, **extra)

    def _tiles(self, array: Any, rgb: bool) -> Iterator[np.ndarray]:
        """Tiles in the order of TIFF, row by row (plane by plane unless RGB); the last ones are filled up."""
        tile = self._tile
        height, width = array.shape[-2:]
        planes = range(1) if rgb or array.ndim == 2 else range(array.shape[0])
        for plane in planes:
            for y in range(0, height, tile):
                for x in range(0, width, tile):
                    index: tuple[Any, ...] = (slice(y, y + tile), slice(x, x + tile))
                    if array.ndim == 3:
                        index = (slice(None) if rgb else plane, *index)
                    part = np.asarray(array[index])
                    if rgb:
                        part = np.moveaxis(part, 0, 2)
                    fill = [(0, tile - part.shape[0]), (0, tile - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
                    yield np.ascontiguousarray(np.pad(part, fill, mode="edge"))


def add_levels(group: Any, dims: list[str]) -> int:
    """Add means of 2 × 2 pixels to a Zarr ``group`` with level "0" until 512 px are reached; the number of levels."""
    level = 0
    while max(group[str(level)].shape[-2:]) > SMALLEST:
        fine = group[str(level)]
        height, width = (size // 2 for size in fine.shape[-2:])
        if min(height, width) < 1:
            break
        shape = (*fine.shape[:-2], height, width)
        coarse = group.create_array(
            str(level + 1),
            shape=shape,
            chunks=fine.chunks,
            dtype=fine.dtype,
            fill_value=0,
            **ome_zarr.SEPARATOR,
        )
        step_y, step_x = fine.chunks[-2:]
        for lead in np.ndindex(*fine.shape[:-2]):
            for y in range(0, height, step_y):
                for x in range(0, width, step_x):
                    y1, x1 = min(y + step_y, height), min(x + step_x, width)
                    block = np.asarray(fine[(*lead, slice(2 * y, 2 * y1), slice(2 * x, 2 * x1))])
                    coarse[(*lead, slice(y, y1), slice(x, x1))] = _half(block)
        level += 1
    return level + 1


def _half(block: np.ndarray) -> np.ndarray:
    rows, columns = block.shape[0] // 2, block.shape[1] // 2
    mean = block.reshape(rows, 2, columns, 2).mean(axis=(1, 3), dtype=np.float64)
    return (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype)
