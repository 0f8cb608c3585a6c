"""Stitching: tiles and where the stage meant them to be go in, a :class:`Mosaic` comes out.

The steps are those of Preibisch, Saalfeld & Tomancak (Bioinformatics 25, 1463 (2009),
doi:10.1093/bioinformatics/btp184), Fiji's Grid/Collection stitching: phase correlation of neighbours,
verified by the true correlation, then one least-squares solution for all tiles, then blending. What is
added: a sub-pixel fit with its own error (see ``subpixel``), links weighted by it, a second look at failed
links once the stage's true step and rotation are known, and tiles without content named instead of
displaced.
"""

from __future__ import annotations

import os
import time
from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration.arrangement import Nominal, nominal
from dlm_fiji.registration.fusion import Fusion
from dlm_fiji.registration.global_positions import connected, fit_stage, solve_positions
from dlm_fiji.registration.layout import StartCorner
from dlm_fiji.registration.lens_distortion import LensModel, LocalShifts, fit_lens, local_shifts
from dlm_fiji.registration.links import LinkFinder, Measurement
from dlm_fiji.registration.mosaic import Link, Mosaic
from dlm_fiji.registration.subpixel import ShiftFit
from dlm_fiji.registration.tiles import TileSource
from dlm_fiji.settings import Settings, setting

__all__ = ["StitchSettings", "nominal_layout", "stitch"]

LENS_SIDE = 700
"""Side of the reduced tiles on which local shifts are measured, px."""


class StitchSettings(Settings):
    """How tiles are stitched."""

    overlap: float | tuple[float, float] = setting(
        0.15, "Nominal overlap of neighbouring tiles as a fraction of the tile side (or one each for y, x)"
    )
    order: str = setting(
        "row-by-row", "Scan order: row-by-row, column-by-column, snake-by-rows, snake-by-columns, unknown"
    )
    start: StartCorner = setting("top-left", "Corner of the first tile")
    search: float | None = setting(
        None, "How far the stage may be wrong; by default 5 % of the tile, at least 16", unit="px", gt=0
    )
    wide: bool = setting(True, "Search pairs that show nothing within the search range everywhere")
    min_correlation: float = setting(
        0.3,
        "Links whose overlap correlates less are dropped",
        ge=0,
        le=1,
        source="regression threshold of Fiji's plugin",
    )
    peaks: int = setting(5, "Correlation peaks verified for a pair", ge=1, source="Preibisch 2009")
    outlier: float = setting(0.5, "Links that disagree with the solution by more are dropped", unit="px", gt=0)
    sigma: float = setting(
        1.0,
        "Gaussian smoothing before the sub-pixel fit",
        unit="px",
        ge=0,
        source="simulated scans, 8 seeds: 1.0 errs least where tiles are nearly blank",
    )
    coarsest_side: int = setting(192, "Tile side at which the first search is done", unit="px", ge=32)
    channel: int | None = setting(None, "Reference channel; by default grey (luma of RGB, else the mean)", ge=0)
    channels: Literal["together", "each"] = setting(
        "together",
        "together: the reference channel places all; each: every channel is placed by its own content, for channels "
        "that were scanned one after the other, and as a whole laid on the reference channel",
    )
    flat_field: Literal["links", "estimate", "none"] = setting(
        "links",
        "links: one flat field is estimated from nine tiles or more and used for measuring alone; estimate: the "
        "mosaic is divided by it too; none",
    )
    lens: Literal["auto", "fit", "none"] = setting(
        "auto",
        "Distortion of the lens and a linear map of each tile, from local shifts within the overlaps. auto: where "
        "these differ by more than 0.1 px and the fit explains it (the result says so); fit: always; none",
        source="Kaynig 2010",
    )
    fusion: Fusion = setting("linear", "Blending where tiles overlap")
    interpolation: Literal["cubic", "quintic", "linear", "nearest"] = setting(
        "cubic", "How a tile is sampled at its sub-pixel position"
    )
    threads: int = setting(0, "Pairs measured at the same time; 0 takes all cores", ge=0)

    def reach(self, tile_shape: tuple[int, ...]) -> np.ndarray:
        """How far the stage may be wrong, (2,) px."""
        return np.full(2, self.search if self.search is not None else max(16.0, 0.05 * min(tile_shape[:2])))


