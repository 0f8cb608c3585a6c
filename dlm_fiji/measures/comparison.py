"""Tables and maps that compare images: percent difference, line profiles, shifts by block, depth of field, models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from dlm_fiji.errors import InputError
from dlm_fiji.measures.arrays import pair
from dlm_fiji.measures.similarity import ssim

__all__ = [
    "CrossMatrix",
    "DepthOfField",
    "LineProfile",
    "block_shifts",
    "cross_matrix",
    "depth_of_field",
    "line_profile",
    "percent_difference",
]


def percent_difference(image: ArrayLike, reference: ArrayLike, data_range: float | None = None) -> NDArray[np.float32]:
    """100 · (image - reference) / range at every pixel, signed (Rivenson et al. 2017, Fig. S7).

    Parameters
    ----------
    image, reference
        Same shape.
    data_range
        100 %; by default the reference's maximum minus minimum.
    """
    a, b = pair(image, reference)
    span = float(b.max()) - float(b.min()) if data_range is None else data_range
    if not span > 0:
        raise InputError("The reference is empty (one value everywhere): a difference in percent is undefined.")
    return ((a.astype(np.float64) - b) * (100 / span)).astype(np.float32)


@dataclass(frozen=True)
class LineProfile:
    """Values along a line.

    Attributes
    ----------
    distance
        From the start, µm (or pixels).
    values
        Mean across the line's width.
    dip
        Contrast of the deepest dip between the two highest peaks, (lower peak - dip) / (lower peak + dip); 0 if
        there are no two peaks. Rayleigh's limit is 0.15.
    peaks
        Distance of those two peaks from each other, NaN if there are not two.
    """

    distance: NDArray[Any]
    values: NDArray[Any]
    dip: float
    peaks: float


def line_profile(
    image: ArrayLike,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    width: int = 1,
    pixel_um: float = 1.0,
) -> LineProfile:
    """Cross-section from ``start`` to ``end`` (row, column), bilinear, averaged over ``width`` pixels across.

    Raises
    ------
    InputError
        The line leaves the image, or has no length.
    """
    array = np.asarray(image, dtype=np.float64)
    a, b = np.array(start, float), np.array(end, float)
    length = float(np.hypot(*(b - a)))
    if array.ndim != 2 or length == 0:
        raise InputError("A profile needs a grey image and two different points.")
    if np.any([(p < 0) | (p > np.array(array.shape) - 1) for p in (a, b)]):
        raise InputError(f"The line from {start} to {end} leaves the image of {array.shape} pixels.")
    count = int(np.ceil(length)) + 1
    along = np.linspace(0, 1, count)
    normal = np.array([-(b - a)[1], (b - a)[0]]) / length
    offsets = (np.arange(width) - (width - 1) / 2)[:, None]
    rows, columns = (a[k] + (b - a)[k] * along[None] + normal[k] * offsets for k in (0, 1))
    values = map_coordinates(array, [rows, columns], order=1, mode="nearest").mean(0)
    dip, apart = _dip(values)
    step = length / (count - 1) * pixel_um
    return LineProfile(np.arange(count) * step, values, dip, apart * step)


def _dip(values: NDArray[Any]) -> tuple[float, float]:
    inner = (values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])
    peaks = np.flatnonzero(inner) + 1
    if peaks.size < 2:
        return 0.0, float("nan")
    first, second = sorted(peaks[np.argsort(values[peaks])[-2:]])
    lower, dip = min(values[first], values[second]), values[first : second + 1].min()
    return (float((lower - dip) / (lower + dip)) if lower + dip > 0 else 0.0), float(second - first)


def block_shifts(image: ArrayLike, reference: ArrayLike, blocks: int = 5) -> NDArray[np.float64]:
    """How far each block of an image lies from the reference: shape (blocks, blocks, 2), (rows, columns), pixels.

    By phase correlation to a twentieth of a pixel; what is left of registration shows here.
    """
    from skimage.registration import phase_cross_correlation

    a, b = (x.astype(np.float64) for x in pair(image, reference))
    if a.ndim != 2 or min(a.shape) < 16 * blocks:
        raise InputError(f"{blocks} × {blocks} blocks need a grey image of {16 * blocks} pixels a side or more.")
    result = np.zeros((blocks, blocks, 2))
    edges = [np.linspace(0, n, blocks + 1).astype(int) for n in a.shape]
    for i in range(blocks):
        for j in range(blocks):
            part = (slice(edges[0][i], edges[0][i + 1]), slice(edges[1][j], edges[1][j + 1]))
            window = np.outer(*(np.hanning(n) for n in a[part].shape))
            x, y = (window * (z[part] - z[part].mean()) for z in (a, b))
            if x.any() and y.any():
                found, _, _ = phase_cross_correlation(y, x, upsample_factor=20, normalization=None)
                result[i, j] = -found
    return result


@dataclass(frozen=True)
class DepthOfField:
    """SSIM and contrast against defocus for each image kind.

    Attributes
    ----------
    defocus_um
        Shape (n,).
    ssim, contrast
        By name, shape (n,): similarity to the in-focus label, and standard deviation over that of the label.
    depth_um
        By name, the width in defocus over which SSIM stays above ``level`` (linear between planes).
    level
        The SSIM that counts as in focus.
    """

    defocus_um: NDArray[Any]
    ssim: dict[str, NDArray[Any]]
    contrast: dict[str, NDArray[Any]]
    depth_um: dict[str, float]
    level: float


def depth_of_field(
    stacks: Mapping[str, Sequence[ArrayLike]],
    defocus_um: Sequence[float],
    label: ArrayLike,
    *,
    data_range: float,
    level: float | None = None,
) -> DepthOfField:
    """Over how much defocus an image, or what a network makes of it, stays like the label in focus.

    Parameters
    ----------
    stacks
        By name (``"input"``, ``"output"``, ``"label"``) one image for each defocus, all of the label's shape.
    defocus_um
        Heights, rising.
    label
        The specimen in focus through the better lens.
    data_range
        Span of values for SSIM.
    level
        SSIM that counts as in focus; by default the best that the stack ``"input"`` (or the first) reaches, less 5 %.
    """
    z = np.asarray(defocus_um, dtype=np.float64)
    truth = np.asarray(label)
    if z.size < 3 or np.any(np.diff(z) <= 0):
        raise InputError("Depth of field needs three heights or more, rising.")
    similarity, contrast = {}, {}
    for name, stack in stacks.items():
        if len(stack) != z.size:
            raise InputError(f"Stack {name!r} has {len(stack)} images for {z.size} heights.")
        similarity[name] = np.array([ssim(image, truth, data_range) for image in stack])
        contrast[name] = np.array([float(np.asarray(image).std()) for image in stack]) / float(truth.std())
    if level is None:
        level = 0.95 * float(similarity.get("input", next(iter(similarity.values()))).max())
    depth = {name: _width(z, values, level) for name, values in similarity.items()}
    return DepthOfField(z, similarity, contrast, depth, level)


def _width(z: NDArray[Any], values: NDArray[Any], level: float) -> float:
    """Width of the stretch above ``level`` round the best value."""
    best = int(np.argmax(values))
    if values[best] < level:
        return 0.0
    ends = []
    for step in (-1, 1):
        i = best
        while 0 <= i + step < z.size and values[i + step] >= level:
            i += step
        j = i + step
        if 0 <= j < z.size:
            ends.append(z[i] + (z[j] - z[i]) * (values[i] - level) / (values[i] - values[j]))
        else:
            ends.append(z[i])
    return float(ends[1] - ends[0])


@dataclass(frozen=True)
class CrossMatrix:
    """Every model on every specimen: ``values`` (models, specimens), NaN where a pair was not measured."""

    models: tuple[str, ...]
    specimens: tuple[str, ...]
    values: NDArray[np.float64]
    unprocessed: NDArray[np.float64]


def cross_matrix(
    models: Mapping[str, Callable[[Any], Any]],
    specimens: Mapping[str, tuple[ArrayLike, ArrayLike]],
    score: Callable[[Any, Any], float],
    *,
    baseline: Callable[[Any], Any] | None = None,
) -> CrossMatrix:
    """Score of each model on each specimen, those it was not trained on included.

    Parameters
    ----------
    models
        By name, a function from input to output.
    specimens
        By name, (input, label).
    score
        ``score(output, label)``, for instance SSIM on luma.
    baseline
        Function whose score the last line holds (bicubic enlargement); by default the input as it is.

    Returns
    -------
    CrossMatrix
    """
    if not models or not specimens:
        raise InputError("A cross matrix needs at least one model and one specimen.")
    values = np.full((len(models), len(specimens)), np.nan)
    unprocessed = np.full(len(specimens), np.nan)
    for j, (image, label) in enumerate(specimens.values()):
        unprocessed[j] = score(image if baseline is None else baseline(image), label)
        for i, model in enumerate(models.values()):
            values[i, j] = score(model(image), label)
    return CrossMatrix(tuple(models), tuple(specimens), values, unprocessed)
