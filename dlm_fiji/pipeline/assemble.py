"""From tiles to pairs: illumination, stitch, match, register."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import (
    Field,
    check_content,
    fields_of,
    from_array,
    open_image,
    pixel_size_um,
    save_image,
    to_array,
    write_json,
)
from dlm_fiji.pipeline.context import Context, as_rgb8, open_alike
from dlm_fiji.registration import Match, Similarity
from dlm_fiji.steps.comparison import brightness_gains
from dlm_fiji.steps.flat_field import correct_illumination
from dlm_fiji.steps.mosaicking import stitch_tiles
from dlm_fiji.steps.pairing import LabelMatch, find_label, pair_with_label

__all__ = ["illumination", "match", "register", "stitch"]

FLAT = "flat_field.tif"
MANY = 64
"""More tiles than this make a good mean, and their overlaps would need more memory than a tile's share."""


def illumination(context: Context) -> dict[str, Any]:
    """One flat field from all tiles, every tile divided by it in ImageJ."""
    files = context.tile_files
    grid = context.grid
    if grid is not None and len(files) > grid[0] * grid[1]:
        raise InputError(
            f"The grid of {grid[0]} x {grid[1]} has {grid[0] * grid[1]} tiles, but {len(files)} were found in "
            f"{files[0].parent}; correct [input] grid."
        )
    tiles = open_alike(files, context.settings.input.pixel_um, "Tile")
    folder = context.run.folder("illumination")
    if not context.settings.illumination.enabled:
        for path, tile in zip(files, tiles, strict=True):
            save_image(tile, folder / "tiles" / _tif(path.name), provenance=context.provenance("illumination"))
        return {"engine": "none", "note": "switched off"}
    # A first stitching of the uneven tiles says where they overlap; vignetting does not move its sub-pixel peaks far.
    rough = stitch_tiles(_on_stage(context, files), grid, context.settings.stitch)
    placed = ~rough.placed_by_stage
    positions = rough.positions if placed.sum() >= 4 and len(tiles) <= MANY else None
    result = correct_illumination(tiles, context.settings.illumination.macro, positions)
    facts = context.provenance("illumination", engine=result.engine)
    save_image(result.flat_field, folder / FLAT, provenance=facts)
    for path, tile in zip(files, result.tiles, strict=True):
        save_image(tile, folder / "tiles" / _tif(path.name), provenance=facts)
    flat = result.flat_field.values
    return {
        "engine": result.engine,
        "note": f"{result.note}; flat field {flat.min():.2f} to {flat.max():.2f}",
    }


def stitch(context: Context) -> dict[str, Any]:
    """The tiles as one mosaic, with its links."""
    folder = context.run.folder("stitch")
    files = [context.run.path / "illumination" / "tiles" / _tif(path.name) for path in context.tile_files]
    mosaic = stitch_tiles(_on_stage(context, files), context.grid, context.settings.stitch, context.settings.engine)
    pixel = pixel_size_um(open_image(files[0])) or context.settings.input.pixel_um
    rows, columns = covered(mosaic.positions - mosaic.origin, mosaic.tiles.shape[:2], mosaic.shape[:2])
    image = mosaic.region(rows, columns)
    facts = context.provenance("stitch", engine=mosaic.engine)
    save_image(from_array(image, pixel), folder / "mosaic.tif", provenance=facts)
    write_json(
        folder / "links.json",
        {
            "positions": mosaic.positions,
            # Of the saved mosaic's first pixel, in the positions' coordinates.
            "origin": mosaic.origin + np.array([rows.start, columns.start]),
            "tile_shape": list(mosaic.tiles.shape[:2]),
            "placed_by_stage": [bool(b) for b in mosaic.placed_by_stage],
            "names": [path.name for path in files],
            "links": [
                {
                    "i": link.i,
                    "j": link.j,
                    "shift": list(link.shift),
                    "correlation": link.correlation,
                    "residual": link.residual,
                    "used": link.used,
                }
                for link in mosaic.links
            ],
        },
    )
    summary = mosaic.summary()
    residual = summary["residual_rms_px"]
    lost = f"; placed by the stage: {', '.join(mosaic.stage_tiles)}" if mosaic.stage_tiles else ""
    spread = "" if residual is None else f", residual {residual:.3f} px RMS"
    told = "" if _complete(context, len(files)) else f"; layout: {mosaic.layout}"
    note = f"{len(files)} tiles, {summary['links_used']} of {summary['links']} links used{spread}{lost}{told}"
    return {"engine": mosaic.engine, "note": note}


def match(context: Context) -> dict[str, Any]:
    """Every label found in the mosaic."""
    files = context.label_files
    if not files:
        raise InputError("[input] labels is not set; training and comparison need high-resolution label images.")
    mosaic = as_rgb8(context.image("stitch", "mosaic.tif"))
    found = []
    for index, path in enumerate(files):
        context.progress(index, len(files), path.name)
        label = open_image(path)
        check_content(label, str(path))
        found.append(
            find_label(mosaic, as_rgb8(to_array(label)), path.name, context.settings.scale, context.settings.match)
        )
    folder = context.run.folder("match")
    write_json(folder / "matches.json", [_described(f) for f in found])
    worst = min(found, key=lambda f: f.match.correlation)
    return {
        "engine": "native",
        "note": f"{len(found)} labels found, lowest correlation {worst.match.correlation:.3f} ({worst.name})",
    }


