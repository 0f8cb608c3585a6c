"""From matched images to what a network is trained on: the small steps of the three papers.

002: LR images enlarged two times (bilinear), 10 px cropped from every side after registration, float32
scaled to 0 … 255. 004: the raw file's centre cut into four fields of 1024², the label resampled so that the
ratio of the pixel numbers is exactly L = 2.5 (the resolutions, 0.87 and 0.37 µm, have a ratio of 2.35), and
a variant of the input degraded by JPEG compression (files more than 21 times smaller).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.registration.sampling import resample

__all__ = [
    "JpegDegraded",
    "central_fields",
    "crop_border",
    "degrade_jpeg",
    "develop_raw",
    "enlarge_linear",
    "label_at_factor",
    "to_unit_range",
]


def enlarge_linear(image: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """The image enlarged by linear interpolation, float32 (002: ×2, to the pixel size of the label)."""
    return resample(image, factor, "linear")


def crop_border(image: np.ndarray, border: int = 10) -> np.ndarray:
    """The image without ``border`` px on each side (002: 10, where the registration lacks neighbours).

    Raises
    ------
    InputError
        Nothing would be left.
    """
    if border < 0 or min(image.shape[:2]) <= 2 * border:
        raise InputError(f"A border of {border} px cannot be cropped from {image.shape[0]} x {image.shape[1]} px.")
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def to_unit_range(
    image: np.ndarray, low: float | None = None, high: float | None = None, top: float = 255.0
) -> np.ndarray:
    """float32 with ``low`` at 0 and ``high`` at ``top`` (002: 0 … 255); not clipped.

    Without ``low`` and ``high`` the image's own extremes are taken: once an image, never a patch.

    Raises
    ------
    InputError
        The range is empty.
    """
    image = np.asarray(image, dtype=np.float32)
    low = float(image.min()) if low is None else float(low)
    high = float(image.max()) if high is None else float(high)
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        raise InputError(f"An image cannot be scaled from the range {low:g} … {high:g} to 0 … {top:g}.")
    return (image - np.float32(low)) * np.float32(top / (high - low))


def label_at_factor(label: np.ndarray, ratio: float, factor: float = 2.5) -> np.ndarray:
    """The label resampled so that it has exactly ``factor`` pixels for each pixel of the input, float32.

    Parameters
    ----------
    label
        (H, W[, C]).
    ratio
        Label pixels per input pixel now: the quotient of the two pixel sizes, or the scale that matching
        found.
    """
    if ratio <= 0 or factor <= 0:
        raise InputError(f"The ratio {ratio} and the factor {factor} must be above zero.")
    if ratio == factor:
        return np.asarray(label, dtype=np.float32)
    return resample(label, factor / ratio, "cubic")


def central_fields(image: np.ndarray, side: int = 1024) -> list[np.ndarray]:
    """The image's centre cut into four fields of ``side``², top left first, row by row (004).

    Raises
    ------
    InputError
        The image is smaller than two fields a side.
    """
    height, width = image.shape[:2]
    if min(height, width) < 2 * side:
        raise InputError(
            f"Four fields of {side} x {side} px need {2 * side} px a side; the image has {height} x {width}."
        )
    y, x = (height - 2 * side) // 2, (width - 2 * side) // 2
    return [image[y + r * side : y + (r + 1) * side, x + c * side : x + (c + 1) * side] for r in (0, 1) for c in (0, 1)]


@dataclass(frozen=True)
class JpegDegraded:
    """``image`` after JPEG, ``ratio`` of the uncompressed size to the compressed, and the ``quality`` used."""

    image: np.ndarray
    ratio: float
    quality: int


def degrade_jpeg(image: np.ndarray, quality: int = 50, ratio: float | None = None) -> JpegDegraded:
    """The image (uint8, grey or RGB) through JPEG compression.

    Parameters
    ----------
    image
        (H, W) or (H, W, 3) uint8.
    quality
        1 … 100.
    ratio
        Instead of ``quality``: the highest quality at which the file is at least this many times smaller
        than the pixels (004: more than 21).

    Raises
    ------
    InputError
        The image is not 8-bit, the quality out of range, or the ratio not to be reached.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"JPEG takes 8-bit grey or RGB images, not {image.dtype} {image.shape}.")
    if not 1 <= quality <= 100:
        raise InputError(f"JPEG quality goes from 1 to 100, not {quality}.")

    def through(q: int) -> tuple[np.ndarray, float]:
        source = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)
        done, code = cv2.imencode(".jpg", source, [cv2.IMWRITE_JPEG_QUALITY, q])
        if not done:
            raise InputError(f"The image {image.shape} cannot be compressed as JPEG.")
        back = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR if image.ndim == 3 else cv2.IMREAD_GRAYSCALE))
        return (back[..., ::-1].copy() if image.ndim == 3 else back), image.nbytes / len(code)

    if ratio is not None:
        low, high = 1, 100
        if through(low)[1] < ratio:
            raise InputError(f"Even at quality 1 the image is only {through(low)[1]:.1f} times smaller, not {ratio:g}.")
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if through(middle)[1] >= ratio else (low, middle - 1)
        quality = low
    degraded, reached = through(quality)
    return JpegDegraded(degraded, reached, quality)


def develop_raw(path: str | os.PathLike[str], linear: bool = False) -> np.ndarray:
    """A camera raw file (DNG and others) as RGB (H, W, 3) uint16.

    Parameters
    ----------
    path
        The raw file.
    linear
        False: as the camera would render it (its white balance, sRGB curve), 004's TIFF. True: proportional
        to light, no curve and no automatic brightening.

    Raises
    ------
    InputError
        The file is missing or no raw file.
    SetupError
        ``rawpy`` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"Raw file {path} does not exist.")
    try:
        import rawpy
    except ImportError:
        raise SetupError(f"Reading {path.name} needs rawpy: pip install 'dlm_fiji[formats]'.") from None
    options: dict[str, Any] = {"use_camera_wb": True, "output_bps": 16}
    if linear:
        options |= {"gamma": (1, 1), "no_auto_bright": True}
    try:
        with rawpy.imread(str(path)) as raw:
            return raw.postprocess(**options)
    except rawpy.LibRawError as error:
        raise InputError(f"{path} cannot be read as a camera raw file: {error}.") from error
