"""Even illumination: one flat field from all tiles together, every tile divided by it in ImageJ."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from dlm_fiji.errors import DlmWarning, SetupError
from dlm_fiji.micrograph import from_array, to_array
from dlm_fiji.microscope import estimate_flat_field, flat_field_from_overlaps

__all__ = ["FlatFieldResult", "correct_illumination"]


@dataclass(frozen=True)
class FlatFieldResult:
    """Corrected tiles, the flat field (mean 1), and who divided."""

    tiles: list[xr.DataArray]
    flat_field: xr.DataArray
    engine: str
    note: str


def correct_illumination(
    tiles: list[xr.DataArray], macro: Path | None = None, positions: np.ndarray | None = None
) -> FlatFieldResult:
    """Divide every tile by the one flat field estimated from all of them.

    The division is a real ImageJ macro (32-bit, back to the tiles' type). Where ImageJ cannot be started (the very
    first run without a network), NumPy divides instead, and the note says so; a macro of the user's own is never
    replaced.

    Parameters
    ----------
    tiles
        Calibrated tiles of one shape and type.
    macro
        A macro of the user's: the tile is the active image, the flat field is open as ``flat_field``.
    positions
        (N, 2) y, x px of overlapping tiles. With them the flat field is read from the overlaps, where the content
        cancels; without, from the mean of the tiles, which needs many.

    Raises
    ------
    InputError
        The macro failed or returned another size.
    SetupError
        ImageJ cannot be started and ``macro`` was given.
    """
    arrays = [to_array(tile) for tile in tiles]
    flat = estimate_flat_field(arrays) if positions is None else flat_field_from_overlaps(np.stack(arrays), positions)
    flat_image = from_array(flat.astype(np.float32), like=tiles[0])
    try:
        from dlm_fiji.fiji import divide_by_flat_field, start

        engine = start().engine
        corrected = [divide_by_flat_field(tile, flat_image, macro) for tile in tiles]
        return FlatFieldResult(corrected, flat_image, engine, f"macro {macro.name if macro else 'flat_field.ijm'}")
    except SetupError as error:
        if macro is not None:
            raise
        warnings.warn(f"ImageJ is not available ({error}) The tiles are divided by NumPy.", DlmWarning, stacklevel=2)
        return FlatFieldResult([_divided(t, flat_image) for t in tiles], flat_image, "native", str(error))


def _divided(tile: xr.DataArray, flat: xr.DataArray) -> xr.DataArray:
    """The macro's arithmetic in NumPy: rounded and clipped to the tile's type."""
    quotient = tile.values.astype(np.float32) / flat.values
    if np.issubdtype(tile.dtype, np.integer):
        top = np.iinfo(tile.dtype).max
        quotient = np.clip(np.floor(quotient + 0.5), 0, top)
    return tile.copy(data=quotient.astype(tile.dtype))
