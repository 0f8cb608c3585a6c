"""The orthogonal wavelet transform with complex Daubechies filters, two-dimensional.

The symmetric six-tap filter of Lawton (IEEE Trans. Signal Process. 41, 3635 (1993), doi:10.1109/78.258102)
and Lina & Mayrand (1995), the one that Forster et al. (2004) fuse focus stacks with. Being complex it can be
orthogonal and symmetric at once; the magnitude of its coefficients follows an edge without swinging with its
phase.
"""

from __future__ import annotations

import numpy as np

__all__ = ["SCALING_FILTER", "forward", "inverse"]

_ROOT = 1j * np.sqrt(15)
#: h, with Σ h = √2 and Σ h(k) h*(k + 2m) = δ(m)
SCALING_FILTER = (
    np.sqrt(2) / 64 * np.array([-3 - _ROOT, 5 - _ROOT, 30 + 2 * _ROOT, 30 + 2 * _ROOT, 5 - _ROOT, -3 - _ROOT])
)
#: g(k) = (-1)^k h*(5 - k)
_WAVELET_FILTER = np.array([(-1) ** k for k in range(6)]) * np.conj(SCALING_FILTER[::-1])


def forward(image: np.ndarray, levels: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Decompose an image.

    Parameters
    ----------
    image
        (H, W) real. It is mirrored to a multiple of 2**levels with a margin, so that what is periodic in the
        transform never meets.
    levels
        Scales.

    Returns
    -------
    bands : list of (3, h, w) complex64
        Finest first: high along x, along y, along both.
    lowest : (h, w) complex64
    """
    lowest = np.pad(image, _padding((image.shape[0], image.shape[1]), levels), mode="symmetric").astype(np.complex64)
    bands = []
    for _ in range(levels):
        low, high = _split(lowest, 0)
        (lowest, along_x), (along_y, both) = _split(low, 1), _split(high, 1)
        bands.append(np.stack([along_x, along_y, both]))
    return bands, lowest


def inverse(bands: list[np.ndarray], lowest: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image (H, W) float32 whose :func:`forward` transform this is (real part)."""
    for along_x, along_y, both in reversed(bands):
        lowest = _join(_join(lowest, along_x, 1), _join(along_y, both, 1), 0)
    (top, _), (left, _) = _padding(shape, len(bands))
    return lowest.real[top : top + shape[0], left : left + shape[1]].astype(np.float32)


def _padding(shape: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    step = 2**levels
    return [(step, step + (-n) % step) for n in shape]


def _split(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Low and high half along an axis, periodic: c(n) = Σ h*(k) x(2n + k)."""
    values = np.moveaxis(values, axis, 0)
    low = np.zeros((len(values) // 2, *values.shape[1:]), np.complex64)
    high = np.zeros_like(low)
    for k in range(6):
        moved = np.roll(values, -k, axis=0)[::2]
        low += np.complex64(np.conj(SCALING_FILTER[k])) * moved
        high += np.complex64(np.conj(_WAVELET_FILTER[k])) * moved
    return np.moveaxis(low, 0, axis), np.moveaxis(high, 0, axis)


def _join(low: np.ndarray, high: np.ndarray, axis: int) -> np.ndarray:
    """The adjoint of :func:`_split`, which is its inverse."""
    low, high = np.moveaxis(low, axis, 0), np.moveaxis(high, axis, 0)
    values = np.zeros((2 * len(low), *low.shape[1:]), np.complex64)
    for k in range(6):
        part = np.zeros_like(values)
        part[::2] = np.complex64(SCALING_FILTER[k]) * low + np.complex64(_WAVELET_FILTER[k]) * high
        values += np.roll(part, k, axis=0)
    return np.moveaxis(values, 0, axis)
