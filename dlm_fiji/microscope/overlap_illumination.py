"""The flat field from the overlaps of a scan: one place of the specimen, seen at two places of the camera.

Where tiles a and b overlap, log a(p) - log b(q) = F(p) - F(q) for the flat field F (log) and whatever the specimen is:
the content cancels, so that a handful of tiles is enough where an average over tiles would need hundreds. F is a
polynomial of low degree, found by least squares that are reweighted against mismatches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dlm_fiji.errors import InputError

__all__ = ["flat_field_from_overlaps"]

SMOOTHING = 1.0
"""σ in px before the comparison: the noise of single pixels and their interpolation do not matter then."""
RIDGE = 1e-3
"""Weight, for each compared pixel, of a flat F: decides only what the overlaps do not show."""


def flat_field_from_overlaps(
    tiles: Sequence[NDArray] | NDArray, positions: NDArray, degree: int = 4
) -> NDArray[np.float32]:
    """The multiplicative illumination that all tiles share.

    Parameters
    ----------
    tiles
        (N, H, W) or (N, H, W, C), any real type, not negative.
    positions
        (N, 2) y, x px of the tiles' top-left pixels, sub-pixel, from stitching.
    degree
        Of the polynomial in y and x, 1 … 6.

    Returns
    -------
    (H, W) or (H, W, C) float32, mean 1 in each channel.

    Raises
    ------
    InputError
        No two tiles overlap.
    """
    stack = np.asarray(tiles)
    channels = stack[..., None] if stack.ndim == 3 else stack
    # 1 % of the range keeps the logarithm of dark pixels finite and their noise small.
    floor = 0.01 * float(channels.max())
    smooth = ndimage.gaussian_filter(
        np.log(np.maximum(channels.astype(np.float32), floor)), (0, SMOOTHING, SMOOTHING, 0)
    )
    pairs = _overlapping(np.asarray(positions, float), channels.shape[1:3])
    if not pairs:
        raise InputError("No two tiles overlap, so the illumination cannot be read from overlaps.")
    rows, values = [], []
    for a, b, at_a, at_b in pairs:
        basis = _basis(at_a, channels.shape[1:3], degree) - _basis(at_b, channels.shape[1:3], degree)
        rows.append(basis)
        values.append(_read(smooth[a], at_a) - _read(smooth[b], at_b))
    matrix, difference = np.concatenate(rows), np.concatenate(values)
    y, x = np.mgrid[: channels.shape[1], : channels.shape[2]].astype(float)
    everywhere = _basis(np.stack([y.ravel(), x.ravel()]), channels.shape[1:3], degree)
    flat = np.empty(channels.shape[1:], np.float32)
    for channel in range(channels.shape[-1]):
        field = np.exp(everywhere @ _robust(matrix, difference[:, channel])).reshape(channels.shape[1:3])
        flat[..., channel] = field / field.mean()
    return flat if stack.ndim == 4 else flat[..., 0]


def _overlapping(
    positions: NDArray, shape: tuple[int, ...]
) -> list[tuple[int, int, NDArray[np.float64], NDArray[np.float64]]]:
    """Pairs of tiles with the (2, n) coordinates of their common pixels in each."""
    found = []
    for a in range(len(positions)):
        for b in range(a + 1, len(positions)):
            shift = positions[b] - positions[a]
            low = np.maximum(0, np.ceil(shift))
            high = np.minimum(np.array(shape) - 1, np.floor(np.array(shape) - 1 + shift))
            if (high - low < 4).any():
                continue
            y, x = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1]
            at_a = np.stack([y.ravel(), x.ravel()])
            found.append((a, b, at_a, at_a - shift[:, None]))
    return found


def _basis(at: NDArray, shape: tuple[int, ...], degree: int) -> NDArray[np.float64]:
    """Monomials of y and x (-1 … 1 over the tile) up to ``degree``, without the constant: (n, terms)."""
    y, x = (2 * at[axis] / (shape[axis] - 1) - 1 for axis in (0, 1))
    return np.stack([y**i * x**j for i in range(degree + 1) for j in range(degree + 1 - i) if i + j], axis=1)


def _read(image: NDArray, at: NDArray) -> NDArray[np.float64]:
    """(n, C) values of an (H, W, C) image at (2, n) coordinates, linear between pixels."""
    return np.stack(
        [ndimage.map_coordinates(image[..., c], at, order=1, mode="nearest") for c in range(image.shape[-1])], axis=1
    )


def _robust(matrix: NDArray, values: NDArray, rounds: int = 5) -> NDArray[np.float64]:
    """Least squares with Cauchy weights, so that a badly placed tile or dust does not count."""
    weights = np.ones(len(values))
    solution = np.zeros(matrix.shape[1])
    for _ in range(rounds):
        weighted = matrix * weights[:, None]
        normal = matrix.T @ weighted + RIDGE * weights.sum() * np.eye(matrix.shape[1]) / matrix.shape[1]
        solution = np.linalg.solve(normal, weighted.T @ values)
        rest = values - matrix @ solution
        scale = 1.48 * np.median(np.abs(rest)) + 1e-9
        weights = 1 / (1 + (rest / (2 * scale)) ** 2)
    return solution
