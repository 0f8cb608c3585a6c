"""Which backend and tile are fastest on this CPU: measured once for an architecture, then remembered.

Backends agree to 1e-4 of the value range and tiles to 1e-5, so a choice is seen in the time only.
``python -m dlm_fiji doctor`` shows what is remembered, its ``--measure MODEL`` measures again.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.allocation import kept_memory
from dlm_fiji.errors import DlmError
from dlm_fiji.inference.backends import Engine, available_backends, choose_engine, device_of, make_engine
from dlm_fiji.inference.inference_settings import InferenceSettings
from dlm_fiji.inference.measured_speed import Measurement, conditions, recall, remember
from dlm_fiji.inference.model_files import Model
from dlm_fiji.inference.tile_sizes import TILES, default_tile, fits, useful_part

__all__ = ["Choice", "choose", "measure"]

WORTH = 50_000_000
"""Input pixels from which measuring (about five million, some of them by slow backends) pays for itself."""
COMPARED_AT = 512
"""Window at which backends are compared, px."""
ROUNDS, FASTER, HOPELESS = 3, 0.9, 1.5
"""Turns; the time over the default's that an alternative needs in each of them, and in the warm-up before them."""

K = TypeVar("K")


@dataclass(frozen=True)
class Choice:
    """What an image is computed with: an argument of ``choose_engines``, one of ``enhance_windows``, and why."""

    backend: str
    tile: int | str
    source: Literal["settings", "default", "remembered", "measured now"]


def choose(model: Model, settings: InferenceSettings, pixels: int) -> Choice:
    """Backend and tile for an image, or for many with the same settings.

    Parameters
    ----------
    settings
        A backend or tile that they name is taken as it is.
    pixels
        Input pixels of the work at hand: where it is long, on a CPU, and nothing is remembered, :func:`measure` runs.
    """
    if settings.backend != "auto" and settings.tile != "auto":
        return Choice(settings.backend, settings.tile, "settings")
    default = Choice(settings.backend, settings.tile, "default")
    if device_of(settings.device, settings.backend) != "cpu" or settings.precision != "fp32":
        return default
    source: Literal["remembered", "measured now"] = "remembered"
    found = recall(model, settings.threads)
    if found is None and settings.backend == "auto" and pixels >= WORTH:
        found, source = measure(model, settings.threads), "measured now"
    if found is None or settings.backend not in ("auto", found.backend):
        return default
    try:
        choose_engine(model, found.backend, "cpu", "fp32", settings.threads)
    except DlmError:  # gone since, or no longer in agreement with PyTorch
        return default
    tile = found.tile if settings.tile == "auto" and fits(model, found.tile, found.backend) else settings.tile
    return Choice(found.backend, tile, source)


@kept_memory()
def measure(model: Model, threads: int | None = None) -> Measurement:
    """Time the backends that agree with PyTorch, then the tiles of the fastest, and remember the result.

    An alternative is taken only where it needs less than 0.9 of the default's time in every one of three turns:
    another program's load seldom falls so three times, and where it does not matter the default stays.
    """
    engines = {(engine := make_engine(model, "auto", "cpu", "fp32", threads)).description["backend"]: engine}
    default = next(iter(engines))
    for name in available_backends():
        if name not in engines:
            try:
                engines[name] = make_engine(model, name, "cpu", "fp32", threads)
            except Exception:  # not a candidate: it cannot run this network, or computes something else
                continue
    usual = {name: default_tile(model, engine) for name, engine in engines.items()}

    def seconds(name: str, edge: int, tile: int) -> float:
        """For a useful pixel in tiles of ``tile``, from a window of ``edge``."""
        try:
            return _seconds(engines[name], _window(model, edge)) / (edge**2 * useful_part(model, tile))
        except Exception:  # no memory for it, in each library's own words
            return inf

    name, by_backend = _winner({n: partial(seconds, n, COMPARED_AT, usual[n]) for n in engines}, default)
    part = useful_part(model, usual[name])
    # A smaller tile may be faster a pixel (caches), hardly by a third; a larger one can save overlap only.
    tiles = [usual[name]] + [
        tile
        for tile in TILES
        if (0.75 < useful_part(model, tile) / part < 1 or useful_part(model, tile) * FASTER > part)
        and fits(model, tile, name)
    ]
    tile, by_tile = _winner({t: partial(seconds, name, t, t) for t in tiles}, usual[name])
    timed = [(f"{n} {usual[n]}", value) for n, value in by_backend.items()]
    timed += [(f"{name} {t}", value) for t, value in by_tile.items()]
    result = Measurement(
        conditions=conditions(model, threads),
        backend=name,
        tile=tile,
        seconds={key: round(value * 1e6, 3) for key, value in timed if value < inf},
        date=datetime.date.today().isoformat(),
    )
    model.engines[name, "cpu", "fp32", threads, 0] = engines[name]
    remember(model, result)
    return result


def _winner(candidates: Mapping[K, Callable[[], float]], default: K) -> tuple[K, dict[K, float]]:
    """The candidate that beats the default clearly in each turn, by the best of its times; all best times."""
    best = dict.fromkeys(candidates, inf)
    racing = list(candidates)
    for turn in range(1 + ROUNDS):
        if len(racing) == 1:
            break
        times = {name: candidates[name]() for name in racing}
        best |= {name: min(best[name], value) for name, value in times.items()}
        limit = times[default] * (FASTER if turn else HOPELESS)
        racing = [name for name in racing if name == default or times[name] < limit]
    return min(racing, key=lambda name: (name == default, best[name])), best


def _seconds(engine: Engine, window: NDArray[np.float32]) -> float:
    started = time.perf_counter()
    engine(window)
    return time.perf_counter() - started


def _window(model: Model, edge: int) -> NDArray[np.float32]:
    low, high = model.card.intensity_range
    values = np.random.default_rng(0).random((1, model.card.channels, edge, edge), np.float32)
    return (low + (high - low) * values).astype(np.float32)
