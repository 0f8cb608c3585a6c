"""Pairs that stay on the disk: patches are read out of Zarr or tiled TIFF when a step asks for them.

Before the training the labels are looked through once, in blocks, for patches without content (and float images for
their full scale). Memory holds a block, not an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.training.patches import Cutting, PatchPairs, check_sizes, contrast, no_patches
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["Part", "ScaledImage", "StoredImage", "StoredPatches", "stored_patches"]

BLOCK = 16
"""Patches along an edge of what is looked through at a time."""


class StoredImage(Protocol):
    """What :func:`dlm_fiji.micrograph.open_region_reader` gives: (H, W[, C]) on the disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, channels if there are any."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        ...

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray:
        """Rows and columns as an array."""
        ...


@dataclass
class ScaledImage:
    """An image on the disk in other values: ``gain`` · value + ``offset``, float32."""

    image: StoredImage
    gain: float
    offset: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the image."""
        return self.image.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
        """Rows and columns in the other values."""
        return self.image.read(y0, y1, x0, x1).astype(np.float32) * np.float32(self.gain) + np.float32(self.offset)


@dataclass
class Part:
    """A rectangle of an image on the disk, as an image of its own."""

    image: StoredImage
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, channels if there are any."""
        (top, bottom), (left, right) = self.rows, self.columns
        return bottom - top, right - left, *self.image.shape[2:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the image."""
        return self.image.dtype

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray:
        """Rows and columns of the part."""
        top, left = self.rows[0], self.columns[0]
        return self.image.read(top + y0, top + y1, left + x0, left + x1)


@dataclass
class StoredPatches(Sequence[NDArray]):
    """(h, w, C) patches of images on the disk, each read when it is asked for.

    Attributes
    ----------
    images
        All with as many channels.
    places
        (N, 3): number of the image, row and column of the patch's first pixel.
    edge
        Pixels of a patch.
    """

    images: list[StoredImage]
    places: NDArray[np.int64]
    edge: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        number, y, x = (int(v) for v in self.places[index])
        patch = self.images[number].read(y, y + self.edge, x, x + self.edge)
        return patch if patch.ndim == 3 else patch[..., None]


def stored_patches(
    pairs: Sequence[tuple[StoredImage, StoredImage]], settings: TrainingSettings, cut: Cutting, values: str
) -> PatchPairs:
    """:func:`~dlm_fiji.training.extract_patches` for images on the disk: the same patches, read when needed."""
    places: list[tuple[int, int, int]] = []
    kept: tuple[list[StoredImage], list[StoredImage]] = [], []
    left_out = 0
    small = all(image.dtype == np.uint8 for pair in pairs for image in pair)
    for number, (lr, hr) in enumerate(pairs):
        check_sizes(lr.shape, hr.shape, cut.ratio, f"Pair {number + 1}")
        rows, columns = (
            [start for start in cut.positions(lr.shape[axis]) if cut.label(start) + cut.edge <= hr.shape[axis]]
            for axis in (0, 1)
        )
        found = list(product(rows, columns))
        full = [full_scale(image, values) for image in (lr, hr)]
        if settings.min_contrast > 0:
            limit = settings.min_contrast * full[1]
            seen = dict(contrasts(hr, found, cut))
            left_out += sum(value < limit for value in seen.values())
            found = [place for place in found if seen[place] >= limit]
        places += [(number, y, x) for y, x in found]
        for images, image, scale in zip(kept, (lr, hr), full, strict=True):
            # 8-bit patches stay as they are, as those in memory do, unless a pair of another type is beside them
            images.append(ScaledImage(image, 1 / scale) if values == "unit" and not small else image)
    if not places:
        raise no_patches(cut.patch, left_out, settings.min_contrast)
    if len({lr.shape[2:] for lr, _ in pairs}) > 1:
        raise InputError("The fields differ in their number of channels; give all in colour or all in grey.")
    low = np.array(places)
    high = np.array([(number, cut.label(y), cut.label(x)) for number, y, x in places])
    patches = StoredPatches(kept[0], low, cut.patch), StoredPatches(kept[1], high, cut.edge)
    return PatchPairs(*patches, settings.batch, settings.seed, settings.augment, left_out)


def contrasts(
    label: StoredImage, places: list[tuple[int, int]], cut: Cutting
) -> Iterator[tuple[tuple[int, int], float]]:
    """Each place with the standard deviation of its label's luminance, the label read in blocks."""
    blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    span = BLOCK * cut.stride
    for y, x in places:
        blocks.setdefault((y // span, x // span), []).append((y, x))
    for inside in blocks.values():
        top, left = (cut.label(min(place[axis] for place in inside)) for axis in (0, 1))
        bottom, right = (cut.label(max(place[axis] for place in inside)) + cut.edge for axis in (0, 1))
        block = label.read(top, bottom, left, right)
        block = block if block.ndim == 3 else block[..., None]
        for y, x in inside:
            row, column = cut.label(y) - top, cut.label(x) - left
            yield (y, x), contrast(block[row : row + cut.edge, column : column + cut.edge])


def full_scale(image: StoredImage, values: str) -> float:
    """The value that is 1 to the network (255 where values are the network's already), as in ``to_unit``."""
    if values == "as is" or image.dtype == np.uint8:
        return 255.0
    if image.dtype == np.uint16:
        return 65535.0
    if image.dtype.kind != "f":
        raise InputError(f"Training images must be 8-bit, 16-bit or float, not {image.dtype}.")
    largest, span = 0.0, 1024
    for y, x in product(range(0, image.shape[0], span), range(0, image.shape[1], span)):
        block = image.read(y, min(y + span, image.shape[0]), x, min(x + span, image.shape[1]))
        if not np.isfinite(block).all():
            raise InputError("A training image has pixels that are NaN or infinite; mend it before training.")
        largest = max(largest, float(block.max()))
    return 255.0 if largest > 1.5 else 1.0
