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
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlm_fiji.errors import InputError
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["BatchSource", "Pair", "PatchPairs", "extract_patches", "to_tensor", "to_unit"]

Pair = tuple[NDArray, NDArray]
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class BatchSource(Protocol):
    """Where the loops get their batches: a function of the step alone."""

    def __len__(self) -> int: ...

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) low-resolution and (N, C, H, W) label tensors of a step, in the network's values."""
        ...


@dataclass
class PatchPairs:
    """Patches in memory or memory-mapped, and how a step draws from them.

    Attributes
    ----------
    lr, hr
        (N, h, w, C) and (N, H, W, C), uint8 or float32 in the network's values.
    size
        Patches of a batch.
    seed
        Of order and augmentation.
    augment
        Flips and quarter turns, the same for both of a pair.
    left_out
        Patches without content that were not taken.
    """

    lr: NDArray
    hr: NDArray
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
        (low resolution (h, w[, C]), label (h·L, w·L[, C])) arrays, 8-bit or float, corners aligned. Split
        them by area or slide before: patches of one field overlap.
    settings
        Patch, overlap, smallest contrast, batch, seed.
    scale
        L of the network.
    values
        ``"unit"``: 8-bit or 0 … 1 (:func:`to_unit`). ``"as is"``: float in the network's own values already.

    Raises
    ------
    InputError
        Sizes that do not fit each other, or no patch with content.
    """
    settings = TrainingSettings.of(settings)
    ratio = Fraction(scale).limit_denominator(16)
    grid = ratio.denominator
    patch = settings.patch // grid * grid
    stride = max(grid, round(patch * (1 - settings.overlap)) // grid * grid)
    edge = int(patch * ratio)
    found_lr, found_hr, left_out = [], [], 0
    for number, (lr, hr) in enumerate(pairs):
        lr, hr = checked_pair(lr, hr, ratio, number, values)
        for y in positions(lr.shape[0], patch, stride, grid):
            for x in positions(lr.shape[1], patch, stride, grid):
                top, left = int(y * ratio), int(x * ratio)
                label = hr[top : top + edge, left : left + edge]
                if label.shape[:2] != (edge, edge):
                    continue
                if contrast(label) < settings.min_contrast:
                    left_out += 1
                    continue
                found_lr.append(lr[y : y + patch, x : x + patch])
                found_hr.append(label)
    if not found_lr:
        reason = f"no field has {patch} pixels on a side"
        if left_out:
            reason = f"all {left_out} are without content"
        raise InputError(f"There is no patch to train on: {reason}; give more fields or a smaller patch.")
    try:
        arrays = np.stack(found_lr), np.stack(found_hr)
    except ValueError:
        text = "The fields differ in their number of channels; give all in colour or all in grey."
        raise InputError(text) from None
    return PatchPairs(*arrays, settings.batch, settings.seed, settings.augment, left_out)


def checked_pair(lr: NDArray, hr: NDArray, ratio: Fraction, number: int, values: str) -> tuple[NDArray, NDArray]:
    """Both of a pair as (H, W, C) in kept values, or a sentence about what does not fit."""
    if values == "unit":
        lr, hr = to_unit(lr), to_unit(hr)
    else:
        lr, hr = (np.atleast_3d(np.asarray(image, np.float32)) for image in (lr, hr))
    expected = tuple(float(n * ratio) for n in lr.shape[:2])
    if any(abs(n - e) >= max(1, float(ratio)) for n, e in zip(hr.shape[:2], expected, strict=True)):
        raise InputError(
            f"Pair {number + 1}: the label has {hr.shape[1]}×{hr.shape[0]} pixels, expected are "
            f"{expected[1]:g}×{expected[0]:g} ({float(ratio):g} × {lr.shape[1]}×{lr.shape[0]})."
        )
    if lr.shape[2] != hr.shape[2]:
        text = f"Pair {number + 1}: {lr.shape[2]} channels in the image, {hr.shape[2]} in the label."
        raise InputError(text)
    return lr, hr


def positions(length: int, patch: int, stride: int, grid: int) -> list[int]:
    """Where patches start along an axis: every ``stride``, and one more at the end where pixels remain."""
    if length < patch:
        return []
    last = (length - patch) // grid * grid
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def contrast(image: NDArray) -> float:
    """Standard deviation of the luminance of (H, W, C), full scale 1 (uint8: 255; float labels: as they "
    "are)."""
    grey = image.astype(np.float32)
    grey = grey @ LUMINANCE if image.shape[2] == 3 else grey.mean(2)
    return float(grey.std()) / (255.0 if image.dtype == np.uint8 else 1.0)
