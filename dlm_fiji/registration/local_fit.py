"""Dense sub-pixel fit: what every small region says about the shift, and one smooth field that obeys them
all.

In a window around each node, fixed ≈ gain·moving(· + e) + offset, with gain and offset free in every window
(Lucas & Kanade 1981, gradients of both images averaged as in Malis' efficient second-order minimisation). An
inverted or gamma-changed pair therefore needs nothing special. Each window yields a 2 × 2 information matrix
N and a vector b; the field d minimises Σ (d - d₀ - N⁻¹b)ᵀ N (d - d₀ - N⁻¹b) + ∫|∇∇d|²/κ², the bending energy
of a thin plate: a smooth edge says nothing along itself, an empty region nothing at all, and there the plate
decides.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.fft

__all__ = ["RegionVotes", "nodes_to_field", "region_votes", "solve_plate"]


class RegionVotes:
    """What the windows say: ``information`` (3, h, w) yy, yx, xx in px⁻², ``pull`` (2, h, w) y, x in px⁻¹,
    ``agreement`` (h, w) squared local correlation 0 … 1."""

    def __init__(self, information: np.ndarray, pull: np.ndarray, agreement: np.ndarray) -> None:
        self.information, self.pull, self.agreement = information, pull, agreement


def region_votes(
    moving: np.ndarray,
    fixed: np.ndarray,
    nodes: tuple[int, int],
    *,
    valid: np.ndarray,
    sigma: float,
    spread: float = 1.0,
    model_error: float = 0.02,
) -> RegionVotes:
    """Information and pull of the windows around ``nodes`` evenly spread cells.

    Parameters
    ----------
    moving, fixed
        (H, W) float32, aligned to about a pixel, smoothed by ``sigma`` px.
    nodes
        Cells (h, w) in which the image is divided.
    valid
        (H, W) float32 weights 0 … 1, 0 where moving was read outside its image.
    spread
        Standard deviation of the Gaussian window, in cells.
    model_error
        Part of the local variance that gain and offset are not trusted to explain.
    """
    height, width = fixed.shape
    size = (nodes[1], nodes[0])
    my, mx = _gradient(moving)
    fy, fx = _gradient(fixed)

    def mean(product: np.ndarray) -> np.ndarray:
        small = cv2.resize(product, size, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(small, (0, 0), spread, borderType=cv2.BORDER_CONSTANT).astype(np.float64)

    amount = np.maximum(mean(valid), 1e-6)
    layers = {"m": moving, "f": fixed, "a": my, "b": mx, "c": fy, "d": fx}
    weighted = {name: layer * valid for name, layer in layers.items()}
    single = {name: mean(layer) / amount for name, layer in weighted.items()}

    def covariance(p: str, q: str) -> np.ndarray:
        return mean(weighted[p] * layers[q]) / amount - single[p] * single[q]

    mm, ff, mf = covariance("m", "m"), covariance("f", "f"), covariance("m", "f")
    small_m, small_f = 1e-3 * mm.mean() + 1e-20, 1e-3 * ff.mean() + 1e-20
    gain = mf / (mm + small_m)
    agreement = np.clip(mf**2 / ((mm + small_m) * (ff + small_f)), 0, 1)
    variance = np.maximum(ff - gain * mf, 0) + model_error * ff + small_f
    on_m = {name: covariance(name, "m") for name in "abcd"}
    on_f = {name: covariance(name, "f") for name in "abcd"}

    def common(p: str, q: str) -> np.ndarray:
        return gain * (covariance(p, q) - on_m[p] * on_m[q] / (mm + small_m))

    yy, xx = common("a", "c"), common("b", "d")
    yx = 0.5 * (common("a", "d") + common("b", "c"))
    pull_y, pull_x = (
        0.5 * (gain * (on_f[p] - gain * on_m[p]) + (on_f[q] - gain * on_m[q])) for p, q in (("a", "c"), ("b", "d"))
    )
    # only gradients that both images share count; noise gives products of either sign, which are cut off here
    middle, half = 0.5 * (yy + xx), np.hypot(0.5 * (yy - xx), yx)
    high, low = np.maximum(middle + half, 0), np.maximum(middle - half, 0)
    cos, sin = _axis(yy, yx, xx)
    yy, xx = high * cos**2 + low * sin**2, high * sin**2 + low * cos**2
    yx = (high - low) * cos * sin
    independent = max(1.0, 4 * np.pi * sigma**2)
    pixels = height * width / (nodes[0] * nodes[1]) / independent
    strength = pixels * amount / variance
    return RegionVotes(np.stack([yy, yx, xx]) * strength, np.stack([pull_y, pull_x]) * strength, agreement)


def _gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.array([-0.5, 0, 0.5])
    one = np.ones(1)
    return cv2.sepFilter2D(image, cv2.CV_32F, one, kernel), cv2.sepFilter2D(image, cv2.CV_32F, kernel, one)


def _axis(yy: np.ndarray, yx: np.ndarray, xx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the main axis of [[yy, yx], [yx, xx]], measured from y."""
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)
    return np.cos(angle), np.sin(angle)


