"""The USAF-1951 resolution target: its geometry, a synthetic one, and where its elements lie in an image.

Element e of group g has 2^(g + (e - 1) / 6) line pairs a millimetre. Each of its two triplets has three
lines, one line width apart, five line widths long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter, label

from dlm_fiji.errors import InputError

__all__ = ["Triplet", "element_of", "find_triplets", "line_pairs_per_mm", "usaf_target"]

Direction = Literal["vertical", "horizontal"]
DIRECTIONS: tuple[Direction, ...] = ("vertical", "horizontal")


@dataclass(frozen=True)
class Triplet:
    """Three parallel lines: centre (row, column) and period in pixels, and which way the lines run."""

    row: float
    column: float
    period: float
    lines: Direction


def line_pairs_per_mm(group: int, element: int) -> float:
    """Spatial frequency of an element."""
    if not 1 <= element <= 6:
        raise InputError(f"A USAF-1951 group has the elements 1 to 6, not {element}.")
    return float(2 ** (group + (element - 1) / 6))


def element_of(period_um: float) -> tuple[int, int]:
    """Group and element whose period is nearest (by ratio) to ``period_um``."""
    step = round(6 * np.log2(1000 / period_um))
    return step // 6, step % 6 + 1


def usaf_target(
    elements: list[tuple[int, int]],
    pixel_um: float,
    *,
    bright: float = 1.0,
    dark: float = 0.0,
    oversampling: int = 8,
) -> tuple[NDArray[np.float32], list[Triplet]]:
    """A synthetic target, dark lines on bright, each pixel the exact mean over its area in ``oversampling``
    steps.

    Parameters
    ----------
    elements
        (group, element), drawn one below the other, vertical lines left and horizontal ones right.
    pixel_um
        Pixel size, µm.
    bright, dark
        Values of ground and lines.
    oversampling
        Subdivisions of a pixel to which line edges are rounded.

    Returns
    -------
    image
        float32, shape (rows, columns).
    triplets
        Where each element was drawn, in the order of ``elements``, vertical before horizontal.
    """
    periods = [1000 / line_pairs_per_mm(g, e) / pixel_um for g, e in elements]
    heights = [int(np.ceil(5 * p)) for p in periods]
    rows, columns = sum(heights) + 8, int(np.ceil(8.5 * max(periods))) + 8
    image = np.zeros((rows, columns))
    triplets = []
    top = 4.0
    for period, height in zip(periods, heights, strict=True):
        row = top + height / 2
        left, right = 4 + 1.75 * period, 4 + 1.75 * period + 3.75 * period
        for column, lines in ((left, "vertical"), (right, "horizontal")):
            for k in (-1, 0, 1):
                across, along = period / 4, 1.25 * period
                if lines == "vertical":
                    box = (
                        row - along,
                        row + along,
                        column + k * period - across,
                        column + k * period + across,
                    )
                else:
                    box = (
                        row + k * period - across,
                        row + k * period + across,
                        column - along,
                        column + along,
                    )
                image += np.outer(
                    _covered(rows, box[0], box[1], oversampling),
                    _covered(columns, box[2], box[3], oversampling),
                )
            # pixel i covers i to i + 1, and its centre is at i
            triplets.append(Triplet(row - 0.5, column - 0.5, period, lines))  # type: ignore[arg-type]
        top += height
    return (bright + (dark - bright) * image).astype(np.float32), triplets


def _covered(size: int, start: float, end: float, steps: int) -> NDArray[Any]:
    start, end = round(start * steps) / steps, round(end * steps) / steps
    pixels = np.arange(size)
    return np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, start), 0, 1)


def find_triplets(image: NDArray[Any], smallest_period: float = 4.0) -> list[Triplet]:
    """Locate every triplet whose lines stand apart, dark on bright or bright on dark.

    The image is cut at levels over its range and at its local mean; in each cut, connected pieces that are
    bars are gathered into threes of equal length and spacing, 2.5 spacings long.

    Parameters
    ----------
    image
        Shape (rows, columns), lines along rows and columns to within a few degrees.
    smallest_period
        Finer triplets are not looked for, pixels.

    Returns
    -------
    Triplets, coarse ones first.
    """
    array = image.astype(np.float64)
    low, high = np.percentile(array, [1, 99])
    if high <= low:
        return []
    cuts = [array > low + f * (high - low) for f in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)]
    for scale in (4, 8, 16, 32):
        if scale < min(array.shape) / 4:
            margin = 0.03 * (high - low)
            mean = gaussian_filter(array, scale)
            cuts += [array > mean + margin, array > mean - margin]
    found: list[tuple[Triplet, float]] = []
    for cut in cuts:
        for mask in (cut, ~cut):
            bars = _bars(mask, smallest_period)
            for lines in DIRECTIONS:
                found += _threes([b for b in bars if b.lines == lines], lines)
    return _merged(found, smallest_period)


class Bar(NamedTuple):
    """A connected piece that may be a line: centre (row, column), its long side, and which way it runs."""

    centre: tuple[float, float]
    length: float
    lines: Direction


def _bars(mask: NDArray[np.bool_], smallest_period: float) -> list[Bar]:
    pieces, _ = label(mask)
    bars = []
    for number, box in enumerate(find_objects(pieces), 1):
        rows, columns = (s.stop - s.start for s in box)
        width, length = min(rows, columns), max(rows, columns)
        touches = any(s.start == 0 or s.stop == n for s, n in zip(box, mask.shape, strict=True))
        if touches or length < smallest_period * 1.5 or not 2.2 < length / width < 9:
            continue
        piece = pieces[box] == number
        if piece.mean() < 0.72:
            continue
        y, x = np.nonzero(piece)
        lines: Direction = "vertical" if rows > columns else "horizontal"
        centre = (float(box[0].start + y.mean()), float(box[1].start + x.mean()))
        bars.append(Bar(centre, float(length), lines))
    return bars


def _threes(bars: list[Bar], lines: Direction) -> list[tuple[Triplet, float]]:
    """Triplets among bars of one direction, with the misfit of each."""
    across, along = (1, 0) if lines == "vertical" else (0, 1)
    found = []
    for first in bars:
        length = first.length
        near = sorted(
            (
                b
                for b in bars
                if abs(b.length - length) < 0.25 * length
                and abs(b.centre[along] - first.centre[along]) < 0.2 * length
                and 0 < b.centre[across] - first.centre[across] < 1.3 * length
            ),
            key=lambda b: b.centre[across],
        )
        for i, second in enumerate(near):
            for third in near[i + 1 :]:
                one = second.centre[across] - first.centre[across]
                two = third.centre[across] - second.centre[across]
                period = (one + two) / 2
                lengths = (length + second.length + third.length) / 3
                uneven, shape = abs(one - two) / period, abs(lengths / period - 2.5) / 2.5
                if uneven < 0.15 and shape < 0.3:
                    row, column = np.mean([first.centre, second.centre, third.centre], axis=0)
                    found.append((Triplet(float(row), float(column), period, lines), uneven + shape))
    return found


def _merged(found: list[tuple[Triplet, float]], smallest_period: float) -> list[Triplet]:
    """One triplet for all that different cuts found at one place: the median, if two cuts agree on it."""
    rest = [t for t, _ in sorted(found, key=lambda f: f[1]) if t.period >= smallest_period]
    result = []
    while rest:
        seed = rest[0]
        same = [
            t
            for t in rest
            if t.lines == seed.lines
            and np.hypot(t.row - seed.row, t.column - seed.column) < seed.period
            and 0.8 < t.period / seed.period < 1.25
        ]
        rest = [
            t for t in rest if np.hypot(t.row - seed.row, t.column - seed.column) > seed.period or t.lines != seed.lines
        ]
        if len(same) >= 2:
            row, column, period = (float(np.median([getattr(t, n) for t in same])) for n in ("row", "column", "period"))
            result.append(Triplet(row, column, period, seed.lines))
    return sorted(result, key=lambda t: -t.period)
