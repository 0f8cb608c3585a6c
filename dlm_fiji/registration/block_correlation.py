"""Block-wise cross-correlation: one shift and one similarity for every block of a pair.

All blocks go through one batch of Fourier transforms. The peak of the correlation is the block's shift, its
Pearson coefficient there the block's weight (004, *Data preprocessing*; NanoJ, Laine et al., J. Phys. D 52,
163001 (2019), doi:10.1088/1361-6463/ab0261).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

__all__ = ["BlockShifts", "block_grid", "block_shifts", "spread_by_distance"]


@dataclass(frozen=True)
class BlockShifts:
    """Shifts of a grid of blocks.

    Attributes
    ----------
    centres
        (n, 2) y, x px of the block centres.
    shifts
        (n, 2) dy, dx px: moving(p + shift) lies on fixed(p).
    similarity
        (n,) Pearson coefficient at the shift, signed; 0 for a block without content.
    """

    centres: np.ndarray
    shifts: np.ndarray
    similarity: np.ndarray


def block_grid(
    shape: tuple[int, int], block: tuple[int, int], stride: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """First rows and first columns of blocks that cover an image from edge to edge, evenly spread."""
    starts = []
    for n, size, step in zip(shape, block, stride, strict=True):
        count = max(1, int(np.ceil((n - size) / step)) + 1) if n > size else 1
        starts.append(np.rint(np.linspace(0, max(0, n - size), count)).astype(int))
    return starts[0], starts[1]


def block_shifts(
    moving: np.ndarray,
    fixed: np.ndarray,
    block: tuple[int, int],
    stride: tuple[int, int] | None = None,
    *,
    max_shift: float | None = None,
    window: bool = True,
    polarity: int = 1,
    content: float = 1e-4,
) -> BlockShifts:
    """Shift and similarity of every block.

    Parameters
    ----------
    moving, fixed
        (H, W) float32.
    block, stride
        Block size and spacing (y, x) px; blocks touch by default.
    max_shift
        Peaks farther out are not looked at, px; a third of the block by default.
    window
        Mean removed and cosine window before the transform (ours); without it the mean is removed only.
    polarity
        1: bright lies on bright; -1: on dark; 0: whichever correlates more, for each block.
    content
        Blocks whose standard deviation is below this share of the image's have no content.

    Returns
    -------
    BlockShifts
    """
    height, width = (min(b, n) for b, n in zip(block, fixed.shape, strict=True))
    rows, cols = block_grid(fixed.shape, (height, width), stride or (height, width))
    views_f, views_m = (
        np.lib.stride_tricks.sliding_window_view(image, (height, width))[np.ix_(rows, cols)].reshape(-1, height, width)
        for image in (fixed, moving)
    )
    centres = np.stack(np.meshgrid(rows + (height - 1) / 2, cols + (width - 1) / 2, indexing="ij"), -1).reshape(-1, 2)
    reach = np.array([max_shift if max_shift is not None else min(height, width) / 3] * 2)
    reach = np.minimum(np.ceil(reach), [height // 2 - 1, width // 2 - 1]).astype(int)
    shifts, similarity = np.zeros_like(centres), np.zeros(len(centres))
    taper = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32) ** 0.5
    limit_f, limit_m = (content * float(image.std()) + 1e-12 for image in (fixed, moving))
    batch = max(1, int(2**22 // (height * width)))
    for first in range(0, len(centres), batch):
        part = slice(first, first + batch)
        f = views_f[part] - views_f[part].mean(axis=(1, 2), keepdims=True)
        m = views_m[part] - views_m[part].mean(axis=(1, 2), keepdims=True)
        alive = (f.std(axis=(1, 2)) > limit_f) & (m.std(axis=(1, 2)) > limit_m)
        if window:
            f, m = f * taper, m * taper
        norm = np.sqrt((f**2).sum(axis=(1, 2)) * (m**2).sum(axis=(1, 2))) + 1e-20
        spectrum = scipy.fft.rfft2(m) * np.conj(scipy.fft.rfft2(f))
        surface = scipy.fft.irfft2(spectrum, (height, width)) / norm[:, None, None]
        at_y, at_x = (np.arange(-r, r + 1) for r in reach)
        surface = surface[:, at_y % height][:, :, at_x % width]
        sign = np.ones(len(f))
        if polarity < 0:
            sign[:] = -1
        elif polarity == 0:
            sign = np.where(surface.max(axis=(1, 2)) >= -surface.min(axis=(1, 2)), 1.0, -1.0)
        surface = surface * sign[:, None, None]
        peak, value = _parabolic(surface)
        shifts[part] = np.where(alive[:, None], peak - reach, 0)
        similarity[part] = np.where(alive, sign * np.clip(value, 0, 1), 0)
    return BlockShifts(centres, shifts, similarity)


def _parabolic(surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum of each surface (n, h, w), by a parabola through its neighbours in y and in x, and its height."""
    count, height, width = surface.shape
    flat = surface.reshape(count, -1).argmax(axis=1)
    y, x = np.divmod(flat, width)
    n = np.arange(count)
    top = surface[n, y, x]
    result = []
    for at, length, neighbour in ((y, height, (1, 0)), (x, width, (0, 1))):
        inside = (at > 0) & (at < length - 1)
        before = surface[n, np.clip(y - neighbour[0], 0, height - 1), np.clip(x - neighbour[1], 0, width - 1)]
        after = surface[n, np.clip(y + neighbour[0], 0, height - 1), np.clip(x + neighbour[1], 0, width - 1)]
        bend = before - 2 * top + after
        move = np.where(inside & (bend < 0), 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0)
        result.append(at + np.clip(move, -0.5, 0.5))
    return np.stack(result, axis=1), top


