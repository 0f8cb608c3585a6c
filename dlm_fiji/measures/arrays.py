"""What every measure asks of its images first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlm_fiji.errors import InputError

__all__ = ["luminance", "pair", "value_range"]


def pair(image: ArrayLike, reference: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two images as arrays of one shape, refused with a sentence otherwise."""
    a, b = np.asarray(image), np.asarray(reference)
    if a.shape != b.shape:
        raise InputError(
            f"The images have different shapes, {_size(a)} and {_size(b)}: register and crop them to one field first."
        )
    if a.size == 0 or a.ndim < 2:
        raise InputError(f"A measure needs images of at least rows and columns, not an array of {_size(a)}.")
    for array in (a, b):
        if array.dtype.kind not in "buif":
            raise InputError(f"A measure needs real numbers, not {array.dtype}.")
    return a, b


def value_range(a: NDArray[Any], b: NDArray[Any], data_range: float | None) -> float:
    """``data_range`` if given, else that of the integer type; floats have none and must be told."""
    if data_range is None:
        if a.dtype != b.dtype or a.dtype.kind not in "bui":
            raise InputError(
                f"Images of type {a.dtype} and {b.dtype} have no value range of their own: give data_range, "
                "for instance 255 or the label's maximum minus minimum."
            )
        return 1.0 if a.dtype.kind == "b" else float(np.iinfo(a.dtype).max - np.iinfo(a.dtype).min)
    if not data_range > 0:
        raise InputError(f"data_range must be above 0, not {data_range}.")
    return float(data_range)


def luminance(rgb: ArrayLike) -> NDArray[Any]:
    """Luma of an RGB image, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of the encoded values.

    Parameters
    ----------
    rgb
        Shape (..., 3), any real type; a grey image (last axis not 3) is returned as float32 unchanged.

    Returns
    -------
    float32, shape (...), same value range as the input.

    Notes
    -----
    SSIM of colour images is computed on this everywhere here (Wang et al. 2004 weigh RGB to grey the same
    way), so that numbers of different pages compare.
    """
    array = np.asarray(rgb)
    if array.ndim < 3 or array.shape[-1] != 3:
        return array.astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.tensordot(array.astype(np.float32), weights, axes=1)


def _size(array: NDArray[Any]) -> str:
    return " × ".join(str(n) for n in array.shape) or "one number"
