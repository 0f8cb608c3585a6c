"""The field of an elastic registration by local least squares, coarse to fine, or by a search of all shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from dlm_fiji.registration.block_correlation import block_shifts, spread_by_distance
from dlm_fiji.registration.displacement_search import search_displacement
from dlm_fiji.registration.local_fit import RegionVotes, nodes_to_field, region_votes, solve_plate
from dlm_fiji.registration.subpixel import smooth
from dlm_fiji.registration.warp import Warp, composed

if TYPE_CHECKING:
    from dlm_fiji.registration.elastic import ElasticSettings

__all__ = ["fit_field", "read_through", "search_field"]

BENDING, BENDINGS = 0.03, (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Curvature allowed at first, and those that are tried at last where none is given."""
DOUBT = 25.0
"""By so much (twice a logarithm of likelihoods) must a more flexible field foretell better. On the demo's fields, which
have next to no warp, it seems better by up to 6; on an H&E field warped by 8 px, 18 was still noise."""
SEARCHES = ((10, 3.0, 6, 0.9), (7, 4.0, 5, 3.0))
"""Reach, window, stride and slack of the two searches, in px of their reduced images; chosen on the lung sections of
one lesion, see :meth:`ElasticSettings.sections`."""


def read_through(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The image through a displacement, quickly (bicubic); for measuring, not for output."""
    height, width = image.shape
    rows = displacement[0] + np.arange(height, dtype=np.float32)[:, None]
    cols = displacement[1] + np.arange(width, dtype=np.float32)[None, :]
    return cv2.remap(image, cols, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _inside(displacement: np.ndarray, margin: float = 1.0) -> np.ndarray:
    """1 where the moving image is really read, 0 where its edge was continued."""
    height, width = displacement.shape[1:]
    rows = displacement[0] + np.arange(height, dtype=np.float32)[:, None]
    cols = displacement[1] + np.arange(width, dtype=np.float32)[None, :]
    inside = (rows >= margin) & (rows <= height - 1 - margin) & (cols >= margin) & (cols <= width - 1 - margin)
    return inside.astype(np.float32)


def fit_field(moving: np.ndarray, fixed: np.ndarray, s: ElasticSettings) -> tuple[np.ndarray, int, float]:
    """The displacement, the number of fits, and the median share of the windows' variance that agrees at last."""
    shape = (fixed.shape[0], fixed.shape[1])
    nodes, distance = _grid_of_nodes(shape, s)
    factor = _coarsest(min(shape))
    small_m, small_f = (_reduced(image, factor) for image in (moving, fixed))
    coarse, count = _first_guess(small_m, small_f, s, factor)
    field = _at_nodes(coarse, nodes) * factor
    bending = s.bending or BENDING
    while True:
        level = _Level(moving, fixed, factor, distance, s)
        field, fits = level.fitted(field, bending)
        count += fits
        if factor <= s.finest:
            break
        factor //= 2
    if s.bending is None:
        chosen = level.foretelling(field)
        if chosen != bending:
            field, fits = level.fitted(field, chosen)
            count += fits
    return nodes_to_field(field, shape), count, float(np.median(level.votes(field).agreement))


def _grid_of_nodes(shape: tuple[int, int], s: ElasticSettings) -> tuple[tuple[int, int], tuple[float, float]]:
    """Nodes (h, w) of the field, and their distances, px."""
    spacing = s.spacing or float(np.clip(min(shape) / 32, 6, 16))
    nodes = (max(4, round(shape[0] / spacing)), max(4, round(shape[1] / spacing)))
    return nodes, (shape[0] / nodes[0], shape[1] / nodes[1])


class _Level:
    """A pair reduced by ``factor``, and the fit of a field (2, h, w), in px of the full size, to it."""

    def __init__(
        self, moving: np.ndarray, fixed: np.ndarray, factor: int, distance: tuple[float, float], s: ElasticSettings
    ) -> None:
        self.moving, self.fixed = (smooth(_reduced(image, factor), s.sigma) for image in (moving, fixed))
        self.factor, self.distance, self.s = factor, distance, s

    def votes(self, field: np.ndarray, part: np.ndarray | float = 1.0) -> RegionVotes:
        """What the windows say with ``field`` applied; of the pixels with weights ``part`` only."""
        displacement = nodes_to_field(field / self.factor, (self.fixed.shape[0], self.fixed.shape[1]))
        votes = region_votes(
            read_through(self.moving, displacement),
            self.fixed,
            (field.shape[1], field.shape[2]),
            valid=_inside(displacement) * np.float32(part),
            sigma=self.s.sigma,
            # windows overlap widely while the image is small, and narrow down with it
            spread=max(1.0, 4.0 * self.factor / self.distance[0]),
            model_error=self.s.model_error,
        )
        return RegionVotes(votes.information / self.factor**2, votes.pull / self.factor, votes.agreement)

    def fitted(self, field: np.ndarray, bending: float) -> tuple[np.ndarray, int]:
        """The field after at most ``iterations`` fits, and their number."""
        last_step, count = np.inf, 0
        while count < self.s.iterations:
            new = solve_plate(self.votes(field), field, self.distance, bending)
            step = float(np.sqrt(((new - field) ** 2).sum(axis=0).mean()))
            # a step as long as the last one swings to and fro: half of it ends that
            field = new if step < 0.7 * last_step else 0.5 * (field + new)
            last_step = step
            count += 1
            if step < 0.01 * self.factor:
                break
        return field, count

    def foretelling(self, field: np.ndarray, keep: bool = False) -> float:
        """The stiffest bending by which each half of the pixels foretells the other half about as well as by any.

        With ``keep`` 0 is possible too: ``field`` as it is foretells clearly better than any.

        The halves are the fields of a chessboard, two nodes wide, so that the noise of each is its own. Where the
        pair needs no field, a flexible one would follow that noise.
        """
        parity = [np.arange(n) * m // (2 * n) for n, m in zip(self.fixed.shape, field.shape[1:], strict=True)]
        board = ((parity[0][:, None] + parity[1][None, :]) % 2).astype(np.float32)
        # smoothing shares noise across an edge
        margin = int(min(2 * self.s.sigma, 0.5 * min(self.distance) / self.factor))
        apart = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
        halves = [self.votes(field, cv2.erode(part, apart)) for part in (board, 1 - board)]
        best, least = (0.0, 2 * DOUBT) if keep else (BENDINGS[0], np.inf)
        for bending in BENDINGS:
            missed = 0.0
            for half, other in (halves, halves[::-1]):
                y, x = solve_plate(half, field, self.distance, bending) - field
                yy, yx, xx = other.information
                missed += float((yy * y * y + 2 * yx * y * x + xx * x * x).sum())
                missed -= 2 * float((other.pull[0] * y + other.pull[1] * x).sum())
            if missed < least - DOUBT:
                best, least = bending, missed
        return best


def search_field(moving: np.ndarray, fixed: np.ndarray, s: ElasticSettings) -> tuple[np.ndarray, int, float]:
    """The displacement by two searches and, where the details agree, a fit; their number; and 0, as no share is known.

    Each search is done there and back, and the mean of both taken: what one says by chance the other does not.
    """
    shape = (fixed.shape[0], fixed.shape[1])
    factor = _coarsest(min(shape))
    displacement = np.zeros((2, *shape), np.float32)
    count = 0
    for reach, window, stride, slack in SEARCHES[: 1 if factor == 1 else 2]:
        a, b = (smooth(_reduced(image, factor), s.sigma) for image in (moving, fixed))
        current = read_through(a, _on_grid(displacement, 1 / factor, (b.shape[0], b.shape[1])))
        if s.max_shift is not None:
            reach = max(2, min(reach, round(s.max_shift / factor)))
        there, back = (
            search_displacement(m, f, reach, window=window, stride=stride, slack=slack)
            for m, f in ((current, b), (b, current))
        )
        step = 0.5 * (there + Warp(back).inverse().displacement)
        displacement = composed(displacement, _on_grid(step, factor, shape))
        count += 1
        factor = max(1, factor // 2)
    nodes, distance = _grid_of_nodes(shape, s)
    field = _at_nodes(displacement, nodes)
    fits = 0
    while factor >= s.finest:
        level = _Level(moving, fixed, factor, distance, s)
        bending = level.foretelling(field, keep=True)
        if bending == 0:
            break
        field, fits = level.fitted(field, s.bending or bending)
        count += fits
        factor //= 2
    return nodes_to_field(field, shape) if fits else displacement, count, 0.0


def _at_nodes(displacement: np.ndarray, nodes: tuple[int, int]) -> np.ndarray:
    """The mean displacement (2, h, w) about each node."""
    layers = [cv2.resize(layer, (nodes[1], nodes[0]), interpolation=cv2.INTER_AREA) for layer in displacement]
    return np.stack(layers).astype(float)


def _on_grid(displacement: np.ndarray, factor: float, shape: tuple[int, int]) -> np.ndarray:
    """A displacement for images of ``factor`` times the size, of ``shape``; pixels' outer edges stay in place."""
    rows, cols = (((np.arange(n) + 0.5) / factor - 0.5).astype(np.float32) for n in shape)
    at = np.broadcast_to(cols[None, :], shape), np.broadcast_to(rows[:, None], shape)
    if factor < 1:
        size = round(1 / factor)
        displacement = np.stack([cv2.blur(layer, (size, size)) for layer in displacement])
    layers = [cv2.remap(layer, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for layer in displacement]
    return np.stack(layers) * np.float32(factor)


def _coarsest(side: int) -> int:
    factor = 1
    while side / (2 * factor) >= 128:
        factor *= 2
    return factor


def _first_guess(moving: np.ndarray, fixed: np.ndarray, s: ElasticSettings, factor: int) -> tuple[np.ndarray, int]:
    """Large shifts, by block correlation on images reduced by ``factor``; (2, h, w) in their pixels."""
    grid = (fixed.shape[0], fixed.shape[1])
    coarse = np.zeros((2, *grid), np.float32)
    reach = None if s.max_shift is None else max(2.0, s.max_shift / factor)
    shares = (2, 4)
    for share in shares:
        block = (max(16, grid[0] // share), max(16, grid[1] // share))
        blocks = block_shifts(
            read_through(moving, coarse), fixed, block, (block[0] // 2, block[1] // 2), max_shift=reach, polarity=0
        )
        sure = max(0.15, 0.5 * float(np.abs(blocks.similarity).max()))
        coarse = composed(coarse, spread_by_distance(blocks, grid, sure))
    return coarse, len(shares)


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return image
    size = (-(-image.shape[1] // factor), -(-image.shape[0] // factor))
    padded = np.pad(
        image,
        ((0, size[1] * factor - image.shape[0]), (0, size[0] * factor - image.shape[1])),
        mode="symmetric",
    )
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
