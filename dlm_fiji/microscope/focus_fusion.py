"""Extended depth of field: one sharp image from a stack of focus planes.

Complex wavelets after Forster, Van De Ville, Berent, Sage & Unser, Microsc. Res. Tech. 65, 33 (2004),
doi:10.1002/jemt.20092, which 000 uses for its comparison images: every plane is decomposed, at each place
and scale the coefficient of the largest magnitude is kept, majority votes make the choice consistent between
sub-bands and between neighbours, and the transform is inverted. Complex coefficients have a magnitude that
does not swing with the phase of an edge, so the choice is stable where real wavelets ring.

``variance`` is the simple rival: at each pixel the plane whose Laplacian varies most around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.microscope.complex_wavelets import forward, inverse
from dlm_fiji.settings import Settings, setting

__all__ = ["FocusFusion", "FocusSettings", "fuse_focus"]


class FocusSettings(Settings):
    """How a focus stack is fused."""

    method: Literal["complex-wavelets", "variance"] = setting(
        "complex-wavelets", "How the sharp plane is chosen", source="000"
    )
    levels: int = setting(5, "Scales of the wavelet transform, at most", ge=1, le=8)
    consistency: bool = setting(True, "Majority votes between sub-bands and between neighbours", source="Forster 2004")
    window: int = setting(9, "Side of the window of the variance method", unit="px", ge=3)
    reassign: bool = setting(
        True,
        "Give each pixel the stack's own value nearest to the fused one: no value that was never seen",
        source="Forster 2004",
    )


@dataclass(frozen=True)
class FocusFusion:
    """``image`` (H, W[, C]) in the stack's type; ``plane`` (H, W) int, the plane each pixel is nearest to."""

    image: np.ndarray
    plane: np.ndarray
    method: str


def fuse_focus(stack: np.ndarray, settings: FocusSettings | None = None, **changes: Any) -> FocusFusion:
    """Fuse a focus stack.

    Parameters
    ----------
    stack
        (Z, H, W) or (Z, H, W, C), Z >= 2, any real type; the planes aligned.
    settings, **changes
        :class:`FocusSettings` or its fields.

    Returns
    -------
    FocusFusion

    Raises
    ------
    InputError
        The stack has no planes to choose from, is too small, or is not finite.
    """
    s = FocusSettings.of(settings, **changes)
    stack = np.asarray(stack)
    if stack.ndim not in (3, 4) or (stack.ndim == 4 and stack.shape[3] > 4):
        raise InputError(f"A focus stack is (Z, H, W) or (Z, H, W, C), not {stack.shape}.")
    if stack.shape[0] < 2 or min(stack.shape[1:3]) < 16:
        raise InputError(f"A focus stack needs two planes of at least 16 x 16 px; given: {stack.shape}.")
    if stack.dtype.kind == "f" and not np.isfinite(stack).all():
        raise InputError("The focus stack has values that are not finite.")
    grey = _principal(stack)
    if s.method == "variance":
        plane = _by_variance(grey, s.window)
    else:
        fused = _by_wavelets(grey, s)
        distance = np.abs(grey - fused)
        plane = distance.argmin(axis=0)
        if not s.reassign:
            if stack.ndim == 4:
                raise InputError("A colour stack is fused by choosing planes; reassign=False is for grey stacks.")
            return FocusFusion(_typed(fused, stack.dtype), plane, s.method)
    chosen = np.take_along_axis(stack, plane[None, ..., None] if stack.ndim == 4 else plane[None], axis=0)[0]
    return FocusFusion(chosen, plane, s.method)


def _typed(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(image), limits.min, limits.max).astype(dtype)
    return image.astype(dtype)


def _principal(stack: np.ndarray) -> np.ndarray:
    """One channel (Z, H, W) float32 for judging: the colour direction in which the stack varies most
    (Forster 2004).
    """
    if stack.ndim == 3:
        return stack.astype(np.float32)
    colours = stack.reshape(-1, stack.shape[3]).astype(np.float32)
    some = colours[:: max(1, len(colours) // 100_000)]
    _, axes = np.linalg.eigh(np.cov(some, rowvar=False))
    axis = axes[:, -1] * np.sign(axes[:, -1].sum() or 1)
    return (colours @ axis.astype(np.float32)).reshape(stack.shape[:3])


def _by_variance(grey: np.ndarray, window: int) -> np.ndarray:
    scores = []
    for plane in grey:
        laplacian = cv2.Laplacian(plane, cv2.CV_32F, ksize=3)
        mean = cv2.blur(laplacian, (window, window))
        scores.append(cv2.blur(laplacian**2, (window, window)) - mean**2)
    return np.argmax(scores, axis=0)


def _by_wavelets(grey: np.ndarray, s: FocusSettings) -> np.ndarray:
    """Fused grey image: the strongest coefficient at each place and scale, the mean of the coarsest
    approximations.
    """
    levels = min(s.levels, max(1, int(np.log2(min(grey.shape[1:]))) - 3))
    decomposed = [forward(plane, levels) for plane in grey]
    bands = []
    for level in range(levels):
        coefficients = np.stack([planes[level] for planes, _ in decomposed])  # (Z, 3, h, w) complex
        strength = np.abs(coefficients)
        choice = strength.argmax(axis=0)
        if s.consistency:
            choice = _agreed(strength, choice)
        bands.append(np.take_along_axis(coefficients, choice[None], axis=0)[0])
    lowest = np.mean([low for _, low in decomposed], axis=0)
    return inverse(bands, lowest, (grey.shape[1], grey.shape[2]))


def _agreed(strength: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Sub-band and spatial consistency: where two of the three sub-bands agree, the third follows; then a 3
    × 3 vote.
    """
    count = len(strength)
    votes = np.stack([(choice == z).sum(axis=0) for z in range(count)]).astype(np.float32)
    majority = votes.argmax(axis=0)
    clear = votes.max(axis=0) >= 2
    choice = np.where(clear, majority, choice)
    # each direction: the plane that most of the nine neighbours chose, the sum of magnitudes deciding a tie
    result = np.empty_like(choice)
    for direction in range(choice.shape[0]):
        here = np.stack([cv2.blur((choice[direction] == z).astype(np.float32), (3, 3)) for z in range(count)])
        power = np.stack([cv2.blur(strength[z, direction].astype(np.float32), (3, 3)) for z in range(count)])
        result[direction] = (here + 1e-3 * power / (power.max() + 1e-20)).argmax(axis=0)
    return result
