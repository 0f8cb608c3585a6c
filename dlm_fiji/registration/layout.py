"""Where the stage meant the tiles to lie: scan orders of a grid, cells in file names, neighbours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from dlm_fiji.errors import InputError

__all__ = [
    "Order",
    "StartCorner",
    "cells_by_name",
    "grid_cells",
    "grid_pairs",
    "grid_positions",
    "neighbour_pairs",
    "scan_numbers",
]

Order = Literal["row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"]
StartCorner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


def grid_cells(grid: tuple[int, int], order: str = "row-by-row", start: str = "top-left") -> np.ndarray:
    """The cell (row, column) of each tile in acquisition order, (rows·cols, 2) int.

    ``snake`` is short for ``snake-by-rows``. ``start`` is the corner of the first tile; the scan runs away
    from it.
    """
    rows, cols = (int(n) for n in grid)
    if rows < 1 or cols < 1:
        raise InputError(f"A grid needs at least one row and one column, not {rows} x {cols}.")
    order = {"snake": "snake-by-rows"}.get(order, order)
    if order not in get_args(Order):
        raise InputError(f"Scan order {order!r} is unknown; known are {', '.join(get_args(Order))}.")
    if start not in get_args(StartCorner):
        raise InputError(f"Start corner {start!r} is unknown; known are {', '.join(get_args(StartCorner))}.")
    by_columns = order.endswith("columns") or order.startswith("column")
    slow, fast = (cols, rows) if by_columns else (rows, cols)
    cells = np.array([(s, f) for s in range(slow) for f in range(fast)])
    if order.startswith("snake"):
        back = cells[:, 0] % 2 == 1
        cells[back, 1] = fast - 1 - cells[back, 1]
    if by_columns:
        cells = cells[:, ::-1].copy()
    if start.startswith("bottom"):
        cells[:, 0] = rows - 1 - cells[:, 0]
    if start.endswith("right"):
        cells[:, 1] = cols - 1 - cells[:, 1]
    return cells


def grid_positions(cells: np.ndarray, tile_shape: tuple[int, ...], overlap: float | tuple[float, float]) -> np.ndarray:
    """Nominal top-left corners (N, 2) y, x px of a grid whose tiles share the fraction ``overlap`` of their
    side.
    """
    fraction = np.broadcast_to(np.asarray(overlap, dtype=float), (2,))
    return cells * (np.asarray(tile_shape[:2]) * (1 - fraction))


def grid_pairs(cells: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of tiles in cells that share a side."""
    at = {(int(row), int(col)): k for k, (row, col) in enumerate(cells)}
    pairs = []
    for (row, col), k in at.items():
        for other in (at.get((row, col + 1)), at.get((row + 1, col))):
            if other is not None:
                pairs.append((min(k, other), max(k, other)))
    return sorted(pairs)


def neighbour_pairs(
    positions: np.ndarray, tile_shape: tuple[int, ...], minimum_overlap: float = 0.3, margin: float = 0.0
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose tiles share a side: they overlap by at least ``minimum_overlap`` of one
    side.

    ``margin`` px widens the tiles first, for a stage that may be wrong by that much. A diagonal neighbour
    shares a corner only and is left out, unless the tiles overlap by more than half.
    """
    size = np.asarray(tile_shape[:2], dtype=float)
    pairs = []
    for i in range(len(positions)):
        apart = np.abs(positions[i + 1 :] - positions[i])
        common = size + margin - apart
        wide = common / size
        for k in np.nonzero((common > 0).all(axis=1) & (wide.max(axis=1) >= minimum_overlap))[0]:
            pairs.append((i, i + 1 + int(k)))
    return pairs


_ROW = re.compile(r"(?<![a-z])(?:row|r|y)[ _=-]?(\d+)", re.IGNORECASE)
_COLUMN = re.compile(r"(?<![a-z])(?:columns?|col|c|x)[ _=-]?(\d+)", re.IGNORECASE)


def cells_by_name(names: Sequence[str]) -> np.ndarray | None:
    """The cells (N, 2) that file names tell: row, r or y and column, col, c or x, each with a number.

    The numbers count cells, or, where they differ by 16 or more, pixels or µm: they then grow evenly from cell to
    cell. None where they do not tell every tile its own cell.
    """
    found = []
    for name in names:
        row, column = _ROW.findall(name), _COLUMN.findall(name)
        if len(row) != 1 or len(column) != 1:
            return None
        found.append((int(row[0]), int(column[0])))
    cells = np.array(found)
    if len({tuple(cell) for cell in found}) < len(found):
        return None
    for axis in (0, 1):
        values = np.unique(cells[:, axis])
        step = int(np.diff(values).min()) if len(values) > 1 else 1
        step = step if step >= 16 else 1
        cells[:, axis] -= values[0]
        if (cells[:, axis] % step).any():
            return None
        cells[:, axis] //= step
    return cells


def scan_numbers(names: Sequence[str]) -> np.ndarray | None:
    """The place of each file in the scan, from 0, by the one number in which the names differ; None without it.

    Names count from 0 where there is a 0, else from 1.
    """
    runs = [re.findall(r"\d+", name) for name in names]
    if len({re.sub(r"\d+", "#", name) for name in names}) != 1 or not runs[0]:
        return None
    columns = [[int(number) for number in column] for column in zip(*runs, strict=True)]
    different = [column for column in columns if len(set(column)) > 1]
    if len(different) != 1 or len(set(different[0])) < len(names):
        return None
    numbers = np.array(different[0])
    return numbers if numbers.min() == 0 else numbers - 1
