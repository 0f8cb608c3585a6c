"""Pairs of patches for training: cut from registered fields, kept as they are on disk, drawn by step number.

The batch of a step depends on the seed and the step only, so a resumed training sees the same batches without
any saved state of samplers or workers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlm_fiji.errors import InputError
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["BatchSource", "Cutting", "NoPatchError", "Pair", "PatchPairs", "extract_patches", "to_tensor", "to_unit"]

Pair = tuple[Any, Any]
"""Low resolution and label: arrays, or images on the disk (``dlm_fiji.training.stored.StoredImage``)."""
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class NoPatchError(InputError):
    """No patch fits into the images, or none has content."""


class BatchSource(Protocol):
    """Where the loops get their batches: a function of the step alone."""

    def __len__(self) -> int: ...

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) low-resolution and (N, C, H, W) label tensors of a step, in the network's values."""
        ...


@dataclass
class PatchPairs:
    """Patches in memory, memory-mapped or read when needed, and how a step draws from them.

    Attributes
    ----------
    lr, hr
        (N, h, w, C) and (N, H, W, C), uint8 or float32 in the network's values; arrays, or sequences of patches.
    size
        Patches of a batch.
    seed
        Of order and augmentation.
    augment
        Flips and quarter turns, the same for both of a pair.
    left_out
        Patches without content that were not taken.
    """

    lr: NDArray | Sequence[NDArray]
    hr: NDArray | Sequence[NDArray]
    size: int = 64
    seed: int = 1
    augment: bool = True
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.lr)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of ``step``: the next ``size`` patches of an endless row of shuffled epochs."""
        count = len(self)
        indices = []
        epoch, order = -1, np.empty(0, int)
        for sample in range(step * self.size, (step + 1) * self.size):
            if sample // count != epoch:
                epoch = sample // count
                order = np.random.default_rng([self.seed, 0, epoch]).permutation(count)
            indices.append(order[sample % count])
        turns = np.zeros(self.size, int)
        if self.augment:
            turns = np.random.default_rng([self.seed, 1, step]).integers(8, size=self.size)
        lr = [turned(self.lr[i], k) for i, k in zip(indices, turns, strict=True)]
        hr = [turned(self.hr[i], k) for i, k in zip(indices, turns, strict=True)]
        return to_tensor(np.stack(lr)), to_tensor(np.stack(hr))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``lr.npy`` and ``hr.npy``, from which :meth:`open` maps them without reading them whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "lr.npy", self.lr, allow_pickle=False)
        np.save(folder / "hr.npy", self.hr, allow_pickle=False)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], settings: TrainingSettings) -> PatchPairs:
        """Patches that :meth:`save` wrote, memory-mapped."""
        try:
            lr, hr = (np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ("lr", "hr"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no patches ({error}).") from None
        return cls(lr, hr, settings.batch, settings.seed, settings.augment)


def turned(image: NDArray, k: int) -> NDArray:
    """One of the eight flips and quarter turns of a (H, W, C) image."""
    image = np.rot90(image, k % 4)
    return image[:, ::-1] if k >= 4 else image


def to_unit(image: NDArray) -> NDArray:
    """An image in the network's values, cheap to keep: uint8 stays (0 … 255 stand for 0 … 1), others float32
    0 … 1.

    uint16 is divided by 65535; float with a maximum above 1.5 by 255. A grey image gets a channel axis.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return image.astype(np.float32) / np.float32(65535)
    if image.dtype.kind != "f":
        raise InputError(f"Training images must be 8-bit, 16-bit or float, not {image.dtype}.")
    if not np.isfinite(image).all():
        raise InputError("A training image has pixels that are NaN or infinite; mend it before training.")
    largest = float(image.max()) if image.size else 0.0
    return image.astype(np.float32) / np.float32(255 if largest > 1.5 else 1)


