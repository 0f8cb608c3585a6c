"""What a single shift cannot say: a lens that distorts, and a stage that moves while the camera reads its rows.

Overlapping tiles show one place of the specimen at two places of the camera. In small windows of every overlap the
local shift is measured; the deviations from each link's mean are explained by one polynomial of degree 3 that all
tiles share (radial distortion, decentring, tilt of the camera) and, where that is not enough, a linear map of each
tile (rolling shutter, focus):

    position_i + p + D(p) + A_i p  =  position_j + q + D(q) + A_j q      for the same place at p in tile i, q in j.

It is linear in D, A and one free constant for each link, so the positions take no part: that the loops of links close
better afterwards is a test of the model, not a result of fitting it. The overlaps cannot tell a linear map that all
tiles share from a wrong step of the stage (nor a gradient of the A_i from a quadratic map of the whole mosaic): what
moves the tiles least is taken. Shared distortion from overlaps: Kaynig et al., PLoS ONE 5, e11230 (2010),
doi:10.1371/journal.pone.0011230.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from dlm_fiji.registration.block_correlation import from_nodes
from dlm_fiji.registration.subpixel import correlation_peaks, refine_shift

__all__ = ["LensModel", "LocalShifts", "fit_lens", "local_shifts"]

WINDOW = 64
"""Side of a window in px of the pyramid level it is measured on; half a narrow overlap, at least 32."""
REACH = 5
"""How far a window may lie from its link's shift, px of that level."""
SHARED_PRIOR, LINEAR_PRIOR = 10.0, 1.0
"""Standard deviations in px that the coefficients of D and A_i are expected to have: decide what no overlap tells."""
NODE = 16
"""Distance in px at which the distortion is evaluated for fusion; between, it is interpolated (to 0.01 px)."""


@dataclass(frozen=True)
class LocalShifts:
    """Windows of the overlaps: ``link`` (n,) number of the link, ``points`` (n, 2) y, x px in tile i, and ``shifts``
    (n, 2), so that ``points - shifts`` is the same place in tile j; ``error`` (n,) px expected of a shift."""

    link: np.ndarray
    points: np.ndarray
    shifts: np.ndarray
    error: np.ndarray

    def spread(self) -> float:
        """Median distance in px of a window's shift from the median of its link."""
        away = self.shifts.copy()
        for link in np.unique(self.link):
            away[self.link == link] -= np.median(away[self.link == link], axis=0)
        return float(np.median(np.linalg.norm(away, axis=1))) if len(away) else 0.0

    def bent(self) -> bool:
        """Whether the shifts differ by more than 0.1 px and clearly more than noise explains."""
        return len(self.link) >= 10 and self.spread() > max(0.1, 3 * float(np.median(self.error)))