def register(context: Context) -> dict[str, Any]:
    """Every label laid exactly onto the mosaic's pixels; writes one pair of files a label."""
    mosaic = as_rgb8(context.image("stitch", "mosaic.tif"))
    settings = context.settings
    folder = context.run.folder("register")
    roles = assign_roles(len(context.label_files))
    matches = [_read(entry) for entry in json.loads((context.run.path / "match" / "matches.json").read_text("utf-8"))]
    fields, shifts, known = [], [], []
    pixel = pixel_size_um(open_image(context.run.path / "stitch" / "mosaic.tif"))
    for index, path in enumerate(context.label_files):
        context.progress(index, len(roles), path.name)
        label = as_rgb8(to_array(open_image(path)))
        found = matches[index]
        # 004: the blind test set is not warp-corrected.
        blocks = settings.registration.blocks if settings.registration.elastic and roles[index] != "test" else None
        pair = pair_with_label(mosaic, label, found, settings.scale, blocks, settings.engine)
        if blocks is not None:
            shifts.append(pair.block_shift_px)
        if roles[index] == "train":
            known.append((pair.lr, pair.hr))
        facts = context.provenance("register", label=path.name, role=roles[index])
        hr_pixel = None if pixel is None else (pixel[0] / settings.scale, pixel[1] / settings.scale)
        save_image(from_array(pair.lr, pixel), folder / f"field_{index:02d}_lr.tif", provenance=facts)
        save_image(from_array(pair.hr, hr_pixel), folder / f"field_{index:02d}_hr.tif", provenance=facts)
        fields.append({"label": path.name, "role": roles[index], "rectangle": list(found.rectangle)})
    write_json(folder / "fields.json", fields)
    write_json(folder / "gains.json", brightness_gains(known))
    note = f"block shifts {np.mean(shifts):.3f} px RMS" if shifts else "without blocks"
    engine = "native" if settings.engine == "native" else "native, then NanoJ-Core"
    return {"engine": engine, "note": f"shift, rotation, scale; {note}"}


def covered(positions: NDArray[np.float64], tile: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the mosaic without the ragged edge that the stage's errors leave uncovered.

    ``positions`` are relative to the mosaic of ``shape``. An edge more ragged than a tenth of a tile is left as it
    is: then tiles are missing, and their neighbours' content must not be cut away.
    """
    slices = []
    for axis in (0, 1):
        starts, size = positions[:, axis], tile[axis]
        low = int(np.ceil(starts[starts < starts.min() + size / 2].max()))
        high = int(np.floor(starts[starts > starts.max() - size / 2].min() + size))
        low = low if low <= size / 10 else 0
        high = high if shape[axis] - high <= size / 10 else shape[axis]
        slices.append(slice(low, high))
    return slices[0], slices[1]


def assign_roles(count: int) -> list[str]:
    """Which label fields train, validate and test, by their order alone: the last tests, the one before validates.

    Of many fields a tenth (at least one) goes to each (000: 149 training, 10 validation, 20 test images).
    """
    if count < 3:
        raise InputError(
            f"{count} label field(s) cannot be split into training, validation and test areas; give at least 3."
        )
    each = max(1, count // 10)
    return ["train"] * (count - 2 * each) + ["validate"] * each + ["test"] * each


def _on_stage(context: Context, files: list[Path]) -> Sequence[Path | Field]:
    """``files``, made from the tiles; where the grid does not place them all, with the tiles' places on the stage."""
    if _complete(context, len(files)):
        return files
    pixel = context.settings.input.pixel_um
    known = [fields_of(tile)[0] for tile in context.tile_files]
    return [
        Field(path, 0, 1, field.pixel_um or ((pixel, pixel) if pixel else None), field.stage_um)
        for path, field in zip(files, known, strict=True)
    ]


def _complete(context: Context, count: int) -> bool:
    """Whether the grid is given, and full."""
    return context.grid is not None and count == context.grid[0] * context.grid[1]


def _described(found: LabelMatch) -> dict[str, Any]:
    return {
        "label": found.name,
        "position": list(found.match.position),
        "correlation": found.match.correlation,
        "rotation_deg": found.match.rotation,
        "rectangle": list(found.rectangle),
        "match": asdict(found.match),
    }


def _read(entry: dict[str, Any]) -> LabelMatch:
    """What :func:`_described` wrote."""
    found, turn = entry["match"], entry["match"]["similarity"]
    similarity = None if turn is None else Similarity(**{**turn, "matrix": np.array(turn["matrix"])})
    y0, x0, y1, x1 = entry["rectangle"]
    return LabelMatch(Match(**{**found, "similarity": similarity}), entry["label"], (y0, x0), (y1 - y0, x1 - x0))


def _tif(name: str) -> str:
    return name.rsplit(".", 1)[0] + ".tif"
