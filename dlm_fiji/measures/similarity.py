"""Structural similarity, single- and multi-scale.

With μ, σ² and σ_ab the mean, variance and covariance under a Gaussian window::

    SSIM = (2 μ_a μ_b + C1)(2 σ_ab + C2) / ((μ_a² + μ_b² + C1)(σ_a² + σ_b² + C2))

The numbers equal scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False)``; the way there is shorter: only σ_a² + σ_b² is needed, so four filters do
instead of five, and stripes of rows stay in the processor's cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d

from dlm_fiji.errors import InputError
from dlm_fiji.measures.arrays import pair, value_range

__all__ = ["ms_ssim", "ssim", "ssim_map"]

_SIGMA, _RADIUS = 1.5, 5
_K1, _K2 = 0.01, 0.03
_STRIPE = 64
#: Wang et al. 2003, Table 1.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float | None = None,
    *,
    border: int = _RADIUS,
    channel_axis: int | None = None,
) -> float:
    """Mean structural similarity, Gaussian window of 11 pixels and σ 1.5.

    Parameters
    ----------
    image, reference
        Same shape, 2-D or 3-D, any real type. For colour give ``luminance(rgb)``, or ``channel_axis``.
    data_range
        Span of the possible values, 255 for 8-bit images. Floats must give it: it decides the result.
    border
        Pixels left out at every edge. 5 as scikit-image, where the window would reach over the edge; more
        where the compared methods treat edges differently.
    channel_axis
        If given, the mean over this axis' channels.

    Returns
    -------
    Number of at most 1.

    Raises
    ------
    InputError
        Different shapes, smaller than the window, floats without ``data_range``, or NaN.

    References
    ----------
    .. [1] Z. Wang et al., IEEE Trans. Image Process. 13, 600 (2004). :DOI:`10.1109/TIP.2003.819861`
    """
    a, b = pair(image, reference)
    span = value_range(a, b, data_range)
    if channel_axis is not None:
        a, b = np.moveaxis(a, channel_axis, 0), np.moveaxis(b, channel_axis, 0)
        return float(np.mean([_mean_ssim(x, y, span, border)[0] for x, y in zip(a, b, strict=True)]))
    return _mean_ssim(a, b, span, border)[0]


def ssim_map(image: ArrayLike, reference: ArrayLike, data_range: float | None = None) -> NDArray[np.float32]:
    """Structural similarity at every pixel, same shape as the images; edges reflected as in scikit-image."""
    a, b = pair(image, reference)
    span = value_range(a, b, data_range)
    result = np.empty(a.shape, np.float32)

    def store(top: int, full: NDArray[Any], _: NDArray[Any]) -> None:
        result[top : top + len(full)] = full

    _over_stripes(a, b, span, store)
    return result


def ms_ssim(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float | None = None,
    *,
    weights: tuple[float, ...] = _SCALES,
) -> float:
    """Multi-scale structural similarity.

    Contrast and structure at each of five scales, luminance at the coarsest, between scales a mean over 2×2
    pixels::

        MS-SSIM = l_M^α_M Π_j (cs_j)^α_j

    Parameters
    ----------
    image, reference, data_range
        As in `ssim`; the shorter side at least 11 · 2⁴ = 176 pixels for the five scales.
    weights
        One exponent a scale, finest first.

    Returns
    -------
    Number of at most 1. Negative contrast-structure means are taken as 0, as no real power of them exists.

    References
    ----------
    .. [1] Z. Wang, E. P. Simoncelli, A. C. Bovik, Asilomar 2003, 1398. :DOI:`10.1109/ACSSC.2003.1292216`
    """
    a, b = pair(image, reference)
    span = value_range(a, b, data_range)
    smallest = (2 * _RADIUS + 1) * 2 ** (len(weights) - 1)
    if a.ndim != 2 or min(a.shape) < smallest:
        raise InputError(
            f"MS-SSIM with {len(weights)} scales needs a grey image of {smallest} pixels a side or more, not "
            f"{' × '.join(map(str, a.shape))}."
        )
    a, b = a.astype(np.float32), b.astype(np.float32)
    result = 1.0
    for scale, weight in enumerate(weights):
        whole, contrast = _mean_ssim(a, b, span, _RADIUS)
        result *= max(whole if scale == len(weights) - 1 else contrast, 0.0) ** weight
        a, b = _halved(a), _halved(b)
    return result


def _halved(image: NDArray[Any]) -> NDArray[Any]:
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    return image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean((1, 3))


def _mean_ssim(a: NDArray[Any], b: NDArray[Any], span: float, border: int) -> tuple[float, float]:
    """Means of SSIM and of its contrast-structure factor inside ``border``."""
    if min(a.shape) < 2 * _RADIUS + 1 or min(a.shape) <= 2 * border or border < 0:
        raise InputError(
            f"SSIM with a window of {2 * _RADIUS + 1} pixels and a border of {border} needs an image above "
            f"{' × '.join(map(str, a.shape))}."
        )
    rows = len(a)
    inner = (slice(None), *(slice(border, n - border) for n in a.shape[1:]))
    sums: list[tuple[int, float, float]] = []

    def add(top: int, full: NDArray[Any], contrast: NDArray[Any]) -> None:
        keep = slice(max(border - top, 0), max(min(len(full), rows - border - top), 0))
        sums.append(
            (
                top,
                full[keep][inner].sum(dtype=np.float64),
                contrast[keep][inner].sum(dtype=np.float64),
            )
        )

    _over_stripes(a, b, span, add)
    # Added in the order of the rows, so that the number does not depend on which thread came first.
    count = np.prod([n - 2 * border for n in a.shape])
    whole, contrast = np.sum([s[1:] for s in sorted(sums)], axis=0) / count
    if not np.isfinite(whole):
        raise InputError("The images hold NaN or infinite pixels, so their similarity is undefined.")
    return float(whole), float(contrast)


def _over_stripes(
    a: NDArray[Any],
    b: NDArray[Any],
    span: float,
    take: Callable[[int, NDArray[Any], NDArray[Any]], None],
) -> None:
    """SSIM and contrast-structure, a stripe of rows at a time, handed to ``take(first_row, ssim, cs)``."""
    # Variances do not change with a constant, but their float32 rounding does: subtract what is common.
    middle = float(np.mean(b, dtype=np.float64))
    shift = np.float32(middle / span)
    c1, c2 = np.float32(_K1**2), np.float32(_K2**2)
    rows = len(a)
    smooth = _smooth_plane if a.ndim == 2 else _smooth_any

    def one(top: int) -> None:
        low, high = max(top - _RADIUS, 0), min(top + _STRIPE + _RADIUS, rows)
        # One more reflection than the window is never reached: at least 11 rows are in a stripe.
        if high - low < 2 * _RADIUS + 1:
            low = max(high - 2 * _RADIUS - 1, 0)
        x, y = (((z[low:high] - middle) / span).astype(np.float32) for z in (a, b))
        mean_x, mean_y = smooth(x), smooth(y)
        covariance, variances = smooth(x * y), smooth(x * x + y * y)
        covariance -= mean_x * mean_y
        variances -= mean_x * mean_x
        variances -= mean_y * mean_y
        contrast = (2 * covariance + c2) / (variances + c2)
        mean_x += shift
        mean_y += shift
        whole = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1) * contrast
        keep = slice(top - low, top - low + min(_STRIPE, rows - top))
        take(top, whole[keep], contrast[keep])

    tops = range(0, rows, _STRIPE)
    with (
        np.errstate(invalid="ignore", over="ignore"),
        ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool,
    ):
        list(pool.map(one, tops))


def _window() -> NDArray[np.float64]:
    x = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-(x**2) / (2 * _SIGMA**2))
    return weights / weights.sum()


def _smooth_plane(image: NDArray[np.float32]) -> NDArray[np.float32]:
    kernel = _window()
    return np.asarray(cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT))


def _smooth_any(image: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in range(image.ndim):
        image = correlate1d(image, _window(), axis=axis, mode="reflect")
    return image
