"""Rotation, scale and shift between two images of one field: step D of 000's matching.

The model is fixed(p) = gain·moving(T(p)) + offset + slope·p with T(p) = c + A (p - c) + t about the image's
centre c; it is solved by Gauss-Newton over all pixels at once, coarse to fine, with one interpolation an
iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.allocation import kept_memory
from dlm_fiji.errors import InputError
from dlm_fiji.registration.sampling import sample
from dlm_fiji.registration.subpixel import smooth
from dlm_fiji.registration.tiles import to_grey
from dlm_fiji.registration.warp import Warp
from dlm_fiji.settings import Settings, setting

__all__ = ["Similarity", "SimilaritySettings", "fit_linear", "refine_similarity"]

Model = Literal["translation", "similarity", "affine"]


class SimilaritySettings(Settings):
    """How rotation and scale are refined."""

    model: Model = setting("similarity", "What may change between the images", source="000, step D")
    sigma: float = setting(0.8, "Gaussian smoothing before the fit", unit="px", ge=0)
    iterations: int = setting(20, "Gauss-Newton steps a level, at most", ge=1)
    coarsest_side: int = setting(96, "Shorter image side on the coarsest level", unit="px", ge=24)


@dataclass(frozen=True)
class Similarity:
    """aligned(p) = moving(matrix @ (p, 1)).

    Attributes
    ----------
    matrix
        (2, 3): takes (y, x, 1) of the aligned image to y, x of the moving image.
    shift
        (dy, dx) px at the image's centre.
    rotation
        Degrees; positive turns the y axis towards x.
    scale
        Pixels of the moving image per pixel of the aligned one.
    correlation
        Pearson coefficient of the pair after alignment.
    shape
        (H, W) of the aligned image.
    """

    matrix: np.ndarray
    shift: tuple[float, float]
    rotation: float
    scale: float
    correlation: float
    shape: tuple[int, int]

    @classmethod
    def of(
        cls,
        change: np.ndarray,
        shift: np.ndarray,
        correlation: float,
        fitted: tuple[int, int],
        shape: tuple[int, int],
    ) -> Similarity:
        """From moving = c + (1 + change) (p - c) + shift about the centre c of images of size ``fitted``."""
        centre = (np.array(fitted) - 1) / 2
        linear = np.eye(2) + change
        matrix = np.column_stack([linear, centre + shift - linear @ centre])
        scale = float(np.sqrt(abs(np.linalg.det(linear))))
        rotation = float(np.rad2deg(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])))
        return cls(matrix, (float(shift[0]), float(shift[1])), rotation, scale, correlation, shape)

    def apply(self, image: np.ndarray, order: int = 3) -> np.ndarray:
        """The image aligned, float32, by one interpolation."""
        rows, cols = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        m = self.matrix.astype(np.float32)
        return sample(
            image, m[0, 0] * rows + m[0, 1] * cols + m[0, 2], m[1, 0] * rows + m[1, 1] * cols + m[1, 2], order
        )

    def warp(self) -> Warp:
        """The same as a displacement field, to be composed with an elastic one."""
        return Warp.from_matrix(self.matrix, self.shape)


@kept_memory()
def refine_similarity(
    moving: np.ndarray, fixed: np.ndarray, settings: SimilaritySettings | None = None, **changes: Any
) -> Similarity:
    """The similarity that lays ``moving`` onto ``fixed``.

    Parameters
    ----------
    moving, fixed
        (H, W) or (H, W, C) of one size, roughly matched already (to a few per cent of the side): the
        low-resolution crop and the label reduced to its pixel size.
    settings, **changes
        :class:`SimilaritySettings` or its fields.

    Returns
    -------
    Similarity
        Has ``apply``; compose with other warps through ``warp()``.

    Raises
    ------
    InputError
        Sizes differ, an image is empty, or the fit does not converge.
    """
    s = SimilaritySettings.of(settings, **changes)
    moving, fixed = to_grey(moving), to_grey(fixed)
    if moving.shape != fixed.shape:
        raise InputError(f"The pair has different sizes: {moving.shape} and {fixed.shape} px.")
    if fixed.std() == 0 or moving.std() == 0:
        raise InputError("One image of the pair is constant: there is nothing to align.")
    factors = [1]
    while min(fixed.shape) / (2 * factors[-1]) >= s.coarsest_side:
        factors.append(2 * factors[-1])
    # parameters: A - 1 (yy, yx, xy, xx) and t in full-size pixels at the centre
    change, shift = np.zeros((2, 2)), np.zeros(2)
    correlation = 0.0
    for factor in reversed(factors):
        size = (fixed.shape[1] // factor, fixed.shape[0] // factor)
        crop = (slice(0, size[1] * factor), slice(0, size[0] * factor))
        small_fixed, small_moving = (
            smooth(cv2.resize(image[crop], size, interpolation=cv2.INTER_AREA), s.sigma) for image in (fixed, moving)
        )
        change, small_shift, correlation = fit_linear(small_moving, small_fixed, change, shift / factor, s)
        shift = small_shift * factor
    shape = (fixed.shape[0], fixed.shape[1])
    return Similarity.of(change, shift, correlation, shape, shape)


def fit_linear(
    moving: np.ndarray, fixed: np.ndarray, change: np.ndarray, shift: np.ndarray, s: SimilaritySettings
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gauss-Newton on one level from (change, shift); returns both and the correlation."""
    height, width = fixed.shape
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    y = (np.arange(height) - centre[0]).astype(np.float32)[:, None]
    x = (np.arange(width) - centre[1]).astype(np.float32)[None, :]
    correlation = 0.0
    for _ in range(s.iterations):
        linear = (np.eye(2) + change).astype(np.float32)
        rows = (linear[0, 0] * y + linear[0, 1] * x + np.float32(centre[0] + shift[0])).astype(np.float32)
        cols = (linear[1, 0] * y + linear[1, 1] * x + np.float32(centre[1] + shift[1])).astype(np.float32)
        value = cv2.remap(moving, cols, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        inside = (rows > 2) & (rows < height - 3) & (cols > 2) & (cols < width - 3)
        inside[:2] = inside[-2:] = False
        inside[:, :2] = inside[:, -2:] = False
        if inside.mean() < 0.2:
            raise InputError("The similarity fit ran out of the image: the pair does not seem to be the same field.")
        gy, gx = np.gradient(value)
        terms = [gy, gx]
        if s.model == "similarity":
            terms += [gy * y + gx * x, gx * y - gy * x]
        elif s.model == "affine":
            terms += [gy * y, gy * x, gx * y, gx * x]
        terms += [
            value - value[inside].mean(),
            np.broadcast_to(y, fixed.shape),
            np.broadcast_to(x, fixed.shape),
        ]
        design = np.stack([term[inside] for term in terms] + [np.ones(int(inside.sum()), np.float32)])
        scales = np.sqrt(np.einsum("kn,kn->k", design, design)) + 1e-12
        design /= scales[:, None].astype(np.float32)
        target = fixed[inside] - fixed[inside].mean()
        normal = (design @ design.T).astype(float) + 1e-9 * np.eye(len(design))
        solution = np.linalg.solve(normal, (design @ target).astype(float)) / scales
        gain = solution[-4]
        correlation = float(np.corrcoef(value[inside], fixed[inside])[0, 1])
        if not np.isfinite(solution).all() or abs(gain) < 1e-6:
            raise InputError("The similarity fit does not converge: the pair does not seem to be the same field.")
        step = solution[:-4] / gain
        limit = max(1.0, float(np.abs(step[:2]).max()) / 3)  # no more than 3 px at once
        step = step / limit
        shift = shift + step[:2]
        if s.model == "similarity":
            change = change + np.array([[step[2], -step[3]], [step[3], step[2]]])
        elif s.model == "affine":
            change = change + step[2:].reshape(2, 2)
        reach = float(np.hypot(*step[:2]) + np.abs(step[2:]).sum() * max(height, width) / 2)
        if reach < 2e-3:
            break
    return change, shift, correlation
