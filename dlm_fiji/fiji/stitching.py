"""Fiji's Grid/Collection stitching (Preibisch, Saalfeld & Tomancak 2009) called headless; the native result type.

The tiles are handed over as TIFF files with their nominal positions ("Positions from file"): that covers every scan
order of the native engine, and leaves nothing to the plugin's guesses about file names.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.fiji.convert import from_imageplus
from dlm_fiji.fiji.macro import session
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class, start
from dlm_fiji.micrograph import to_array
from dlm_fiji.registration import Link, Mosaic, StitchSettings
from dlm_fiji.registration.layout import grid_cells, grid_positions
from dlm_fiji.registration.tiles import TileSource, to_grey

__all__ = ["available", "stitch"]

COMMAND = "Grid/Collection stitching"

#: Names of the plugin's blending for those of the native engine. Overlapping pixels of the last tile on top ("none")
#: it has not: its "Intensity of random input tile" is another thing.
FUSION = {"linear": "Linear Blending", "average": "Average", "maximum": "Max. Intensity"}

#: Settings of the native engine that the plugin has no counterpart for.
NATIVE_ONLY = (
    "search", "wide", "peaks", "outlier", "sigma", "coarsest_side", "channels", "flat_field", "interpolation", "lens",
    "threads",
)  # fmt: skip

_LINK = re.compile(
    r"tile_(\d+)\.tif\[\d+\] <- tile_(\d+)\.tif\[\d+\]: \(([-\d.eE]+), ([-\d.eE]+)\)"
    r"(?: correlation \(R\)=([-\d.eE]+|NaN))?"
)
_DROPPED = re.compile(
    r"(?:Identified link between|Removing link|removing) .*tile_(\d+)\.tif.*tile_(\d+)\.tif", re.IGNORECASE
)
_POSITION = re.compile(r"tile_(\d+)\.tif; *; *\(([-\d.eE]+), *([-\d.eE]+)\)")


def available() -> Availability:
    """Whether this ImageJ has the plugin, its version, and how to install it."""
    return plugins_available()["stitching"]


def stitch(
    tiles: Any,
    grid: tuple[int, int] | None = None,
    *,
    positions: np.ndarray | None = None,
    settings: StitchSettings | None = None,
    max_avg_displacement: float = 2.5,
    absolute_displacement: float = 3.5,
    fuse: bool = False,
    **changes: Any,
) -> Mosaic:
    """Stitch tiles with Fiji's plugin.

    Parameters
    ----------
    tiles, grid, positions
        As for :func:`dlm_fiji.registration.stitch`.
    settings, **changes
        The native engine's settings that the plugin has too: ``overlap``, ``order``, ``start``,
        ``min_correlation`` (its regression threshold), ``channel`` and ``fusion``.
    max_avg_displacement, absolute_displacement
        The plugin's thresholds for links that disagree: ratio of the largest to the mean displacement, and px.
    fuse
        Let the plugin blend too; the mosaic's ``image`` then holds its pixels. Otherwise the positions are the
        plugin's, and the pixels are fused on demand as everywhere.

    Returns
    -------
    Mosaic
        Links with the plugin's correlations; a diagonal pair is a link too, as the plugin uses them.

    Raises
    ------
    SetupError
        The plugin is not there.
    ConfigurationError
        A setting was given that the plugin does not have.
    InputError
        The layout does not fit the tiles, or the plugin found no positions.
    """
    plugin = require("stitching")
    s = StitchSettings.of(settings, **changes)
    _refuse_native_only(s)
    started = time.perf_counter()
    source = TileSource(tiles)
    stage = _stage(source, grid, positions, s)
    start()
    with tempfile.TemporaryDirectory(prefix="dlm_fiji_stitch_") as folder:
        _write_tiles(Path(folder), source, stage, s, colour=fuse)
        log, fused = _run(Path(folder), s, max_avg_displacement, absolute_displacement, fuse)
        registered = Path(folder) / "stage.registered.txt"
        if not registered.is_file():
            raise InputError(f"Fiji's stitching found no positions: {_last_words(log)}.")
        found = _positions(registered.read_text(), len(source))
    # The plugin's coordinates start anywhere; ours keep the first tile at its nominal place.
    found += stage[0] - found[0]
    links = _links(log, found, s.min_correlation, absolute_displacement)
    held = {k for link in links if link.used for k in (link.i, link.j)}
    mosaic = Mosaic(
        source,
        found,
        np.array([k not in held and len(source) > 1 for k in range(len(source))]),
        links,
        source.names,
        engine=f"Fiji, Grid/Collection stitching {plugin.version or '(version unknown)'}",
        fusion=s.fusion,
        interpolation=s.interpolation,
        seconds={"total": time.perf_counter() - started},
    )
    if fuse and fused is not None:
        mosaic.__dict__["image"] = fused
    return mosaic


def _refuse_native_only(s: StitchSettings) -> None:
    defaults = StitchSettings()
    for name in NATIVE_ONLY:
        if getattr(s, name) != getattr(defaults, name):
            raise ConfigurationError(f"Fiji's stitching has no setting {name!r}; leave it out or use engine='native'.")
    if s.fusion not in FUSION:
        raise ConfigurationError(f"Fiji's stitching has no fusion {s.fusion!r}; it has {', '.join(FUSION)}.")


def _stage(
    source: TileSource, grid: tuple[int, int] | None, positions: np.ndarray | None, s: StitchSettings
) -> np.ndarray:
    if positions is not None:
        stage = np.asarray(positions, dtype=float)
        if stage.shape != (len(source), 2) or not np.isfinite(stage).all():
            raise InputError(f"{len(source)} tiles need positions of shape ({len(source)}, 2); given: {stage.shape}.")
        return stage
    if grid is None:
        raise InputError("Stitching needs the grid (rows, columns) or the positions of the tiles.")
    if grid[0] * grid[1] != len(source):
        raise InputError(
            f"A grid of {grid[0]} rows and {grid[1]} columns holds {grid[0] * grid[1]} tiles, "
            f"but there are {len(source)}."
        )
    cells = grid_cells(grid, s.order, s.start)
    return grid_positions(cells - cells[0], source.shape[:2], s.overlap)


def _write_tiles(folder: Path, source: TileSource, stage: np.ndarray, s: StitchSettings, colour: bool) -> None:
    lines = ["dim = 2"]
    for index in range(len(source)):
        tile = source.read(index)
        if tile.ndim == 3 and not (colour and tile.shape[-1] == 3 and tile.dtype == np.uint8):
            tile = to_grey(tile, s.channel)
        elif tile.dtype not in (np.uint8, np.uint16, np.float32):
            tile = tile.astype(np.float32)
        photometric = "rgb" if tile.ndim == 3 else "minisblack"
        tifffile.imwrite(folder / f"tile_{index:04d}.tif", tile, photometric=photometric)
        y, x = (float(value) for value in stage[index])
        lines.append(f"tile_{index:04d}.tif; ; ({x!r}, {y!r})")
    (folder / "stage.txt").write_text("\n".join(lines) + "\n")


def _run(folder: Path, s: StitchSettings, max_avg: float, absolute: float, fuse: bool) -> tuple[str, np.ndarray | None]:
    method = FUSION[s.fusion] if fuse else "Do not fuse images (only write TileConfiguration)"
    arguments = (
        f"type=[Positions from file] order=[Defined by TileConfiguration] directory=[{folder}] layout_file=stage.txt "
        f"fusion_method=[{method}] regression_threshold={s.min_correlation} "
        f"max/avg_displacement_threshold={max_avg} absolute_displacement_threshold={absolute} compute_overlap "
        "subpixel_accuracy computation_parameters=[Save memory (but be slower)] image_output=[Fuse and display]"
    )
    with session() as open_images:
        open_images.command(COMMAND, arguments)
        fused = None
        if fuse:
            imp = open_images.active()
            if imp is None:
                raise InputError(f"Fiji's stitching fused nothing: {_last_words(open_images.log)}.")
            if int(imp.getNChannels()) == 3 and imp.isComposite():
                java_class("ij.IJ").run(imp, "RGB Color", "")
                imp = open_images.active()
            fused = to_array(from_imageplus(imp))
        return open_images.log, fused


def _positions(text: str, count: int) -> np.ndarray:
    found = np.full((count, 2), np.nan)
    for index, x, y in _POSITION.findall(text):
        found[int(index)] = float(y), float(x)
    if np.isnan(found).any():
        lost = [str(k + 1) for k in np.nonzero(np.isnan(found[:, 0]))[0]]
        raise InputError(f"Fiji's stitching placed no tile number {', '.join(lost)}; use engine='native'.")
    return found


def _links(log: str, positions: np.ndarray, threshold: float, absolute: float) -> list[Link]:
    dropped = {tuple(sorted((int(a), int(b)))) for a, b in _DROPPED.findall(log)}
    links = []
    for a, b, dx, dy, r in _LINK.findall(log):
        i, j = int(a), int(b)
        shift = np.array([float(dy), float(dx)])
        if j < i:
            i, j, shift = j, i, -shift
        correlation = float(r) if r else float("nan")
        residual = float(np.hypot(*(positions[j] - positions[i] - shift)))
        reason = ""
        if not correlation >= threshold:
            reason = f"correlation {correlation:.2f} is under {threshold}"
        elif (i, j) in dropped:
            reason = f"it disagrees with the other links by more than {absolute} px"
        links.append(Link(i, j, (float(shift[0]), float(shift[1])), correlation, residual, not reason, reason))
    return links


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