@dataclass(frozen=True)
class LensModel:
    """Where a tile's pixels really lie.

    Attributes
    ----------
    shared
        (7, 2) coefficients of D for y and x, px.
    linear
        (N, 2, 2) coefficients of A_i: (tile, y or x of the point, y or x of the displacement), px at the edge.
    shape
        (H, W) of a tile.
    windows
        How many local shifts it was fitted to.
    before, after
        Median deviation of a local shift without and with the model, px.
    """

    shared: np.ndarray
    linear: np.ndarray
    shape: tuple[int, int]
    windows: int
    before: float
    after: float

    def displacement(self, tile: int | np.ndarray, points: np.ndarray) -> np.ndarray:
        """What must be added to ``points`` (n, 2) y, x px of ``tile`` (one, or one each), px."""
        own = np.einsum("...r,...rc->...c", _scaled(points, self.shape), self.linear[tile])
        return _cubics(points, self.shape) @ self.shared + own

    def raw(self, tile: int, rows: tuple[int, int], cols: tuple[int, int], offset: np.ndarray) -> np.ndarray:
        """Where the corrected tile is read: raw coordinates (2, h, w) of its pixels ``offset`` + rows[0] … rows[1] - 1
        and the columns likewise.
        """
        height, width = rows[1] - rows[0], cols[1] - cols[0]
        y, x = (
            np.linspace(a, b - 1, max(2, 1 + -(-(b - a) // NODE))) + o
            for (a, b), o in zip((rows, cols), offset, strict=True)
        )
        target = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
        source = target
        for _ in range(6):  # contracts by the distortion's slope, about 1 %, each time
            source = target - self.displacement(tile, source)
        return from_nodes(np.moveaxis(source.reshape(len(y), len(x), 2), -1, 0), (height, width))

    @property
    def largest(self) -> float:
        """The largest displacement on the border of any tile, px."""
        y, x = (np.linspace(0, n - 1, 9) for n in self.shape)
        points = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
        return max(float(np.linalg.norm(self.displacement(k, points), axis=1).max()) for k in range(len(self.linear)))

    def summary(self) -> dict[str, Any]:
        """Plain numbers for the report."""
        return {
            "largest_px": self.largest,
            "windows": self.windows,
            "local_deviation_before_px": self.before,
            "local_deviation_after_px": self.after,
        }


def _scaled(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Coordinates from -1 to 1 over the tile."""
    return (2 * points - (np.array(shape) - 1)) / np.array(shape)


def _cubics(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Products of Legendre polynomials of degree 2 and 3, (n, 7): they hold no shift and no linear map of a tile."""
    y, x = ([1, v, (3 * v**2 - 1) / 2, (5 * v**3 - 3 * v) / 2] for v in _scaled(points, shape).T)
    return np.stack([y[i] * x[degree - i] for degree in (2, 3) for i in range(degree + 1)], axis=1)


def local_shifts(
    levels: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], factor: int, sigma: float, most: int
) -> LocalShifts:
    """The shifts of windows within overlaps.

    Parameters
    ----------
    levels
        For each link tile i, tile j (reduced by ``factor``, smoothed by ``sigma`` px) and the link's shift in full-size
        px; taken one after the other.
    most
        Windows for a link, at most.
    """
    link, points, shifts, errors = [], [], [], []
    for number, (a, b, shift) in enumerate(levels):
        lag = np.rint(shift / factor).astype(int)
        low, high = np.maximum(0, lag), np.minimum(a.shape, np.array(b.shape) + lag)
        side = np.minimum(np.clip((high - low) // 2, WINDOW // 2, WINDOW), high - low)
        if side.min() < 24:
            continue
        for y, x in _corners(low, high - side, side, most):
            part_a = a[y : y + side[0], x : x + side[1]]
            part_b = b[y - lag[0] : y - lag[0] + side[0], x - lag[1] : x - lag[1] + side[1]]
            found = correlation_peaks(part_a, part_b, np.zeros(2), np.full(2, float(REACH)), 3)
            fit = refine_shift(part_a, part_b, found[0][1], sigma=sigma, tolerance=0.01) if found else None
            if fit is None or fit.correlation < 0.5:
                continue
            known = float(np.linalg.eigvalsh(fit.information)[0])
            if known < 0.3**-2:  # what a window cannot tell to 0.3 px says nothing about the lens
                continue
            link.append(number)
            errors.append(known**-0.5 * factor)
            points.append((np.array([y, x]) + (side - 1) / 2) * factor + (factor - 1) / 2)
            shifts.append((fit.shift + lag) * factor)
    at, moved = (np.array(values, float).reshape(-1, 2) for values in (points, shifts))
    return LocalShifts(np.array(link, int), at, moved, np.array(errors))


def _corners(low: np.ndarray, high: np.ndarray, side: np.ndarray, most: int) -> list[tuple[int, int]]:
    """First pixels of at most ``most`` windows spread evenly from ``low`` to ``high``."""
    room = 2 * (high - low) / side + 1  # windows may overlap by half
    count = np.maximum(1, np.floor(room * min(1.0, np.sqrt(most / room.prod())))).astype(int)
    longer = int(np.argmax(room))
    count[longer] = max(1, min(int(room[longer]), most // int(count[1 - longer])))
    y, x = (
        np.rint(np.linspace(a, b, n)) if n > 1 else [(a + b) // 2] for a, b, n in zip(low, high, count, strict=True)
    )
    return [(int(r), int(c)) for r in y for c in x]


def fit_lens(
    local: LocalShifts, pairs: Sequence[tuple[int, int]], count: int, shape: tuple[int, int]
) -> tuple[LensModel, np.ndarray, np.ndarray]:
    """The model, and for each of ``pairs`` its corrected shift and the inverse variance of that.

    Parameters
    ----------
    local
        Its ``link`` counts in ``pairs``.
    pairs
        Tiles (i, j) of the links.
    count, shape
        Number of tiles, and their (H, W).

    Returns
    -------
    model : LensModel
    shifts : (M, 2) float
        p_j - p_i between corrected tiles, px; NaN for a link with fewer than three windows.
    weight : (M,) float
        px⁻².
    """
    ends = np.asarray(pairs, int)[local.link]
    here, there = local.points, local.points - local.shifts
    rows = np.arange(len(here))
    parts = [sparse.csr_matrix(_cubics(there, shape) - _cubics(here, shape))]
    for axis in (0, 1):
        at_i, at_j = _scaled(here, shape)[:, axis], _scaled(there, shape)[:, axis]
        values, columns = np.concatenate([at_j, -at_i]), np.concatenate([ends[:, 1], ends[:, 0]])
        parts.append(sparse.coo_matrix((values, (np.tile(rows, 2), columns)), (len(rows), count)).tocsr())
    design = sparse.hstack(parts).tocsr()
    terms = parts[0].shape[1]
    member = sparse.csr_matrix((np.ones(len(rows)), (rows, local.link)), (len(rows), len(pairs)))
    shared = _robust(design[:, :terms].tocsr(), np.full(terms, SHARED_PRIOR), local, member)
    expected = np.where(np.arange(design.shape[1]) < terms, SHARED_PRIOR, LINEAR_PRIOR)
    whole = _robust(design, expected, local, member)
    if whole.deviation < 0.8 * shared.deviation:
        solution, best = whole.solution, whole
    else:  # the tiles' own maps explain nothing, and would only carry noise from tile to tile
        solution, best = np.zeros((design.shape[1], 2)), shared
        solution[:terms] = shared.solution
    linear = np.stack([solution[terms : terms + count], solution[terms + count :]], axis=1)
    model = LensModel(solution[:terms], linear, shape, len(rows), local.spread(), best.deviation)
    total = member.T @ best.weights
    sums = member.T @ (best.weights[:, None] * (local.shifts - design @ solution))
    shifts = sums / np.maximum(total, 1e-9)[:, None]
    shifts[np.bincount(local.link, minlength=len(pairs)) < 3] = np.nan
    return model, shifts, total / best.scale**2


class _Fit(NamedTuple):
    solution: np.ndarray
    weights: np.ndarray
    deviation: float
    scale: float


def _robust(design: sparse.csr_matrix, expected: np.ndarray, local: LocalShifts, member: sparse.csr_matrix) -> _Fit:
    """Least squares with Cauchy weights, a free constant for each link, and coefficients near 0 as ``expected``."""
    weights, scale = np.ones(len(local.link)), 1.0
    for _ in range(20):
        # the free constants: design and shifts about their weighted means in each link
        share = sparse.diags(1 / np.maximum(member.T @ weights, 1e-9)) @ member.T @ sparse.diags(weights)
        centred = design - member @ (share @ design)
        away = local.shifts - member @ (share @ local.shifts)
        normal = centred.T @ sparse.diags(weights) @ centred + sparse.diags((scale / expected) ** 2)
        solution = np.asarray(spsolve(normal.tocsc(), centred.T @ (weights[:, None] * away)))
        length = np.linalg.norm(away - centred @ solution, axis=1)
        scale = max(1.48 * float(np.median(length)), 0.02)
        weights = 1 / (1 + (length / (2 * scale)) ** 2)
    return _Fit(solution, weights, float(np.median(length)), scale)
