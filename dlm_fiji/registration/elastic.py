"""Elastic registration of a pair: from large blocks to small ones, each iteration correcting what the last
one left.

Every iteration measures the shift of many small regions, makes a dense translation map of them, and composes
it with the warp so far; the moving image is always read once, through the whole warp. The papers' schedules
(002: blocks of 256 px shrinking to 64; 004: 5, 7, 9 … blocks a side down to 50 px) measure by block-wise
cross-correlation after NanoJ. The default starts the same way, to catch large shifts, and finishes by a
local least-squares fit (:mod:`~dlm_fiji.registration.local_fit`), which has no whole-pixel peak to lock on
to and follows brightness changes; how flexible its field may be, the pair itself says. Sections whose details
differ are searched instead (:mod:`~dlm_fiji.registration.displacement_search`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np

from dlm_fiji.allocation import kept_memory
from dlm_fiji.errors import InputError
from dlm_fiji.registration.block_correlation import block_shifts, spread_by_distance
from dlm_fiji.registration.elastic_fit import fit_field, read_through, search_field
from dlm_fiji.registration.global_alignment import optical_density, tissue
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

    schedule: Literal["fit", "search", "shrinking-blocks", "growing-count"] = setting(
        "fit",
        "fit: blocks first, then local least squares; search: all shifts of all windows, then a fit where details "
        "agree; shrinking-blocks: 002; growing-count: 004",
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
    bending: float | None = setting(
        None,
        "Curvature allowed to the fitted field: larger follows finer warps, smaller resists noise; by default the "
        "smallest by which each half of the pixels foretells the other half",
        gt=0,
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
        """For serial sections in different stains, after :func:`align_global`: a search for where tissue is.

        Reach, windows and slack of the search were chosen on the lung sections of one lesion (three stains, three
        pairs with 80 landmarks: mean error 6.4, 11.8 and 7.9 px; their affine fit 8.2, 12.9 and 10.7); there is no
        other such pair to check them on. With the same settings a lung and a breast field, their stains changed by
        computation, come back from a warp of 25 px to 0.07 and 0.12 px on average.
        """
        values = {"schedule": "search", "contrast": "tissue"}
        return cls.of(None, **(values | changes))


@kept_memory()
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
    if s.schedule in ("fit", "search"):
        displacement, count, agreement = (fit_field if s.schedule == "fit" else search_field)(a, b, s)
    else:
        displacement, count = _by_blocks(a, b, s)  # refuses by itself
        agreement = 1.0
    after = _correlation(read_through(a, displacement), b)
    if agreement < AGREEMENT and abs(after) < CORRELATION:
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
            current = read_through(moving, displacement) if count else moving
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
