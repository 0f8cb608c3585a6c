"""The point spread function from an image of beads: crop, background, sub-pixel centre, average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, shift
from scipy.spatial import cKDTree

from dlm_fiji.errors import InputError

__all__ = ["MeasuredPsf", "psf_from_beads"]


@dataclass(frozen=True)
class MeasuredPsf:
    """Average of beads: ``psf`` (float64, sum 1, odd sizes, centred) and the beads' places (beads, axes) in voxels."""

    psf: NDArray[np.float64]
    positions: NDArray[np.float64]


def psf_from_beads(
    image: ArrayLike,
    shape: tuple[int, ...],
    *,
    minimum: int = 3,
    spacing: tuple[float, ...] | None = None,
    smallest: float = 10.0,
) -> MeasuredPsf:
    """Average the beads of an image that stand alone.

    Parameters
    ----------
    image
        Shape (rows, columns) or (planes, rows, columns).
    shape
        Of the PSF, odd, as many axes as the image.
    minimum
        Fewer beads than this are refused.
    spacing
        Width of a bead in voxels along each axis over which the image is smoothed to find it; by default 1.
    smallest
        A bead must stand so many times over the noise.

    Returns
    -------
    MeasuredPsf

    Raises
    ------
    InputError
        Too few beads, or a crop larger than the image.

    Notes
    -----
    A bead of diameter D widens the PSF by D² / 10 in variance (3-D, per axis: D² / 20); take beads of a third of the
    resolution or less. Each bead is centred by the centroid of its core, its background is the median of the crop's
    faces, and all weigh as their signal.
    """
    data = np.asarray(image, dtype=np.float64)
    if data.ndim not in (2, 3) or len(shape) != data.ndim:
        raise InputError(f"Beads need an image of 2 or 3 axes and a shape of as many, not {data.shape} and {shape}.")
    if any(n % 2 == 0 or n < 3 for n in shape):
        raise InputError(f"The shape of a measured point spread function must be odd, 3 or more, not {shape}.")
    if any(n > m for n, m in zip(shape, data.shape, strict=True)):
        raise InputError(f"The point spread function {shape} is larger than the image {data.shape}.")
    if not np.isfinite(data).all():
        raise InputError("The image of beads holds NaN or infinite voxels.")
    half = np.array(shape) // 2
    places = _isolated(data, half, spacing or (1.0,) * data.ndim, smallest)
    total = np.zeros(shape)
    centres = []
    for place in places:
        found = _centred(data, place, half)
        if found is not None:
            crop, centre = found
            total += crop
            centres.append(centre)
    if len(centres) < minimum:
        raise InputError(
            f"Only {len(centres)} beads stand alone in the image, {minimum} are needed: take more fields, or a "
            "smaller crop."
        )
    psf = np.maximum(total, 0)
    return MeasuredPsf(psf / psf.sum(), np.array(centres))


def _isolated(data: NDArray[Any], half: NDArray[Any], spacing: tuple[float, ...], smallest: float) -> NDArray[np.int64]:
    smooth = gaussian_filter(data, spacing)
    base = np.median(smooth)
    noise = 1.4826 * np.median(np.abs(smooth - base))
    least = base + max(smallest * noise, 0.2 * float(np.percentile(smooth - base, 99.999)))
    peaks = np.argwhere(
        (maximum_filter(smooth, [2 * int(np.ceil(2 * s)) + 1 for s in spacing]) == smooth) & (smooth > least)
    )
    inside = np.all((peaks >= half) & (peaks < np.array(data.shape) - half), axis=1)
    if len(peaks) > 1:
        # Distances in units of the crop: closer than one, and the crops share light.
        distance, _ = cKDTree(peaks / half).query(peaks / half, k=2, p=np.inf)
        inside &= distance[:, 1] > 1
    return peaks[inside]


def _centred(
    data: NDArray[Any], place: NDArray[np.int64], half: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The crop round a bead without its background, moved so that the bead's centroid is its centre."""
    centre = place.astype(float)
    # One voxel more on each side, so that the move brings in data and not the edge.
    outer = [slice(max(p - h - 2, 0), p + h + 3) for p, h in zip(place, half, strict=True)]
    crop = data[tuple(outer)]
    origin = np.array([s.start for s in outer])
    faces = np.concatenate([np.take(crop, i, axis=a).ravel() for a in range(crop.ndim) for i in (0, -1)])
    crop = crop - np.median(faces)
    for _ in range(10):
        grid = np.meshgrid(*[np.arange(n) + o for n, o in zip(crop.shape, origin, strict=True)], indexing="ij")
        core = np.ones(crop.shape)
        for axis, line in enumerate(grid):
            core = core * np.exp(-((line - centre[axis]) ** 2) / (2 * max(half[axis] / 3, 1.0) ** 2))
        weight = np.maximum(crop, 0) * core
        moved = np.array([(line * weight).sum() / weight.sum() for line in grid])
        # A centroid under a window lags behind the true centre: go twice the way.
        step = np.clip(2 * (moved - centre), -1, 1)
        centre = centre + step
        if np.abs(step).max() < 1e-3:
            break
    if np.abs(centre - place).max() > 1.5:
        return None
    aligned = shift(crop, place - centre, order=3, mode="nearest")
    inner = tuple(slice(p - o - h, p - o + h + 1) for p, o, h in zip(place, origin, half, strict=True))
    return aligned[inner], centre
