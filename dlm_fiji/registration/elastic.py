"""Elastic registration of a pair: from large blocks to small ones, each iteration correcting what the last
one left.

Every iteration measures the shift of many small regions, makes a dense translation map of them, and composes
it with the warp so far; the moving image is always read once, through the whole warp. The papers' schedules
(002: blocks of 256 px shrinking to 64; 004: 5, 7, 9 … blocks a side down to 50 px) measure by block-wise
cross-correlation after NanoJ. The default starts the same way, to catch large shifts, and finishes by a
local least-squares fit (:mod:`~dlm_fiji.registration.local_fit`), which has no whole-pixel peak to lock on
to and follows brightness changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal, Self

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration.block_correlation import block_shifts, spread_by_distance
from dlm_fiji.registration.global_alignment import optical_density, tissue
from dlm_fiji.registration.local_fit import RegionVotes, nodes_to_field, region_votes, solve_plate
from dlm_fiji.registration.subpixel import smooth
from dlm_fiji.registration.tiles import to_grey
from dlm_fiji.registration.warp import Warp, composed
from dlm_fiji.settings import Settings, setting

__all__ = ["ElasticSettings", "register_elastic"]

AGREEMENT, CORRELATION = 0.1, 0.12
"""Below both a fitted pair does not show one field. Unrelated images reach 0.05 and 0.09, one field under noise of
twice its contrast 0.4 and 0.2, lung sections in unlike stains 0.05 and 0.2."""


class ElasticSettings(Settings):
    """How a pair is registered elastically."""

    schedule: Literal["fit", "shrinking-blocks", "growing-count"] = setting(
        "fit", "fit: blocks first, then local least squares; shrinking-blocks: 002; growing-count: 004"
    )
    first_block: int = setting(256, "Block side at the start", unit="px", ge=16, source="002")
    last_block: int = setting(64, "Block side at the end", unit="px", ge=8, source="002: 64; 004: 50")
    shrink: float = setting(1.2, "Blocks shrink by this factor", gt=1, source="002")
    repeats: int = setting(5, "Iterations before the blocks shrink", ge=1, source="002")
    tolerance: float = setting(
        0.2, "Iterations at one size end when no block moves by more", unit="px", gt=0, source="002"
    )
    first_count: int = setting(5, "Blocks along a side at the start, then two more each time", ge=1, source="004")
    min_similarity: float = setting(
        0.5, "Blocks that correlate less have no vote", ge=0, le=1, source="NanoJ's default"
    )
    max_shift: float | None = setting(
        None, "Largest shift looked for, by default a third of the block", unit="px", gt=0
    )
    spacing: float | None = setting(
        None,
        "Distance of the nodes of the fitted field, by default 1/32 of the shorter side, 6 to 16",
        unit="px",
        ge=2,
    )
    bending: float = setting(
        0.03, "Curvature allowed to the fitted field: larger follows finer warps, smaller resists noise", gt=0
    )
    iterations: int = setting(10, "Fits a level, at most", ge=1)
    sigma: float = setting(1.0, "Gaussian smoothing before measuring", unit="px", ge=0)
    finest: int = setting(1, "Reduction of the images at the last level of the fit: 1 is the full size", ge=1)
    model_error: float = setting(
        0.02, "Share of the local variance that the two images need not have in common", ge=0, le=1
    )
    contrast: Literal["intensity", "density", "tissue"] = setting(
        "intensity", "What is compared: grey values, optical density, or where tissue is, however strong its stain"
    )
    channel: int | None = setting(None, "Reference channel; by default grey", ge=0)

    @classmethod
    def paper(cls, paper: Literal["002", "004"] = "002", **changes: Any) -> Self:
        """The schedule of a paper: ``"002"`` (fluorescence) or ``"004"`` (smartphone)."""
        if paper == "004":
            values: dict[str, Any] = {
                "schedule": "growing-count",
                "first_count": 5,
                "last_block": 50,
                "repeats": 1,
            }
        else:
            values = {
                "schedule": "shrinking-blocks",
                "first_block": 256,
                "last_block": 64,
                "shrink": 1.2,
                "repeats": 5,
            }
        return cls.of(None, **({"sigma": 0.0, "tolerance": 0.2} | values | changes))

    @classmethod
    def sections(cls, **changes: Any) -> Self:
        """For serial sections in different stains, after :func:`align_global`: where tissue is, coarse and stiff.

        Tissue rather than density because there and back it agrees better with itself (lung sections in two pairs of
        stains: 1.3 and 6 px on average, density 6 and 25).
        """
        values = {"contrast": "tissue", "sigma": 2.0, "finest": 2, "model_error": 0.1, "spacing": 24.0, "bending": 0.1}
        return cls.of(None, **(values | changes))


def register_elastic(
    moving: np.ndarray, fixed: np.ndarray, settings: ElasticSettings | None = None, **changes: Any
) -> Warp:
    """The warp that lays ``moving`` on ``fixed``.

    Parameters
    ----------
    moving, fixed
        (H, W) or (H, W, C) of one size, globally matched; any range, contrast may differ or be inverted.
    settings, **changes
        :class:`ElasticSettings` or its fields.

    Returns
    -------
    Warp
        aligned(p) = moving(p + displacement(p)); ``record`` holds the correlation before and after.

    Raises
    ------
    InputError
        Sizes differ, an image is empty or constant, or no region of the two agrees.
    """
    s = ElasticSettings.of(settings, **changes)
    started = time.perf_counter()
    a, b = _prepared(moving, "moving", s), _prepared(fixed, "fixed", s)
    if a.shape != b.shape:
        raise InputError(f"The pair has different sizes: moving {a.shape} px, fixed {b.shape} px.")
    if min(a.shape) < 32:
        raise InputError(
            f"Images of {a.shape[0]} x {a.shape[1]} px are too small to register; at least 32 x 32 is needed."
        )
    before = _correlation(a, b)
    if s.schedule == "fit":
        displacement, count, agreement = _by_fit(a, b, s)
    else:
        displacement, count = _by_blocks(a, b, s)  # refuses by itself
        agreement = 1.0
    after = _correlation(_warped(a, displacement), b)
    if s.schedule == "fit" and agreement < AGREEMENT and abs(after) < CORRELATION:
        raise InputError(
            f"Nothing in the two images agrees (correlation {after:.2f}, half of the windows share less than "
            f"{100 * agreement:.0f} % of their variance): the pair does not seem to be the same field."
        )
    record = {
        "schedule": s.schedule,
        "iterations": count,
        "correlation_before": before,
        "correlation_after": after,
        "seconds": time.perf_counter() - started,
    }
    warp = Warp(displacement, record=record)
    warp.check()
    return warp


def _prepared(image: np.ndarray, which: str, s: ElasticSettings) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(f"The {which} image must be (H, W) or (H, W, C), not {image.shape}.")
    by_stain = {"density": optical_density, "tissue": tissue}
    grey = by_stain[s.contrast](image) if s.contrast in by_stain else to_grey(image, s.channel)
    if not np.isfinite(grey).all():
        raise InputError(f"The {which} image has values that are not finite.")
    spread = float(grey.std())
    if spread == 0:
        raise InputError(f"The {which} image is constant: there is nothing to register.")
    return (grey - grey.mean()) / np.float32(spread)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _warped(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
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


def _schedule(shape: tuple[int, int], s: ElasticSettings) -> Iterator[tuple[int, int]]:
    """The block sizes (y, x) of the papers' schedules, largest first."""
    if s.schedule == "growing-count":
        count = s.first_count
        while True:
            block = (shape[0] // count, shape[1] // count)
            if min(block) < s.last_block:
                if count == s.first_count:
                    yield block
                return
            yield block
            count += 2
    side = float(min(s.first_block, *shape))
    while side > s.last_block:
        yield round(side), round(side)
        side /= s.shrink
    yield s.last_block, s.last_block


def _by_blocks(moving: np.ndarray, fixed: np.ndarray, s: ElasticSettings) -> tuple[np.ndarray, int]:
    shape = (fixed.shape[0], fixed.shape[1])
    moving, fixed = smooth(moving, s.sigma), smooth(fixed, s.sigma)
    displacement = np.zeros((2, *shape), np.float32)
    count = 0
    for block in _schedule(shape, s):
        for _ in range(s.repeats):
            current = _warped(moving, displacement) if count else moving
            blocks = block_shifts(current, fixed, block, max_shift=s.max_shift)
            voting = np.abs(blocks.similarity) >= s.min_similarity
            if not voting.any():
                if count == 0:
                    raise InputError(
                        f"No block of {block[0]} x {block[1]} px correlates above {s.min_similarity:.2f} "
                        f"(best {np.abs(blocks.similarity).max():.2f}): the pair does not seem to be the same field, "
                        f"or lies more than {s.max_shift or min(block) / 3:.0f} px apart; align it globally first."
                    )
                break
            displacement = composed(displacement, spread_by_distance(blocks, shape, s.min_similarity))
            count += 1
            if np.abs(blocks.shifts[voting]).max() < s.tolerance:
                break
    return displacement, count


def _by_fit(moving: np.ndarray, fixed: np.ndarray, s: ElasticSettings) -> tuple[np.ndarray, int, float]:
    """The displacement, the number of fits, and the median share of the windows' variance that agrees at last."""
    shape = (fixed.shape[0], fixed.shape[1])
    side = min(shape)
    spacing = s.spacing or float(np.clip(side / 32, 6, 16))
    nodes = (max(4, round(shape[0] / spacing)), max(4, round(shape[1] / spacing)))
    factor = 1
    while side / (2 * factor) >= 128:
        factor *= 2
    small_m, small_f = (_reduced(image, factor) for image in (moving, fixed))
    coarse, count = _first_guess(small_m, small_f, s, factor)
    field = np.stack([cv2.resize(layer, (nodes[1], nodes[0]), interpolation=cv2.INTER_AREA) for layer in coarse])
    field = field.astype(float) * factor
    distance = (shape[0] / nodes[0], shape[1] / nodes[1])
    while True:
        level_m, level_f = (smooth(_reduced(image, factor), s.sigma) for image in (moving, fixed))
        grid = (level_f.shape[0], level_f.shape[1])
        last_step = np.inf
        for _ in range(s.iterations):
            displacement = nodes_to_field(field / factor, grid)
            current = _warped(level_m, displacement)
            # windows overlap widely while the image is small, and narrow down with it
            spread = max(1.0, 4.0 * factor / distance[0])
            votes = region_votes(
                current,
                level_f,
                nodes,
                valid=_inside(displacement),
                sigma=s.sigma,
                spread=spread,
                model_error=s.model_error,
            )
            new = solve_plate(_in_full_pixels(votes, factor), field, distance, s.bending)
            step = float(np.sqrt(((new - field) ** 2).sum(axis=0).mean()))
            # a step as long as the last one swings to and fro: half of it ends that
            field = new if step < 0.7 * last_step else 0.5 * (field + new)
            last_step = step
            count += 1
            if step < 0.01 * factor:
                break
        if factor <= s.finest:
            break
        factor //= 2
    return nodes_to_field(field, shape), count, float(np.median(votes.agreement))


def _in_full_pixels(votes: RegionVotes, factor: int) -> RegionVotes:
    """Votes measured on an image reduced by ``factor``, for shifts counted in full-size pixels."""
    return RegionVotes(votes.information / factor**2, votes.pull / factor, votes.agreement)


def _first_guess(moving: np.ndarray, fixed: np.ndarray, s: ElasticSettings, factor: int) -> tuple[np.ndarray, int]:
    """Large shifts, by block correlation on images reduced by ``factor``; (2, h, w) in their pixels."""
    grid = (fixed.shape[0], fixed.shape[1])
    coarse = np.zeros((2, *grid), np.float32)
    reach = None if s.max_shift is None else max(2.0, s.max_shift / factor)
    shares = (2, 4)
    for share in shares:
        block = (max(16, grid[0] // share), max(16, grid[1] // share))
        blocks = block_shifts(
            _warped(moving, coarse), fixed, block, (block[0] // 2, block[1] // 2), max_shift=reach, polarity=0
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
