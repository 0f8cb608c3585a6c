"""Finding the field of a label image in the stitched low-resolution mosaic: steps A to C of 000, Note 2 of
002.

The label is reduced (bicubic) by L to the mosaic's pixel size; the highest normalised cross-correlation says
where it lies, and a sub-pixel fit where exactly. Pixel i of the label covers the mosaic coordinate (i +
0.5)/L - 0.5 + offset, with ``offset`` the :attr:`Match.position`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration.peaks import fit_gaussian_peak
from dlm_fiji.registration.sampling import reduce_bicubic, sample
from dlm_fiji.registration.similarity import Similarity, refine_similarity
from dlm_fiji.registration.subpixel import refine_shift, smooth
from dlm_fiji.registration.tiles import to_grey
from dlm_fiji.settings import Settings, setting

__all__ = ["Match", "MatchSettings", "MosaicIndex", "match_template"]


class MatchSettings(Settings):
    """How a label is found in the mosaic."""

    scale: float = setting(
        2.5, "Label pixels per mosaic pixel, L", gt=0, source="000: 40x to 100x; 002 uses 1 after x2"
    )
    min_correlation: float = setting(0.5, "Below this the label is not in the mosaic", ge=0, le=1)
    coarsest_side: int = setting(64, "Shorter side of the reduced label in the first search", unit="px", ge=16)
    peaks: int = setting(5, "Places of the first search that are verified", ge=1)
    subpixel: Literal["fit", "gaussian"] = setting(
        "fit",
        "fit: least squares on the overlap; gaussian: 2-D Gaussian through the correlation peak (002, Note 2)",
    )
    refine: bool = setting(True, "Also fit rotation and scale", source="000, step D")


@dataclass(frozen=True)
class Match:
    """Where a label lies in the mosaic.

    Attributes
    ----------
    position
        (y, x) px in the mosaic, sub-pixel: reduced label pixel k lies at position + k.
    correlation
        Normalised cross-correlation there, -1 … 1.
    scale
        L.
    shape
        (h, w) of the reduced label: the size of the pair's low-resolution image.
    similarity
        Rotation, scale and rest shift of the crop against the label, or None when not asked for.
    """

    position: tuple[float, float]
    correlation: float
    scale: float
    shape: tuple[int, int]
    similarity: Similarity | None = None

    @property
    def rotation(self) -> float:
        """Degrees by which the mosaic is turned against the label; 0 when not fitted."""
        return self.similarity.rotation if self.similarity else 0.0

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (h, w) in the mosaic at which the pair's low-resolution pixels are read."""
        rows, cols = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float64)
        if self.similarity is not None:
            m = self.similarity.matrix
            rows, cols = m[0, 0] * rows + m[0, 1] * cols + m[0, 2], m[1, 0] * rows + m[1, 1] * cols + m[1, 2]
        return rows + self.position[0], cols + self.position[1]

    def crop(self, mosaic: np.ndarray, order: int = 3) -> np.ndarray:
        """The low-resolution image of the pair: (h, w[, C]) float32, one interpolation, rotation and scale
        included.
        """
        rows, cols = self.coordinates()
        y0, x0 = (max(0, int(np.floor(c.min())) - 8) for c in (rows, cols))
        y1, x1 = (int(np.ceil(c.max())) + 9 for c in (rows, cols))
        return sample(mosaic[y0:y1, x0:x1], rows - y0, cols - x0, order)

    def crop_whole(self, mosaic: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """The crop at whole pixels, nothing interpolated, and the (y, x) px that it still misses (-0.5 …
        0.5).
        """
        y, x = (int(np.rint(p)) for p in self.position)
        part = mosaic[max(0, y) : y + self.shape[0], max(0, x) : x + self.shape[1]]
        return part, (self.position[0] - y, self.position[1] - x)


class MosaicIndex:
    """A mosaic prepared for matching many labels: grey once, reduced once for each factor."""

    def __init__(self, mosaic: np.ndarray) -> None:
        mosaic = np.asarray(mosaic)
        if mosaic.ndim not in (2, 3) or mosaic.size == 0:
            raise InputError(f"The mosaic must be (H, W) or (H, W, C), not {mosaic.shape}.")
        self.grey = to_grey(mosaic)
        if not np.isfinite(self.grey).all():
            raise InputError("The mosaic has values that are not finite.")
        self._levels: dict[int, np.ndarray] = {1: self.grey}

    def level(self, factor: int) -> np.ndarray:
        """The mosaic, mean over factor × factor blocks."""
        if factor not in self._levels:
            self._levels[factor] = _blocks(self.grey, factor)
        return self._levels[factor]


def _blocks(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = (n // factor for n in image.shape)
    return cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def match_template(
    mosaic: np.ndarray | MosaicIndex,
    label: np.ndarray,
    *,
    name: str = "label",
    settings: MatchSettings | None = None,
    **changes: Any,
) -> Match:
    """Find the field of view of ``label`` in ``mosaic``.

    Parameters
    ----------
    mosaic
        (H, W) or (H, W, C) low-resolution image, or a :class:`MosaicIndex` when many labels are matched.
    label
        (h, w) or (h, w, C) high-resolution image of a part of it.
    name
        What to call the label in messages.
    settings, **changes
        :class:`MatchSettings` or its fields, first of all ``scale``.

    Returns
    -------
    Match

    Raises
    ------
    InputError
        The label reduced by ``scale`` is larger than the mosaic, one of them has no content, or the
        correlation stays below ``min_correlation``.
    """
    s = MatchSettings.of(settings, **changes)
    index = mosaic if isinstance(mosaic, MosaicIndex) else MosaicIndex(mosaic)
    label = np.asarray(label)
    if label.ndim not in (2, 3) or label.size == 0 or not np.isfinite(label).all():
        raise InputError(f"{name} must be a finite image (H, W) or (H, W, C); its shape is {label.shape}.")
    reduced = reduce_bicubic(to_grey(label), s.scale)
    if reduced.std() < 1e-6 * max(1.0, float(np.abs(reduced).max())):
        raise InputError(f"{name} is constant: there is nothing to match.")
    if any(n > m for n, m in zip(reduced.shape, index.grey.shape, strict=True)):
        raise InputError(
            f"{name} reduced by {s.scale:g} has {reduced.shape[0]} x {reduced.shape[1]} px and is larger than the "
            f"mosaic of {index.grey.shape[0]} x {index.grey.shape[1]} px; check the scale."
        )
    where, correlation = _whole_pixel(index, reduced, s)
    if correlation < s.min_correlation:
        raise InputError(
            f"{name} was not found in the mosaic: its best correlation is {correlation:.2f} at y {where[0]}, "
            f"x {where[1]}, below {s.min_correlation:.2f}; check that it shows the same "
            f"field and that the scale is {s.scale:g}."
        )
    position = _sub_pixel(index.grey, reduced, where, s)
    similarity = None
    shape = (reduced.shape[0], reduced.shape[1])
    match = Match((float(position[0]), float(position[1])), correlation, s.scale, shape)
    if s.refine and min(shape) >= 48:
        try:
            similarity = refine_similarity(match.crop(index.grey), reduced)
        except InputError:
            similarity = None
        # a fit that makes the pair worse, or leaves the place that was found, is no refinement
        if similarity is not None and (
            similarity.correlation < correlation - 0.02 or max(map(abs, similarity.shift)) > 0.1 * min(shape)
        ):
            similarity = None
        if similarity is not None:
            correlation = max(correlation, similarity.correlation)
    return Match(match.position, correlation, s.scale, shape, similarity)


def _whole_pixel(index: MosaicIndex, reduced: np.ndarray, s: MatchSettings) -> tuple[np.ndarray, float]:
    """Best whole-pixel place: everywhere at a reduced size first, then around the best few, factor by
    factor.
    """
    factor = 1
    while min(reduced.shape) / (2 * factor) >= s.coarsest_side:
        factor *= 2
    surface = cv2.matchTemplate(index.level(factor), _blocks(reduced, factor), cv2.TM_CCOEFF_NORMED)
    surface[~np.isfinite(surface)] = -1
    places = []
    for _ in range(s.peaks):
        y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
        places.append((float(surface[y, x]), np.array([y, x])))
        surface[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = -1
    while factor > 1:
        factor //= 2
        image, template = index.level(factor), _blocks(reduced, factor)
        places = [_around(image, template, 2 * place, 3) for _, place in places[: s.peaks]]
        places.sort(key=lambda item: -item[0])
        places = places[:2]
    correlation, where = places[0]
    return where, correlation


def _around(image: np.ndarray, template: np.ndarray, place: np.ndarray, reach: int) -> tuple[float, np.ndarray]:
    y0, x0 = (int(np.clip(p - reach, 0, n - m)) for p, n, m in zip(place, image.shape, template.shape, strict=True))
    part = image[y0 : y0 + template.shape[0] + 2 * reach, x0 : x0 + template.shape[1] + 2 * reach]
    surface = cv2.matchTemplate(part, template, cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
    return float(surface[y, x]), np.array([y0 + y, x0 + x])


def _sub_pixel(grey: np.ndarray, reduced: np.ndarray, where: np.ndarray, s: MatchSettings) -> np.ndarray:
    reach = 8
    y0, x0 = (max(0, int(p) - reach) for p in where)
    y1, x1 = (int(p) + n + reach for p, n in zip(where, reduced.shape, strict=True))
    part = np.ascontiguousarray(grey[y0:y1, x0:x1])
    if s.subpixel == "gaussian":
        # at the mosaic's edge the peak would be cut in half: the edge is repeated there
        before = (y0 - int(where[0]) + reach, x0 - int(where[1]) + reach)
        after = (y1 - y0 - part.shape[0], x1 - x0 - part.shape[1])
        part = cv2.copyMakeBorder(part, before[0], after[0], before[1], after[1], cv2.BORDER_REPLICATE)
        surface = cv2.matchTemplate(part, reduced, cv2.TM_CCOEFF_NORMED)
        return where - reach + fit_gaussian_peak(surface)
    fit = refine_shift(smooth(part, 0.8), smooth(reduced, 0.8), where - (y0, x0), reach=3.0)
    return where.astype(float) if fit is None else fit.shift + np.array([y0, x0])
