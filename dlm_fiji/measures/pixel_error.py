"""Errors of pixel values: PSNR, NRMSE, and the same after the best linear rescaling."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.measures.arrays import pair, value_range

__all__ = ["match_intensity", "nrmse", "psnr"]


def psnr(image: ArrayLike, reference: ArrayLike, data_range: float | None = None, *, border: int = 0) -> float:
    """Peak signal-to-noise ratio 10 log₁₀(R² / MSE) in dB; infinite for equal images.

    Parameters
    ----------
    image, reference
        Same shape, any real type.
    data_range
        R, the span of the possible values; floats must give it.
    border
        Pixels left out at the edges of the first two axes.
    """
    a, b = _cropped(image, reference, border)
    span = value_range(a, b, data_range)
    error = _mse(a, b)
    return float(10 * np.log10(span**2 / error)) if error > 0 else float("inf")


def nrmse(
    image: ArrayLike,
    reference: ArrayLike,
    normalization: Literal["euclidean", "min-max", "mean"] = "euclidean",
    *,
    border: int = 0,
) -> float:
    """Root mean squared error over the reference's size, as scikit-image's ``normalized_root_mse``.

    Parameters
    ----------
    image, reference
        Same shape, any real type.
    normalization
        The reference's root mean square, its span, or its mean.
    border
        Pixels left out at the edges of the first two axes.
    """
    a, b = _cropped(image, reference, border)
    truth = b.astype(np.float64)
    if normalization == "euclidean":
        size = np.sqrt(np.mean(truth**2))
    elif normalization == "min-max":
        size = truth.max() - truth.min()
    elif normalization == "mean":
        size = truth.mean()
    else:
        raise ConfigurationError(f"normalization is 'euclidean', 'min-max' or 'mean', not {normalization!r}.")
    if size == 0:
        raise InputError("The reference is empty (one value everywhere): an error relative to it is undefined.")
    return float(np.sqrt(_mse(a, b)) / size)


def match_intensity(image: ArrayLike, reference: ArrayLike) -> NDArray[np.float32]:
    """α · image + β with the α, β of least squared error: the first step of every scale-invariant variant.

    ``ssim(match_intensity(a, b), b, data_range)`` is the scale-invariant SSIM, and so on: a method is then
    judged by structure and not by its gain and offset.
    """
    a, b = pair(image, reference)
    x, y = a.astype(np.float64), b.astype(np.float64)
    spread = x.var()
    gain = float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0
    return (gain * (x - x.mean()) + y.mean()).astype(np.float32)


def _cropped(image: ArrayLike, reference: ArrayLike, border: int) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = pair(image, reference)
    if border < 0 or min(a.shape[:2]) <= 2 * border:
        raise InputError(f"A border of {border} pixels leaves nothing of an image of {a.shape[:2]}.")
    keep = (slice(border, a.shape[0] - border), slice(border, a.shape[1] - border))
    return a[keep], b[keep]


def _mse(a: NDArray[Any], b: NDArray[Any]) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    if not np.isfinite(error):
        raise InputError("The images hold NaN or infinite pixels, so their difference is undefined.")
    return error
