"""CIE-94 colour difference of sRGB images, pixel by pixel."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.measures.arrays import pair

__all__ = ["ColourDifference", "cie94", "lab"]

_STRIPE = 32
# sRGB (IEC 61966-2-1) to XYZ, and the D65 white of the 2° observer, as scikit-image has them.
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])


@dataclass(frozen=True)
class ColourDifference:
    """CIE-94 ΔE: mean and standard deviation over all pixels, and the map (float32, rows × columns)."""

    mean: float
    std: float
    map: NDArray[np.float32]


def cie94(reference: ArrayLike, image: ArrayLike) -> ColourDifference:
    """Colour difference ΔE*₉₄ (graphic arts: kL = kC = kH = 1, K1 = 0.045, K2 = 0.015).

    Parameters
    ----------
    reference, image
        sRGB, shape (rows, columns, 3): uint8, uint16, or floats from 0 to 1. The reference comes first, as in
        scikit-image's ``deltaE_ciede94``: its chroma weighs the difference, so the order matters a little.

    Returns
    -------
    ColourDifference

    Raises
    ------
    InputError
        Different shapes, not RGB, or floats outside 0 to 1.

    References
    ----------
    .. [1] CIE 116-1995, Industrial colour-difference evaluation.
    """
    a, b = pair(reference, image)
    _check_rgb(a)
    _check_rgb(b)
    result = np.empty(a.shape[:2], np.float32)

    def one(top: int) -> tuple[int, float, float]:
        rows = slice(top, top + _STRIPE)
        first, second = _lab(a[rows]), _lab(b[rows])
        chroma = np.hypot(first[1], first[2])
        d_chroma = chroma - np.hypot(second[1], second[2])
        second -= first
        second *= second
        # ΔH² = Δa² + Δb² - ΔC²; rounding may take it below 0.
        d_chroma *= d_chroma
        d_hue = np.maximum(second[1] + second[2] - d_chroma, 0)
        total = second[0] + d_chroma / (1 + 0.045 * chroma) ** 2 + d_hue / (1 + 0.015 * chroma) ** 2
        np.sqrt(total, out=result[rows])
        return top, result[rows].sum(dtype=np.float64), total.sum(dtype=np.float64)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        sums = sorted(pool.map(one, range(0, len(a), _STRIPE)))
    mean, square = (float(s) / result.size for s in np.sum([s[1:] for s in sums], axis=0))
    return ColourDifference(mean, float(np.sqrt(max(square - mean**2, 0.0))), result)


def lab(rgb: ArrayLike) -> NDArray[np.float32]:
    """CIELAB (D65, 2°) of an sRGB image, shape (rows, columns, 3), L 0 to 100, as scikit-image."""
    array = np.asarray(rgb)
    _check_rgb(array)
    return np.moveaxis(_lab(array), 0, -1)


def _lab(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """Planes L, a, b, shape (3, rows, columns)."""
    linear = _LINEAR_8[rgb] if rgb.dtype == np.uint8 else _linear(_unit(rgb))
    xyz = cv2.transform(linear, _TO_XYZ / _WHITE[:, None])
    root = cv2.pow(xyz, 1 / 3)
    dark = xyz <= 0.008856
    if dark.any():
        root = np.where(dark, 7.787 * xyz + np.float32(16 / 116), root)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _linear(values: NDArray[Any]) -> NDArray[np.float32]:
    curve = cv2.pow((np.maximum(values, 0.04045) + 0.055) / 1.055, 2.4).reshape(values.shape)
    return np.where(values > 0.04045, curve, values / 12.92).astype(np.float32)


_LINEAR_8 = _linear(np.arange(256) / 255)


def _unit(rgb: NDArray[Any]) -> NDArray[Any]:
    unit = rgb.astype(np.float32)
    return unit / np.iinfo(rgb.dtype).max if rgb.dtype.kind in "ui" else unit


def _check_rgb(rgb: NDArray[Any]) -> None:
    if rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise InputError(f"A colour difference needs images of rows × columns × 3 (RGB), not {rgb.shape}.")
    if rgb.dtype.kind == "f" and not (rgb.min() >= 0 and rgb.max() <= 1):
        raise InputError(
            f"RGB images of floats must lie between 0 and 1, this one between {rgb.min():.4g} and {rgb.max():.4g}."
        )
