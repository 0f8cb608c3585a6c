"""Measuring the shift between neighbouring tiles, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeGuard

import cv2
import numpy as np

from dlm_fiji.registration.subpixel import ShiftFit, correlation_peaks, independent_pixels, refine_shift, smooth
from dlm_fiji.registration.tiles import TileCache, TileSource

__all__ = ["LinkFinder", "Measurement", "pyramid_factors"]


#: an overlap of this many pixels gives 0.01 px already; finer levels only cost time
ENOUGH_PIXELS = 150_000

#: standard error in px from which on a fit is started at several places
FAINT = 0.1


@dataclass(frozen=True)
class Measurement:
    """What the images of one pair say: ``fit`` None with a ``reason``, or the fitted shift."""

    i: int
    j: int
    fit: ShiftFit | None
    reason: str = ""

    @property
    def sigma(self) -> float:
        """Standard error of the shift in px along its worst direction; infinite without a fit."""
        if self.fit is None:
            return float("inf")
        lowest = _least(self.fit.information)
        return lowest**-0.5 if lowest > 0 else float("inf")


def pyramid_factors(tile_shape: tuple[int, ...], coarsest_side: int) -> list[int]:
    """Reduction factors, coarse first and 1 last, so that the coarsest tile is about ``coarsest_side`` px
    wide.
    """
    factor = 1
    while min(tile_shape[:2]) / (2 * factor) >= coarsest_side:
        factor *= 2
    factors = [factor]
    while factor > 1:
        factor = max(1, factor // 4) if factor > 2 else 1
        factors.append(factor)
    return factors


def _in_full_pixels(fit: ShiftFit, factor: int) -> ShiftFit:
    """A fit on tiles reduced by ``factor``, in full-size pixels."""
    return ShiftFit(fit.shift * factor, fit.information / factor**2, fit.correlation, fit.pixels)


def _least(information: np.ndarray) -> float:
    """What is known along the worst direction, px⁻²."""
    return float(np.linalg.eigvalsh(information)[0])


def _mean_fit(fits: list[ShiftFit], sigma: float) -> ShiftFit:
    """The likeliest of some fits of one pair, at their mean weighted by likelihood, which errs least on average."""
    top = max(fits, key=lambda fit: fit.correlation)
    rest = np.array([max(1 - fit.correlation**2, 1e-9) for fit in fits])  # of the variance
    weight = (rest.min() / rest) ** (0.5 * top.pixels / independent_pixels(sigma))
    return replace(top, shift=np.average([fit.shift for fit in fits], axis=0, weights=weight))


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor × factor blocks; what does not fill a block is cut off at the bottom and right."""
    if factor == 1:
        return image
    height, width = (n // factor for n in image.shape)
    return cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


class LinkFinder:
    """Finds shifts between the tiles of one source, each tile prepared once and kept while its neighbours
    need it.

    Parameters
    ----------
    tiles
        The tiles; their flat field is divided out.
    channel
        Reference channel, or None for grey.
    sigma
        Gaussian smoothing before the fit, px at each pyramid level.
    peaks
        Candidates that are verified for a pair.
    coarsest_side
        See :func:`pyramid_factors`.
    kept
        Tiles held in memory.
    threads
        Pairs measured at the same time.
    wide, sure
        Whether a pair whose first search finds no correlation of ``sure`` is searched everywhere.
    """

    def __init__(
        self,
        tiles: TileSource,
        *,
        channel: int | None,
        sigma: float,
        peaks: int,
        coarsest_side: int,
        kept: int,
        threads: int,
        wide: bool = True,
        sure: float = 0.3,
    ) -> None:
        self._tiles, self._channel, self._sigma, self._peaks = tiles, channel, sigma, peaks
        self.factors = pyramid_factors(tiles.shape, coarsest_side)
        self._threads, self._wide, self._sure = threads, wide, sure
        self._prepared: Callable[[int], list[np.ndarray]] = TileCache(self._prepare, kept)

    def _prepare(self, index: int) -> list[np.ndarray]:
        grey = self._tiles.grey(index, self._channel)
        grey = grey - np.float32(grey.mean())
        return [smooth(_reduced(grey, factor), self._sigma) for factor in self.factors]

    def coarse(self, index: int) -> np.ndarray:
        """Tile ``index`` at the coarsest level."""
        return self._prepared(index)[0]

    def level(self, index: int, side: int) -> tuple[np.ndarray, int]:
        """Tile ``index`` at the coarsest level that is at least ``side`` px wide (or full size), and its reduction."""
        fitting = [k for k, f in enumerate(self.factors) if min(self._tiles.shape[:2]) >= side * f]
        k = fitting[0] if fitting else len(self.factors) - 1
        return self._prepared(index)[k], self.factors[k]

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Shape of the tiles."""
        return self._tiles.shape

    def coarse_link(self, i: int, j: int, expected: np.ndarray, search: np.ndarray) -> ShiftFit | None:
        """The first look of :meth:`measure` alone: a fit on the coarsest level, in its pixels."""
        coarse = self.factors[0]
        first, second = self._prepared(i)[0], self._prepared(j)[0]
        return self._coarse_fit(first, second, expected / coarse, np.maximum(search / coarse, 2))

    def measure_all(
        self, wanted: Iterable[tuple[int, int, np.ndarray, np.ndarray]]
    ) -> dict[tuple[int, int], Measurement]:
        """Measure many pairs (i, j, expected shift, search range) in the order given."""
        wanted = list(wanted)
        if self._threads <= 1 or len(wanted) < 2:
            results = [self.measure(*pair) for pair in wanted]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                results = list(pool.map(lambda pair: self.measure(*pair), wanted))
        return {(m.i, m.j): m for m in results}

    def measure(self, i: int, j: int, expected: np.ndarray, search: np.ndarray) -> Measurement:
        """The shift of tile j against tile i, near ``expected``, (2,) y, x px.

        The first look goes ``search`` px around it. Where that finds nothing that both tiles share, the
        stage may have slipped: a second look takes every shift with a useful overlap.
        """
        first, second = self._prepared(i), self._prepared(j)
        coarse = self.factors[0]
        best = self.coarse_link(i, j, expected, search)
        if self._wide and not self.convincing(best):
            everywhere = 0.35 * np.array(first[0].shape)
            wide = self._coarse_fit(first[0], second[0], expected / coarse, everywhere)
            if self.convincing(wide):
                best = wide
        if best is None:
            return Measurement(i, j, None, "no content that both tiles share")
        surest = _in_full_pixels(best, coarse)
        for level, factor in enumerate(self.factors[1:], start=1):
            if best.pixels > ENOUGH_PIXELS:
                break
            start = best.shift * (self.factors[level - 1] / factor)
            finer = self._fine_fit(first[level], second[level], start)
            if finer is None:
                return Measurement(i, j, None, "no content that both tiles share")
            best = finer
            full = _in_full_pixels(best, factor)
            # faint broad structure is measured better on the reduced tiles, where there is less noise in it
            if _least(full.information) >= _least(surest.information):
                surest = full
        return Measurement(i, j, surest)

    def _fine_fit(self, first: np.ndarray, second: np.ndarray, start: np.ndarray) -> ShiftFit | None:
        fit = refine_shift(first, second, start, sigma=self._sigma, tolerance=0.01)
        if fit is None or _least(fit.information) > FAINT**-2:
            return fit
        # in faint content noise makes several optima along the direction that is known least
        axis = np.linalg.eigh(fit.information)[1][:, 0]
        others = [
            refine_shift(first, second, start + step * axis, sigma=self._sigma, tolerance=0.01)
            for step in (-1.5, -0.75, 0.75, 1.5)
        ]
        return _mean_fit([f for f in (fit, *others) if f is not None], self._sigma)

    def _coarse_fit(
        self, first: np.ndarray, second: np.ndarray, expected: np.ndarray, search: np.ndarray
    ) -> ShiftFit | None:
        candidates = correlation_peaks(first, second, expected, search, self._peaks)
        best: ShiftFit | None = None
        for r, lag in candidates[:3]:
            # a peak that correlates far less than the best is no rival: half a pixel off costs less than that
            if r < candidates[0][0] - 0.15 or (best is not None and r < best.correlation - 0.15):
                continue
            if best is not None and np.abs(lag - best.shift).max() < 2:
                continue  # another sample of the same peak
            fit = refine_shift(first, second, lag, sigma=self._sigma, tolerance=0.02)
            if fit is not None and (best is None or fit.correlation > best.correlation):
                best = fit
        return best

    def convincing(self, fit: ShiftFit | None) -> TypeGuard[ShiftFit]:
        """Whether a fit correlates enough, and its shift is determined in both directions."""
        return fit is not None and fit.correlation >= self._sure and _least(fit.information) > 0
