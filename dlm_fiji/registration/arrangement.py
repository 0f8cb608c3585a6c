"""Where tiles lie: the nominal positions from which stitching starts.

From the grid; without one, or with tiles missing in it, from the stage positions in the files or the files' names; or
from the images alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import Field, fields_of
from dlm_fiji.registration.layout import (
    cells_by_name,
    grid_cells,
    grid_pairs,
    grid_positions,
    neighbour_pairs,
    scan_numbers,
)
from dlm_fiji.registration.links import LinkFinder
from dlm_fiji.registration.subpixel import correlation_peaks, refine_shift
from dlm_fiji.registration.tiles import TileSource

if TYPE_CHECKING:
    from dlm_fiji.registration.stitching import StitchSettings

__all__ = ["Nominal", "arrange_by_content", "nominal", "read_stage_positions"]

SHARE = 0.3
"""Of a side that two tiles must have in common to be neighbours."""
ORIENTATIONS = {
    "": np.array([[1, 0], [0, 1]]),
    "y reversed": np.array([[-1, 0], [0, 1]]),
    "x reversed": np.array([[1, 0], [0, -1]]),
    "both reversed": np.array([[-1, 0], [0, -1]]),
    "y and x exchanged": np.array([[0, 1], [1, 0]]),
    "exchanged, y reversed": np.array([[0, 1], [-1, 0]]),
    "exchanged, x reversed": np.array([[0, -1], [1, 0]]),
    "exchanged, both reversed": np.array([[0, -1], [-1, 0]]),
}
"""How a stage's axes may lie to the camera's: rows y, x of the stage, columns y, x of the image; its are reversed."""


class Nominal(NamedTuple):
    """Where the tiles should lie: ``positions`` (N, 2) y, x px, ``pairs`` of neighbours, and ``origin``, in words."""

    positions: np.ndarray
    pairs: list[tuple[int, int]]
    origin: str


def nominal(
    source: TileSource,
    grid: tuple[int, int] | None,
    positions: np.ndarray | None,
    finder: LinkFinder,
    s: StitchSettings,
) -> Nominal:
    """The layout that is given or found, see the module.

    Raises
    ------
    InputError
        What is given does not fit the tiles, or nothing is given and the files do not tell.
    """
    count, shape = len(source), source.shape[:2]
    if positions is not None:
        stage = np.asarray(positions, dtype=float)
        if stage.shape != (count, 2) or not np.isfinite(stage).all():
            raise InputError(f"{count} tiles need positions of shape ({count}, 2); given: {stage.shape}.")
        return Nominal(stage, neighbour_pairs(stage, shape, SHARE), "positions given")
    if s.order == "unknown":
        stage = arrange_by_content(finder, count, s.min_correlation)
        return Nominal(stage, neighbour_pairs(stage, shape, SHARE), "content of the tiles")
    fractions = np.broadcast_to(np.asarray(s.overlap, dtype=float), (2,))
    if not ((fractions > 0) & (fractions < 1)).all():
        raise InputError(
            f"The overlap is a fraction between 0 and 1, not {s.overlap}: without overlap nothing can be stitched."
        )

    def placed(cells: np.ndarray, origin: str) -> Nominal:
        return Nominal(grid_positions(cells - cells[0], shape, s.overlap), grid_pairs(cells), origin)

    if count == 1 and grid is None:
        return placed(np.zeros((1, 2), int), "one tile")
    if grid is not None and grid[0] * grid[1] == count:
        return placed(grid_cells(grid, s.order, s.start), f"grid of {grid[0]} x {grid[1]}")
    short = grid is not None and 0 < count < grid[0] * grid[1]
    files = source.files
    if files is not None and (grid is None or short):
        found = _by_stage(files, shape, finder, s)
        if found is not None:
            return found
        cells = cells_by_name(source.names)
        if cells is not None and (grid is None or (cells.max(axis=0) < grid).all()):
            stage = grid_positions(cells, shape, s.overlap)
            turn = _orientation(finder, stage, grid_pairs(cells), s)
            return placed(cells @ ORIENTATIONS[turn or ""], _words("rows and columns in the file names", turn))
        numbers = None if grid is None else scan_numbers(source.names)
        if grid is not None and numbers is not None and numbers.max() < grid[0] * grid[1]:
            return placed(grid_cells(grid, s.order, s.start)[numbers], "numbers in the file names")
    if grid is None:
        raise InputError(
            "Stitching needs the grid (rows, columns) or the positions of the tiles"
            + ("." if files is None else ": the files have no stage positions, and their names no rows and columns.")
        )
    raise InputError(
        f"A grid of {grid[0]} rows and {grid[1]} columns holds {grid[0] * grid[1]} tiles, but there are {count}"
        + ("; give the positions, or files whose names or stage positions tell which are missing." if short else ".")
    )


def read_stage_positions(tiles: Sequence[str | os.PathLike[str] | Field]) -> np.ndarray:
    """Positions (N, 2) y, x px of tiles, from the stage positions and pixel sizes in their files.

    Raises
    ------
    InputError
        A file has no stage position or no pixel size; the file is named.
    """
    positions = []
    for tile in tiles:
        field = tile if isinstance(tile, Field) else fields_of(Path(tile))[0]
        if field.stage_um is None:
            raise InputError(f"Tile {field.name} has no stage position in its metadata; give the grid instead.")
        if field.pixel_um is None:
            raise InputError(f"Tile {field.name} has no pixel size in its metadata; give the positions in px instead.")
        positions.append(np.divide(field.stage_um, field.pixel_um))
    return np.array(positions)


def _by_stage(
    files: Sequence[str | os.PathLike[str] | Field], shape: tuple[int, ...], finder: LinkFinder, s: StitchSettings
) -> Nominal | None:
    """Stage positions in the axes in which the images agree with them; None where the files have none."""
    fields = [tile if isinstance(tile, Field) else fields_of(Path(tile))[0] for tile in files]
    known = [field.stage_um is not None and field.pixel_um is not None for field in fields]
    if not any(known):
        return None
    if not all(known):
        missing = fields[known.index(False)].name
        raise InputError(
            f"{sum(known)} of {len(known)} tiles have a stage position and a pixel size in their files, {missing} has "
            "not; give the grid or the positions."
        )
    stage = read_stage_positions(fields)
    stage -= stage[0]
    if np.ptp(stage, axis=0).max() < 1:
        return None  # written by a program that knew of no stage
    pairs = neighbour_pairs(stage, shape, SHARE)
    if not pairs:
        apart = np.abs(stage[1:] - stage[0]).max(axis=1).min()
        raise InputError(
            "The stage positions in the files put no two tiles over each other (the one nearest to "
            f"{fields[0].name} is {apart:.0f} px away, tiles have {shape[0]} x {shape[1]} px): the pixel size or the "
            "positions are wrong, or the fields do not overlap. Give the grid if they do."
        )
    turn = _orientation(finder, stage, pairs, s)
    if turn is None:
        raise InputError(
            "No two tiles agree where the stage positions in the files say that they overlap, whichever way the "
            "stage's axes lie: the positions are wrong, or the tiles are empty. Give the grid instead."
        )
    turned = stage @ ORIENTATIONS[turn]
    return Nominal(turned, neighbour_pairs(turned, shape, SHARE), _words("stage positions in the files", turn))


def _words(origin: str, turn: str | None) -> str:
    return f"{origin}, {turn}" if turn else origin


def _orientation(
    finder: LinkFinder, stage: np.ndarray, pairs: list[tuple[int, int]], s: StitchSettings, most: int = 12
) -> str | None:
    """Which of :data:`ORIENTATIONS` brings the overlaps of some pairs into agreement; None where no pair agrees."""
    shifts = np.array([stage[j] - stage[i] for i, j in pairs]).reshape(-1, 2)
    steep = np.abs(shifts[:, 0]) > np.abs(shifts[:, 1])
    # pairs along both axes, spread over the scan
    chosen = [
        int(group[k])
        for group in (np.nonzero(steep)[0], np.nonzero(~steep)[0])
        for k in sorted({int(k) for k in np.linspace(0, len(group) - 1, min(len(group), most // 2))})
    ]
    search = s.reach(finder.tile_shape)
    best, most_agreement = None, 0.0
    for name, turn in ORIENTATIONS.items():
        fits = [finder.coarse_link(*pairs[k], shifts[k] @ turn, search) for k in chosen]
        seen = [fit.correlation for fit in fits if finder.convincing(fit)]
        if sum(seen) > most_agreement:
            best, most_agreement = name, sum(seen)
        if len(seen) > 0.8 * len(chosen):
            break
    return best


def arrange_by_content(finder: LinkFinder, count: int, min_correlation: float) -> np.ndarray:
    """Rough positions (N, 2) px of tiles in unknown order, from the images alone.

    Every pair is tried at the coarsest pyramid level, the best links are joined to a tree. Tiles that no
    link reaches are put in a row below the others.
    """
    factor = finder.factors[0]
    images = [finder.coarse(k) for k in range(count)]
    size = np.array(images[0].shape)
    links: list[tuple[float, int, int, np.ndarray]] = []
    for i in range(count):
        for j in range(i + 1, count):
            found = correlation_peaks(images[i], images[j], np.zeros(2), size - 12, 12)
            for _, lag in found[:4]:
                fit = refine_shift(images[i], images[j], lag)
                # a link needs gradients that both tiles share, in both directions
                sure = fit is not None and np.linalg.eigvalsh(fit.information)[0] > 0
                if fit is not None and sure and fit.correlation >= min_correlation:
                    # Fisher's z: a wide overlap that agrees a little weighs less than a narrow one that agrees well
                    weight = np.arctanh(min(fit.correlation, 0.999)) * np.sqrt(fit.pixels)
                    links.append((float(weight), i, j, fit.shift * factor))
    links.sort(key=lambda link: -link[0])
    group = np.arange(count)
    position = np.zeros((count, 2))
    for _, i, j, shift in links:
        if group[i] == group[j]:
            continue
        moved = group == group[j]
        position[moved] += position[i] + shift - position[j]
        group[moved] = group[i]
    main = group == np.bincount(group).argmax()
    if main.sum() < 2 <= count:
        raise InputError(f"None of the {count} tiles in unknown order overlap another one recognisably.")
    lost = np.nonzero(~main)[0]
    below = position[main].max(axis=0)[0] + 2 * size[0] * factor
    for k, tile in enumerate(lost):
        position[tile] = (below, 2 * k * size[1] * factor)
    return position - position[0]