def stitch(
    tiles: Any,
    grid: tuple[int, int] | None = None,
    *,
    positions: np.ndarray | None = None,
    flat_field: np.ndarray | str | None = None,
    settings: StitchSettings | None = None,
    **changes: Any,
) -> Mosaic:
    """Stitch tiles into a mosaic.

    Parameters
    ----------
    tiles
        (N, H, W) or (N, H, W, C) array of any real type, or a list of files, or of images of files
        (:func:`dlm_fiji.micrograph.fields_of`), read when needed.
    grid
        (rows, columns) of the scan. Where files are missing in it, and without it, the files tell their places: by
        stage position, by row and column in their names, or (with the grid) by the number in their names.
    positions
        Instead of ``grid``: nominal positions (N, 2) y, x px, from the stage (:func:`read_stage_positions`)
        or a file (:func:`read_tile_configuration`). With ``order="unknown"`` neither is needed.
    flat_field
        (H, W[, C]) divided out of every tile; or one of the words of :class:`StitchSettings`.
    settings, **changes
        :class:`StitchSettings`, or its fields as keywords (``overlap``, ``order``, …).

    Returns
    -------
    Mosaic
        ``positions``, ``placed_by_stage``, ``links``, and ``image`` on demand.

    Raises
    ------
    InputError
        The layout does not fit the number of tiles or is not known, tiles differ in shape or type, or no tiles overlap.

    Examples
    --------
    >>> mosaic = stitch(tiles, grid=(7, 8), overlap=0.15)     # doctest: +SKIP
    >>> mosaic.image, mosaic.stage_tiles                      # doctest: +SKIP
    """
    given = flat_field if isinstance(flat_field, np.ndarray) else None
    if isinstance(flat_field, str):
        changes["flat_field"] = flat_field
    s = StitchSettings.of(settings, **changes)
    started = time.perf_counter()
    source = TileSource(tiles, given)
    # wrong layouts are refused before anything is computed
    stage, pairs, layout = nominal(source, grid, positions, _finder(source, s), s)
    seconds: dict[str, float] = {}
    measured = source
    if given is None and (s.flat_field == "estimate" or (s.flat_field == "links" and len(source) >= 9)):
        measured = TileSource(tiles, _estimated(source, s))
        if s.flat_field == "estimate":
            source = measured
        seconds["flat_field"] = time.perf_counter() - started
    mosaic = _solve(measured, stage, pairs, s)
    mosaic.tiles, mosaic.layout = source, layout
    if s.channels == "each" and len(source.shape) == 3:
        mosaic.channels = [_own_channel(mosaic, c, measured, stage, pairs, s) for c in range(source.shape[2])]
    mosaic.seconds = {**seconds, **mosaic.seconds, "total": time.perf_counter() - started}
    return mosaic


def _own_channel(
    mosaic: Mosaic,
    channel: int,
    measured: TileSource,
    stage: np.ndarray,
    pairs: list[tuple[int, int]],
    s: StitchSettings,
) -> Mosaic:
    """One channel by its own content; tiles that it does not hold lie where the reference channel has them."""
    own = _solve(measured, stage, pairs, StitchSettings.of(s, channel=channel))
    both = ~(own.placed_by_stage | mosaic.placed_by_stage)
    if both.any():
        own.positions += np.median(mosaic.positions[both] - own.positions[both], axis=0)
    own.positions = np.where(own.placed_by_stage[:, None], mosaic.positions, own.positions)
    own.tiles, own.layout = mosaic.tiles.only(channel), mosaic.layout
    return own


def nominal_layout(
    tiles: Any, grid: tuple[int, int] | None = None, settings: StitchSettings | None = None, **changes: Any
) -> Nominal:
    """The positions (N, 2) y, x px from which :func:`stitch` would start, the pairs of neighbours, and where both come
    from in words; arguments and errors are the same.
    """
    s = StitchSettings.of(settings, **changes)
    source = TileSource(tiles)
    return nominal(source, grid, None, _finder(source, s), s)


