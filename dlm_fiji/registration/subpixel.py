"""Sub-pixel translation: the engine under stitching, matching and drift.

Two images a and b show the same scene, displaced by s: a(p) = b(p - s), so s is the position of b's top-left
pixel in a's coordinates. Finding s takes two steps.

1. :func:`correlation_peaks`: phase correlation (Kuglin & Hines 1975) of the parts that may overlap gives
   several candidate peaks; each is judged by the true correlation of its overlap (Preibisch, Saalfeld & Tomancak,
   Bioinformatics 25, 1463 (2009), doi:10.1093/bioinformatics/btp184).
2. :func:`refine_shift`: Gauss-Newton on a(p) = gain b(p - s) + offset + slope·p over the overlap alone
   (Lucas & Kanade 1981), with the gradients that both images share. Nothing wraps around, no window biases the
   answer, and the normal matrix says how precise it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, cos, sin, sqrt
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft

__all__ = [
    "ShiftFit",
    "correlation_peaks",
    "fractional_kernel",
    "independent_pixels",
    "overlap_correlation",
    "refine_shift",
    "smooth",
]

#: pixels lost on each side by the interpolation and derivative kernels
MARGIN = 5
#: six-point Lagrange: for each node -2 … 3 the five others, and the product of the distances to them
_OTHERS = np.array([[n for n in range(-2, 4) if n != node] for node in range(-2, 4)], dtype=float)
_SCALES = (np.arange(-2, 4)[:, None] - _OTHERS).prod(axis=1)
_DERIVATIVE = np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / 12.0


@dataclass(frozen=True)
class ShiftFit:
    """A fitted translation: ``shift`` (2,) y, x px; ``information`` (2, 2) px⁻², the inverse of its
    covariance; ``correlation`` Pearson coefficient over the overlap at that shift, planes removed;
    ``pixels`` in the overlap.
    """

    shift: np.ndarray
    information: np.ndarray
    correlation: float
    pixels: int


def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur as float32, edges mirrored; sigma in px, 0 leaves the image as it is."""
    image = np.ascontiguousarray(image, dtype=np.float32)
    if sigma <= 0:
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def independent_pixels(sigma: float) -> float:
    """Pixels for one independent value of white noise smoothed by ``sigma`` px."""
    return max(1.0, 4 * np.pi * max(sigma, 0.5) ** 2)


def fractional_kernel(fraction: float, kind: str = "quintic") -> np.ndarray:
    """Seven taps k(t), t = -3 … 3, with Σ k(t)·f(p + t) ≈ f(p + fraction), for 0 <= fraction < 1.

    ``"quintic"``: six-point Lagrange, exact for polynomials to degree 5 (a Lanczos kernel is not exact for a
    straight line, and that alone displaces a fit by 0.01 px); ``"cubic"``: Keys 1981, a = -1/2;
    ``"linear"``.
    """
    t = np.arange(-3, 4)
    distance = np.abs(t - fraction)
    if kind == "linear":
        return np.clip(1 - distance, 0, None)
    if kind == "cubic":
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    kernel = np.zeros(7)
    kernel[1:] = (fraction - _OTHERS).prod(axis=1) / _SCALES
    return kernel


