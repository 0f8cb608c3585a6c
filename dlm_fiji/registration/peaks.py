"""The top of a correlation surface, between its samples."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

__all__ = ["fit_gaussian_peak"]


def fit_gaussian_peak(surface: np.ndarray, radius: int = 3) -> np.ndarray:
    """The centre (y, x) of a 2-D Gaussian with offset and free axes, fitted around the maximum (002, Note 2).

    Parameters
    ----------
    surface
        (H, W) correlation, any scale; at least 3 × 3.
    radius
        Samples on each side of the maximum that take part.

    Returns
    -------
    (2,) float
        Within ``radius`` of the highest sample; the highest sample itself where no peak can be fitted.
    """
    surface = np.asarray(surface, dtype=float)
    top = np.array(np.unravel_index(int(np.argmax(surface)), surface.shape))
    low = np.maximum(top - radius, 0)
    high = np.minimum(top + radius + 1, surface.shape)
    part = surface[low[0] : high[0], low[1] : high[1]]
    if part.size < 9:
        return top.astype(float)
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]]
    height = part.max() - part.min()
    if height <= 0:
        return top.astype(float)

    def error(p: np.ndarray) -> np.ndarray:
        dy, dx = y - p[0], x - p[1]
        exponent = p[2] ** 2 * dy**2 + p[3] ** 2 * dx**2 + p[4] * dy * dx
        return ((p[5] * np.exp(-np.clip(exponent, -50, 50)) + p[6]) - (part - part.min()) / height).ravel()

    start = [top[0], top[1], 1 / radius, 1 / radius, 0.0, 1.0, 0.0]
    fit = least_squares(error, start, method="lm" if part.size >= 7 else "trf", max_nfev=400)
    centre = fit.x[:2]
    if not np.isfinite(centre).all() or (np.abs(centre - top) > 1.5).any():
        return top.astype(float)
    return centre
