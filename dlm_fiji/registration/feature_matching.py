"""Matching by features: 004's way from a smartphone field to its place in the benchtop mosaic.

Both images are made grey, SIFT frames and descriptors are computed (Lowe, IJCV 60, 91 (2004),
doi:10.1023/B:VISI.0000029664.99615.94), matched with Lowe's ratio test, and a homography is fitted by RANSAC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration.sampling import sample
from dlm_fiji.registration.tiles import to_grey
from dlm_fiji.settings import Settings, setting

__all__ = ["FeatureMatch", "FeatureSettings", "match_features"]


class FeatureSettings(Settings):
    """How features are found and matched."""

    model: Literal["homography", "affine", "similarity"] = setting("homography", "Map to fit", source="004")
    ratio: float = setting(
        0.75, "Best descriptor distance over second best, at most", gt=0, le=1, source="Lowe 2004: 0.8"
    )
    reprojection: float = setting(3.0, "Matches farther from the map than this are outliers", unit="px", gt=0)
    min_inliers: int = setting(15, "Fewer matches that agree are no match", ge=4)
    max_features: int = setting(20000, "Strongest features kept for an image", ge=100)
    max_side: int = setting(4096, "A larger mosaic is reduced to this side for finding features", unit="px", ge=256)
    contrast: float = setting(0.02, "SIFT contrast threshold", gt=0, source="OpenCV: 0.04")


@dataclass(frozen=True)
class FeatureMatch:
    """How a field maps into the mosaic.

    Attributes
    ----------
    matrix
        (3, 3): takes (y, x, 1) of the field to y, x of the mosaic, up to the third coordinate.
    inliers, matches
        Matches that agree with the map, and all that passed the ratio test.
    error
        Root mean square distance of the inliers from the map, mosaic px.
    shape
        (h, w) of the field.
    """

    matrix: np.ndarray
    inliers: int
    matches: int
    error: float
    shape: tuple[int, int]

    @property
    def scale(self) -> float:
        """Mosaic pixels per field pixel at the field's centre."""
        c = np.array([(self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2])
        ends = self.to_mosaic(c + np.array([[0, 0], [1, 0], [0, 1]]))
        return float(np.sqrt(abs(np.linalg.det(ends[1:] - ends[0]))))

    def to_mosaic(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) y, x of the field in the mosaic."""
        there = np.column_stack([points, np.ones(len(points))]) @ self.matrix.T
        return there[:, :2] / there[:, 2:]

    def corners(self) -> np.ndarray:
        """The field's four corner pixels in the mosaic, (4, 2) y, x."""
        h, w = self.shape
        return self.to_mosaic(np.array([[0, 0], [0, w - 1], [h - 1, w - 1], [h - 1, 0]], dtype=float))

    def project_field(self, field: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """The field seen on the mosaic's pixels corner … corner + size: 004's projection; float32."""
        rows, cols = np.mgrid[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]].astype(float)
        return _through(field, np.linalg.inv(self.matrix), rows, cols)

    def crop_mosaic(self, mosaic: np.ndarray, factor: float = 1.0) -> np.ndarray:
        """The mosaic seen on the field's pixels, ``factor`` of them for each: the label of the pair; float32.

        004 enlarges by exactly L = 2.5, though the ratio of its pixel sizes is 2.35.
        """
        size = [int(np.floor(n * factor + 1e-9)) for n in self.shape]
        rows, cols = np.mgrid[: size[0], : size[1]].astype(float)
        rows, cols = (rows + 0.5) / factor - 0.5, (cols + 0.5) / factor - 0.5
        shrink = self.scale / factor
        if shrink > 1.2:
            # more mosaic pixels than asked for: blur first, or they alias
            mosaic = cv2.GaussianBlur(np.asarray(mosaic, np.float32), (0, 0), 0.5 * np.sqrt(shrink**2 - 1))
        return _through(mosaic, self.matrix, rows, cols)


def _through(image: np.ndarray, matrix: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    there = np.tensordot(matrix, np.stack([rows, cols, np.ones_like(rows)]), axes=1)
    there = there[:2] / there[2]
    low = [max(0, int(np.floor(axis.min())) - 8) for axis in there]
    high = [max(1, int(np.ceil(axis.max())) + 9) for axis in there]
    part = np.asarray(image)[low[0] : high[0], low[1] : high[1]]
    if part.size == 0:
        raise InputError("The matched field lies outside the image.")
    return sample(part, there[0] - low[0], there[1] - low[1])


def match_features(
    field: np.ndarray,
    mosaic: np.ndarray,
    *,
    name: str = "field",
    settings: FeatureSettings | None = None,
    **changes: Any,
) -> FeatureMatch:
    """Find ``field`` (a phone image) in ``mosaic`` (benchtop), any scale, rotation and moderate perspective.

    Parameters
    ----------
    field
        (h, w) or (h, w, C); 1024² in 004.
    mosaic
        (H, W) or (H, W, C); up to 25,000² (reduced to ``max_side`` for the features).
    name
        What to call the field in messages.
    settings, **changes
        :class:`FeatureSettings` or its fields.

    Raises
    ------
    InputError
        An image has no features, or too few matches agree.
    """
    s = FeatureSettings.of(settings, **changes)
    field, mosaic = np.asarray(field), np.asarray(mosaic)
    factor = max(1, int(np.ceil(max(mosaic.shape[:2]) / s.max_side)))
    small, large = _eight_bit(to_grey(field)), _eight_bit(_reduced_grey(mosaic, factor))
    sift = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=s.max_features, contrastThreshold=s.contrast
    )
    found = [sift.detectAndCompute(image, None) for image in (small, large)]
    for image_name, (points, _) in zip((name, "the mosaic"), found, strict=True):
        if len(points) < s.min_inliers:
            raise InputError(f"{image_name} has {len(points)} features; at least {s.min_inliers} are needed to match.")
    (points_f, words_f), (points_m, words_m) = found
    matcher = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": 64})
    pairs = matcher.knnMatch(words_f, words_m, k=2)
    kept = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < s.ratio * pair[1].distance]
    if len(kept) < s.min_inliers:
        raise InputError(
            f"{name} was not found in the mosaic: {len(kept)} features match, at least {s.min_inliers} must."
        )
    # OpenCV counts x before y; both of its coordinates are pixel centres
    source = np.array([points_f[m.queryIdx].pt for m in kept])
    target = np.array([points_m[m.trainIdx].pt for m in kept])
    target = (target + 0.5) * factor - 0.5
    matrix, inside = _ransac(source, target, s, s.reprojection * factor)
    count = int(inside.sum())
    if matrix is None or count < s.min_inliers:
        raise InputError(
            f"{name} was not found in the mosaic: {count} of {len(kept)} matches agree on one place, at least "
            f"{s.min_inliers} must."
        )
    there = np.column_stack([source, np.ones(len(source))]) @ matrix.T
    distance = np.hypot(*(there[:, :2] / there[:, 2:] - target).T)
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
    return FeatureMatch(
        swap @ matrix @ swap,
        count,
        len(kept),
        float(np.sqrt((distance[inside] ** 2).mean())),
        (field.shape[0], field.shape[1]),
    )