def _estimated(source: TileSource, s: StitchSettings) -> np.ndarray | None:
    """The tiles' flat field: of the grey image where it only serves measuring, of each colour otherwise."""
    from dlm_fiji.microscope import estimate_flat_field

    height, width = source.shape[:2]
    factor = max(1, max(height, width) // 128)

    def read(index: int) -> np.ndarray:
        if s.flat_field == "estimate":
            return source.read(index)
        # the field is smooth, and its estimate takes blocks of pixels anyway
        grey = cv2.resize(
            source.grey(index, s.channel), (width // factor, height // factor), interpolation=cv2.INTER_AREA
        )
        # in the tiles' own type, which says where a pixel is saturated
        return np.rint(grey).astype(source.dtype) if source.dtype.kind in "ui" else grey

    try:
        flat = estimate_flat_field(read(index) for index in _spread(len(source), 36))
    except InputError:
        return None  # black tiles have no flat field; stitching says what it can say about them
    return flat if flat.shape[:2] == (height, width) else cv2.resize(flat, (width, height))


def _spread(count: int, most: int) -> list[int]:
    return sorted({int(k) for k in np.linspace(0, count - 1, min(count, most))})


def _solve(source: TileSource, stage: np.ndarray, pairs: list[tuple[int, int]], s: StitchSettings) -> Mosaic:
    started = time.perf_counter()
    side = min(source.shape[:2])
    search = s.reach(source.shape)
    if len(source) > 1 and not pairs:
        raise InputError(
            f"No two of the {len(source)} tiles of {source.shape[0]} x {source.shape[1]} px overlap at the positions "
            "given; check the overlap, the grid and the scan order."
        )
    finder = _finder(source, s)
    measured = finder.measure_all([(i, j, stage[j] - stage[i], search) for i, j in pairs])
    good = [pair for pair in pairs if _accepted(measured[pair], s.min_correlation)]
    placed, used, _ = _positions(len(source), good, measured, stage, s)
    # second look: with the stage's step and rotation known, failed pairs are searched where they must be
    predicted = _predicted(len(source), stage, placed, [p for p, u in zip(good, used, strict=True) if u])
    failed = [pair for pair in pairs if pair not in set(good)] + [p for p, u in zip(good, used, strict=True) if not u]
    if failed and good:
        narrow = np.full(2, max(6.0, 0.01 * side))
        again = finder.measure_all([(i, j, predicted[j] - predicted[i], narrow) for i, j in failed])
        for pair, new in again.items():
            if _accepted(new, 0.5 * s.min_correlation) and (pair not in good or new.fit is not None):
                measured[pair] = new
        good = [
            p for p in pairs if _accepted(measured[p], s.min_correlation if p not in again else 0.5 * s.min_correlation)
        ]
        placed, used, _ = _positions(len(source), good, measured, stage, s)
        predicted = _predicted(len(source), stage, placed, [p for p, u in zip(good, used, strict=True) if u])
    kept = [p for p, u in zip(good, used, strict=True) if u]
    lens, seen = _lens(finder, kept, measured, source, s)
    if lens is not None:
        placed, used, _ = _positions(len(source), good, measured, stage, s)
        kept = [p for p, u in zip(good, used, strict=True) if u]
        predicted = _predicted(len(source), stage, placed, kept)
    group = connected(len(source), kept)
    by_stage = group != 0
    if len(source) > 1 and not kept:
        by_stage[:] = True
    final = np.where(by_stage[:, None], predicted, placed)
    final = final - final[0] + stage[0]
    links = _links(pairs, good, used, measured, final, s)
    return Mosaic(
        tiles=source,
        positions=final,
        placed_by_stage=by_stage,
        links=links,
        names=source.names,
        lens=lens,
        local_deviation=seen,
        fusion=s.fusion,
        interpolation=s.interpolation,
        seconds={"positions": time.perf_counter() - started},
    )


def _lens(
    finder: LinkFinder,
    kept: list[tuple[int, int]],
    measured: dict[tuple[int, int], Measurement],
    source: TileSource,
    s: StitchSettings,
) -> tuple[LensModel | None, float | None]:
    """The lens where it is needed, ``measured`` then corrected for it; and how far local shifts deviate, px."""
    if s.lens == "none" or not kept:
        return None, None

    def local(pairs: list[tuple[int, int]], most: int) -> LocalShifts:
        factor = finder.level(pairs[0][0], LENS_SIDE)[1]
        levels = (
            (finder.level(i, LENS_SIDE)[0], finder.level(j, LENS_SIDE)[0], _shift(measured[i, j])) for i, j in pairs
        )
        return local_shifts(levels, factor, s.sigma, most)

    seen = None
    if s.lens == "auto":
        few = local([kept[k] for k in _spread(len(kept), 8)], max(3, 40 // len(kept)))
        seen = few.spread()
        if not few.bent():
            return None, seen
    shifts = local(kept, 40)
    if len(shifts.link) < 10:
        return None, seen
    shape = (source.shape[0], source.shape[1])
    lens, corrected, weight = fit_lens(shifts, kept, len(source), shape)
    if s.lens == "auto" and lens.after > 0.6 * lens.before:
        return None, lens.before
    for pair, shift, certainty in zip(kept, corrected, weight, strict=True):
        fit = measured[pair].fit
        if fit is None:
            continue
        information = certainty * np.eye(2)
        if not np.isfinite(shift).all():  # too few windows: the model at the middle of the overlap
            middle = 0.5 * (np.maximum(0, fit.shift) + np.minimum(shape, shape + fit.shift) - 1)[None]
            shift = fit.shift + (lens.displacement(pair[0], middle) - lens.displacement(pair[1], middle - fit.shift))[0]
            information = fit.information
        measured[pair] = Measurement(*pair, ShiftFit(shift, information, fit.correlation, fit.pixels))
    return lens, lens.before


def _shift(measurement: Measurement) -> np.ndarray:
    return measurement.fit.shift if measurement.fit is not None else np.zeros(2)


def _finder(source: TileSource, s: StitchSettings) -> LinkFinder:
    return LinkFinder(
        source,
        channel=s.channel,
        sigma=s.sigma,
        peaks=s.peaks,
        coarsest_side=s.coarsest_side,
        kept=_tiles_in_memory(source),
        threads=s.threads or os.cpu_count() or 1,
        wide=s.wide,
        sure=s.min_correlation,
    )


def _tiles_in_memory(source: TileSource, budget: float = 5e8) -> int:
    """How many prepared tiles fit the budget in bytes; two rows of a scan are wanted, four tiles are needed."""
    return int(np.clip(budget / (4.4 * source.shape[0] * source.shape[1]), 4, 512))


def _accepted(measurement: Measurement, threshold: float) -> bool:
    return measurement.fit is not None and measurement.fit.correlation >= threshold and measurement.sigma < 1.0


def _positions(
    count: int,
    pairs: list[tuple[int, int]],
    measured: dict[tuple[int, int], Measurement],
    stage: np.ndarray,
    s: StitchSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fits = [measured[pair].fit for pair in pairs]
    shifts = np.array([fit.shift for fit in fits if fit is not None]).reshape(-1, 2)
    information = np.array([fit.information for fit in fits if fit is not None]).reshape(-1, 2, 2)
    return solve_positions(count, pairs, shifts, information, stage, outlier=s.outlier)


def _predicted(count: int, stage: np.ndarray, placed: np.ndarray, kept: list[tuple[int, int]]) -> np.ndarray:
    """Where each tile should lie: measured tiles as measured, every other group by the stage fitted to the
    largest.
    """
    group = connected(count, kept)
    fitted = fit_stage(stage, placed, group == 0 if kept else np.zeros(count, dtype=bool))
    predicted = placed.copy()
    for g in range(1, group.max() + 1):
        members = group == g
        predicted[members] += (fitted[members] - placed[members]).mean(axis=0)
    return predicted if kept else fitted


def _links(
    pairs: list[tuple[int, int]],
    good: list[tuple[int, int]],
    used: np.ndarray,
    measured: dict[tuple[int, int], Measurement],
    positions: np.ndarray,
    s: StitchSettings,
) -> list[Link]:
    state = dict(zip(good, used, strict=True))
    links = []
    for i, j in pairs:
        m = measured[i, j]
        if m.fit is None:
            links.append(Link(i, j, (float("nan"),) * 2, 0.0, float("nan"), False, m.reason))
            continue
        residual = float(np.linalg.norm(positions[j] - positions[i] - m.fit.shift))
        taken = bool(state.get((i, j), False))
        reason = ""
        if not taken and (i, j) in state:
            reason = f"disagrees with the other links by {residual:.2f} px"
        elif not taken:
            reason = _doubt(m, s)
        shift = (float(m.fit.shift[0]), float(m.fit.shift[1]))
        links.append(Link(i, j, shift, m.fit.correlation, residual, taken, reason))
    return links


def _doubt(measurement: Measurement, s: StitchSettings) -> str:
    """Why a measured link was not accepted."""
    if measurement.fit is not None and measurement.fit.correlation < s.min_correlation:
        return f"correlation {measurement.fit.correlation:.2f} is below {s.min_correlation:.2f}"
    return "the content that both tiles share does not fix the shift in both directions"
