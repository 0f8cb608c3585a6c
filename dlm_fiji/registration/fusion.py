"""Fusing placed tiles: each tile is interpolated once to its sub-pixel position, then blended.

Works on any region of the mosaic and reads only the tiles that touch it, so the whole is never needed in
memory.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from dlm_fiji.registration.lens_distortion import LensModel
from dlm_fiji.registration.subpixel import fractional_kernel
from dlm_fiji.registration.tiles import TileSource

__all__ = ["Fusion", "fuse_region", "mosaic_extent"]

Fusion = Literal["linear", "average", "maximum", "none"]


def mosaic_extent(positions: np.ndarray, tile_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Position (2,) int of the mosaic's first pixel, and its size (2,) int."""
    low = np.floor(positions.min(axis=0) + 1e-6).astype(int)
    high = np.ceil(positions.max(axis=0) - 1e-6).astype(int) + np.asarray(tile_shape[:2])
    return low, high - low


def _ramp(length: int, at: np.ndarray) -> np.ndarray:
    """Distance to the nearer end of a tile for its coordinates ``at``, 1 on its first and last pixel, 0 outside."""
    inside = (at > -1e-3) & (at < length - 1 + 1e-3)
    return np.where(inside, np.minimum(at + 1, length - at), 0).astype(np.float32)


def fuse_region(
    tiles: TileSource,
    positions: np.ndarray,
    corner: tuple[int, int],
    size: tuple[int, int],
    *,
    fusion: str = "linear",
    interpolation: str = "cubic",
    empty: float = 0.0,
    lens: LensModel | None = None,
) -> np.ndarray:
    """The fused image on rows corner[0] … corner[0] + size[0] - 1 and the columns likewise.

    Parameters
    ----------
    tiles, positions
        Tiles and their top-left corners (N, 2) y, x px in mosaic pixels.
    corner, size
        The region, in mosaic pixels.
    fusion
        ``linear``: weights fall linearly to the tile's edge; ``average``; ``maximum``; ``none``: the tile in
        whose middle the pixel lies most.
    interpolation
        ``cubic`` (Keys, a = -1/2), ``quintic``, ``linear``, or ``nearest`` (whole pixels, nothing
        interpolated). With a lens: OpenCV's cubic, Lanczos, linear and nearest, at positions rounded to 1/32 px.
    empty
        Value where no tile lies.
    lens
        Distortion that is taken out of the tiles, within the same interpolation.

    Returns
    -------
    (h, w) or (h, w, C) in the tiles' type, rounded and clipped for integers.
    """
    extra = tiles.shape[2:]
    total = np.zeros((*size, *extra), dtype=np.float32)
    weight = np.zeros(size, dtype=np.float32)
    corner_array = np.asarray(corner)
    for index, position in enumerate(positions):
        if interpolation == "nearest":
            position = np.rint(position)
        first = np.ceil(position - 1e-6).astype(int)
        low = np.maximum(first, corner_array)
        # a tile at a fraction of a pixel covers one whole pixel less
        high = np.minimum(
            np.floor(position + np.asarray(tiles.shape[:2]) - 1 + 1e-6).astype(int) + 1, corner_array + size
        )
        if (high <= low).any():
            continue
        if lens is None:
            part = _sampled(tiles.corrected(index), position, low, high, interpolation)
            down, across = (
                _ramp(tiles.shape[k], np.arange(int(low[k]), int(high[k])) - float(position[k])) for k in (0, 1)
            )
            down, across = down[:, None], across[None, :]
        else:
            span = [(int(low[k]), int(high[k])) for k in (0, 1)]
            rows, cols = lens.raw(index, span[0], span[1], -position)
            part = _undistorted(tiles.corrected(index), rows, cols, interpolation)
            down, across = (_ramp(n, at) for n, at in zip(tiles.shape[:2], (rows, cols), strict=True))
        inside = tuple(slice(int(a), int(b)) for a, b in zip(low - corner_array, high - corner_array, strict=True))
        if fusion == "average":
            here = ((down > 0) & (across > 0)).astype(np.float32)
        elif fusion == "none":
            here = np.minimum(down, across)
        else:
            here = down * across
        spread = here[..., None] if extra else here
        if fusion in ("linear", "average"):
            total[inside] += part * spread
            weight[inside] += here
        else:
            better = here > weight[inside] if fusion == "none" else (weight[inside] == 0)
            chosen = better[..., None] if extra else better
            if fusion == "maximum":
                chosen = (chosen | (part > total[inside])) & (spread > 0)
                here = (here > 0).astype(np.float32)
            total[inside] = np.where(chosen, part, total[inside])
            weight[inside] = np.maximum(weight[inside], here)
    covered = weight > 0
    if fusion in ("linear", "average"):
        divisor = np.where(covered, weight, 1)
        total /= divisor[..., None] if extra else divisor
    total[~covered] = empty
    if tiles.dtype.kind in "ui":
        limits = np.iinfo(tiles.dtype)
        return np.clip(np.rint(total), limits.min, limits.max).astype(tiles.dtype)
    return total.astype(tiles.dtype)


def _undistorted(image: np.ndarray, rows: np.ndarray, cols: np.ndarray, kind: str) -> np.ndarray:
    """The tile's values at its raw coordinates, float32; OpenCV's kernels, positions rounded to 1/32 px."""
    pad = 8
    low = [max(0, int(at.min()) - pad) for at in (rows, cols)]
    high = [min(n, int(at.max()) + 2 + pad) for at, n in zip((rows, cols), image.shape, strict=False)]
    source = np.asarray(image[low[0] : high[0], low[1] : high[1]], dtype=np.float32)
    flag = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
    at = (cols - low[1], rows - low[0], flag.get(kind, cv2.INTER_LANCZOS4))
    planes = source.reshape(*source.shape[:2], -1)
    moved = [cv2.remap(planes[..., c], *at, borderMode=cv2.BORDER_REPLICATE) for c in range(planes.shape[2])]
    return np.stack(moved, axis=-1).reshape(*rows.shape, *image.shape[2:])


def _sampled(image: np.ndarray, position: np.ndarray, low: np.ndarray, high: np.ndarray, kind: str) -> np.ndarray:
    """The tile's values at the whole mosaic pixels low … high - 1, float32."""
    offset = low - position
    whole = np.floor(offset + 1e-6).astype(int)
    fraction = np.clip(offset - whole, 0, None)
    pad = 4
    height, width = (int(n) for n in high - low)
    y0, x0 = whole - pad
    source = np.asarray(image[max(0, y0) : y0 + height + 2 * pad, max(0, x0) : x0 + width + 2 * pad], dtype=np.float32)
    top, left = max(0, -y0), max(0, -x0)
    if kind == "nearest" or (fraction < 1e-6).all():
        return source[pad - top : pad - top + height, pad - left : pad - left + width]
    ky, kx = (fractional_kernel(float(f), kind) for f in fraction)
    moved = cv2.sepFilter2D(np.ascontiguousarray(source), cv2.CV_32F, kx, ky, borderType=cv2.BORDER_REPLICATE)
    return moved[pad - top : pad - top + height, pad - left : pad - left + width]
