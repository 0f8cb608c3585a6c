"""Write an image larger than memory by regions, with the resolution pyramid that viewers need."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
import zarr

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import ome_zarr, tiff
from dlm_fiji.micrograph.calibrated import from_array
from dlm_fiji.micrograph.metadata import record
from dlm_fiji.micrograph.raw import RawPixels
from dlm_fiji.micrograph.writing import PART_PREFIX, atomic_write

__all__ = ["PyramidWriter", "ZarrLevels", "add_levels"]

#: A level no larger than this on its longer side is the last.
SMALLEST = 512


class PyramidWriter:
    """Regions in, in any order; a pyramidal OME-TIFF or OME-Zarr out.

    Use it in a ``with`` block: the file appears at ``path`` when the block ends without an error, whole.
    OME-TIFF needs as much disk again for the time of writing, as TIFF wants its tiles in order. Memory holds
    one region and a few rows of tiles. Regions that were never written are zero.

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
        self._facts = from_array(np.zeros((2, 2, *self.shape[2:]), self.dtype), pixel_um, channels=channels, **attrs)
        self._stack = ExitStack()

    def __enter__(self) -> PyramidWriter:
        self._part = self._stack.enter_context(atomic_write(self.path))
        try:
            if self._zarr:
                self._levels: Any = ZarrLevels(zarr.open_group(str(self._part), mode="w", zarr_format=2))
            else:
                # In the same folder: the disk that has room for the file has room for this.
                scratch = tempfile.mkdtemp(prefix=PART_PREFIX, dir=self.path.parent)
                self._stack.callback(shutil.rmtree, scratch, ignore_errors=True)
                self._levels = _RawLevels(Path(scratch))
                self._stack.callback(self._levels.close)
            self._base = self._levels.add(self.shape, self.dtype, self._tile)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, y0: int, x0: int, region: np.ndarray) -> None:
        """Put ``region``, (h, w) or (h, w, C) of the writer's type, with its top left pixel at (y0, x0)."""
        region = np.asarray(region)
        height, width = region.shape[:2]
        fits = y0 >= 0 and y0 + height <= self.shape[0] and x0 >= 0 and x0 + width <= self.shape[1]
        if region.shape[2:] != self.shape[2:] or not fits or region.dtype != self.dtype:
            raise InputError(
                f"A region {region.shape} of {region.dtype} at ({y0}, {x0}) does not fit into "
                f"{self.path.name} ({self.shape}, {self.dtype})."
            )
        self._base.write(y0, x0, region)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._stack:
            if error is not None:
                # Handing the error to atomic_write makes it take everything away.
                raise error
            add_levels(self._levels, self._tile)
            if self._zarr:
                dims = ["y", "x"] if len(self.shape) == 2 else ["c", "y", "x"]
                count = len(self._levels.all)
                self._levels.group.attrs.update(
                    ome_zarr.attributes(self._facts, self._provenance, dims, count, self.path.name)
                )
            else:
                self._write_tiff(self._levels.all)

    def _write_tiff(self, levels: list[Any]) -> None:
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
            for level, pixels in enumerate(levels):
                height, width, *channels = pixels.shape
                shape = (height, width, *channels) if rgb else (*channels, height, width)
                extra: dict[str, Any] = {"subfiletype": 1}
                if level == 0:
                    metadata = {"axes": "YXS" if rgb else "CYX" if colour else "YX"}
                    metadata |= tiff.ome_metadata(self._facts, text, rgb)
                    extra = {"subifds": len(levels) - 1, "metadata": metadata, "software": tiff.software()}
                pixel = self._facts.attrs.get("pixel_um")
                if pixel is not None:
                    per_cm = (1e4 / (pixel[1] * 2**level), 1e4 / (pixel[0] * 2**level))
                    extra |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
                writer.write(self._tiles(pixels, rgb), shape=shape, dtype=self.dtype, **options, **extra)

    def _tiles(self, pixels: Any, rgb: bool) -> Iterator[np.ndarray]:
        """Tiles in the order of TIFF, row by row (plane by plane unless RGB); the last ones are filled up."""
        tile = self._tile
        height, width, *channels = pixels.shape
        for plane in [None] if rgb or not channels else range(channels[0]):
            for y in range(0, height, tile):
                for x in range(0, width, tile):
                    part = pixels.read(slice(y, min(y + tile, height)), slice(x, min(x + tile, width)))
                    part = part if plane is None else part[..., plane]
                    fill = [(0, tile - part.shape[0]), (0, tile - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
                    yield np.ascontiguousarray(np.pad(part, fill, mode="edge"))


class _Level(Protocol):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, y: slice, x: slice) -> np.ndarray: ...

    def write(self, y0: int, x0: int, region: np.ndarray) -> None: ...


class _Levels(Protocol):
    all: list[Any]

    def add(self, shape: tuple[int, ...], dtype: Any, tile: int) -> Any: ...


def add_levels(levels: _Levels, tile: int) -> None:
    """Add means of 2 × 2 pixels to ``levels``, which holds the full image, until 512 px are reached."""
    fine: _Level = levels.all[-1]
    while max(fine.shape[:2]) > SMALLEST and min(fine.shape[:2]) > 1:
        height, width = (size // 2 for size in fine.shape[:2])
        coarse: _Level = levels.add((height, width, *fine.shape[2:]), fine.dtype, tile)
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                y1, x1 = min(y + tile, height), min(x + tile, width)
                coarse.write(y, x, _half(fine.read(slice(2 * y, 2 * y1), slice(2 * x, 2 * x1))))
        fine = coarse


def _half(block: np.ndarray) -> np.ndarray:
    if block.dtype in (np.uint8, np.uint16):
        # whole numbers only: the same result in a third of the time
        wide: Any = block.astype(np.uint16 if block.dtype == np.uint8 else np.uint32)
        total: Any = wide[::2] + wide[1::2]
        total = total[:, ::2] + total[:, 1::2]
        return ((total + 1 + (total >> 2 & 1)) >> 2).astype(block.dtype)  # ties to even, as rint
    rows, columns = block.shape[0] // 2, block.shape[1] // 2
    mean = block.reshape(rows, 2, columns, 2, *block.shape[2:]).mean(axis=(1, 3), dtype=np.float64)
    return (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype)


class _RawLevels:
    """Levels as plain pixels in a scratch folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[_RawLevel] = []

    def add(self, shape: tuple[int, ...], dtype: Any, tile: int) -> _RawLevel:
        self.all.append(_RawLevel(self.folder / str(len(self.all)), shape, dtype))
        return self.all[-1]

    def close(self) -> None:
        for level in self.all:
            level.raw.close()


class _RawLevel:
    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.raw = RawPixels(path, (1, *shape[:2], int(np.prod(shape[2:]))), dtype, create=True)

    def read(self, y: slice, x: slice) -> np.ndarray:
        window = self.raw.read(y, x)
        return window.reshape(*window.shape[1:3], *self.shape[2:])

    def write(self, y0: int, x0: int, region: np.ndarray) -> None:
        self.raw.write(y0, x0, region.reshape(1, *region.shape[:2], -1))


class ZarrLevels:
    """Levels as arrays "0", "1" … of a Zarr group, channels first."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.all: list[_ZarrLevel] = []

    def add(self, shape: tuple[int, ...], dtype: Any, tile: int) -> _ZarrLevel:
        sizes = (*shape[2:], *shape[:2])
        chunks = (*([1] * len(shape[2:])), min(shape[0], tile), min(shape[1], tile))
        array = self.group.create_array(
            str(len(self.all)), shape=sizes, chunks=chunks, dtype=dtype, fill_value=0, **ome_zarr.SEPARATOR
        )
        self.all.append(_ZarrLevel(array))
        return self.all[-1]


class _ZarrLevel:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype = (*array.shape[-2:], *array.shape[:-2]), np.dtype(array.dtype)

    def read(self, y: slice, x: slice) -> np.ndarray:
        window = np.asarray(self.array[(..., y, x)])
        return window if window.ndim == 2 else np.moveaxis(window, 0, 2)

    def write(self, y0: int, x0: int, region: np.ndarray) -> None:
        window = region if region.ndim == 2 else np.moveaxis(region, 2, 0)
        self.array[(..., slice(y0, y0 + region.shape[0]), slice(x0, x0 + region.shape[1]))] = window
