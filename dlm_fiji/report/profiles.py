"""A line across two near structures of the label, chosen on the label alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import argrelmax

from dlm_fiji.report.pictures import Region

__all__ = ["PairOfStructures", "dip_at", "nearest_pair"]

_BESIDE = 6
"""Pixels of the line on either side of the pair."""


@dataclass(frozen=True)
class PairOfStructures:
    """A horizontal or vertical line (y, x to y, x), and where on it the two maxima lie, in px from its start."""

    start: tuple[float, float]
    end: tuple[float, float]
    peaks: tuple[int, int]

    @property
    def where(self) -> str:
        """The line in words."""
        (y0, x0), (y1, x1) = self.start, self.end
        return (
            f"row y {y0:.0f}, x {x0:.0f} to {x1:.0f} px"
            if y0 == y1
            else f"column x {x0:.0f}, y {y0:.0f} to {y1:.0f} px"
        )


def nearest_pair(label: np.ndarray, regions: Sequence[Region], ratio: float) -> PairOfStructures | None:
    """The pair with the strongest dip among those at most 3 pixels of the input (``ratio`` label pixels) apart."""
    farthest = max(3 * ratio, 4)
    best: tuple[float, PairOfStructures] | None = None
    for vertical in (False, True):
        image = label.T if vertical else label
        smooth = uniform_filter1d(image, 3, axis=0)
        for region in regions:
            y, x = (region.x, region.y) if vertical else (region.y, region.x)
            for row in range(y + 1, y + region.side - 1):
                line = smooth[row, x : x + region.side]
                maxima = argrelmax(line)[0]
                for a, b in pairwise(maxima):
                    if b - a > farthest or a < _BESIDE or b > region.side - 1 - _BESIDE:
                        continue
                    lower, dip = min(line[a], line[b]), line[a : b + 1].min()
                    # Two clear structures, not ripple: the dip in grey levels counts.
                    if best is None or lower - dip > best[0]:
                        first, last = a - _BESIDE, b + _BESIDE
                        ends = [(float(row), float(x + first)), (float(row), float(x + last))]
                        start, end = (e[::-1] if vertical else e for e in ends)
                        best = float(lower - dip), PairOfStructures(start, end, (_BESIDE, int(b - first)))
    return None if best is None else best[1]


def dip_at(values: np.ndarray, peaks: tuple[int, int]) -> float:
    """(lower peak - dip) / (lower peak + dip), at least 0, the peaks within a pixel of their places in the label."""
    tops = [float(values[max(p - 1, 0) : p + 2].max()) for p in peaks]
    lower, dip = min(tops), float(values[peaks[0] : peaks[1] + 1].min())
    return max(0.0, (lower - dip) / (lower + dip)) if lower + dip > 0 else 0.0