def _bent(field: np.ndarray) -> np.ndarray:
    """Gradient of half the bending energy ∫ dyy² + 2 dyx² + dxx², nodes one apart; an affine field has none."""
    out = np.zeros_like(field)
    yy = field[:, 2:] - 2 * field[:, 1:-1] + field[:, :-2]
    out[:, 2:] += yy
    out[:, 1:-1] -= 2 * yy
    out[:, :-2] += yy
    xx = field[:, :, 2:] - 2 * field[:, :, 1:-1] + field[:, :, :-2]
    out[:, :, 2:] += xx
    out[:, :, 1:-1] -= 2 * xx
    out[:, :, :-2] += xx
    yx = 2 * (field[:, 1:, 1:] - field[:, 1:, :-1] - field[:, :-1, 1:] + field[:, :-1, :-1])
    out[:, 1:, 1:] += yx
    out[:, 1:, :-1] -= yx
    out[:, :-1, 1:] -= yx
    out[:, :-1, :-1] += yx
    return out


def solve_plate(votes: RegionVotes, current: np.ndarray, spacing: tuple[float, float], bending: float) -> np.ndarray:
    """The field (2, h, w) px that obeys the votes and bends little.

    Parameters
    ----------
    votes
        Information and pull at every node, measured with ``current`` applied.
    current
        (2, h, w) px.
    spacing
        Distance of the nodes (y, x), px.
    bending
        κ: root mean square curvature expected of the field, px per px², times the length over which it keeps
        its sign.
    """
    yy, yx, xx = votes.information
    # a plate of curvature kappa: the area element of a node is its cell, second differences carry 1/spacing²
    stiff = 1 / (bending**2 * spacing[0] * spacing[1])
    faint = 1e-6 * float(np.mean(yy + xx)) + 1e-9

    def data(field: np.ndarray) -> np.ndarray:
        return np.stack([(yy + faint) * field[0] + yx * field[1], yx * field[0] + (xx + faint) * field[1]])

    # Conjugate gradients from the current field. The preconditioner is the same plate over even information, which is
    # diagonal in cosines. (A direct solver is five times slower here, and its threads fight over a busy machine.)
    frequencies = [2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in current.shape[1:]]
    plate = stiff * (frequencies[0][:, None] + frequencies[1][None, :]) ** 2
    even = [np.exp(np.log(layer + 1e-3 * layer.mean() + 1e-12).mean()) for layer in (yy, xx)]
    spectrum = plate + np.array(even)[:, None, None] + faint

    def conditioned(rest: np.ndarray) -> np.ndarray:
        return scipy.fft.idctn(scipy.fft.dctn(rest, axes=(1, 2), norm="ortho") / spectrum, axes=(1, 2), norm="ortho")

    field = np.array(current, dtype=float)
    rest = votes.pull - stiff * _bent(field)  # what the votes ask for beyond the current field
    direction = conditioned(rest)
    energy = first = float((rest * direction).sum())
    for _ in range(400):
        if energy <= 1e-9 * first or energy <= 0:
            break
        image = data(direction) + stiff * _bent(direction)
        length = energy / float((direction * image).sum())
        field += length * direction
        rest -= length * image
        better = conditioned(rest)
        new = float((rest * better).sum())
        direction = better + (new / energy) * direction
        energy = new
    return field


def nodes_to_field(nodes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The field (2, H, W) float32 from its nodes (2, h, w), which lie at the cells' centres: cubic,
    continued straight.

    Outside the outermost nodes the field goes on linearly, so that a rotation or a scale stays one to the
    corner.
    """
    layers = []
    for layer in nodes:
        padded = (
            np.pad(layer, 3, mode="reflect", reflect_type="odd") if min(layer.shape) > 3 else np.pad(layer, 3, "edge")
        )
        height, width = shape
        rows = (np.arange(height, dtype=np.float32) + 0.5) * (layer.shape[0] / height) - 0.5 + 3
        cols = (np.arange(width, dtype=np.float32) + 0.5) * (layer.shape[1] / width) - 0.5 + 3
        wide = _cubic_rows(_cubic_rows(padded, rows).T, cols).T
        layers.append(wide)
    return np.stack(layers).astype(np.float32)


def _cubic_rows(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Catmull-Rom interpolation along the first axis."""
    low = np.clip(np.floor(at).astype(int), 1, len(values) - 3)
    t = (at - low)[:, None]
    a, b, c, d = (values[low + k] for k in (-1, 0, 1, 2))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
