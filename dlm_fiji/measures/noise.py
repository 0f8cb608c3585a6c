"""The noise of a camera image from that image alone: variance = gain · signal + offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve, uniform_filter

from dlm_fiji.errors import InputError

__all__ = ["Noise", "estimate_noise"]

# Second difference along both axes: blind to planes, and on white noise of deviation 1 its own is 6.
_MASK = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6


@dataclass(frozen=True)
class Noise:
    """variance = gain · signal + offset, in the image's counts."""

    gain: float
    offset: float

    def sigma(self, signal: NDArray[Any]) -> NDArray[Any]:
        """Standard deviation at each expected signal, never 0."""
        variance = self.gain * np.maximum(signal, 0) + self.offset
        least = max(1e-6 * float(np.max(variance, initial=0.0)), 1e-30)
        return np.sqrt(np.maximum(variance, least))


def estimate_noise(
    image: ArrayLike | Sequence[ArrayLike], signal: ArrayLike | Sequence[ArrayLike] | None = None, bins: int = 12
) -> Noise:
    """Fit the noise of an image whose finest detail the lens has removed.

    Parameters
    ----------
    image
        Camera image, or a residual, shape (rows, columns), noise independent from pixel to pixel; or a list of
        several by one camera.
    signal
        Expected signal at each pixel, to which the variance belongs; by default the 5 × 5 mean of the image.
    bins
        Number of signal levels (equal counts of pixels) between which the variance is fitted.

    Returns
    -------
    Noise

    Notes
    -----
    After Immerkær (1996), with a robust deviation in each level of the signal. Detail at the scale of a
    pixel counts as noise, so on a sharp image the estimate is too high, never too low.

    References
    ----------
    .. [1] J. Immerkær, Comput. Vis. Image Underst. 64, 300 (1996). :DOI:`10.1006/cviu.1996.0060`
    """
    several: list[Any] = image if isinstance(image, list) else [image]
    images = [np.asarray(a, dtype=np.float64) for a in several]
    for array in images:
        if array.ndim != 2 or min(array.shape) < 16:
            raise InputError(f"Noise needs a grey image of at least 16 × 16 pixels, not {array.shape}.")
    if signal is None:
        signals: list[Any] = [uniform_filter(a, 5) for a in images]
    else:
        signals = signal if isinstance(signal, list) else [signal]
    inner = np.s_[2:-2, 2:-2]
    fine = np.concatenate([convolve(array, _MASK)[inner].ravel() for array in images])
    level = np.concatenate([np.asarray(array, dtype=np.float64)[inner].ravel() for array in signals])
    order = np.argsort(level, kind="stable")
    groups = np.array_split(order, max(min(bins, fine.size // 400), 1))
    middles = np.array([level[g].mean() for g in groups])
    variances = np.array([(1.4826 * np.median(np.abs(fine[g]))) ** 2 for g in groups])
    spread = float(np.ptp(middles))
    mean = float(variances.mean())
    if len(groups) < 3 or spread <= 1e-9 * max(abs(float(middles.max())), 1e-30):
        return Noise(0.0, mean)
    # Relative errors are alike in every level, so weigh by 1 / variance.
    weights = 1 / np.maximum(variances, 1e-6 * mean + 1e-30)
    gain, offset = np.polyfit(middles, variances, 1, w=weights)
    if gain < 0:
        return Noise(0.0, mean)
    if offset < 0 and middles.min() >= 0:
        gain, offset = (weights**2 * middles * variances).sum() / (weights**2 * middles**2).sum(), 0.0
    rough = Noise(float(gain), float(offset))
    # Within a group the variance varies, which a median underrates; in units of the fit it does not.
    left = (1.4826 * float(np.median(np.abs(fine) / rough.sigma(level)))) ** 2
    return Noise(left * rough.gain, left * rough.offset)
