"""From pairwise shifts to one position for every tile: robust weighted least squares.

Each link says p_j - p_i = s_ij with an information matrix W_ij (the inverse of its covariance), so a link
along a smooth edge counts across the edge only. The positions minimise Σ w_ij (p_j - p_i - s_ij)ᵀ W_ij (p_j
- p_i - s_ij), with w_ij a Cauchy weight (iteratively reweighted) so that one wrong link cannot bend its
neighbours. Links that then disagree are removed one at a time, worst first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

__all__ = ["connected", "fit_stage", "solve_positions"]


def connected(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The number of the connected group of each tile; group 0 is the largest."""
    if not pairs:
        return np.arange(count)
    i, j = np.array(pairs).T
    _, label = connected_components(sparse.coo_matrix((np.ones(len(i)), (i, j)), (count, count)), directed=False)
    order = np.argsort(-np.bincount(label), kind="stable")
    return np.argsort(order)[label]


def _least_squares(
    count: int, pairs: np.ndarray, shifts: np.ndarray, information: np.ndarray, stage: np.ndarray, tie: float
) -> np.ndarray:
    """Positions (count, 2): links, and a faint tie of every tile to ``stage`` that decides only what no link
    does.
    """
    i, j = pairs.T
    blocks = np.arange(2)
    rows, cols, values = [], [], []
    for first, second, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
        for r in blocks:
            for c in blocks:
                rows.append(2 * first + r)
                cols.append(2 * second + c)
                values.append(sign * information[:, r, c])
    diagonal = np.arange(2 * count)
    rows.append(diagonal)
    cols.append(diagonal)
    values.append(np.full(2 * count, tie))
    matrix = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), (2 * count, 2 * count)
    ).tocsc()
    pull = np.einsum("nrc,nc->nr", information, shifts)
    right = tie * stage.copy()
    np.add.at(right, j, pull)
    np.add.at(right, i, -pull)
    return spsolve(matrix, right.ravel()).reshape(count, 2)


def solve_positions(
    count: int,
    pairs: Sequence[tuple[int, int]],
    shifts: np.ndarray,
    information: np.ndarray,
    stage: np.ndarray,
    *,
    floor: float = 0.05,
    outlier: float = 0.5,
    spread: float = 5.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of all tiles, which links were used, and how far each link disagrees.

    Parameters
    ----------
    count
        Number of tiles.
    pairs, shifts, information
        The links: (i, j), p_j - p_i (M, 2) px, and the inverse covariance (M, 2, 2) px⁻².
    stage
        Nominal positions (count, 2) px.
    floor
        Error in px that even the best link is taken to have (distortion, interpolation).
    outlier, spread
        A link is dropped when its residual exceeds the larger of ``outlier`` px and ``spread`` times the
        robust scatter of all residuals.

    Returns
    -------
    positions : (count, 2) float
    used : (M,) bool
    residual : (M,) float
        Length of p_j - p_i - s_ij in px at the solution, for dropped links too.
    """
    used = np.ones(len(pairs), dtype=bool)
    if not len(pairs):
        return stage.astype(float).copy(), used, np.zeros(0)
    index = np.asarray(pairs, dtype=int)
    covariance = np.linalg.pinv(information + 1e-9 * np.eye(2))
    # Who is wrong is decided by the majority, not by the boldest: dirt that sits on the camera agrees with
    # itself perfectly. So the links count almost alike while outliers are removed, and by their precision
    # afterwards.
    even = np.linalg.inv(covariance + max(floor, outlier) ** 2 * np.eye(2))
    while True:
        positions, length = _robust(count, index, shifts, even, stage, used)
        limit = max(outlier, spread * 1.4826 * float(np.median(length[used])))
        worst = int(np.argmax(np.where(used, length, -1)))
        if length[worst] <= limit:
            break
        used[worst] = False
        if not used.any():
            return stage.astype(float).copy(), used, length
    precise = np.linalg.inv(covariance + floor**2 * np.eye(2))
    positions, length = _robust(count, index, shifts, precise, stage, used)
    return positions, used, length


def _robust(
    count: int, index: np.ndarray, shifts: np.ndarray, weight: np.ndarray, stage: np.ndarray, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions by iteratively reweighted least squares over the used links, and every link's residual in
    px.
    """
    tie = 1e-7 * float(np.median(np.trace(weight, axis1=1, axis2=2)))
    cauchy = np.ones(len(index))
    for _ in range(20):
        scaled = weight[used] * cauchy[used, None, None]
        positions = _least_squares(count, index[used], shifts[used], scaled, stage, tie)
        error = positions[index[:, 1]] - positions[index[:, 0]] - shifts
        distance = np.einsum("nr,nrc,nc->n", error, weight, error)
        scale = max(1.0, 2.0 * float(np.median(distance[used])))
        new = 1 / (1 + distance / (4 * scale))
        settled = np.abs(new - cauchy).max() < 1e-3
        cauchy = new
        if settled:
            break
    return positions, np.linalg.norm(error, axis=1)


def fit_stage(stage: np.ndarray, positions: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """The nominal positions, carried over by the affine map that fits the trusted tiles: step, shear,
    rotation.

    With fewer than three trusted tiles, or all on one line, only what they determine is changed.
    """
    if not trusted.any():
        return stage.astype(float).copy()
    source, target = stage[trusted], positions[trusted]
    centre, aim = source.mean(axis=0), target.mean(axis=0)
    offset = (target - aim) - (source - centre)
    away = source - centre
    # ridge towards "the stage is right": a direction without spread keeps its nominal step
    ridge = 1e-3 * max(float((away**2).sum()), 1.0)
    matrix = np.linalg.solve(away.T @ away + ridge * np.eye(2), away.T @ offset)
    return (stage - centre) @ (np.eye(2) + matrix) + aim
