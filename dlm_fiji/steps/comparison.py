"""Images of one area measured against its label, as the comparison report prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.measures import ErrorMap, cie94, error_map, luminance, psnr, ssim
from dlm_fiji.microscope.linear_light import linear_to_srgb, srgb_to_linear
from dlm_fiji.registration.sampling import resample

__all__ = [
    "BORDER",
    "apply_gains",
    "area_measures",
    "brightness_gains",
    "compare_regions",
    "consistency",
    "enlarged_bicubic",
]

BORDER = 20
"""Pixels left out at the edge of the area: networks and deconvolution treat edges differently."""


def area_measures(image: NDArray[np.uint8], label: NDArray[np.uint8], border: int = BORDER) -> dict[str, float]:
    """SSIM and PSNR (dB) of 8-bit RGB or grey images, both on the luminance Y, data range 255, border left out.

    Raises
    ------
    InputError
        The shapes differ, or nothing is left inside the border.
    """
    if image.shape != label.shape:
        raise InputError(f"The image is {image.shape}, its label {label.shape}; they must have the same shape.")
    if min(label.shape[:2]) < 2 * border + 11:
        raise InputError(f"The area of {label.shape[0]}x{label.shape[1]} px is too small for a border of {border} px.")
    a, b = (luminance(x) if x.ndim == 3 and x.shape[-1] == 3 else x.reshape(x.shape[:2]) for x in (image, label))
    return {
        "ssim": float(ssim(a, b, 255.0, border=border)),
        "psnr_db": float(psnr(a, b, 255.0, border=border)),
    }


def compare_regions(images: Mapping[str, NDArray[np.uint8]], label: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """:func:`area_measures` of several images of one area, by name; of colour images with CIE-94."""
    found: dict[str, dict[str, Any]] = {name: dict(area_measures(image, label)) for name, image in images.items()}
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    if label.ndim == 3 and label.shape[-1] == 3:
        for name, image in images.items():
            distance = cie94(image[inner], label[inner])
            found[name]["cie94"] = {"mean": distance.mean, "std": distance.std}
    return found


def consistency(image: NDArray[Any], low: NDArray[Any]) -> ErrorMap:
    """SQUIRREL's error map of an image against the input it was made from (luminance, encoded values).

    The map asks for a whole ratio of pixels, so an image enlarged by 2.5 is resampled (cubic) to 3 of its pixels for
    one of the input's.
    """
    fine, coarse = (luminance(x) if x.ndim == 3 and x.shape[-1] == 3 else x.reshape(x.shape[:2]) for x in (image, low))
    height, width = image.shape[:2]
    rows, columns = low.shape[:2]
    ratio = int(np.ceil(height / rows - 1e-6))
    if (height, width) != (ratio * rows, ratio * columns):
        fine = resample(fine, (ratio * rows / height + 1e-9, ratio * columns / width + 1e-9))
    return error_map(fine, coarse)


def brightness_gains(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> list[float]:
    """One gain a channel that gives low-resolution images the labels' brightness, in linear light.

    Two instruments never expose alike. The network learns the difference from its pairs; bicubic and
    Richardson-Lucy get it as these gains, taken from the same (training) pairs, or they would be measured on an
    exposure instead of on their resolution.
    """
    low = np.sum([srgb_to_linear(lr / np.float32(255)).mean((0, 1)) for lr, _ in pairs], axis=0)
    high = np.sum([srgb_to_linear(hr / np.float32(255)).mean((0, 1)) for _, hr in pairs], axis=0)
    return [float(g) for g in high / np.maximum(low, 1e-6)]


def enlarged_bicubic(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """An 8-bit image enlarged by cubic interpolation of its encoded values: what every method has to beat."""
    return np.rint(np.clip(resample(image.astype(np.float32), scale), 0, 255)).astype(np.uint8)


def apply_gains(image: NDArray[np.uint8], gains: Sequence[float]) -> NDArray[np.uint8]:
    """An 8-bit sRGB image (H, W, C) with each channel's linear light multiplied."""
    linear = srgb_to_linear(image / np.float32(255)) * np.asarray(gains, np.float32)
    return np.rint(255 * linear_to_srgb(linear)).astype(np.uint8)
