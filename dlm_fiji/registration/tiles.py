"""The tiles of a mosaic: an array or files, read when needed, never all at once."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import Field, is_image_file, open_image, to_array

__all__ = ["TileSource", "read_tile", "to_grey"]

#: luma weights of ITU-R BT.601, as MATLAB's rgb2gray and ImageJ's weighted conversion use them
LUMA = np.array([0.2989, 0.5870, 0.1140], dtype=np.float32)


def to_grey(image: np.ndarray, channel: int | None = None) -> np.ndarray:
    """One channel as float32: luma of RGB (..., 3), the mean of other channel counts, or the ``channel``
    asked for.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        return image.astype(np.float32)
    if channel is not None:
        if not 0 <= channel < image.shape[-1]:
            raise InputError(f"Reference channel {channel} asked for, but the tiles have {image.shape[-1]} channels.")
        return image[..., channel].astype(np.float32)
    if image.shape[-1] in (3, 4):
        return image[..., :3].astype(np.float32) @ LUMA
    return image.astype(np.float32).mean(axis=-1)


def read_tile(tile: str | os.PathLike[str] | Field) -> np.ndarray:
    """A tile file, or one image of a file, as (H, W) or (H, W, C): every format of
    :func:`dlm_fiji.micrograph.open_image`, and what OpenCV reads besides.

    Raises
    ------
    InputError
        The file is missing, unreadable, or not a two-dimensional image.
    """
    path, series = (tile.path, tile.series) if isinstance(tile, Field) else (Path(tile), 0)
    if path.is_file() and not is_image_file(path):
        try:
            return _decoded(path)
        except Exception as error:
            raise InputError(f"Tile {path} cannot be read: {error}.") from error
    image = open_image(path, series=series)
    stacked = [f"{image.sizes[axis]} {word}" for axis, word in (("t", "frames"), ("z", "planes")) if axis in image.dims]
    if stacked:
        raise InputError(f"Tile {path} is a stack of {' and '.join(stacked)}; a tile is one plane.")
    return to_array(image)


def _decoded(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("it is no image that OpenCV knows")
    return np.asarray(image[..., 2::-1] if image.ndim == 3 else image)


class TileSource:
    """N tiles of one shape and type, from an array (N, H, W[, C]), a sequence of arrays, or a sequence of
    paths or images of files.

    Parameters
    ----------
    tiles
        See above.
    flat_field
        Divided out of every tile that is read by :meth:`corrected`; (H, W) or (H, W, C), mean 1.
    """

    def __init__(self, tiles: Any, flat_field: np.ndarray | None = None) -> None:
        if isinstance(tiles, (str, os.PathLike)):
            raise InputError(f"Tiles are an array (N, H, W[, C]) or a list of files, not the single path {tiles}.")
        self._tiles: Sequence[Any] = tiles
        self._only: int | None = None
        if len(tiles) == 0:
            raise InputError("There are no tiles to stitch.")
        self.names = [_name(tile) or f"tile {i}" for i, tile in enumerate(tiles)]
        first = self.read(0)
        self.shape: tuple[int, ...] = first.shape
        self._stored = first.shape
        self.dtype = first.dtype
        if first.ndim not in (2, 3):
            raise InputError(f"A tile is (H, W) or (H, W, C); {self.names[0]} has shape {first.shape}.")
        if min(first.shape[:2]) < 16:
            raise InputError(
                f"Tiles of {first.shape[0]} x {first.shape[1]} px are too small; at least 16 x 16 is needed."
            )
        self.flat_field = None if flat_field is None else self._checked_flat_field(flat_field)

    def __len__(self) -> int:
        return len(self._tiles)

    @property
    def files(self) -> list[Any] | None:
        """The files or images of files that the tiles come from; None where they are arrays."""
        return list(self._tiles) if all(_name(tile) for tile in self._tiles) else None

    def _checked_flat_field(self, flat_field: np.ndarray) -> np.ndarray:
        flat_field = np.asarray(flat_field, dtype=np.float32)
        if flat_field.shape not in (self.shape, self.shape[:2]):
            raise InputError(f"The flat field has shape {flat_field.shape}, the tiles {self.shape}; they must agree.")
        if not (np.isfinite(flat_field).all() and flat_field.min() > 0):
            raise InputError("The flat field must be finite and above zero everywhere.")
        if flat_field.ndim < len(self.shape):
            flat_field = flat_field[..., None]
        return flat_field

    def read(self, index: int) -> np.ndarray:
        """Tile ``index`` as it was given."""
        tile = self._tiles[index]
        image = read_tile(tile) if _name(tile) else np.asarray(tile)
        if hasattr(self, "_stored"):
            if image.shape != self._stored:
                raise InputError(
                    f"{self.names[index]} has shape {image.shape}, {self.names[0]} {self._stored}; "
                    "all tiles must agree."
                )
            if image.dtype != self.dtype:
                raise InputError(
                    f"{self.names[index]} is {image.dtype}, {self.names[0]} {self.dtype}; all tiles must agree."
                )
        return image if self._only is None else image[..., self._only]

    def only(self, channel: int) -> TileSource:
        """The same tiles with one channel alone, (H, W)."""
        view = copy.copy(self)
        view._only, view.shape = channel, self.shape[:2]
        if self.flat_field is not None:
            view.flat_field = self.flat_field[..., min(channel, self.flat_field.shape[-1] - 1)]
        return view

    def corrected(self, index: int) -> np.ndarray:
        """Tile ``index`` divided by the flat field, float32 (as given where there is no flat field)."""
        image = self.read(index)
        if self.flat_field is None:
            return image
        return image.astype(np.float32) / self.flat_field

    def grey(self, index: int, channel: int | None = None) -> np.ndarray:
        """Tile ``index`` as one float32 channel, flat-field corrected; whatever is not finite is set to 0."""
        if self.flat_field is not None and self.flat_field.shape[2:] in ((), (1,)):
            # one field for all colours: the same result as correcting first, for a third of the work
            image = to_grey(self.read(index), channel) / self.flat_field.reshape(self.shape[:2])
        else:
            image = to_grey(self.corrected(index), channel)
        if self.dtype.kind == "f" and not np.isfinite(image).all():
            image = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
        return image


def _name(tile: Any) -> str:
    """The name of a file or of an image of a file; empty for an array."""
    if isinstance(tile, Field):
        return tile.name
    return Path(tile).name if isinstance(tile, (str, os.PathLike)) else ""


class TileCache:
    """The last few results of ``make(index)``, so that neighbours are read once; safe for threads."""

    def __init__(self, make: Any, size: int) -> None:
        self._make, self._size = make, max(2, size)
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = Lock()

    def __call__(self, index: int) -> Any:
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        made = self._make(index)
        with self._lock:
            self._kept[index] = made
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return made
