"""The background of fluorescence images: its level where nothing lies, and its subtraction.

002 subtracts a threshold "estimated from the mean intensity value of a region without objects" (about 300 of
65,535) before training on wide-field images, and after inference a constant, "the mean value of an empty
FOV", from input, output and label of confocal and STED alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dlm_fiji.errors import InputError

__all__ = ["BackgroundLevel", "background_level", "rolling_ball_background", "subtract_background"]


@dataclass(frozen=True)
class BackgroundLevel:
    """``mean`` and ``deviation`` of the intensity in an object-free ``region`` (y0, x0, y1, x1)."""

    mean: float
    deviation: float
    region: tuple[int, int, int, int]


def background_level(
    image: np.ndarray, region: tuple[int, int, int, int] | None = None, side: int | None = None
) -> BackgroundLevel:
    """Mean intensity of a region without objects, given or found.

    Found is the square window with the lowest mean plus deviation: objects raise both.

    Parameters
    ----------
    image
        (H, W), any range.
    region
        (y0, x0, y1, x1) px, if known.
    side
        Side of the window that is looked for, by default an eighth of the shorter side of the image, at
        least 8.

    Raises
    ------
    InputError
        The image is not two-dimensional or has no finite pixel, or the region lies outside.
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0:
        raise InputError(f"The background is measured on one channel (H, W), not on {image.shape}.")
    if region is not None:
        y0, x0, y1, x1 = (int(n) for n in region)
        if not (0 <= y0 < y1 <= image.shape[0] and 0 <= x0 < x1 <= image.shape[1]):
            raise InputError(
                f"The region {region} does not lie within the image of {image.shape[0]} x {image.shape[1]} px."
            )
    else:
        window = int(np.clip(side or max(8, min(image.shape) // 8), 1, min(image.shape)))
        values = image.astype(np.float64)
        finite = np.isfinite(values)
        if not finite.any():
            raise InputError("The image has no finite pixel: its background cannot be measured.")
        # a pixel that is not finite is taken for an object
        values[~finite] = values[finite].max()
        values -= values[finite].mean()
        mean, square = (
            cv2.boxFilter(part, cv2.CV_64F, (window, window), anchor=(0, 0), borderType=cv2.BORDER_REFLECT)
            for part in (values, values**2)
        )
        score = mean + np.sqrt(np.maximum(square - mean**2, 0))
        inside = score[: image.shape[0] - window + 1, : image.shape[1] - window + 1]
        y0, x0 = (int(n) for n in np.unravel_index(int(np.argmin(inside)), inside.shape))
        y1, x1 = y0 + window, x0 + window
    part = image[y0:y1, x0:x1].astype(np.float64)
    part = part[np.isfinite(part)]
    if part.size == 0:
        raise InputError(f"The region {(y0, x0, y1, x1)} has no finite pixel.")
    return BackgroundLevel(float(part.mean()), float(part.std()), (y0, x0, y1, x1))


def subtract_background(image: np.ndarray, level: float, clip: bool = True) -> np.ndarray:
    """The image less a constant, float32; below zero set to zero where ``clip``.

    Use ``clip=True`` before training (002, wide-field), and the same constant on input, output and label
    after inference (002, confocal and STED).
    """
    result = np.asarray(image, dtype=np.float32) - np.float32(level)
    return np.maximum(result, 0) if clip else result


def rolling_ball_background(image: np.ndarray, radius: float = 50.0) -> np.ndarray:
    """The background (H, W) float32 under which a ball of ``radius`` px rolls (Sternberg 1983, as in ImageJ).

    A grey opening by a ball. As ImageJ does, large balls roll over a reduced image (local minima of the
    blocks), which changes a smooth background little and takes a fraction of the time.

    Raises
    ------
    InputError
        The image is not two-dimensional or not finite, or the radius is below 1 px.
    """
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 2 or image.size == 0 or not np.isfinite(image).all():
        raise InputError(f"A rolling ball needs one finite channel (H, W); the image is {image.shape}.")
    if radius < 1:
        raise InputError(f"The radius of the rolling ball must be at least 1 px, not {radius}.")
    from skimage.restoration import rolling_ball

    factor = 1 if radius <= 10 else 2 if radius <= 30 else 4 if radius <= 100 else 8
    if factor == 1:
        return rolling_ball(image, radius=radius).astype(np.float32)
    height, width = (-(-n // factor) for n in image.shape)
    padded = np.pad(image, ((0, height * factor - image.shape[0]), (0, width * factor - image.shape[1])), mode="edge")
    small = padded.reshape(height, factor, width, factor).min(axis=(1, 3))
    # the ball's height is in intensities and its width in pixels: only the width is reduced
    kernel_radius = radius / factor
    size = int(np.ceil(kernel_radius))
    y, x = np.mgrid[-size : size + 1, -size : size + 1]
    inside = (y**2 + x**2) <= kernel_radius**2
    ball = np.sqrt(np.clip(radius**2 - (y**2 + x**2) * factor**2, 0, None)).astype(np.float32)
    kernel = np.where(inside, ball, np.inf).astype(np.float32)
    rolled = rolling_ball(small, kernel=kernel)
    full = cv2.resize(rolled.astype(np.float32), (width * factor, height * factor), interpolation=cv2.INTER_LINEAR)
    return np.minimum(full[: image.shape[0], : image.shape[1]], image)