def _ransac(
    source: np.ndarray, target: np.ndarray, s: FeatureSettings, reach: float
) -> tuple[np.ndarray | None, np.ndarray]:
    cv2.setRNGSeed(0)
    if s.model == "homography":
        matrix, inside = cv2.findHomography(source, target, cv2.RANSAC, reach, maxIters=5000, confidence=0.999)
    else:
        estimate = cv2.estimateAffine2D if s.model == "affine" else cv2.estimateAffinePartial2D
        matrix, inside = estimate(source, target, ransacReprojThreshold=reach, maxIters=5000, confidence=0.999)
        matrix = None if matrix is None else np.vstack([matrix, [0, 0, 1]])
    if matrix is None or inside is None or not np.isfinite(matrix).all():
        return None, np.zeros(len(source), dtype=bool)
    return matrix, inside.ravel().astype(bool)


def _reduced_grey(image: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return to_grey(image)
    height, width = (n // factor for n in image.shape[:2])
    # stripe by stripe, so that a large mosaic is never held as float
    stripes = []
    rows = max(1, 512 // factor)
    for top in range(0, height, rows):
        part = to_grey(image[top * factor : min(height, top + rows) * factor, : width * factor])
        stripes.append(cv2.resize(part, (width, part.shape[0] // factor), interpolation=cv2.INTER_AREA))
    return np.vstack(stripes)


def _eight_bit(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (0.1, 99.9))
    if not high > low:
        low, high = float(image.min()), float(image.min()) + 1.0
    return np.clip((image - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
