"""Registered fluorescence pairs in the network's values 0 … 255 (002, image pre-processing)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError

__all__ = ["scaled_pair"]

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
    factor = hr.shape[0] // lr.shape[0]
    if lr.ndim != 2 or hr.shape != (lr.shape[0] * factor, lr.shape[1] * factor):
        raise InputError(f"The label of {hr.shape} pixels is no whole multiple of the input of {lr.shape}.")
    areas = hr.reshape(lr.shape[0], factor, lr.shape[1], factor).mean((1, 3))
    gain, offset = np.polyfit(areas.ravel(), lr.ravel(), 1)
    if gain <= 0:
        raise InputError("The label does not look like the input (negative correlation); register the pair first.")
    low, high = np.percentile(lr, PERCENTILES)
    scale = 255.0 / max(float(high - low), 1e-6)
    return (
        ((lr - low) * scale).astype(np.float32)[..., None],
        ((hr * gain + offset - low) * scale).astype(np.float32)[..., None],
    )
