"""Every shift of every window looked at, and the neighbours asked: a first field for pairs whose details differ.

Serial sections repeat their texture, and the best shift of a single window is often a wrong one. So each window
keeps the likelihood of all its shifts, and belief propagation on the grid of windows (sum-product, Pearl 1988;
messages of a Gaussian with a uniform part, as in Felzenszwalb & Huttenlocher, IJCV 70, 41 (2006),
doi:10.1007/s11263-006-7899-4) finds what each believes once its neighbours have spoken.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["search_displacement", "shift_likelihood"]

SAMPLES = 12.0
"""Independent samples in a window: its area over that of a detail after smoothing."""
TORN = 1e-3
"""Share of the neighbours that are taken to move on their own (tears, folds)."""


def shift_likelihood(
    moving: np.ndarray, fixed: np.ndarray, reach: int, window: float, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the likelihood of every whole-pixel shift up to ``reach``, for windows ``stride`` px apart.

    Parameters
    ----------
    moving, fixed
        (H, W) float32.
    reach
        Largest shift, px.
    window
        Standard deviation of the Gaussian window, px.
    stride
        Distance of the windows, px.

    Returns
    -------
    shifts
        (2·reach + 1,) px, for y and for x.
    likelihood
        (h, w, 2·reach + 1, 2·reach + 1) float32, -n/2·log(1 - r²) with r the local correlation; 0 where r < 0.
    """
    height, width = fixed.shape
    rows, cols = (np.arange(stride // 2, n, stride) for n in fixed.shape)

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), window, borderType=cv2.BORDER_CONSTANT)

    area = mean(np.ones((height, width), np.float32))

    def normalised(image: np.ndarray) -> np.ndarray:
        rest = image - mean(image) / area
        spread = mean(rest**2) / area
        return rest / np.sqrt(spread + 0.05 * spread.mean() + 1e-12)

    # outside the moving image nothing is known: zeros there lower the correlation
    wide = np.pad(normalised(moving), reach)
    fixed = normalised(fixed)
    shifts = np.arange(-reach, reach + 1)
    found = np.empty((len(rows), len(cols), len(shifts), len(shifts)), np.float32)
    for i in range(len(shifts)):
        for j in range(len(shifts)):
            product = mean(wide[i : i + height, j : j + width] * fixed) / area
            found[:, :, i, j] = product[np.ix_(rows, cols)]
    return shifts, -SAMPLES / 2 * np.log1p(-(np.clip(found, 0, 0.98) ** 2))


def search_displacement(
    moving: np.ndarray, fixed: np.ndarray, reach: int, *, window: float = 3.0, stride: int = 6, slack: float = 0.9
) -> np.ndarray:
    """The displacement (2, H, W) px with fixed(p) ~ moving(p + displacement(p)), mean of all beliefs.

    Parameters
    ----------
    moving, fixed
        (H, W) float32 of one size, much reduced and smoothed.
    reach
        Largest shift, px.
    window, stride
        Standard deviation of the windows and their distance, px.
    slack
        Standard deviation of the difference between neighbouring windows' shifts, px.
    """
    shifts, likelihood = shift_likelihood(moving, fixed, reach, window, stride)
    belief = _propagated(np.exp(likelihood - likelihood.max(axis=(2, 3), keepdims=True)), slack)
    nodes = np.stack([(belief.sum(axis=axis) * shifts).sum(axis=-1) for axis in (3, 2)])
    height, width = fixed.shape
    rows, cols = ((np.arange(n, dtype=np.float32) - stride // 2) / stride for n in (height, width))
    at = np.broadcast_to(cols[None, :], fixed.shape), np.broadcast_to(rows[:, None], fixed.shape)
    return np.stack(
        [cv2.remap(layer.astype(np.float32), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for layer in nodes]
    )


def _propagated(evidence: np.ndarray, slack: float, sweeps: int = 2) -> np.ndarray:
    """What every node (h, w) believes of its shifts (k, k) after ``sweeps`` there and back along both axes."""
    height, width, count = evidence.shape[:3]
    distance = np.subtract.outer(np.arange(count), np.arange(count))
    kernel = np.exp(-0.5 * (distance / slack) ** 2).astype(np.float32)

    def message(belief: np.ndarray) -> np.ndarray:
        told = kernel @ belief @ kernel
        told /= told.sum(axis=(-2, -1), keepdims=True)
        told += TORN / count**2
        return told / told.max(axis=(-2, -1), keepdims=True)

    left, right, above, below = (np.ones_like(evidence, dtype=np.float32) for _ in range(4))
    for _ in range(sweeps):
        for x in range(1, width):
            told = evidence[:, x - 1] * left[:, x - 1] * above[:, x - 1] * below[:, x - 1]
            left[:, x] = message(told)
        for x in range(width - 2, -1, -1):
            told = evidence[:, x + 1] * right[:, x + 1] * above[:, x + 1] * below[:, x + 1]
            right[:, x] = message(told)
        for y in range(1, height):
            above[y] = message(evidence[y - 1] * above[y - 1] * left[y - 1] * right[y - 1])
        for y in range(height - 2, -1, -1):
            below[y] = message(evidence[y + 1] * below[y + 1] * left[y + 1] * right[y + 1])
    belief = evidence * left * right * above * below
    return belief / belief.sum(axis=(2, 3), keepdims=True)
