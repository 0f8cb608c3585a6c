"""Write an image larger than memory by regions, with the resolution pyramid that viewers need."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import zarr

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.micrograph import ome_zarr, tiff
from dlm_fiji.micrograph.calibrated import from_array
from dlm_fiji.micrograph.metadata import record
from dlm_fiji.micrograph.raw import RawPixels
from dlm_fiji.micrograph.writing import atomic_write, remove_leftovers

__all__ = ["PyramidWriter"]

#: A level no larger than this on its longer side is the last.
SMALLEST = 512
#: Bytes that are read at a time when levels are made, and that wait for compression.
BLOCK = 2**24
#: Level 1 is twice as fast as the default of 6 and, behind a predictor, 4 % larger.
ZLIB_LEVEL = 1


class PyramidWriter:
    """Regions in, in any order; a pyramidal OME-TIFF or OME-Zarr out.

    Use it in a ``with`` block: the file appears at ``path`` when the block ends without an error, whole.
    Until then the pixels lie uncompressed beside it, so that each tile is compressed once: 4/3 of their size is
    needed as disk besides the file. Memory holds one region, and some 0.2 GB when the block ends. Regions that
    were never written are zero. What a killed run left behind for the same ``path`` is taken away first.

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
    progress
        Called with (blocks done, blocks in all) while the levels are made and the tiles compressed, when the
        ``with`` block ends: for a large image that takes minutes.
    **attrs
        Optics and other attributes.

    Raises
    ------
    InputError
        The ending is unknown, or a region does not fit.
    SetupError
        The disk is full, or has no room for the pixels before any is computed.
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
        progress: Callable[[int, int], None] | None = None,
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
        self._provenance, self._progress = provenance, progress
        colour = len(self.shape) == 3
        self._rgb = not self._zarr and colour and self.shape[2] == 3 and self.dtype.name in ("uint8", "uint16")
        # A stand-in of one pixel carries calibration and names through the code of small images.
        self._facts = from_array(np.zeros((2, 2, *self.shape[2:]), self.dtype), pixel_um, channels=channels, **attrs)
        self._stack = ExitStack()

    def __enter__(self) -> PyramidWriter:
        remove_leftovers(self.path)
        self._part = self._stack.enter_context(atomic_write(self.path))
        try:
            # In the same folder: the disk that has room for the file has room for this.
            scratch = self._part.with_name(self._part.name + ".levels")
            scratch.mkdir()
            self._stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            self._check_room()
            samples = 3 if self._rgb else 1
            planes = math.prod(self.shape[2:]) // samples
            self._levels = [
                _Level(scratch / str(number), (planes, *size, samples), self.dtype, self._stack)
                for number, size in enumerate(_sizes_of_levels(self.shape[:2]))
            ]
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
        base = self._levels[0]
        for plane in range(base.planes):
            base.write(plane, y0, x0, region if self._rgb else region.reshape(height, width, -1)[..., plane])

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._stack:
            if error is not None:
                # Handing the error to atomic_write makes it take everything away.
                raise error
            self._done, self._total = 0, sum(len(self._windows(level)) * level.planes for level in self._levels)
            if self._zarr:
                self._write_zarr()
            else:
                self._write_tiff()

    def _check_room(self) -> None:
        needed = math.prod(self.shape) * self.dtype.itemsize * 4 // 3
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise SetupError(
                f"{self.path} needs at least {needed / 1e9:.3g} GB of disk while written, {free / 1e9:.3g} GB are "
                "free there; free some space or choose another output folder."
            )

    def _write_zarr(self) -> None:
        group = zarr.open_group(str(self._part), mode="w", zarr_format=2)
        for number, level in enumerate(self._levels):
            array = ome_zarr.new_array(group, str(number), (*self.shape[2:], *level.size), self.dtype, self._tile)
            for plane, y, x, block in self._blocks(number):
                array[(y, x) if array.ndim == 2 else (plane, y, x)] = block
        dims = ["y", "x"] if len(self.shape) == 2 else ["c", "y", "x"]
        count = len(self._levels)
        group.attrs.update(ome_zarr.attributes(self._facts, self._provenance, dims, count, self.path.name))

    def _write_tiff(self) -> None:
        text = record(self._facts, self._provenance)
        zipped, integers = self._compression == "zlib", self.dtype.kind in "iu"
        options: dict[str, Any] = {
            "tile": (self._tile, self._tile),
            "compression": self._compression,
            "compressionargs": {"level": ZLIB_LEVEL} if zipped else None,
            # Differences of neighbours compress twice as fast, to 3/5 of the size; Bio-Formats reads them for
            # whole numbers only.
            "predictor": 2 if integers and self._compression else None,
            "photometric": "rgb" if self._rgb else "minisblack",
            "maxworkers": min(8, os.cpu_count() or 1),
            "buffersize": 2 * BLOCK,
        }
        big = math.prod(self.shape) * self.dtype.itemsize > 2_000_000_000
        with tifffile.TiffWriter(self._part, ome=True, bigtiff=big) as writer:
            for number, level in enumerate(self._levels):
                height, width = level.size
                shape = (height, width, 3) if self._rgb else (*self.shape[2:], height, width)
                extra: dict[str, Any] = {"subfiletype": 1}
                if number == 0:
                    metadata = {"axes": "YXS" if self._rgb else "CYX" if len(self.shape) == 3 else "YX"}
                    metadata |= tiff.ome_metadata(self._facts, text, self._rgb)
                    extra = {"subifds": len(self._levels) - 1, "metadata": metadata, "software": tiff.software()}
                pixel = self._facts.attrs.get("pixel_um")
                if pixel is not None:
                    per_cm = (1e4 / (pixel[1] * 2**number), 1e4 / (pixel[0] * 2**number))
                    extra |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
                writer.write(self._tiles(number), shape=shape, dtype=self.dtype, **options, **extra)

    def _tiles(self, number: int) -> Iterator[np.ndarray]:
        """Tiles of a level in the order of TIFF, row by row; the last ones are filled up."""
        tile = self._tile
        for *_, block in self._blocks(number):
            for x in range(0, block.shape[1], tile):
                part = block[:, x : x + tile]
                if part.shape[:2] != (tile, tile):
                    fill = [(0, tile - part.shape[0]), (0, tile - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
                    part = np.pad(part, fill, mode="edge")
                yield part

    def _blocks(self, number: int) -> Iterator[tuple[int, slice, slice, np.ndarray]]:
        """(plane, rows, columns, pixels) of a level, a row of tiles high; on the way the next level is made."""
        fine, coarse = self._levels[number], next(iter(self._levels[number + 1 :]), None)
        for plane in range(fine.planes):
            for y, x in self._windows(fine):
                block = fine.read(plane, y, x)
                if coarse is not None and min(block.shape[:2]) > 1:
                    coarse.write(plane, y.start // 2, x.start // 2, _half(block))
                self._done += 1
                if self._progress is not None:
                    self._progress(self._done, self._total)
                yield plane, y, x, block

    def _windows(self, level: _Level) -> list[tuple[slice, slice]]:
        tile, (height, width) = self._tile, level.size
        columns = max(1, BLOCK // (tile * tile * level.pixel_bytes)) * tile
        return [
            (slice(y, min(y + tile, height)), slice(x, min(x + columns, width)))
            for y in range(0, height, tile)
            for x in range(0, width, columns)
        ]


def _sizes_of_levels(size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Rows and columns of each level: half of the one before, until 512 px are reached."""
    height, width = size
    sizes = [(height, width)]
    while max(height, width) > SMALLEST and min(height, width) > 1:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


def _half(block: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 pixels, ties to even; an odd last row or column is left out."""
    rows, columns = block.shape[0] // 2, block.shape[1] // 2
    # float32 holds the mean of four 16-bit numbers exactly
    wide: Any = block[: 2 * rows, : 2 * columns].astype(np.float32 if block.dtype.itemsize <= 2 else np.float64)
    mean = cv2.resize(wide, (columns, rows), interpolation=cv2.INTER_AREA)
    if block.dtype.kind in "iu":
        np.rint(mean, out=mean)
    return mean.astype(block.dtype)


class _Level:
    """One level of the pyramid as plain pixels, a file for each plane (H, W, samples)."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int], dtype: np.dtype[Any], stack: ExitStack) -> None:
        self.planes, height, width, self._samples = shape
        self.size, self.pixel_bytes = (height, width), self._samples * dtype.itemsize
        self._raw = [
            RawPixels(path.with_name(f"{path.name}-{plane}"), (1, *shape[1:]), dtype, create=True)
            for plane in range(self.planes)
        ]
        for raw in self._raw:
            stack.callback(raw.close)

    def read(self, plane: int, y: slice, x: slice) -> np.ndarray:
        window = self._raw[plane].read(y, x)[0]
        return window if self._samples > 1 else window[..., 0]

    def write(self, plane: int, y0: int, x0: int, part: np.ndarray) -> None:
        self._raw[plane].write(y0, x0, part.reshape(1, *part.shape[:2], self._samples))
