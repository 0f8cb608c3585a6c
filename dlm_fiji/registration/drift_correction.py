"""Drift between two images of one field taken one after the other (002: confocal and STED, about 10 nm)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration.peaks import fit_gaussian_peak
from dlm_fiji.registration.sampling import sample
from dlm_fiji.registration.subpixel import correlation_peaks, refine_shift, smooth
from dlm_fiji.registration.tiles import to_grey
from dlm_fiji.settings import Settings, setting

__all__ = ["Drift", "DriftSettings", "drift"]


class DriftSettings(Settings):
    """How the drift is measured."""

    method: Literal["gaussian", "fit"] = setting(
        "gaussian",
        "gaussian: 2-D Gaussian through the cross-correlation peak; fit: least squares on the overlap",
        source="002, Methods: 2-D Gaussian fit of the cross-correlation map",
    )
    max_shift: float | None = setting(
        None, "Largest drift looked for, by default a quarter of the side", unit="px", gt=0
    )
    sigma: float = setting(1.0, "Gaussian smoothing of both images before correlating", unit="px", ge=0)
    radius: int = setting(3, "Samples on each side of the peak that the Gaussian is fitted to", unit="px", ge=1, le=10)
    min_correlation: float = setting(0.2, "Below this the images do not show the same field", ge=0, le=1)


@dataclass(frozen=True)
class Drift:
    """``shift`` (dy, dx) px by which the second image's content is displaced, and the correlation when
    undone.
    """

    shift: tuple[float, float]
    correlation: float

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The second image (H, W[, C]) moved back onto the first; float32, one cubic interpolation."""
        rows, cols = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float64)
        return sample(image, rows + self.shift[0], cols + self.shift[1])


def drift(a: np.ndarray, b: np.ndarray, settings: DriftSettings | None = None, **changes: Any) -> Drift:
    """The displacement of ``b`` against ``a``: b(p + shift) shows what a(p) shows.

    Parameters
    ----------
    a, b
        (H, W) or (H, W, C) of one size, any range.
    settings, **changes
        :class:`DriftSettings` or its fields.

    Returns
    -------
    Drift

    Raises
    ------
    InputError
        Sizes differ, an image is constant, or the correlation stays below ``min_correlation``.
    """
    s = DriftSettings.of(settings, **changes)
    first, second = (np.nan_to_num(to_grey(image)) for image in (a, b))
    if first.shape != second.shape:
        raise InputError(f"The images have different sizes: {first.shape} and {second.shape} px.")
    if min(first.shape) < 24:
        raise InputError(
            f"Images of {first.shape[0]} x {first.shape[1]} px are too small for a drift; 24 x 24 is needed."
        )
    if first.std() == 0 or second.std() == 0:
        raise InputError("One of the images is constant: no drift can be measured.")
    first, second = smooth(first, s.sigma), smooth(second, s.sigma)
    reach = np.full(2, s.max_shift or min(first.shape) / 4)
    # a tile at position -shift shows the field displaced by shift
    peaks = correlation_peaks(first, second, np.zeros(2), reach)
    if not peaks:
        raise InputError("The images have no content in common: no drift can be measured.")
    lag = peaks[0][1].astype(float)
    fit = refine_shift(first, second, lag, sigma=s.sigma)
    place = _gaussian(first, second, lag, s) if s.method == "gaussian" or fit is None else fit.shift
    correlation = fit.correlation if fit is not None else peaks[0][0]
    if correlation < s.min_correlation:
        raise InputError(
            f"The images correlate by {correlation:.2f} only, below {s.min_correlation:.2f}: they do not seem to show "
            "the same field."
        )
    return Drift((float(-place[0]), float(-place[1])), float(correlation))


def _gaussian(first: np.ndarray, second: np.ndarray, lag: np.ndarray, s: DriftSettings) -> np.ndarray:
    """Peak of the normalised cross-correlation by a Gaussian, repeated on the shifted image until it lies at
    zero.

    The correlation of a finite field is a little lopsided; at zero shift the lopsidedness is that of an
    autocorrelation, which has none, so repeating takes the bias out.
    """
    place = lag.astype(float)
    margin = s.radius + 2
    for _ in range(6):
        # the part of ``first`` whose partner lies inside ``second`` with room to move
        low = np.ceil(np.maximum(0, place) + margin).astype(int)
        high = np.floor(np.minimum(first.shape, second.shape + place) - margin).astype(int)
        if (high - low < 8).any():
            return place
        rows, cols = np.mgrid[low[0] - margin : high[0] + margin, low[1] - margin : high[1] + margin].astype(float)
        moved = sample(second, rows - place[0], cols - place[1])
        surface = cv2.matchTemplate(moved, first[low[0] : high[0], low[1] : high[1]], cv2.TM_CCOEFF_NORMED)
        step = fit_gaussian_peak(surface, s.radius) - margin
        # ``moved`` shows at margin + step what ``first`` shows at 0
        place = place - step
        if np.abs(step).max() < 1e-3:
            break
    return place