def spread_by_distance(blocks: BlockShifts, shape: tuple[int, int], min_similarity: float, cell: int = 8) -> np.ndarray:
    """The translation map (2, H, W): at each pixel the mean of all block shifts, weighted by similarity and
    nearness.

    The nearness is NanoJ's ((R - d)/(R d))² with d the distance to the block's centre plus 1 and R the image
    diagonal. Evaluated every ``cell`` px and interpolated.
    """
    height, width = shape
    weight = np.where(np.abs(blocks.similarity) >= min_similarity, np.abs(blocks.similarity), 0)
    if not (weight > 0).any():
        return np.zeros((2, height, width), np.float32)
    kept = weight > 0
    centres, shifts, weight = blocks.centres[kept], blocks.shifts[kept], weight[kept]
    rows = np.linspace(0, height - 1, max(2, -(-height // cell)))
    cols = np.linspace(0, width - 1, max(2, -(-width // cell)))
    diagonal = float(np.hypot(height, width))
    d2 = (rows[:, None, None] - centres[:, 0]) ** 2 + (cols[None, :, None] - centres[:, 1]) ** 2
    d = np.sqrt(d2) + 1
    near = np.clip((diagonal - d) / (diagonal * d), 0, None) ** 2 * weight
    near /= near.sum(axis=2, keepdims=True)
    nodes = np.moveaxis(near @ shifts, -1, 0)
    return from_nodes(nodes, shape)


def from_nodes(nodes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Values (2, h, w) at nodes spread evenly from the first to the last pixel, interpolated to (2, H, W)."""
    layers = []
    rows = np.linspace(0, nodes.shape[1] - 1, shape[0])
    cols = np.linspace(0, nodes.shape[2] - 1, shape[1])
    for layer in nodes:
        down = _lerp(layer, rows)
        layers.append(_lerp(down.T, cols).T)
    return np.stack(layers).astype(np.float32)


def _lerp(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    low = np.clip(np.floor(at).astype(int), 0, len(values) - 2) if len(values) > 1 else np.zeros(len(at), int)
    fraction = (at - low)[:, None]
    high = np.minimum(low + 1, len(values) - 1)
    return values[low] * (1 - fraction) + values[high] * fraction
