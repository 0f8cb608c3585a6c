"""Registered fluorescence pairs in the network's values 0 … 255 (002, image pre-processing)."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.training.stored import ScaledImage, StoredImage

__all__ = ["scaled_pair", "scaled_stored_pair"]

PERCENTILES = (0.5, 99.8)
"""Those by which inference scales a fluorescence image (training and inference do not import each other)."""


def scaled_pair(lr: NDArray, hr: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both images of a pair with the input's background at 0 and its 99.8th percentile at 255.

    The label gets the input's units first: its gain and offset are those with which its pixel areas fit the
    input best (least squares). So the network learns to keep intensities, and its output comes back in the
    units of the input. 002 scales both to 0 … 255 by themselves, which loses them.

    Parameters
    ----------
    lr, hr
        (h, w) and (h·L, w·L) with a whole-number L, any type, registered.

    Returns
    -------
    (h, w, 1) and (h·L, w·L, 1) float32.
    """
    lr, hr = np.asarray(lr, np.float32), np.asarray(hr, np.float32)
    factor = whole_factor(lr.shape, hr.shape)
    gain, offset, label_gain, label_offset = values_of_pair(lr, area_means(hr, factor))
    return (
        (lr * np.float32(gain) + np.float32(offset))[..., None],
        (hr * np.float32(label_gain) + np.float32(label_offset))[..., None],
    )


def scaled_stored_pair(lr: StoredImage, hr: StoredImage) -> tuple[ScaledImage, ScaledImage]:
    """:func:`scaled_pair` for images on the disk, its scaling found on up to 64 even windows of 256 pixels."""
    factor = whole_factor(lr.shape, hr.shape)
    lows, areas = [], []
    for y, x in product(*(np.unique(np.linspace(0, max(0, n - 256), 8).astype(int)) for n in lr.shape)):
        bottom, right = min(y + 256, lr.shape[0]), min(x + 256, lr.shape[1])
        lows.append(np.asarray(lr.read(y, bottom, x, right), np.float32).ravel())
        label = hr.read(y * factor, bottom * factor, x * factor, right * factor)
        areas.append(area_means(np.asarray(label, np.float32), factor).ravel())
    gain, offset, label_gain, label_offset = values_of_pair(np.concatenate(lows), np.concatenate(areas))
    return ScaledImage(lr, gain, offset), ScaledImage(hr, label_gain, label_offset)


def whole_factor(low: tuple[int, ...], label: tuple[int, ...]) -> int:
    """The enlargement of a pair, or a sentence where it is none."""
    if len(low) != 2 or len(label) != 2:
        raise InputError(f"A fluorescence pair is two planes of one channel, not of shapes {low} and {label}.")
    factor = label[0] // low[0]
    if label != (low[0] * factor, low[1] * factor):
        raise InputError(f"The label of {label} pixels is no whole multiple of the input of {low}.")
    return factor


def area_means(image: NDArray, factor: int) -> NDArray:
    """Means over ``factor`` × ``factor`` pixels; what does not fill one is cut off at the bottom and right."""
    h, w = (n // factor for n in image.shape)
    return image[: h * factor, : w * factor].reshape(h, factor, w, factor).mean((1, 3))


def values_of_pair(lr: NDArray[np.float32], areas: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Gain and offset of the input, and of the label, to the network's values."""
    for image, name in ((lr, "image"), (areas, "label")):
        if not np.isfinite(image).all():
            raise InputError(f"The {name} has pixels that are NaN or infinite; mend it before training.")
        if np.ptp(image) == 0:
            raise InputError(f"The {name} has one value everywhere; leave the pair away.")
    gain, offset = (float(v) for v in np.polyfit(areas.ravel(), lr.ravel(), 1))
    if gain <= 0:
        raise InputError("The label does not look like the input (negative correlation); register the pair first.")
    low, high = (float(v) for v in np.percentile(lr, PERCENTILES))
    scale = 255.0 / max(high - low, 1e-6)
    return scale, -low * scale, gain * scale, (offset - low) * scale
