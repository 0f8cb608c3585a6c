"""Resolution from small bright spots: their widths in the input, the network's output and the label.

As Wang et al. (2019, Fig. 5): isolated spots are found in the label, the same places are cut out of every
image, each is fitted by a two-dimensional Gaussian, and a Gaussian over the main peak of the histogram of
widths gives the number.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.spatial import cKDTree

from dlm_fiji.errors import InputError

__all__ = ["BeadWidths", "Widths", "bead_fwhm", "fit_spots", "isolated_spots"]

FWHM = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class Widths:
    """Widths of one image's spots, µm (or pixels, if no pixel size was given).

    Attributes
    ----------
    fwhm
        One for each spot that was fitted, √(FWHM_x · FWHM_y), shape (spots,).
    mean, std
        Of the Gaussian over the histogram's main peak.
    interval
        95 % bootstrap interval of ``mean``.
    counts, edges
        The histogram.
    failed
        Spots whose fit ran out of the crop or found no light.
    """

    fwhm: NDArray[np.float64]
    mean: float
    std: float
    interval: tuple[float, float]
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    failed: int


@dataclass(frozen=True)
class BeadWidths:
    """Result of `bead_fwhm`: the widths by image (the label is ``"label"``), and the spots' (row, column)."""

    images: dict[str, Widths]
    positions: NDArray[np.int64]

    @property
    def fwhm(self) -> float:
        """The label's number."""
        return self.images["label"].mean


def bead_fwhm(
    label: ArrayLike,
    others: Mapping[str, ArrayLike] | None = None,
    *,
    pixel_um: float = 1.0,
    size: int = 19,
    minimum: int = 10,
    bootstrap: int = 1000,
    seed: int = 0,
) -> BeadWidths:
    """Widths of the spots that stand alone in the label, in every image.

    Parameters
    ----------
    label
        Image in which the spots are looked for, shape (rows, columns).
    others
        Further images of the same field and shape by name, for instance ``{"input": …, "output": …}``.
    pixel_um
        Pixel size; the widths come in its unit.
    size
        Side of the crop, odd; 19 in the paper.
    minimum
        Fewer usable spots than this are refused.
    bootstrap
        Number of resamplings for the interval.
    seed
        Of the resampling.

    Returns
    -------
    BeadWidths

    Raises
    ------
    InputError
        Fewer spots than ``minimum``, or different shapes.
    """
    images = {"label": np.asarray(label), **{k: np.asarray(v) for k, v in (others or {}).items()}}
    for name, image in images.items():
        if image.ndim != 2 or image.shape != images["label"].shape:
            raise InputError(
                f"Image {name!r} has the shape {image.shape}, the label {images['label'].shape}: all must "
                "be grey and "
                "cover the same pixels."
            )
    if size % 2 == 0 or size < 7:
        raise InputError(f"The crop around a spot needs an odd side of 7 or more, not {size}.")
    positions = isolated_spots(images["label"], size)
    if len(positions) < minimum:
        raise InputError(
            f"Only {len(positions)} isolated spots were found in the label, {minimum} are needed: take "
            "more or larger "
            "fields."
        )
    rng = np.random.default_rng(seed)
    result = {}
    for name, image in images.items():
        half = size // 2
        crops = np.stack([image[y - half : y + half + 1, x - half : x + half + 1] for y, x in positions])
        fits, good = fit_spots(crops.astype(np.float64))
        if good.sum() < minimum:
            raise InputError(f"Only {good.sum()} spots of image {name!r} could be fitted, {minimum} are needed.")
        widths = FWHM * np.sqrt(fits[good, 3] * fits[good, 4]) * pixel_um
        result[name] = _summary(widths, int((~good).sum()), bootstrap, rng)
    return BeadWidths(result, positions)


def isolated_spots(image: NDArray[Any], size: int = 19, sigma: float = 1.0) -> NDArray[np.int64]:
    """(row, column) of maxima ten times over the noise without a neighbour within ``size`` / √2."""
    smooth = gaussian_filter(image.astype(np.float64), sigma)
    background = np.median(smooth)
    noise = 1.4826 * np.median(np.abs(smooth - background))
    strength = smooth - background
    # A third of the brightest spots' height keeps shot noise and side lobes out where there is no background
    # at all.
    least = max(10 * noise, 0.1 * float(np.percentile(strength, 99.99)), 1e-12)
    peaks = (maximum_filter(smooth, 5) == smooth) & (strength > least)
    half = size // 2
    places = np.argwhere(peaks)
    if len(places) == 0:
        return places
    distance, _ = cKDTree(places).query(places, k=min(2, len(places)))
    alone = np.ones(len(places), bool) if len(places) == 1 else distance[:, 1] > size / np.sqrt(2)
    inside = np.all((places >= half) & (places < np.array(image.shape) - half), axis=1)
    return places[alone & inside]


