"""A label laid exactly onto the mosaic's pixel grid: the pair that the network learns from.

The mosaic's pixels stay as the camera gave them, because the network meets such pixels later; the finely sampled
label is the one that is interpolated, once, with shift, rotation, scale and block shifts composed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration import (
    ElasticSettings,
    Match,
    MatchSettings,
    Warp,
    match_template,
    register_elastic,
)
from dlm_fiji.registration.sampling import reduce_bicubic, sample
from dlm_fiji.steps.engines import require_engine

__all__ = ["LabelMatch", "Pair", "find_label", "pair_with_label"]


@dataclass(frozen=True)
class LabelMatch:
    """Where a label lies: the match, and the mosaic pixels that it covers wholly."""

    match: Match
    name: str
    #: (y, x) of the first covered mosaic pixel, on the network's grid, and (height, width).
    corner: tuple[int, int]
    shape: tuple[int, int]

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) in mosaic pixels."""
        return (*self.corner, self.corner[0] + self.shape[0], self.corner[1] + self.shape[1])


@dataclass(frozen=True)
class Pair:
    """Low-resolution crop and the label on the same field: (h, w, C) and (L·h, L·w, C), both uint8 or float32."""

    lr: np.ndarray
    hr: np.ndarray
    block_shift_px: float
    correlation: float


def find_label(
    mosaic: np.ndarray, label: np.ndarray, name: str, scale: float, settings: MatchSettings | None = None
) -> LabelMatch:
    """Find a label in the mosaic (000 supplement 2, steps C and D).

    Raises
    ------
    InputError
        The label does not correlate with any place, or covers less than a few pixels of the mosaic.
    """
    match = match_template(mosaic, label, name=name, settings=MatchSettings.of(settings, scale=scale))
    h, w = label.shape[:2]
    to_mosaic = _label_to_mosaic(match, scale)
    corners = np.array([to_mosaic @ (y, x, 1.0) for y in (-0.5, h - 0.5) for x in (-0.5, w - 0.5)])
    top, bottom = max(corners[0, 0], corners[1, 0]), min(corners[2, 0], corners[3, 0])
    left, right = max(corners[0, 1], corners[2, 1]), min(corners[1, 1], corners[3, 1])
    # Whole covered pixels, beginning and ending on the network's grid, so that L times them is a whole number.
    step = Fraction(scale).limit_denominator(16).denominator
    y0, y1 = _inside(top, bottom, mosaic.shape[0], step)
    x0, x1 = _inside(left, right, mosaic.shape[1], step)
    if y1 - y0 < 8 or x1 - x0 < 8:
        raise InputError(
            f"{name} covers only {max(0, y1 - y0)}x{max(0, x1 - x0)} pixels of the mosaic; give a larger label."
        )
    return LabelMatch(match, name, (y0, x0), (y1 - y0, x1 - x0))


def pair_with_label(
    mosaic: np.ndarray,
    label: np.ndarray,
    found: LabelMatch,
    scale: float,
    blocks: ElasticSettings | None = None,
    engine: str = "native",
) -> Pair:
    """The pair of mosaic crop and label.

    Parameters
    ----------
    mosaic, label
        (H, W[, C]) arrays of one type.
    found
        From :func:`find_label`.
    blocks
        Settings of a block-wise registration after the similarity; None leaves it out (test fields: 004).
    engine
        Who measures the blocks: ``"native"``, or ``"fiji"`` for NanoJ in the schedule of 002 (unless ``blocks``
        names another of the papers).

    Raises
    ------
    SetupError
        The engine is not there.
    """
    y0, x0, y1, x1 = found.rectangle
    lr = mosaic[y0:y1, x0:x1]
    height, width = round((y1 - y0) * scale), round((x1 - x0) * scale)
    rows = y0 + (np.arange(height) + 0.5) / scale - 0.5
    cols = x0 + (np.arange(width) + 0.5) / scale - 0.5
    at = np.stack(np.meshgrid(rows, cols, indexing="ij"))
    back = _inverse(_label_to_mosaic(found.match, scale))
    hr = _sampled(label, back, at)
    shift = 0.0
    if blocks is not None:
        warp = _block_warp(reduce_bicubic(hr.astype(np.float32), scale), lr, blocks, engine)
        moved = _enlarged(warp.displacement, (height, width), scale)
        shift = float(np.sqrt((warp.displacement**2).sum(0).mean()))
        hr = _sampled(label, back, at + moved)
    return Pair(lr, hr, shift, found.match.correlation)


def _block_warp(moving: np.ndarray, fixed: np.ndarray, blocks: ElasticSettings, engine: str) -> Warp:
    if engine == "native":
        return register_elastic(moving, fixed, settings=blocks)
    require_engine(engine, ("register",))
    from dlm_fiji.fiji import nanoj

    papers = ElasticSettings.paper() if blocks.schedule in ("fit", "search") else blocks
    return nanoj.register_elastic(moving, fixed, settings=papers)


def _label_to_mosaic(match: Match, scale: float) -> np.ndarray:
    """(2, 3): label pixel (y, x, 1) → mosaic pixel, by way of the reduced label that was matched."""
    reduce = np.array([[1 / scale, 0, 0.5 / scale - 0.5], [0, 1 / scale, 0.5 / scale - 0.5], [0, 0, 1]])
    turn = np.eye(3)
    if match.similarity is not None:
        turn[:2] = match.similarity.matrix
    turn[:2, 2] += match.position
    return (turn @ reduce)[:2]


def _inverse(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]


def _inside(low: float, high: float, size: int, step: int) -> tuple[int, int]:
    first = max(0, int(np.ceil(low + 0.5 - 1e-6)))
    last = min(size, int(np.floor(high + 0.5 + 1e-6)))
    first = -(-first // step) * step
    return first, first + max(0, last - first) // step * step


def _sampled(label: np.ndarray, back: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The label at mosaic coordinates ``at`` (2, h, w), in its own type."""
    rows = back[0, 0] * at[0] + back[0, 1] * at[1] + back[0, 2]
    cols = back[1, 0] * at[0] + back[1, 1] * at[1] + back[1, 2]
    values: Any = sample(label, rows, cols, 5)
    if np.issubdtype(label.dtype, np.integer):
        values = np.clip(np.rint(values), 0, np.iinfo(label.dtype).max)
    return values.astype(label.dtype)


def _enlarged(displacement: np.ndarray, shape: tuple[int, int], scale: float) -> np.ndarray:
    """A displacement field in mosaic pixels read at the label's pixels, still in mosaic pixels."""
    rows = (np.arange(shape[0]) + 0.5) / scale - 0.5
    cols = (np.arange(shape[1]) + 0.5) / scale - 0.5
    y, x = np.meshgrid(rows, cols, indexing="ij")
    return np.stack([sample(part.astype(np.float32), y, x, 1) for part in displacement])
