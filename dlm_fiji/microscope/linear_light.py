"""Between the 8-bit sRGB values of an image file and linear light (IEC 61966-2-1).

Bright-field images form in linear light: absorption and blur act on intensities, not on encoded values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["linear_to_srgb", "srgb_to_linear"]


def srgb_to_linear(encoded: NDArray) -> NDArray[np.float32]:
    """Encoded values 0 … 1 (any shape) → intensities 0 … 1, float32."""
    v = np.asarray(encoded, np.float32)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(intensity: NDArray) -> NDArray[np.float32]:
    """Intensities (any shape; clipped to 0 … 1) → encoded values 0 … 1, float32."""
    v = np.clip(np.asarray(intensity, np.float32), 0, 1)
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055).astype(np.float32)
