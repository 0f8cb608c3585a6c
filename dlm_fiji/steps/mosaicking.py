"""Tiles to one mosaic, by the native engine or Fiji's Grid/Collection stitching."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlm_fiji.registration import Mosaic, StitchSettings, stitch
from dlm_fiji.steps.engines import require_engine

__all__ = ["stitch_tiles"]


def stitch_tiles(
    tiles: Sequence[Path],
    grid: tuple[int, int],
    settings: StitchSettings | None = None,
    engine: str = "native",
) -> Mosaic:
    """Stitch tile files that were scanned over ``grid`` (rows, columns).

    Raises
    ------
    InputError
        The grid does not fit the number of tiles, or the tiles differ or do not overlap.
    SetupError
        The engine is not there.
    """
    if engine == "native":
        return stitch(list(tiles), grid=grid, settings=settings)
    require_engine(engine, ("stitch",))
    from dlm_fiji.fiji import stitching

    return stitching.stitch(list(tiles), grid=grid, settings=settings)