def to_tensor(images: NDArray) -> Tensor:
    """(N, H, W, C) uint8 or float32 → (N, C, H, W) float32, channels last in memory (which the convolutions "
    "like)."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return tensor.float().div_(255) if images.dtype == np.uint8 else tensor.float()


def extract_patches(
    pairs: Sequence[Pair],
    settings: TrainingSettings | None = None,
    scale: float = 2.5,
    *,
    values: str = "unit",
) -> PatchPairs:
    """Cut registered fields into overlapping pairs of patches.

    Parameters
    ----------
    pairs
        (low resolution (h, w[, C]), label (h·L, w·L[, C])) arrays, 8-bit or float, corners aligned; or images on
        the disk from ``open_region_reader``, of which patches are read when a step needs them. Split them by
        area or slide before: patches of one field overlap.
    settings
        Patch, overlap, smallest contrast, batch, seed.
    scale
        L of the network.
    values
        ``"unit"``: 8-bit or 0 … 1 (:func:`to_unit`). ``"as is"``: float in the network's own values (0 … 255).

    Raises
    ------
    InputError
        Sizes that do not fit each other, or no patch with content.
    """
    settings = TrainingSettings.of(settings)
    cut = Cutting.of(settings, scale)
    if pairs and hasattr(pairs[0][0], "read"):
        from dlm_fiji.training.stored import stored_patches

        return stored_patches(pairs, settings, cut, values)
    found_lr, found_hr, left_out = [], [], 0
    for number, (lr, hr) in enumerate(pairs):
        lr, hr = checked_pair(lr, hr, cut.ratio, number, values)
        full = 255.0 if hr.dtype == np.uint8 or values == "as is" else 1.0
        for y in cut.positions(lr.shape[0]):
            for x in cut.positions(lr.shape[1]):
                top, left = cut.label(y), cut.label(x)
                label = hr[top : top + cut.edge, left : left + cut.edge]
                if label.shape[:2] != (cut.edge, cut.edge):
                    continue
                if contrast(label) < settings.min_contrast * full:
                    left_out += 1
                    continue
                found_lr.append(lr[y : y + cut.patch, x : x + cut.patch])
                found_hr.append(label)
    if not found_lr:
        raise no_patches(cut.patch, left_out, settings.min_contrast)
    for found in (found_lr, found_hr):
        if len({patch.dtype for patch in found}) > 1:  # 8-bit fields beside others
            found[:] = [patch / np.float32(255) if patch.dtype == np.uint8 else patch for patch in found]
    try:
        arrays = np.stack(found_lr), np.stack(found_hr)
    except ValueError:
        text = "The fields differ in their number of channels; give all in colour or all in grey."
        raise InputError(text) from None
    return PatchPairs(*arrays, settings.batch, settings.seed, settings.augment, left_out)


@dataclass(frozen=True)
class Cutting:
    """Where patches lie in a field: ``patch`` pixels every ``stride``, on the grid where both images' pixels meet.

    ``edge`` is the label's patch.
    """

    ratio: Fraction
    patch: int
    stride: int
    edge: int

    @classmethod
    def of(cls, settings: TrainingSettings, scale: float) -> Cutting:
        """For a network that enlarges by ``scale``."""
        ratio = Fraction(scale).limit_denominator(16)
        grid = ratio.denominator
        patch = settings.patch // grid * grid
        stride = max(grid, round(patch * (1 - settings.overlap)) // grid * grid)
        return cls(ratio, patch, stride, int(patch * ratio))

    def positions(self, length: int) -> list[int]:
        """Where patches start along an axis: every stride, and one more at the end where pixels remain."""
        if length < self.patch:
            return []
        grid = self.ratio.denominator
        last = (length - self.patch) // grid * grid
        starts = list(range(0, last + 1, self.stride))
        return starts if starts[-1] == last else [*starts, last]

    def label(self, start: int) -> int:
        """The label's pixel at a low-resolution one on the grid."""
        return int(start * self.ratio)


def no_patches(patch: int, left_out: int, min_contrast: float) -> NoPatchError:
    """The sentence where there is nothing to train on."""
    if not left_out:
        return NoPatchError(
            f"There is no patch to train on: no field has {patch} pixels on a side "
            "(of the low resolution); give larger fields or a smaller patch."
        )
    return NoPatchError(
        f"There is no patch to train on: all {left_out} are without content (the label's standard deviation is below "
        f"{min_contrast:g} of the full scale of its type); give other fields or a smaller min_contrast."
    )


def checked_pair(lr: NDArray, hr: NDArray, ratio: Fraction, number: int, values: str) -> tuple[NDArray, NDArray]:
    """Both of a pair as (H, W, C) in kept values, or a sentence about what does not fit."""
    if values == "unit":
        lr, hr = to_unit(lr), to_unit(hr)
    else:
        lr, hr = (np.atleast_3d(np.asarray(image, np.float32)) for image in (lr, hr))
    check_sizes(lr.shape, hr.shape, ratio, f"Pair {number + 1}")
    return lr, hr


def check_sizes(low: tuple[int, ...], label: tuple[int, ...], ratio: Fraction, name: str) -> None:
    """A sentence where the label is not L times the low-resolution image, or has other channels."""
    expected = tuple(float(n * ratio) for n in low[:2])
    if any(abs(n - e) >= max(1, float(ratio)) for n, e in zip(label[:2], expected, strict=True)):
        raise InputError(
            f"{name}: the label has {label[1]}×{label[0]} pixels, expected are "
            f"{expected[1]:g}×{expected[0]:g} ({float(ratio):g} × {low[1]}×{low[0]}); crop the pair or set the scale."
        )
    channels = [shape[2] if len(shape) == 3 else 1 for shape in (low, label)]
    if channels[0] != channels[1]:
        raise InputError(f"{name}: {channels[0]} channels in the image, {channels[1]} in the label.")


def contrast(image: NDArray) -> float:
    """Standard deviation of the luminance of (H, W, C), in the image's values."""
    grey = image.astype(np.float32)
    grey = grey @ LUMINANCE if image.shape[2] == 3 else grey.mean(2)
    return float(grey.std())