def _overlap(shape_a: tuple[int, ...], shape_b: tuple[int, ...], lag: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a for which b(p - lag) exists with ``margin`` pixels to spare; may be empty."""
    low = [max(margin, int(d) + margin) for d in lag]
    high = [min(na - margin, nb + int(d) - margin) for na, nb, d in zip(shape_a, shape_b, lag, strict=True)]
    return slice(low[0], max(low[0], high[0])), slice(low[1], max(low[1], high[1]))


def _shifted(region: slice, lag: int, margin: int = 0) -> slice:
    return slice(region.start - lag - margin, region.stop - lag + margin)


def overlap_correlation(a: np.ndarray, b: np.ndarray, lag: np.ndarray, minimum_side: int = 8) -> tuple[float, int]:
    """Pearson correlation of a(p) with b(p - lag) where both exist, and the number of pixels; whole-pixel
    lag.

    0 where the overlap is narrower than ``minimum_side`` or one side is constant.
    """
    lag = np.asarray(lag, dtype=int)
    rows, cols = _overlap(a.shape, b.shape, lag, 0)
    if rows.stop - rows.start < minimum_side or cols.stop - cols.start < minimum_side:
        return 0.0, 0
    part_a = a[rows, cols]
    part_b = b[_shifted(rows, lag[0]), _shifted(cols, lag[1])]
    return _pearson(part_a, part_b), part_a.size


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a = (a - a.mean()).ravel()
    b = (b - b.mean()).ravel()
    norm = float(np.sqrt(float(a @ a) * float(b @ b)))
    return float(a @ b) / norm if norm > 1e-12 * a.size else 0.0


def _taper(length: int) -> np.ndarray:
    """One in the middle, cosine to zero over an eighth at each end: keeps the cut edges out of the spectrum."""
    ramp = max(1, min(length // 8, 24))
    window = np.ones(length, dtype=np.float32)
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    window[:ramp] = edge
    window[-ramp:] = edge[::-1]
    return window


def correlation_peaks(
    a: np.ndarray,
    b: np.ndarray,
    expected: np.ndarray,
    search: np.ndarray,
    count: int = 5,
    whiten: float = 0.8,
) -> list[tuple[float, np.ndarray]]:
    """The candidates for the whole-pixel shift, best first: (correlation of the overlap, shift (2,)).

    Parameters
    ----------
    a, b
        Images (H, W) float32, any range.
    expected, search
        Where the stage says that b lies in a's coordinates, and how far (px, per axis) it may be wrong.
    count
        Peaks of the correlation that are verified.
    whiten
        1 is pure phase correlation, 0 plain cross-correlation; in between, noise in empty frequencies counts
        less.
    """
    expected = np.rint(expected).astype(int)
    search = np.maximum(np.ceil(search).astype(int), 1)
    # the part of a that b may cover, and the part of b that a may cover
    cut_a, cut_b, size = [], [], []
    for na, nb, e, r in zip(a.shape, b.shape, expected, search, strict=True):
        a0, a1 = max(0, e - r), min(na, e + r + nb)
        b0, b1 = max(0, -e - r), min(nb, na - e + r)
        if a1 - a0 < 4 or b1 - b0 < 4:
            return []
        cut_a.append(slice(a0, a1))
        cut_b.append(slice(b0, b1))
        lag0 = (e - r) - a0 + b0
        lag1 = (e + r) - a0 + b0
        # long enough that no lag within the search wraps onto another
        size.append(scipy.fft.next_fast_len(max(a1 - a0, b1 - b0, lag1 - lag0 + 1) + min(r, 32), real=True))
    part_a, part_b = a[cut_a[0], cut_a[1]], b[cut_b[0], cut_b[1]]
    part_a = (part_a - part_a.mean()) * _taper(part_a.shape[0])[:, None] * _taper(part_a.shape[1])
    part_b = (part_b - part_b.mean()) * _taper(part_b.shape[0])[:, None] * _taper(part_b.shape[1])
    cross = scipy.fft.rfft2(part_a, size) * np.conj(scipy.fft.rfft2(part_b, size))
    magnitude = np.abs(cross)
    floor = 1e-6 * float(magnitude.max())
    if floor <= 0:
        return []
    surface = scipy.fft.irfft2(cross / (magnitude + floor) ** whiten, size)
    # lag k of the surface is shift k + a0 - b0; read off the window around the expected shift
    index = [
        (np.arange(e - r, e + r + 1) - ca.start + cb.start) % n
        for e, r, ca, cb, n in zip(expected, search, cut_a, cut_b, size, strict=True)
    ]
    window = surface[np.ix_(index[0], index[1])]
    found = []
    for y, x in _local_maxima(window, count):
        lag = expected - search + (y, x)
        correlation, pixels = overlap_correlation(a, b, lag)
        if pixels:
            found.append((correlation, lag))
    found.sort(key=lambda peak: -peak[0])
    return found


def _local_maxima(surface: np.ndarray, count: int) -> list[tuple[int, int]]:
    highest = surface >= cv2.dilate(surface, np.ones((3, 3), np.uint8))
    rows, cols = np.nonzero(highest)
    best = np.argsort(-surface[rows, cols])[:count]
    return [(int(rows[k]), int(cols[k])) for k in best]


def refine_shift(
    a: np.ndarray,
    b: np.ndarray,
    start: np.ndarray,
    *,
    sigma: float = 0.8,
    iterations: int = 8,
    reach: float = 2.0,
    slope: bool = True,
    tolerance: float = 2e-3,
) -> ShiftFit | None:
    """The shift with a(p) = gain·b(p - shift) + offset (+ slope·p), by Gauss-Newton over the overlap.

    Parameters
    ----------
    a, b
        Images (H, W) float32, slightly smoothed (sigma 0.7 to 1 px), any range.
    start
        First guess (2,) y, x px, right to about 1 px.
    sigma
        The smoothing that a and b have had, px: says how correlated their noise is.
    iterations
        At most this many.
    reach
        How far (px) the answer may lie from ``start``.
    slope
        Also fit a plane, which takes up what is left of uneven illumination.
    tolerance
        Ends when a step is shorter, px. The step that is taken last is five to ten times more precise than
        that.

    Returns
    -------
    ShiftFit or None
        None where the overlap is too small, has no content, or the search left its reach.
    """
    start = np.asarray(start, dtype=float)
    shift, last, lag_before = start.copy(), np.inf, None
    independent = independent_pixels(sigma)
    for _ in range(iterations):
        lag = np.ceil(shift).astype(int)
        fraction = lag - shift  # b(p - shift) = b(p - lag + fraction)
        rows, cols = _overlap(a.shape, b.shape, lag, MARGIN)
        height, width = rows.stop - rows.start, cols.stop - cols.start
        if height < 6 or width < 6:
            return None
        if lag_before is None or (lag != lag_before).any():
            design, target = _fixed_part(a, rows, cols, slope)
            lag_before = lag
        source = b[_shifted(rows, lag[0], MARGIN), _shifted(cols, lag[1], MARGIN)]
        _interpolate_into(design[2:5].reshape(3, height, width), source, fraction)
        design[4] -= design[4].mean()
        normal, right, spread = _sums(design, target)
        fit = _step(normal, right, spread, target.size, independent, cautious=last > 0.5)
        if fit is None:
            return None
        information = fit.information
        length = float(np.hypot(*fit.step))
        shift = shift + (fit.step if length <= 1 else fit.step / length)
        if np.abs(shift - start).max() > reach:
            return None
        # the error that is left is about the square of the step where the images are clear, and half of it otherwise
        if length < tolerance or (length < 10 * tolerance and length < 0.1 * last):
            break
        last = length
    correlation = _partial_correlation(normal[4:, 4:], right[4:], spread)
    return ShiftFit(shift, information, correlation, target.size)


def _fixed_part(a: np.ndarray, rows: slice, cols: slice, slope: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the design that stay while the whole-pixel lag does, with room for those that change, and the target.

    Gradients of a (2), of b (2), b, the plane (2 or none), ones.
    """
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    design = np.empty((8 if slope else 6, shape[0] * shape[1]), np.float32)
    for row, layer in zip(design, _gradients(a, rows, cols), strict=False):
        row.reshape(shape)[...] = layer
    if slope:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
        design[5].reshape(shape)[...] = y[:, None]
        design[6].reshape(shape)[...] = x
    design[-1] = 1
    target = a[rows, cols].ravel()
    return design, target - target.mean()


class _Step(NamedTuple):
    step: np.ndarray
    information: np.ndarray


def _step(
    normal: np.ndarray, right: np.ndarray, spread: float, pixels: int, independent: float, cautious: bool
) -> _Step | None:
    """One Gauss-Newton step, and the inverse covariance (2, 2) of the shift.

    With g∇b as the gradient, noise would seem to be structure that holds the shift in place: in faint images the steps
    are too short by far, and a straight edge would seem to fix the shift along itself. Products ∇a∇bᵀ of two images
    with independent noise hold only what both see, so the step is (Σ g∇a∇bᵀ)⁻¹ Σ ½(∇a + g∇b) r, r = a - g b - plane.
    Three standard errors of a chance product are taken off the information, so that an eigenvalue above zero means that
    the shift is really determined in that direction; where it is not, or ``cautious`` far from the answer, the images'
    own gradients bound the step.
    """
    if spread <= 0 or normal[4, 4] <= 0:
        return None
    # gain, plane and offset are solved for; the rest is what they leave of the gradients and of a
    try:
        weights = np.linalg.solve(normal[4:, 4:], np.concatenate([normal[4:, :4], right[4:, None]], axis=1))
    except np.linalg.LinAlgError:
        return None
    gain = float(weights[0, 4])
    if not np.isfinite(weights).all() or abs(gain) < 1e-6 * sqrt(spread / normal[4, 4]):
        return None
    left = np.concatenate([normal[:4, :4], right[:4, None]], axis=1) - normal[:4, 4:] @ weights
    (aa_yy, aa_yx, ab_yy, ab_yx, pull_ay), (_, aa_xx, ab_xy, ab_xx, pull_ax), *others = left.tolist()
    (_, _, bb_yy, bb_yx, pull_by), (_, _, _, bb_xx, pull_bx) = others
    variance = max(spread - float(right[4:] @ weights[:, 4]), 1e-9 * spread) / pixels
    yy, yx, xx = gain * ab_yy, gain * 0.5 * (ab_yx + ab_xy), gain * ab_xx
    angle = 0.5 * atan2(2 * yx, yy - xx)
    pull = 0.5 * (pull_ay + gain * pull_by), 0.5 * (pull_ax + gain * pull_bx)
    step, information = np.zeros(2), np.zeros((2, 2))
    for y, x in ((cos(angle), sin(angle)), (-sin(angle), cos(angle))):
        value = y * y * yy + 2 * y * x * yx + x * x * xx
        power_a = y * y * aa_yy + 2 * y * x * aa_yx + x * x * aa_xx
        power_b = gain**2 * (y * y * bb_yy + 2 * y * x * bb_yx + x * x * bb_xx)
        own = sqrt(max(power_a, 0) * max(power_b, 0))
        sure = value - 3 * own * sqrt(independent / pixels)
        stiff = max(value, own) if cautious or sure <= 0 else value
        if not stiff > 0:
            return None
        step -= np.array([y, x]) * ((y * pull[0] + x * pull[1]) / stiff)
        information += np.array([[y * y, y * x], [y * x, x * x]]) * (sure / (independent * variance))
    return _Step(step, information)


def _gradients(image: np.ndarray, rows: slice, cols: slice) -> list[np.ndarray]:
    """Derivatives in y and x on the region given, which keeps ``MARGIN`` px from the image's edge."""
    part = image[rows.start - 2 : rows.stop + 2, cols.start - 2 : cols.stop + 2]
    one = np.ones(1)
    kernels = ((one, _DERIVATIVE), (_DERIVATIVE, one))
    return [cv2.sepFilter2D(part, cv2.CV_32F, kx, ky)[2:-2, 2:-2] for kx, ky in kernels]


def _sums(design: np.ndarray, target: np.ndarray, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray, float]:
    """design designᵀ, design target and target², in float64.

    By chunks: more precise in float32, and small enough that the matrix library does not start threads, which
    would get in the way of those that measure other pairs.
    """
    count = len(design)
    total = np.zeros((count, count + 1))
    square = 0.0
    for start in range(0, target.size, chunk):
        part, aim = design[:, start : start + chunk], target[start : start + chunk]
        total[:, :count] += part @ part.T
        total[:, count] += part @ aim
        square += float(aim @ aim)
    return total[:, :count], total[:, count], square


def _partial_correlation(normal: np.ndarray, right: np.ndarray, spread: float) -> float:
    """Pearson coefficient of a with b (row 0), once the plane is taken out of both: shading alone is no agreement."""
    weights = np.linalg.solve(normal[1:, 1:], np.column_stack([normal[1:, 0], right[1:]]))
    common = right[0] - normal[0, 1:] @ weights[:, 1]
    own_b = normal[0, 0] - normal[0, 1:] @ weights[:, 0]
    own_a = spread - right[1:] @ weights[:, 1]
    return float(common / np.sqrt(own_a * own_b)) if own_a > 0 and own_b > 0 else 0.0


def _interpolate_into(out: np.ndarray, image: np.ndarray, fraction: np.ndarray) -> None:
    """Derivatives in y and x of the image at p + fraction, and its value there, by separable kernels.

    ``out`` (3, h, w); the image is ``MARGIN`` px larger on each side.
    """
    ky, kx = (fractional_kernel(float(f)) for f in fraction)
    gy, gx = (np.convolve(k, _DERIVATIVE) for k in (ky, kx))
    inside = slice(MARGIN, -MARGIN)
    for layer, (across, down) in zip(out, ((kx, gy), (gx, ky), (kx, ky)), strict=True):
        layer[...] = cv2.sepFilter2D(image, cv2.CV_32F, across, down, borderType=cv2.BORDER_REPLICATE)[inside, inside]
