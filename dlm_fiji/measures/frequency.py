"""Resolution from the image's own frequencies: Fourier ring correlation, and decorrelation analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from dlm_fiji.errors import InputError
from dlm_fiji.measures.arrays import pair

__all__ = ["Decorrelation", "RingCorrelation", "decorrelation_resolution", "ring_correlation", "split_image"]


@dataclass(frozen=True)
class RingCorrelation:
    """Fourier ring correlation.

    Attributes
    ----------
    frequency
        Cycles per µm (per pixel if no pixel size was given), up to Nyquist.
    correlation
        In each ring, -1 to 1, smoothed over three rings.
    resolution
        1 / the frequency where the correlation first falls below ``threshold``; NaN if it never does.
    threshold
        1/7 (Nieuwenhuizen et al. 2013) unless told.
    """

    frequency: NDArray[Any]
    correlation: NDArray[Any]
    resolution: float
    threshold: float


@dataclass(frozen=True)
class Decorrelation:
    """Decorrelation analysis: ``resolution`` = 1 / the highest frequency with a local maximum; its curves."""

    resolution: float
    frequency: NDArray[Any]
    curves: NDArray[Any]


def ring_correlation(
    first: ArrayLike, second: ArrayLike, pixel_um: float = 1.0, *, threshold: float = 1 / 7
) -> RingCorrelation:
    """Correlation of two images of one field with independent noise, ring by ring in frequency.

    Parameters
    ----------
    first, second
        Same shape, rows × columns. From one image, see `split_image`.
    pixel_um
        Pixel size, µm.
    threshold
        Correlation at which detail counts as lost.

    References
    ----------
    .. [1] R. P. J. Nieuwenhuizen et al., Nature Methods 10, 557 (2013). :DOI:`10.1038/nmeth.2448`
    """
    a, b = pair(first, second)
    if a.ndim != 2 or min(a.shape) < 32:
        raise InputError(f"Ring correlation needs grey images of at least 32 × 32 pixels, not {a.shape}.")
    if np.array_equal(a, b):
        raise InputError("The two images are the same, so they correlate at every frequency: give two exposures.")
    spectra = [fft.rfft2(_windowed(x)) for x in (a, b)]
    rings, number = _rings(a.shape)
    cross = np.bincount(rings, (spectra[0] * spectra[1].conj()).real.ravel(), number + 1)[:number]
    powers = [np.bincount(rings, (np.abs(s) ** 2).ravel(), number + 1)[:number] for s in spectra]
    correlation = cross / np.sqrt(np.maximum(powers[0] * powers[1], 1e-300))
    smooth = np.convolve(np.pad(correlation, 1, mode="edge"), np.ones(3) / 3, "valid")
    frequency = np.arange(number) / (2 * number)
    below = np.flatnonzero(smooth[1:] < threshold) + 1
    resolution = float("nan")
    if below.size:
        i = int(below[0])
        at = np.interp(-threshold, [-smooth[i - 1], -smooth[i]], [frequency[i - 1], frequency[i]])
        resolution = float(pixel_um / at) if at > 0 else float("nan")
    return RingCorrelation(frequency / pixel_um, smooth, resolution, threshold)


def split_image(image: ArrayLike, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two images of independent noise from one of photon counts, each photon dealt to one at random.

    The counts must be photons (gain 1, no offset); the noise of an enlarged, filtered or predicted image is not
    independent, and its ring correlation no resolution.
    """
    counts = np.asarray(image)
    if not np.allclose(counts, np.round(counts)) or counts.min() < 0:
        raise InputError("Only whole, non-negative photon counts can be dealt to two images.")
    first = np.random.default_rng(seed).binomial(counts.astype(np.int64), 0.5)
    return first.astype(np.float64), (counts - first).astype(np.float64)


def decorrelation_resolution(image: ArrayLike, pixel_um: float = 1.0, *, filters: int = 10) -> Decorrelation:
    """Resolution of a single image by decorrelation analysis.

    The image's spectrum is correlated with its own phase inside a growing circle; the correlation has a maximum at
    the highest frequency that still holds signal over noise. High-pass filters move it outwards; the largest over all
    filters is the cut-off.

    Parameters
    ----------
    image
        Shape (rows, columns).
    pixel_um
        Pixel size, µm.
    filters
        Number of high-pass filters.

    Returns
    -------
    Decorrelation
        ``resolution`` NaN if no maximum exists (only noise, or no noise at all).

    References
    ----------
    .. [1] A. Descloux, K. S. Grußmayer, A. Radenovic, Nature Methods 16, 918 (2019).
       :DOI:`10.1038/s41592-019-0515-7`
    """
    array = np.asarray(image, dtype=np.float64)
    if array.ndim != 2 or min(array.shape) < 32 or not np.isfinite(array).all():
        raise InputError("Decorrelation analysis needs a finite grey image of at least 32 × 32 pixels.")
    if np.ptp(array) == 0:
        raise InputError("The image is empty (one value everywhere) and has no resolution.")
    rings, number = _rings(array.shape)
    frequency = np.arange(number) / (2 * number)
    # Equal filters for all: σ in pixels from a mild one to a quarter of the image.
    sigmas = [0.0, *np.geomspace(min(array.shape) / 4, 0.15, filters)]
    curves, best = [], float("nan")
    magnitude = np.abs(fft.rfft2(_windowed(array)))
    radius = np.hypot(fft.fftfreq(array.shape[0])[:, None], fft.rfftfreq(array.shape[1])[None])
    doubled = np.full(magnitude.shape, 2.0)  # the half that the real transform leaves out
    doubled[:, 0] = 1.0
    for sigma in sigmas:
        filtered = magnitude * (1 - np.exp(-2 * (np.pi * sigma * radius) ** 2)) if sigma > 0 else magnitude
        amount = np.bincount(rings, (doubled * filtered).ravel(), number + 1)[:number].cumsum()
        inside = np.bincount(rings, doubled.ravel(), number + 1)[:number].cumsum()
        total = np.sqrt((doubled * filtered**2).ravel()[rings < number].sum())
        curve = amount / (total * np.sqrt(inside))
        curves.append(curve)
        top = int(np.argmax(curve))
        # A maximum at the very end, or one that hardly stands out, is none.
        if 0 < top < number - 2 and curve[top] - curve[top:].min() > 1e-3:
            best = np.nanmax([best, frequency[top]])
    resolution = float(pixel_um / best) if best > 0 else float("nan")
    return Decorrelation(resolution, frequency / pixel_um, np.array(curves))


def _windowed(image: NDArray[Any]) -> NDArray[Any]:
    """Mean taken off, edges faded over a quarter of the sides, so that they make no cross in the spectrum."""
    windows = []
    for n in image.shape:
        width = max(n // 4, 1)
        fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / width)
        windows.append(np.concatenate([fade, np.ones(n - 2 * width), fade[::-1]]))
    return (image - np.mean(image, dtype=np.float64)) * np.outer(*windows)


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Ring of each value of a half-spectrum, flat; those beyond Nyquist share the last number."""
    number = min(shape) // 2
    radius = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]) * 2 * number
    return np.minimum(np.round(radius), number).astype(np.int64).ravel(), number
