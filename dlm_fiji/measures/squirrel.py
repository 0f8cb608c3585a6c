"""Error maps of super-resolution by forward consistency, as NanoJ-SQUIRREL defines them.

The super-resolved image S is made into what the reference camera would have seen::

    C = Gauss_σ( α S + β ),    C at reference pixels = mean over m × m

α, β and σ are those of least squared difference to the reference R; what is left is the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d, shift
from scipy.optimize import minimize_scalar
from scipy.special import erf

from dlm_fiji.errors import InputError

__all__ = ["ErrorMap", "error_map"]


@dataclass(frozen=True)
class ErrorMap:
    """What `error_map` found.

    Attributes
    ----------
    alpha, beta
        Intensity scaling α S + β, the reference's counts.
    sigma
        Width of the resolution scaling function, reference pixels.
    rse, rsp
        Resolution-scaled error (root mean square, the reference's counts) and Pearson correlation.
    map
        |R enlarged - C|, float32, the super-resolved image's shape.
    convolved
        C, float32, same shape.
    shift
        (rows, columns) by which the super-resolved image was moved onto the reference, its own pixels.
    objective
        Root mean squared difference that was minimised.
    """

    alpha: float
    beta: float
    sigma: float
    rse: float
    rsp: float
    map: NDArray[np.float32]
    convolved: NDArray[np.float32]
    shift: tuple[float, float]
    objective: float


def error_map(
    sr: ArrayLike,
    reference: ArrayLike,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    sigma: float | None = None,
    shift: tuple[float, float] | Literal["fit"] | None = "fit",
    enlargement: Literal["centred", "plugin"] = "centred",
) -> ErrorMap:
    """Where a super-resolved image contradicts the diffraction-limited one.

    Parameters
    ----------
    sr
        Super-resolved image, shape (m rows, m columns), m a whole number from 1.
    reference
        Diffraction-limited image of the same field, shape (rows, columns).
    alpha, beta, sigma
        Held at this value instead of fitted (σ in reference pixels).
    shift
        ``"fit"`` registers the two by phase correlation first; a pair moves the super-resolved image by so
        many of its own pixels; None leaves it.
    enlargement
        How the reference is laid over the fine pixels: centred on them, or ``"plugin"`` as ImageJ's
        resizing, which lies (m - 1) / 2m - 1/4 of a reference pixel aside. RSE and RSP do not depend on it.

    Returns
    -------
    ErrorMap

    Notes
    -----
    RSE and RSP use the top-left pixel of each m × m block, as the plugin does. For given σ, α and β are
    exact, so the objective is never above what a swarm of particles finds.

    References
    ----------
    .. [1] S. Culley et al., Nature Methods 15, 263 (2018). :DOI:`10.1038/nmeth.4605`
    """
    fine, coarse, m = checked_pair(sr, reference)
    moved = (0.0, 0.0)
    if shift == "fit":
        first = _best_sigma(fine, coarse, m, alpha, beta) if sigma is None else sigma
        moved = _registration(_blocks(_blur(fine, first * m), m), coarse, m)
    elif shift is not None:
        moved = (float(shift[0]), float(shift[1]))
    fine = _move(fine, moved)
    width = _best_sigma(fine, coarse, m, alpha, beta) if sigma is None else float(sigma)
    blurred = _blur(fine, width * m)
    gain, offset, objective = _scaling(_blocks(blurred, m), coarse, alpha, beta)
    convolved = gain * blurred + offset
    corner = convolved[::m, ::m]
    enlarged = _enlarged(coarse, m, (m - 1) / (2 * m) if enlargement == "centred" or m == 1 else 0.25)
    return ErrorMap(
        alpha=gain,
        beta=offset,
        sigma=width,
        rse=float(np.sqrt(np.mean((corner - coarse) ** 2))),
        rsp=_pearson(corner, coarse),
        map=np.abs(enlarged - convolved).astype(np.float32),
        convolved=convolved.astype(np.float32),
        shift=moved,
        objective=objective,
    )


def checked_pair(sr: ArrayLike, reference: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Both images as float64 and the fine pixels in a coarse one, or InputError; for every engine of the map."""
    fine, coarse = np.asarray(sr, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if fine.ndim != 2 or coarse.ndim != 2 or min(coarse.shape) < 8:
        raise InputError("An error map needs two grey images with a reference of at least 8 × 8 pixels.")
    m = fine.shape[0] // coarse.shape[0]
    if m < 1 or fine.shape != (m * coarse.shape[0], m * coarse.shape[1]):
        raise InputError(
            f"The super-resolved image {fine.shape} is not a whole multiple of the reference "
            f"{coarse.shape}: enlarge "
            "or crop it."
        )
    if not (np.isfinite(fine).all() and np.isfinite(coarse).all()):
        raise InputError("The images hold NaN or infinite pixels, so no error map can be made.")
    if np.ptp(fine) == 0 or np.ptp(coarse) == 0:
        raise InputError("One of the images is empty (one value everywhere), so no error map can be made.")
    return fine, coarse, m


def _blur(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian integrated over the pixel, radius 3 int(σ), edges clamped."""
    radius = 3 * int(sigma)
    if radius == 0:
        return image
    x = np.arange(-radius, radius + 1)
    kernel = erf((x + 0.5) / (sigma * 2**0.5)) - erf((x - 0.5) / (sigma * 2**0.5))
    kernel /= kernel.sum()
    return correlate1d(correlate1d(image, kernel, 0, mode="nearest"), kernel, 1, mode="nearest")


def _blocks(image: NDArray[Any], m: int) -> NDArray[Any]:
    rows, columns = image.shape[0] // m, image.shape[1] // m
    return image.reshape(rows, m, columns, m).mean((1, 3))


def _scaling(
    seen: NDArray[Any], coarse: NDArray[Any], alpha: float | None, beta: float | None
) -> tuple[float, float, float]:
    """α, β of least squares, those given held; and the root mean square left."""
    if alpha is None and beta is None:
        spread = seen.var()
        centred = seen - seen.mean()
        gain = float((centred * (coarse - coarse.mean())).mean() / spread) if spread > 0 else 0.0
        offset = float(coarse.mean() - gain * seen.mean())
    elif alpha is None:
        assert beta is not None
        offset = float(beta)
        gain = float(((coarse - offset) * seen).sum() / (seen**2).sum())
    else:
        gain = float(alpha)
        offset = float((coarse - gain * seen).mean()) if beta is None else float(beta)
    return gain, offset, float(np.sqrt(np.mean((gain * seen + offset - coarse) ** 2)))


def _best_sigma(fine: NDArray[Any], coarse: NDArray[Any], m: int, alpha: float | None, beta: float | None) -> float:
    """σ in reference pixels of the least objective."""

    def cost(sigma: float) -> float:
        return _scaling(_blocks(_blur(fine, sigma * m), m), coarse, alpha, beta)[2]

    # The kernel's radius jumps at whole σ m, so the curve has steps: a grid first, then the pieces beside
    # its best.
    grid = np.unique(np.concatenate([[0.0], np.geomspace(1 / m, min(8.0, min(coarse.shape) / 6), 25)]))
    costs = [cost(s) for s in grid]
    best = int(np.argmin(costs))
    low, high = grid[max(best - 1, 0)] * m, grid[min(best + 1, len(grid) - 1)] * m
    cuts = np.unique([low, high, *range(int(low) + 1, int(high) + 1)])
    candidates = [(costs[best], float(grid[best]))]
    for a, b in pairwise(cuts):
        found = minimize_scalar(
            lambda s: cost(s / m), bounds=(a, b), method="bounded", options={"xatol": 1e-4, "maxiter": 25}
        )
        candidates += [(float(found.fun), float(found.x) / m), (cost(a / m), a / m)]
    return min(candidates)[1]


def _registration(seen: NDArray[Any], coarse: NDArray[Any], m: int) -> tuple[float, float]:
    """Shift of the fine image, its own pixels, from a phase correlation at reference pixels."""
    from skimage.registration import phase_cross_correlation

    window = np.outer(np.hanning(seen.shape[0]), np.hanning(seen.shape[1]))
    a, b = (window * (x - np.median(x)) for x in (coarse, seen))
    found, _, _ = phase_cross_correlation(a, b, upsample_factor=20 * m, normalization=None)
    # More than a few pixels is a failed registration, not a drift: leave the image where it is.
    if np.abs(found).max() > 0.1 * min(coarse.shape):
        return 0.0, 0.0
    return float(found[0] * m), float(found[1] * m)


def _move(image: NDArray[Any], by: tuple[float, float]) -> NDArray[Any]:
    return image if by == (0.0, 0.0) else shift(image, by, order=1, mode="nearest")


def _enlarged(image: NDArray[Any], m: int, offset: float) -> NDArray[Any]:
    """Bicubic (Keys, a = -1/2) at fine pixel o from coarse position o / m - offset."""
    return _cubic(image.shape[0], m, offset) @ image @ _cubic(image.shape[1], m, offset).T


def _cubic(size: int, m: int, offset: float) -> NDArray[Any]:
    place = np.arange(size * m) / m - offset
    below = np.floor(place).astype(int)
    matrix = np.zeros((size * m, size))
    for tap in range(-1, 3):
        d = np.abs(place - (below + tap))
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weight = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(matrix, (np.arange(size * m), np.clip(below + tap, 0, size - 1)), weight)
    return matrix


def _pearson(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a - a.mean(), b - b.mean()
    size = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / size) if size > 0 else 0.0