def fit_spots(crops: NDArray[np.float64], rounds: int = 60) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fit ``A exp(-(x - x₀)² / 2σ_x² - (y - y₀)² / 2σ_y²) + B`` to all crops at once, by Levenberg-Marquardt.

    Parameters
    ----------
    crops
        Shape (spots, size, size).
    rounds
        Number of steps.

    Returns
    -------
    parameters
        Shape (spots, 6): A, x₀, y₀, σ_x, σ_y, B; positions from the crop's centre, pixels.
    good
        Shape (spots,): the fit is positive, narrower than the crop, and within 3 pixels of the centre.
    """
    spots, size, _ = crops.shape
    half = size // 2
    y, x = (g.ravel().astype(np.float64) for g in np.mgrid[-half : half + 1, -half : half + 1])
    data = crops.reshape(spots, -1)
    base = np.median(np.concatenate([crops[:, 0], crops[:, -1], crops[:, :, 0], crops[:, :, -1]], 1), 1)
    height = np.maximum(crops[:, half, half] - base, 1e-9 + 0.01 * np.ptp(data, axis=1))
    # Area over half height gives a first width.
    area = (data - base[:, None] > 0.5 * height[:, None]).sum(1)
    width = np.clip(np.sqrt(area / np.pi) * 2 / FWHM, 0.6, size / 4)
    p = np.stack([height, 0 * base, 0 * base, width, width, base], 1)

    def model(q: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        dx, dy = x - q[:, 1:2], y - q[:, 2:3]
        sx, sy = q[:, 3:4], q[:, 4:5]
        shape = np.exp(-(dx**2) / (2 * sx**2) - dy**2 / (2 * sy**2))
        peak = q[:, :1] * shape
        slopes = [shape, peak * dx / sx**2, peak * dy / sy**2, peak * dx**2 / sx**3, peak * dy**2 / sy**3]
        return peak + q[:, 5:6], np.stack([*slopes, np.ones_like(shape)], 2)

    value, slope = model(p)
    cost = ((data - value) ** 2).sum(1)
    damping = np.full(spots, 1e-2)
    for _ in range(rounds):
        normal = np.einsum("nkp,nkq->npq", slope, slope)
        gradient = np.einsum("nkp,nk->np", slope, data - value)
        diagonal = np.einsum("npp->np", normal)
        normal[:, np.arange(6), np.arange(6)] += damping[:, None] * diagonal + 1e-12
        step = np.linalg.solve(normal, gradient[..., None])[..., 0]
        trial = p + step
        trial[:, 3:5] = np.clip(np.abs(trial[:, 3:5]), 0.2, 3 * size)
        new_value, new_slope = model(trial)
        new_cost = ((data - new_value) ** 2).sum(1)
        better = new_cost < cost
        p[better], value[better], slope[better] = trial[better], new_value[better], new_slope[better]
        settled = better & (cost - new_cost < 1e-12 * cost)
        cost = np.where(better, new_cost, cost)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e9)
        if settled.all():
            break
    centred = np.all(np.abs(p[:, 1:3]) < 3, axis=1)
    narrow = np.all((p[:, 3:5] * FWHM < size) & (p[:, 3:5] > 0.25), axis=1)
    return p, (p[:, 0] > 0) & centred & narrow & np.isfinite(p).all(1)


def _summary(widths: NDArray[Any], failed: int, bootstrap: int, rng: np.random.Generator) -> Widths:
    counts, edges, mean, std = _main_peak(widths)
    means = [_main_peak(rng.choice(widths, len(widths)))[2] for _ in range(bootstrap)]
    low, high = np.percentile(means, [2.5, 97.5]) if means else (np.nan, np.nan)
    return Widths(widths, mean, std, (float(low), float(high)), counts, edges, failed)


def _main_peak(widths: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float, float]:
    """Histogram (Freedman-Diaconis) and a Gaussian over the bins above a fifth of the highest, next to it."""
    low, high = np.percentile(widths, [25, 75])
    step = 2 * (high - low) / len(widths) ** (1 / 3)
    middle = float(np.median(widths))
    if step < 1e-4 * middle:
        return *np.histogram(widths, 1), middle, float(widths.std())
    within = widths[(widths > middle - 8 * (high - low)) & (widths < middle + 8 * (high - low))]
    edges = np.arange(within.min() - step / 2, within.max() + 1.5 * step, step)
    counts, _ = np.histogram(within, edges)
    top = int(np.argmax(counts))
    left = right = top
    while left > 0 and counts[left - 1] > 0.2 * counts[top]:
        left -= 1
    while right < len(counts) - 1 and counts[right + 1] > 0.2 * counts[top]:
        right += 1
    centres = (edges[:-1] + edges[1:]) / 2
    peak = within[(within >= edges[left]) & (within <= edges[right + 1])]
    mean, std = float(peak.mean()), float(max(peak.std(), step / 4))
    if right - left >= 3:
        window = slice(left, right + 1)
        # Without a fit the mean and spread of the peak's own widths stand.
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            start = (counts[top], mean, std)
            (_, mean, std), _ = curve_fit(_gaussian, centres[window], counts[window], start, maxfev=400)
    if not edges[left] <= mean <= edges[right + 1]:
        mean, std = float(peak.mean()), float(peak.std())
    return counts, edges, float(mean), abs(float(std))


def _gaussian(x: NDArray[Any], height: float, mean: float, std: float) -> NDArray[Any]:
    return height * np.exp(-((x - mean) ** 2) / (2 * std**2))
