"""Deep-zoom tiles (the DZI layout), so that a page shows an image of any size and loads what is in view."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from dlm_fiji.micrograph import RegionReader, open_region_reader

__all__ = ["write_deep_zoom"]


def write_deep_zoom(
    source: str | os.PathLike[str] | RegionReader,
    folder: str | os.PathLike[str],
    *,
    tile: int = 512,
    quality: int = 90,
    window: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Cut an image into tiles of all resolutions: ``folder/<level>/<column>_<row>.jpg`` and ``folder.dzi``.

    Level 0 is one pixel, each level twice as large as the one before, the last the image itself, as in
    Microsoft's Deep Zoom format, so other viewers (OpenSeadragon) open the ``.dzi`` too. Memory holds a few
    tiles, whatever the size of the image: a tile is made from its four finer ones, depth first.

    Parameters
    ----------
    source
        An image file, grey or RGB, or an open reader.
    folder
        Where the tiles go; made if missing.
    tile
        Side of a tile in pixels.
    quality
        JPEG quality; tiles are to look at, not to measure on.
    window
        Intensities shown black and white; by default 0 and 255 for 8 bits, else the extremes of a coarse
        sample.

    Returns
    -------
    dict
        ``width height tile levels``: what the page's viewer needs.
    """
    reader = source if isinstance(source, RegionReader) else open_region_reader(source)
    folder = Path(folder)
    try:
        height, width = reader.shape[:2]
        last = max(0, math.ceil(math.log2(max(height, width))))
        low, high = window or _window(reader)

        def shown(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
            part = reader.read(y0, y1, x0, x1)
            if part.ndim == 3 and part.shape[2] != 3:
                part = part[..., 0]
            if part.dtype != np.uint8 or (low, high) != (0, 255):
                scaled = (part.astype(np.float32) - low) / max(high - low, 1e-12)
                part = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
            return part

        def size(level: int) -> tuple[int, int]:
            factor = 2 ** (last - level)
            return math.ceil(height / factor), math.ceil(width / factor)

        def make(level: int, row: int, column: int) -> np.ndarray:
            rows, columns = size(level)
            y0, x0 = row * tile, column * tile
            y1, x1 = min(y0 + tile, rows), min(x0 + tile, columns)
            if level == last:
                pixels = shown(y0, y1, x0, x1)
            else:
                fine_rows, fine_columns = size(level + 1)
                lines = []
                for r in (2 * row, 2 * row + 1):
                    if r * tile < fine_rows:
                        parts = [make(level + 1, r, c) for c in (2 * column, 2 * column + 1) if c * tile < fine_columns]
                        lines.append(np.concatenate(parts, axis=1))
                pixels = _half(np.concatenate(lines, axis=0))
            place = folder / str(level)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{column}_{row}.jpg").write_bytes(imagecodecs.jpeg_encode(pixels, level=quality))
            return pixels

        # The coarsest level that still fits into one tile is the root; below it halving goes on in one piece.
        root = max(0, last - math.ceil(math.log2(max(1.0, max(height, width) / tile))))
        pixels = make(root, 0, 0)
        for level in range(root - 1, -1, -1):
            pixels = _half(pixels)
            (folder / str(level)).mkdir(parents=True, exist_ok=True)
            (folder / str(level) / "0_0.jpg").write_bytes(imagecodecs.jpeg_encode(pixels, level=quality))
    finally:
        if reader is not source:
            reader.close()
    folder.with_name(folder.name + ".dzi").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" '
        f'Overlap="0" TileSize="{tile}">'
        f'<Size Width="{width}" Height="{height}"/></Image>\n',
        encoding="utf-8",
    )
    return {"width": width, "height": height, "tile": tile, "levels": last + 1}


def _half(pixels: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 pixels; an odd last row or column counts twice."""
    rows, columns = pixels.shape[:2]
    fill = [(0, rows % 2), (0, columns % 2)] + [(0, 0)] * (pixels.ndim - 2)
    even = np.pad(pixels, fill, mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, *even.shape[2:])
    return np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)


def _window(reader: RegionReader) -> tuple[float, float]:
    if reader.dtype == np.uint8:
        return 0.0, 255.0
    height, width = reader.shape[:2]
    side = 256
    samples = [
        reader.read(y, min(y + side, height), x, min(x + side, width))
        for y in range(0, height, max(side, height // 6))
        for x in range(0, width, max(side, width // 6))
    ]
    values = np.concatenate([np.ravel(sample) for sample in samples])
    low, high = np.nanpercentile(values, (0.1, 99.9))
    return float(low), float(high)
