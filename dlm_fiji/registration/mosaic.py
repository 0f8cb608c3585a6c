"""What stitching returns, whichever engine did it: positions, links, and the fused image on demand."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.registration.fusion import fuse_region, mosaic_extent
from dlm_fiji.registration.lens_distortion import LensModel
from dlm_fiji.registration.tile_configuration import write_tile_configuration
from dlm_fiji.registration.tiles import TileSource

__all__ = ["Link", "Mosaic"]


@dataclass(frozen=True)
class Link:
    """One pair of neighbouring tiles.

    Attributes
    ----------
    i, j
        Tile numbers, i < j.
    shift
        Measured position of tile j relative to tile i, (y, x) px.
    correlation
        Pearson coefficient of the overlap at that shift, -1 … 1.
    residual
        Distance in px between ``shift`` and the final positions; NaN where no shift was measured.
    used
        Whether it decided the positions.
    reason
        Why it did not, in words; empty when used.
    """

    i: int
    j: int
    shift: tuple[float, float]
    correlation: float
    residual: float
    used: bool
    reason: str = ""


@dataclass
class Mosaic:
    """A stitched mosaic.

    Attributes
    ----------
    positions
        (N, 2) float y, x px: top-left pixel centre of every tile. The first tile keeps its nominal position.
    placed_by_stage
        (N,) bool: no usable link holds this tile, it lies where the stage (fitted to the others) says.
    links
        Every neighbouring pair with its shift, correlation and residual.
    names
        Names of the tiles.
    engine
        ``"native"`` or what made the positions.
    layout
        Where the nominal positions came from, in words.
    lens
        The distortion that was found in the tiles and is taken out in fusion; None where there is none to speak of.
        ``links`` and ``positions`` then are of the corrected tiles.
    local_deviation
        Median distance in px of local shifts within the overlaps from their link's; None where it was not looked at.
    channels
        Each channel as a mosaic of its own, where every channel was stitched by its own content; :attr:`image` is
        made of them. ``positions`` and ``links`` then are the reference channel's.
    fusion, interpolation
        How :attr:`image` is fused.
    seconds
        What the steps took, for the record.
    """

    tiles: TileSource
    positions: np.ndarray
    placed_by_stage: np.ndarray
    links: list[Link]
    names: list[str]
    engine: str = "native"
    layout: str = ""
    lens: LensModel | None = None
    local_deviation: float | None = None
    channels: list[Mosaic] = field(default_factory=list)
    fusion: str = "linear"
    interpolation: str = "cubic"
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def origin(self) -> np.ndarray:
        """(2,) int: the position of the fused image's pixel (0, 0)."""
        return self._extent[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the fused image, (H, W) or (H, W, C)."""
        return (*(int(n) for n in self._extent[1]), *self.tiles.shape[2:])

    @property
    def _extent(self) -> tuple[np.ndarray, np.ndarray]:
        """First pixel and size of what all channels cover."""
        positions = [channel.positions for channel in self.channels] or [self.positions]
        return mosaic_extent(np.concatenate(positions), self.tiles.shape)

    @cached_property
    def image(self) -> np.ndarray:
        """The whole fused image in the tiles' type; for a mosaic larger than memory use :meth:`region`."""
        return self.region()

    def region(self, rows: slice | None = None, cols: slice | None = None) -> np.ndarray:
        """A part of the fused image, reading only the tiles that touch it.

        Parameters
        ----------
        rows, cols
            In pixels of the fused image; the whole of it by default.
        """
        height, width = self.shape[:2]
        y0, y1, _ = (rows or slice(None)).indices(height)
        x0, x1, _ = (cols or slice(None)).indices(width)
        parts = [
            fuse_region(
                mosaic.tiles,
                mosaic.positions - self.origin,
                (y0, x0),
                (max(0, y1 - y0), max(0, x1 - x0)),
                fusion=self.fusion,
                interpolation=self.interpolation,
                lens=mosaic.lens,
            )
            for mosaic in self.channels or [self]
        ]
        return np.stack(parts, axis=-1) if self.channels else parts[0]

    def save(self, path: str | os.PathLike[str], pixel_um: float | None = None, stripe: int = 1024) -> Path:
        """Fuse into a pyramidal OME-TIFF (``.ome.tif``) or OME-Zarr (``.ome.zarr``), stripe by stripe.

        Memory holds ``stripe`` rows of the mosaic and one row of tiles, however large the mosaic is; the
        file appears whole or not at all.

        Parameters
        ----------
        pixel_um
            Pixel size in µm, written as calibration.
        """
        from dlm_fiji.micrograph import PyramidWriter

        record = {"what": "stitched mosaic", **self.summary()}
        with PyramidWriter(path, self.shape, self.tiles.dtype, pixel_um=pixel_um, provenance=record) as writer:
            for top in range(0, self.shape[0], stripe):
                for left in range(0, self.shape[1], 8 * stripe):
                    part = self.region(slice(top, top + stripe), slice(left, left + 8 * stripe))
                    writer.write(top, left, part)
        return Path(path)

    def write_positions(self, path: str | os.PathLike[str]) -> Path:
        """Write the positions as Fiji's ``TileConfiguration.registered.txt``."""
        return write_tile_configuration(path, self.names, self.positions)

    @property
    def stage_tiles(self) -> list[str]:
        """The names of the tiles that were placed by the stage."""
        return [name for name, stage in zip(self.names, self.placed_by_stage, strict=True) if stage]

    def summary(self) -> dict[str, Any]:
        """Plain numbers for the report and the run record."""
        used = [link for link in self.links if link.used]
        residuals = [link.residual for link in used]
        return {
            "engine": self.engine,
            "layout": self.layout,
            "tiles": len(self.positions),
            "shape": list(self.shape),
            "placed_by_stage": self.stage_tiles,
            "links": len(self.links),
            "links_used": len(used),
            "residual_rms_px": float(np.sqrt(np.mean(np.square(residuals)))) if residuals else None,
            "residual_max_px": float(max(residuals)) if residuals else None,
            "correlation_median": float(np.median([link.correlation for link in used])) if used else None,
            "channels_apart_px": [
                float(np.median(np.linalg.norm(own.positions - self.positions, axis=1))) for own in self.channels
            ],
            "local_deviation_px": self.local_deviation,
            "lens": None if self.lens is None else self.lens.summary(),
            "seconds": self.seconds,
        }
