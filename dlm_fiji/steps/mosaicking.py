"""Tiles to one mosaic, by the native engine or Fiji's Grid/Collection stitching."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import Field, fields_of, is_image_file
from dlm_fiji.registration import Mosaic, StitchSettings, nominal_layout, stitch
from dlm_fiji.steps.engines import require_engine

__all__ = ["stitch_tiles", "tiles_in"]


def stitch_tiles(
    tiles: Sequence[Path | Field],
    grid: tuple[int, int] | None = None,
    settings: StitchSettings | None = None,
    engine: str = "native",
) -> Mosaic:
    """Stitch tile files that were scanned over ``grid`` (rows, columns).

    Parameters
    ----------
    tiles
        Files, or images of files (:func:`tiles_in`), in scan order.
    grid
        Where it is not given, or tiles are missing in it, the files tell where each lies: by their stage positions
        or their names (:func:`dlm_fiji.registration.stitch`).

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

    if grid is not None and grid[0] * grid[1] == len(tiles):
        return stitching.stitch(list(tiles), grid=grid, settings=settings)
    layout = nominal_layout(list(tiles), grid, settings)
    mosaic = stitching.stitch(list(tiles), positions=layout.positions, settings=settings)
    mosaic.layout = layout.origin
    return mosaic


def tiles_in(place: Path) -> list[Field]:
    """The tiles in a folder of images, by name (numbers by their value), or the images of one file.

    Raises
    ------
    InputError
        There is nothing, or no image, or a file is damaged.
    """
    if not place.is_dir() or is_image_file(place):  # an OME-Zarr is a folder, and one image
        return fields_of(place)
    files = [path for path in place.iterdir() if is_image_file(path)]
    if not files:
        raise InputError(f"There are no images in {place}.")
    return [field for path in sorted(files, key=_natural) for field in fields_of(path)]


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]
