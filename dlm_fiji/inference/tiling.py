"""Which part of an image is computed at a time, so that the parts together equal the whole.

A tile is a window of the input. Only its inner part is kept: away from the edges of the image, the outermost
``margin`` pixels see the network's zero padding and are thrown away. Windows start on the network's grid, so
that strides and poolings meet the same phases as in the whole image. Where a window ends at the edge of the
image, the zero padding there is the whole image's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Tile", "margin_on_grid", "plan_axis", "plan_tiles"]


@dataclass(frozen=True)
class Tile:
    """One window: input slices ``window``, the part ``inner`` of it that is kept, both as (start, stop) y, "
    "x."""

    window: tuple[tuple[int, int], tuple[int, int]]
    inner: tuple[tuple[int, int], tuple[int, int]]

    def source(self) -> tuple[slice, slice]:
        """Where the window lies in the input."""
        return slice(*self.window[0]), slice(*self.window[1])

    def target(self, scale: Fraction) -> tuple[slice, slice]:
        """Where the inner part lies in the output of the whole image."""
        (y0, y1), (x0, x1) = self.inner
        return _scaled(y0, y1, scale), _scaled(x0, x1, scale)

    def kept(self, scale: Fraction) -> tuple[slice, slice]:
        """Where the inner part lies in the output of the window."""
        slices = []
        for (start, _), (inner, end) in zip(self.window, self.inner, strict=True):
            slices.append(_scaled(inner - start, end - start, scale))
        return slices[0], slices[1]


def _scaled(start: int, stop: int, scale: Fraction) -> slice:
    # start is on the grid, so start * scale is whole; the end of the image rounds up, as the network does.
    return slice(math.ceil(start * scale), math.ceil(stop * scale))


def margin_on_grid(radius: int, grid: int) -> int:
    """A number of pixels, such as the receptive radius, rounded up to the grid."""
    return -(-radius // grid) * grid


def plan_axis(length: int, tile: int, radius: int, grid: int) -> list[tuple[int, int, int, int]]:
    """Windows along one axis: (start, stop, inner start, inner stop).

    As few windows as ``tile`` allows, all of the same size but the last, which may have ``grid`` - 1 pixels
    more: a compiled network then meets few shapes, and no window is there for a few pixels alone.

    Parameters
    ----------
    length
        Pixels of the image.
    tile
        Pixels of a window; at least 2 margins + one grid step is taken.
    radius, grid
        The network's receptive radius and grid in input pixels.
    """
    margin = margin_on_grid(radius, grid)
    tile = max(tile // grid * grid, 2 * margin + grid)
    if length < tile + grid:
        return [(0, length, 0, length)]
    count = -(-(length - 2 * margin) // (tile - 2 * margin))
    step = margin_on_grid(-(-(length - 2 * margin) // count), grid)
    tile = step + 2 * margin
    last = (length - tile) // grid * grid
    starts = [k * step for k in range(count - 1) if k * step < last] + [last]
    inner = [0, *(start + margin for start in starts[1:]), length]
    stops = [start + tile for start in starts[:-1]] + [length]
    return list(zip(starts, stops, inner[:-1], inner[1:], strict=True))


def plan_tiles(shape: tuple[int, int], tile: int | None, radius: int, grid: int) -> list[Tile]:
    """Tiles for an image of ``shape`` (rows, columns), row by row; one tile where ``tile`` is None."""
    if tile is None:
        tile = max(shape)
    rows = plan_axis(shape[0], tile, radius, grid)
    columns = plan_axis(shape[1], tile, radius, grid)
    return [
        Tile(((y0, y1), (x0, x1)), ((iy0, iy1), (ix0, ix1)))
        for y0, y1, iy0, iy1 in rows
        for x0, x1, ix0, ix1 in columns
    ]
