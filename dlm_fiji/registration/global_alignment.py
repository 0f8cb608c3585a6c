"""Bringing two images of one specimen roughly together, whatever lies between them: serial sections, other stains.

What such images share is where tissue is, not how it looks. So they are compared by optical density (for bright
field), much reduced and smoothed: every shift at a number of rotations by phase correlation, then an affine map by
least squares from coarse to fine; once there and once back, of which the better counts.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.registration.similarity import Similarity, SimilaritySettings, fit_linear
from dlm_fiji.registration.subpixel import correlation_peaks, smooth
from dlm_fiji.registration.tiles import to_grey
from dlm_fiji.settings import Settings, setting

__all__ = ["GlobalSettings", "align_global", "optical_density", "tissue"]


class GlobalSettings(Settings):
    """How two images are brought together."""

    contrast: Literal["density", "intensity"] = setting(
        "density", "What is compared: optical density (bright field, stains differ) or the intensity itself"
    )
    model: Literal["translation", "similarity", "affine"] = setting("affine", "Map that is fitted")
    rotation: float = setting(20.0, "Largest rotation looked for", unit="°", ge=0, le=180)
    step: float = setting(2.5, "Step of the rotation search", unit="°", gt=0)
    reach: float = setting(0.3, "Largest shift looked for, as a share of the side", gt=0, le=0.9)
    coarsest_side: int = setting(80, "Shorter side in the first search", unit="px", ge=32)
    min_correlation: float = setting(0.3, "Below this the images do not show the same specimen", ge=0, le=1)


def optical_density(image: np.ndarray) -> np.ndarray:
    """-log10 of the transmission, summed over colours, (H, W) float32 >= 0: the amount of stain, whatever its colour.

    The brightest percentile of the image is taken for the empty slide.
    """
    image = np.asarray(image, dtype=np.float32)
    channels = image[..., None] if image.ndim == 2 else image[..., :3]
    white = np.percentile(channels.reshape(-1, channels.shape[-1]), 99, axis=0)
    floor = np.maximum(white / 256, 1e-6)
    density = np.log10(np.maximum(white, floor) / np.maximum(channels, floor)).sum(axis=-1)
    return np.clip(density, 0, np.percentile(density, 99.5) + 1e-6).astype(np.float32)


def tissue(image: np.ndarray) -> np.ndarray:
    """How surely tissue lies at each pixel, (H, W) float32 0 … 1, however strong its stain is.

    A soft step of the optical density at half of Otsu's threshold.
    """
    density = optical_density(image)
    top = float(density.max())
    if top <= 0:
        return np.zeros(density.shape, np.float32)
    level = cv2.threshold(np.rint(density * (255 / top)).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)[0]
    threshold = (level + 0.5) * top / 255
    return (1 / (1 + np.exp(np.clip((0.5 * threshold - density) / (0.15 * threshold), -50, 50)))).astype(np.float32)


def align_global(
    moving: np.ndarray, fixed: np.ndarray, settings: GlobalSettings | None = None, **changes: Any
) -> Similarity:
    """The affine map that brings ``moving`` onto ``fixed``.

    Parameters
    ----------
    moving, fixed
        (H, W) or (H, W, C), sizes may differ.
    settings, **changes
        :class:`GlobalSettings` or its fields.

    Returns
    -------
    Similarity
        ``matrix`` takes pixels of ``fixed`` to pixels of ``moving``; ``apply`` and ``warp`` have the size of ``fixed``.

    Raises
    ------
    InputError
        An image is empty, or no place correlates above ``min_correlation``.
    """
    s = GlobalSettings.of(settings, **changes)
    a, b = (optical_density(i) if s.contrast == "density" else to_grey(i) for i in (moving, fixed))
    for image, name in ((a, "moving"), (b, "fixed")):
        if image.ndim != 2 or not np.isfinite(image).all() or image.std() == 0:
            raise InputError(f"The {name} image is constant or not finite: nothing can be aligned.")
    shape = (b.shape[0], b.shape[1])
    size = np.maximum(a.shape, b.shape)
    a, b = (np.pad(i, [(0, int(n - m)) for n, m in zip(size, i.shape, strict=True)], mode="edge") for i in (a, b))
    # there and back the fit may end at different places: the one where the images agree better counts
    fits: dict[bool, tuple[np.ndarray, np.ndarray, float]] = {}
    refusal = None
    for backwards, pair in ((False, (a, b)), (True, (b, a))):
        try:
            fits[backwards] = _fitted(*pair, s)
        except InputError as error:
            refusal = refusal or error
    if not fits:
        assert refusal is not None
        raise refusal
    backwards = max(fits, key=lambda way: fits[way][2])
    change, shift, correlation = fits[backwards]
    if backwards:
        linear = np.linalg.inv(np.eye(2) + change)
        change, shift = linear - np.eye(2), -(linear @ shift)
    return Similarity.of(change, shift, correlation, (int(size[0]), int(size[1])), shape)


def _fitted(moving: np.ndarray, fixed: np.ndarray, s: GlobalSettings) -> tuple[np.ndarray, np.ndarray, float]:
    """Change of the linear part, shift, px, and correlation, for images of one size."""
    factor = 1
    while min(fixed.shape) / (2 * factor) >= s.coarsest_side:
        factor *= 2
    linear, shift, correlation = _search(smooth(_reduced(moving, factor), 2), smooth(_reduced(fixed, factor), 2), s)
    if correlation < s.min_correlation:
        raise InputError(
            f"The images correlate by {correlation:.2f} at best, below {s.min_correlation:.2f}: they do not seem to "
            "show the same specimen."
        )
    change, shift = linear - np.eye(2), shift * factor
    fit = SimilaritySettings(model=s.model, iterations=30)
    for divisor, sigma in ((1, 3.0), (1, 1.5), (2, 2.0), (2, 1.0)):
        level = max(1, factor // divisor)
        small = [smooth(_reduced(image, level), sigma) for image in (moving, fixed)]
        change, small_shift, correlation = fit_linear(small[0], small[1], change, shift / level, fit)
        shift = small_shift * level
    return change, shift, correlation


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = (n // factor for n in image.shape)
    return cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def _search(moving: np.ndarray, fixed: np.ndarray, s: GlobalSettings) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation and shift of the best whole-pixel match: fixed(c + p) ~ moving(c + linear p + shift)."""
    height, width = fixed.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    best: tuple[float, float, np.ndarray, np.ndarray] = (-1.0, 0.0, np.eye(2), np.zeros(2))
    count = int(s.rotation / s.step)
    for angle in np.arange(-count, count + 1) * s.step:
        turn = cv2.getRotationMatrix2D(centre, float(angle), 1)
        turned = cv2.warpAffine(moving, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        back = cv2.invertAffineTransform(turn)
        linear = back[:, :2][::-1, ::-1]  # OpenCV counts x first
        for correlation, lag in correlation_peaks(
            fixed, turned, np.zeros(2), s.reach * np.array(fixed.shape), 5, whiten=0.5
        ):
            share = float(np.prod(np.array(fixed.shape) - np.abs(lag))) / fixed.size
            score = correlation * np.sqrt(share)
            if score > best[0]:
                best = (score, correlation, linear, -(linear @ lag))
    return best[2], best[3], best[1]
