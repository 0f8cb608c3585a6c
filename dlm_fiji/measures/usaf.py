"""Modulation transfer from a USAF-1951 target, by the rules of Rivenson et al. (2017), supplement §6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from dlm_fiji.errors import InputError
from dlm_fiji.measures.usaf_geometry import Direction, Triplet, element_of, find_triplets, line_pairs_per_mm

__all__ = ["PAPER_TABLE", "Contrast", "triplet_contrast", "usaf_mtf"]

_FINE = 16  # profile points a pixel
_LINES, _GAPS = (-1.0, 0.0, 1.0), (-0.5, 0.5)  # periods from the middle

#: Cycles/mm, contrast of the 100×/1.4 NA input, contrast of the network's output (Optica 2017, Table S4).
PAPER_TABLE = (
    (256.0, 0.801144658, 0.75627907),
    (287.3502844, 0.790853855, 0.729511618),
    (322.5397888, 0.790801661, 0.72449378),
    (362.038672, 0.795555918, 0.709122843),
    (406.3746693, 0.787270294, 0.726269147),
    (456.1401437, 0.771249585, 0.774461828),
    (512.0, 0.713336904, 0.681675286),
    (574.7005687, 0.636153491, 0.640392221),
    (645.0795775, 0.577148622, 0.588478766),
    (724.0773439, 0.517576094, 0.585453198),
    (812.7493386, 0.516547441, 0.63392948),
    (912.2802874, 0.439410917, 0.597450901),
    (1024.0, 0.368925748, 0.585228416),
    (1149.401137, 0.400244051, 0.53887823),
    (1290.159155, 0.303987367, 0.496261545),
    (1448.154688, 0.228926978, 0.4729755),
    (1625.498677, 0.20194026, 0.542857143),
    (1824.560575, 0.12865681, 0.454976303),
    (2048.0, 0.110901071, 0.259743799),
    (2298.802275, 0.0, 0.254320988),
    (2580.31831, 0.0, 0.182785747),
    (2896.309376, 0.0, 0.072),
    (3250.997354, 0.0, 0.0),
    (3649.12115, 0.0, 0.0),
)


@dataclass(frozen=True)
class Contrast:
    """One triplet's modulation.

    Attributes
    ----------
    group, element
        Of USAF-1951, by the period found.
    frequency
        Cycles a millimetre of that element.
    lines
        ``"vertical"`` or ``"horizontal"``.
    contrast
        (I_max - I_min) / (I_max + I_min), 0 if the lines are not where they should be.
    profile
        Cross-section over 2.5 periods, float64, 16 points a pixel.
    triplet
        Where it lies in the image.
    """

    group: int
    element: int
    frequency: float
    lines: Direction
    contrast: float
    profile: NDArray[np.float64]
    triplet: Triplet


def usaf_mtf(
    image: ArrayLike,
    pixel_um: float,
    *,
    label: ArrayLike | None = None,
    triplets: Sequence[Triplet] | None = None,
    length: float = 0.85,
) -> list[Contrast]:
    """Contrast of every element of a USAF-1951 target.

    Averaged along the lines over 85 % of their length; the cross-section of 2.5 periods holds three line
    centres and two gaps. If each of the five extrema lies within half a line width of its place, the
    contrast is Michelson's with the largest of the gaps and the smallest of the lines (for bright lines the
    other way round), else 0.

    Parameters
    ----------
    image
        Target, shape (rows, columns), linear light, not negative; lines along rows and columns.
    pixel_um
        Pixel size, µm.
    label
        A sharper image of the same pixels in which the elements are looked for, so that those not resolved in
        ``image`` get their 0; by default ``image`` itself.
    triplets
        Where the elements lie, instead of looking for them.
    length
        Part of the lines' length to average over.

    Returns
    -------
    One `Contrast` for each triplet, coarse ones first.

    Raises
    ------
    InputError
        No element was found, or the images differ in shape.
    """
    array = _grey(image)
    if not pixel_um > 0:
        raise InputError(f"The pixel size must be above 0 µm, not {pixel_um}.")
    if not 0 < length <= 1:
        raise InputError(f"The part of the lines to average over lies between 0 and 1, not at {length}.")
    source = array if label is None else _grey(label)
    if source.shape != array.shape:
        raise InputError(f"The label has the shape {source.shape}, the image {array.shape}: register them first.")
    if triplets is None:
        triplets = find_triplets(source)
    if not triplets:
        raise InputError(
            "No element of a USAF-1951 target was found: the lines must run along rows and columns and "
            "some must be resolved; give the places by hand as triplets otherwise."
        )
    # One polarity for the whole target: a single triplet whose lines and gaps changed places is lost.
    excess = sum(_gap_minus_line(_section(source, t, length)) for t in triplets)
    result = []
    for triplet in triplets:
        group, element = element_of(triplet.period * pixel_um)
        contrast, profile = triplet_contrast(array, triplet, length, dark_lines=excess >= 0)
        frequency = line_pairs_per_mm(group, element)
        result.append(Contrast(group, element, frequency, triplet.lines, contrast, profile, triplet))
    return sorted(result, key=lambda c: (c.frequency, c.lines))


def triplet_contrast(
    image: NDArray[Any], triplet: Triplet, length: float = 0.85, *, dark_lines: bool = True
) -> tuple[float, NDArray[np.float64]]:
    """Michelson contrast of three lines (0 if they are not in place), and their cross-section."""
    profile = _section(image, triplet, length)
    place = np.linspace(-1.25, 1.25, profile.size)
    sign = 1.0 if dark_lines else -1.0
    troughs = [_extremum(sign * profile, place, c) for c in _LINES]
    crests = [_extremum(-sign * profile, place, c) for c in _GAPS]
    if any(v is None for v in (*troughs, *crests)):
        return 0.0, profile
    low = sign * min(v for v in troughs if v is not None)
    high = -sign * min(v for v in crests if v is not None)
    if sign * (high - low) <= 0:
        return 0.0, profile
    return abs(high - low) / (high + low), profile


def _section(image: NDArray[Any], triplet: Triplet, length: float) -> NDArray[np.float64]:
    """Mean along the lines, over 2.5 periods across them."""
    period = triplet.period
    across = np.linspace(-1.25 * period, 1.25 * period, max(int(2.5 * period * _FINE), 16))
    along = np.linspace(-1.25, 1.25, max(int(2.5 * period * 2), 8)) * period * length
    if triplet.lines == "vertical":
        rows, columns = np.meshgrid(triplet.row + along, triplet.column + across, indexing="ij")
    else:
        columns, rows = np.meshgrid(triplet.column + along, triplet.row + across, indexing="ij")
    return map_coordinates(image, [rows, columns], order=1, mode="nearest").mean(0)


def _gap_minus_line(profile: NDArray[Any]) -> float:
    place = np.linspace(-1.25, 1.25, profile.size)
    lines, gaps = (np.mean([profile[np.argmin(np.abs(place - c))] for c in centres]) for centres in (_LINES, _GAPS))
    return float(gaps - lines)


def _extremum(profile: NDArray[Any], place: NDArray[Any], centre: float) -> float | None:
    """Minimum within half a period of ``centre``, or None if it lies more than half a line width away."""
    near = np.flatnonzero(np.abs(place - centre) < 0.45)
    values = profile[near]
    # The middle of a flat bottom, as a saturated line has.
    lowest = near[values <= values.min() + 1e-9 * (np.ptp(profile) + 1e-300)]
    return float(values.min()) if abs(place[lowest].mean() - centre) <= 0.25 else None


def _grey(image: ArrayLike) -> NDArray[Any]:
    array = np.asarray(image, dtype=np.float64)
    if array.ndim != 2:
        raise InputError(f"A resolution target needs a grey image, not one of shape {array.shape}.")
    if not np.isfinite(array).all() or array.min() < 0:
        raise InputError("A contrast needs an image that is finite and not negative.")
    return array
