"""NanoJ-Core's elastic registration by block-wise cross-correlation, and its drift (Laine et al. 2019,
doi:10.1088/1361-6463/ab0261).

Its menu commands do not load headless; the classes behind them do, and are called here.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.fiji.convert import from_processor, to_processor
from dlm_fiji.fiji.macro import captured_output
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class
from dlm_fiji.registration import Drift, ElasticSettings, Warp
from dlm_fiji.registration.tiles import to_grey

__all__ = ["available", "correlation_shift", "drift", "register_blocks", "register_elastic"]

#: Settings of the native engine that the papers' block schedules on NanoJ do not have.
NATIVE_ONLY = ("spacing", "bending", "iterations")


def available() -> Availability:
    """Whether this ImageJ has the plugin, its version, and how to install it."""
    return plugins_available()["nanoj"]


def register_blocks(
    moving: np.ndarray,
    fixed: np.ndarray,
    blocks: int = 5,
    *,
    max_shift: float | None = None,
    min_similarity: float = 0.5,
    channel: int | None = None,
) -> Warp:
    """One run of NanoJ: the shift of ``blocks`` × ``blocks`` blocks, spread over the image.

    Parameters
    ----------
    moving, fixed
        (H, W) or (H, W, C) of one size.
    blocks
        Blocks along a side; NanoJ's default is 5.
    max_shift
        Largest shift looked for, px; None lets NanoJ decide.
    min_similarity
        Blocks that correlate less have no vote.
    channel
        Reference channel, by default grey.

    Returns
    -------
    Warp
        aligned(p) = moving(p + displacement(p)).

    Raises
    ------
    SetupError
        The plugin is not there.
    InputError
        The sizes differ, or no block agrees.
    """
    plugin = require("nanoj")
    a, b = to_grey(np.asarray(moving), channel), to_grey(np.asarray(fixed), channel)
    _check_pair(a, b)
    started = time.perf_counter()
    displacement = _translation_mask(a, b, blocks, max_shift, min_similarity)
    record = {"blocks": blocks, "seconds": time.perf_counter() - started}
    return Warp(displacement, engine=_engine(plugin), record=record)


def register_elastic(
    moving: np.ndarray, fixed: np.ndarray, settings: ElasticSettings | None = None, **changes: Any
) -> Warp:
    """The papers' iterated pyramid of blocks, each iteration measured by NanoJ.

    Parameters
    ----------
    moving, fixed
        (H, W) or (H, W, C) of one size.
    settings, **changes
        :class:`~dlm_fiji.registration.ElasticSettings` with ``schedule`` ``"shrinking-blocks"`` (002; the default
        here) or ``"growing-count"`` (004).

    Returns
    -------
    Warp
        The composed warp; the moving image is read once, through the whole of it.

    Raises
    ------
    SetupError
        The plugin is not there.
    ConfigurationError
        A setting was given that this engine does not have (the local least-squares fit is native only).
    InputError
        The sizes differ, or no block agrees.
    """
    plugin = require("nanoj")
    if settings is None and "schedule" not in changes:
        changes["schedule"] = "shrinking-blocks"
    s = ElasticSettings.of(settings, **changes)
    _refuse_native_only(s)
    a, b = to_grey(np.asarray(moving), s.channel), to_grey(np.asarray(fixed), s.channel)
    _check_pair(a, b)
    started = time.perf_counter()
    total = Warp.identity(a.shape)
    count = 0
    for blocks, repeats in _rounds(a.shape, s):
        for _ in range(repeats):
            step = Warp(_translation_mask(total.apply(a), b, blocks, s.max_shift, s.min_similarity))
            total = total.compose(step)
            count += 1
            if np.abs(step.displacement).max() < s.tolerance:
                break
    record = {
        "schedule": s.schedule,
        "iterations": count,
        "correlation_before": _correlation(a, b),
        "correlation_after": _correlation(total.apply(a), b),
        "seconds": time.perf_counter() - started,
    }
    return Warp(total.displacement, engine=_engine(plugin), record=record)


def drift(a: np.ndarray, b: np.ndarray, *, max_shift: float | None = None, channel: int | None = None) -> Drift:
    """The displacement of ``b`` against ``a`` by NanoJ's drift estimation: b(p + shift) shows what a(p) shows.

    Parameters
    ----------
    a, b
        (H, W) or (H, W, C) of one size.
    max_shift
        Largest drift looked for, px; None looks everywhere.
    channel
        Reference channel, by default grey.

    Raises
    ------
    SetupError
        The plugin is not there.
    InputError
        The sizes differ, or an image is constant.
    """
    require("nanoj")
    first, second = to_grey(np.asarray(a), channel), to_grey(np.asarray(b), channel)
    _check_pair(first, second)
    y, x = correlation_shift(first, second, max_shift)
    found = Drift((-y, -x), 0.0)
    margin = int(np.ceil(max(abs(y), abs(x)))) + 1
    inner = (slice(margin, -margin),) * 2
    overlap = first[inner], found.apply(second)[inner]
    return Drift(found.shift, _correlation(*overlap) if overlap[0].size > 1 else float("nan"))


def correlation_shift(reference: np.ndarray, image: np.ndarray, max_shift: float | None = None) -> tuple[float, float]:
    """By how many pixels (y, x) NanoJ would move ``image`` onto ``reference``: the peak of its correlation map."""
    maps = java_class("nanoj.core.java.image.transform.CrossCorrelationMap")
    peak = java_class("nanoj.core.java.image.drift.EstimateShiftAndTilt")
    with captured_output():
        correlation = maps.calculateCrossCorrelationMap(to_processor(reference), to_processor(image), True)
        if max_shift is not None:
            correlation = maps.cropCCM(correlation, int(np.ceil(max_shift)))
        _, x, y, _ = peak.getShiftFromCrossCorrelationPeak(correlation, peak.MAX_FITTING)
    return float(y), float(x)


def _rounds(shape: tuple[int, ...], s: ElasticSettings) -> list[tuple[int, int]]:
    """(blocks along a side, iterations at most), from coarse to fine."""
    side = min(shape)
    counts: list[tuple[int, int]] = []
    if s.schedule == "growing-count":
        count = s.first_count
        while side / count >= s.last_block or not counts:
            counts.append((count, s.repeats))
            count += 2
        return counts
    sizes = [float(min(s.first_block, side))]
    while sizes[-1] / s.shrink >= s.last_block:
        sizes.append(sizes[-1] / s.shrink)
    for size in sizes:
        blocks = max(1, round(side / size))
        if not counts or counts[-1][0] != blocks:
            counts.append((blocks, s.repeats))
    return counts


def _translation_mask(
    moving: np.ndarray, fixed: np.ndarray, blocks: int, max_shift: float | None, min_similarity: float
) -> np.ndarray:
    """NanoJ's mask as (2, H, W): dy, dx."""
    if blocks < 1 or min(moving.shape) // blocks < 8:
        raise ConfigurationError(f"{blocks} blocks a side leave less than 8 px of an image of {moving.shape} px.")
    elastic = java_class("nanoj.core.java.image.registration.CrossCorrelationElastic")
    limit = 0 if max_shift is None else round(max_shift)
    try:
        masks = elastic.calculateTranslationMask(
            to_processor(moving), to_processor(fixed), int(blocks), int(limit), float(min_similarity)
        )
    except Exception as error:
        raise InputError(f"NanoJ could not register the pair: {str(error).splitlines()[0]}.") from error
    mask = None if masks is None else from_processor(masks[0])
    if mask is None or not np.isfinite(mask).all():
        raise InputError(f"NanoJ found no block of the pair that agrees by {min_similarity}; are they the same field?")
    width = moving.shape[1]
    return np.stack([mask[:, width:], mask[:, :width]])


def _refuse_native_only(s: ElasticSettings) -> None:
    if s.schedule in ("fit", "search"):
        raise ConfigurationError(
            f"NanoJ has no schedule '{s.schedule}'; use 'shrinking-blocks', 'growing-count', or engine='native'."
        )
    defaults = ElasticSettings()
    for name in NATIVE_ONLY:
        if getattr(s, name) != getattr(defaults, name):
            raise ConfigurationError(f"NanoJ has no setting {name!r}; leave it out or use engine='native'.")


def _check_pair(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InputError(f"The pair has different sizes: moving {a.shape} px, fixed {b.shape} px.")
    for which, image in (("moving", a), ("fixed", b)):
        if not np.isfinite(image).all() or image.std() == 0:
            raise InputError(f"The {which} image is constant or not finite: there is nothing to register.")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _engine(plugin: Availability) -> str:
    return f"Fiji, NanoJ-Core {plugin.version or '(version unknown)'}"
