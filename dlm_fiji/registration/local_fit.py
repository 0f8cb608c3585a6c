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

from functools import lru_cache

import cv2
import numpy as np
from scipy import sparse
from scipy.linalg import solveh_banded

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


@lru_cache(maxsize=16)
def _bending_bands(nodes: tuple[int, int]) -> np.ndarray:
    """Bending energy ∫ dyy² + 2 dyx² + dxx² of values on a grid of unit spacing, as bands for both
    components.

    The unknowns are ordered node by node along the columns, y before x, so that the matrix is narrow: row k
    holds the k-th subdiagonal, as :func:`scipy.linalg.solveh_banded` wants it. An affine field costs
    nothing.
    """
    height, width = nodes

    def second(n: int) -> sparse.csr_matrix:
        return sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(max(n - 2, 0), n)).tocsr()

    def first(n: int) -> sparse.csr_matrix:
        return sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)).tocsr()

    yy = sparse.kron(second(height), sparse.eye_array(width))
    xx = sparse.kron(sparse.eye_array(height), second(width))
    yx = sparse.kron(first(height), first(width))
    energy = sparse.kron(yy.T @ yy + 2 * yx.T @ yx + xx.T @ xx, sparse.eye_array(2)).tocoo()
    lower = energy.row >= energy.col
    bands = np.zeros((4 * width + 2, 2 * height * width))
    np.add.at(bands, (energy.row[lower] - energy.col[lower], energy.col[lower]), energy.data[lower])
    return bands


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
    if current.shape[2] > current.shape[1]:
        # the band is as wide as a row: run along the shorter side
        turned = RegionVotes(
            votes.information[::-1].transpose(0, 2, 1), votes.pull[::-1].transpose(0, 2, 1), votes.agreement.T
        )
        field = solve_plate(turned, current[::-1].transpose(0, 2, 1), (spacing[1], spacing[0]), bending)
        return field[::-1].transpose(0, 2, 1)
    yy, yx, xx = (layer.ravel() for layer in votes.information)
    old = current.reshape(2, -1)
    # a plate of curvature kappa: the area element of a node is its cell, second differences carry 1/spacing²
    bands = _bending_bands((current.shape[1], current.shape[2])) / (bending**2 * spacing[0] * spacing[1])
    faint = 1e-6 * float(np.mean(yy + xx)) + 1e-9
    bands[0, 0::2] += yy + faint
    bands[0, 1::2] += xx + faint
    bands[1, 0::2] += yx
    right = np.empty(2 * old.shape[1])
    right[0::2] = votes.pull[0].ravel() + (yy + faint) * old[0] + yx * old[1]
    right[1::2] = votes.pull[1].ravel() + yx * old[0] + (xx + faint) * old[1]
    solution = solveh_banded(bands, right, lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False)
    return solution.reshape(*current.shape[1:], 2).transpose(2, 0, 1)


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
