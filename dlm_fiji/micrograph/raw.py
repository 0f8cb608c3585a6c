"""Windows on plain pixels in a file, by ``seek``: no thread, no memory map."""

from __future__ import annotations

from io import BufferedRandom
from pathlib import Path
from typing import Any, cast

import numpy as np

__all__ = ["RawPixels"]


class RawPixels:
    """An uncompressed array (planes, H, W, samples) inside a file.

    A memory map would count as memory of the process and grow to the size of the file; this holds one window.

    Parameters
    ----------
    path
        The file; with ``create`` it is made, sparse and zero.
    shape
        (planes, H, W, samples).
    dtype
        Type of the pixels with their byte order.
    offset
        Where the first pixel begins, in bytes.
    create
        Make the file and allow writing.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: Any, *, offset: int = 0, create: bool = False
    ) -> None:
        self.shape, self.dtype, self._offset = shape, np.dtype(dtype), offset
        self._file = cast(BufferedRandom, open(path, "w+b" if create else "rb"))  # noqa: SIM115
        if create:
            self._file.truncate(offset + int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize)

    def read(self, y: slice, x: slice) -> np.ndarray:
        """Rows ``y``, columns ``x`` of all planes: (planes, h, w, samples)."""
        planes, _, width, samples = self.shape
        rows, columns = y.stop - y.start, x.stop - x.start
        window = np.empty((planes, rows, columns, samples), self.dtype)
        for plane in range(planes):
            if columns == width:
                self._fill(plane, y.start, 0, window[plane])
            else:
                for row in range(rows):
                    self._fill(plane, y.start + row, x.start, window[plane, row])
        return window

    def write(self, y0: int, x0: int, window: np.ndarray) -> None:
        """Put ``window`` (planes, h, w, samples) with its top left pixel at (y0, x0)."""
        window = np.ascontiguousarray(window, self.dtype)
        for plane in range(self.shape[0]):
            if window.shape[2] == self.shape[2]:
                self._seek(plane, y0, 0)
                self._file.write(window[plane].data)
            else:
                for row in range(window.shape[1]):
                    self._seek(plane, y0 + row, x0)
                    self._file.write(window[plane, row].data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _seek(self, plane: int, y: int, x: int) -> None:
        _, height, width, samples = self.shape
        self._file.seek(self._offset + ((plane * height + y) * width + x) * samples * self.dtype.itemsize)

    def _fill(self, plane: int, y: int, x: int, target: np.ndarray) -> None:
        self._seek(plane, y, x)
        if self._file.readinto(target.reshape(-1).view(np.uint8).data) != target.nbytes:
            raise OSError(f"the file ends before row {y}")
