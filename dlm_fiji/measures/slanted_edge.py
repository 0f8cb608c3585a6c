"""Modulation transfer from one slanted edge, after ISO 12233 (e-SFR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlm_fiji.errors import InputError

__all__ = ["EdgeResponse", "slanted_edge_mtf"]

_FINE = 4


@dataclass(frozen=True)
class EdgeResponse:
    """Result of `slanted_edge_mtf`.

    Attributes
    ----------
    frequency
        Cycles per µm (per pixel if no pixel size was given), up to the pixels' own frequency.
    mtf
        Modulation transfer, 1 at frequency 0.
    mtf50
        Frequency at which it first falls to a half; NaN if it does not.
    angle
        Of the edge against the columns, degrees.
    """

    frequency: NDArray[Any]
    mtf: NDArray[Any]
    mtf50: float
    angle: float


def slanted_edge_mtf(image: ArrayLike, pixel_um: float = 1.0) -> EdgeResponse:
    """Modulation transfer across one straight, nearly vertical or horizontal edge.

    The edge is found in every row by the centroid of the difference, fitted by a line, the pixels are binned
    by their distance to it in quarter pixels, differentiated, windowed (Hamming) and transformed; the
    response of the difference filter and of the bins is divided out.

    Parameters
    ----------
    image
        The edge with flat ground on either side, linear light, shape (rows, columns), 20 pixels or more a
        side.
    pixel_um
        Pixel size, µm.

    Returns
    -------
    EdgeResponse

    Raises
    ------
    InputError
        No edge, or one along the pixels (no slant, so nothing finer than a pixel is known).

    References
    ----------
    .. [1] ISO 12233:2017, Annex D.
    """
    array = np.asarray(image, dtype=np.float64)
    if array.ndim != 2 or min(array.shape) < 20 or not np.isfinite(array).all():
        raise InputError("A slanted edge needs a grey, finite image of at least 20 × 20 pixels.")
    gradient = [np.abs(np.diff(array, axis=a)).mean() for a in (0, 1)]
    if gradient[0] > gradient[1]:
        array = array.T
    rows, columns = array.shape
    slope, start = _edge(array)
    if not 0.005 < abs(slope) < 0.5:
        raise InputError(
            f"The edge is {np.degrees(np.arctan(slope)):.1f}° from the pixel columns; 0.3° to 26° are needed."
        )
    y, x = np.mgrid[:rows, :columns]
    # Whole turns of the slant only, so that every phase of the pixel is seen equally often.
    turn = 1 / abs(slope)
    if rows >= turn:
        keep = int(int(rows / turn) * turn)
        x, y, array = x[:keep], y[:keep], array[:keep]
    distance = (x - slope * y - start) * np.cos(np.arctan(slope))
    reach = min(float(-distance.min()), float(distance.max())) - 1
    if reach < 4:
        raise InputError("The edge runs too near to the image's border: 5 pixels on either side are needed.")
    half = int(reach * _FINE)
    place = np.round(distance * _FINE).astype(int).ravel()
    inside = np.abs(place) <= half
    size = 2 * half + 1
    sums = np.bincount(place[inside] + half, array.ravel()[inside], size)
    counts = np.bincount(place[inside] + half, minlength=size)
    filled = counts > 0
    spread = np.interp(np.arange(size), np.flatnonzero(filled), sums[filled] / counts[filled])
    line = (spread[2:] - spread[:-2]) / 2
    centre = (np.abs(line) * np.arange(line.size)).sum() / np.abs(line).sum()
    window = 0.54 + 0.46 * np.cos(2 * np.pi * (np.arange(line.size) - centre) / line.size)
    spectrum = np.abs(np.fft.rfft(line * window))
    frequency = np.fft.rfftfreq(line.size, 1 / _FINE)
    keep_f = frequency <= 1
    frequency = frequency[keep_f]
    # Difference over two bins, and the mean over one bin.
    response = np.sinc(2 * frequency / _FINE) * np.sinc(frequency / _FINE)
    mtf = spectrum[keep_f] / spectrum[0] / response
    return EdgeResponse(
        frequency / pixel_um, mtf, _half(frequency, mtf) / pixel_um, float(np.degrees(np.arctan(slope)))
    )


def _edge(array: NDArray[Any]) -> tuple[float, float]:
    """Line column = slope · row + start through the edge, refined once in a window round it."""
    rows, columns = array.shape
    lines = np.diff(array, axis=1)
    lines = lines * np.sign(lines.mean())
    if not lines.max() > 0:
        raise InputError("The image is flat: it holds no edge.")
    x = np.arange(columns - 1) + 0.5
    window = np.broadcast_to(np.hamming(columns - 1), lines.shape)
    slope = start = 0.0
    for _ in range(3):
        weights = np.maximum(lines * window, 0)
        total = weights.sum(1)
        seen = total > 0.2 * np.median(total)
        centres = (weights * x).sum(1)[seen] / total[seen]
        slope, start = np.polyfit(np.arange(rows)[seen], centres, 1)
        distance = x[None] - (slope * np.arange(rows)[:, None] + start)
        window = np.exp(-((distance / (columns / 8)) ** 2))
    return float(slope), float(start)


def _half(frequency: NDArray[Any], mtf: NDArray[Any]) -> float:
    below = np.flatnonzero(mtf < 0.5)
    if below.size == 0 or below[0] == 0:
        return float("nan")
    i = below[0]
    return float(np.interp(0.5, [mtf[i], mtf[i - 1]], [frequency[i], frequency[i - 1]]))
