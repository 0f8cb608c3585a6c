"""How the values of an image become the network's, once an image (or once a channel over a series), never a "
"tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.inference.card import ModelCard

__all__ = ["Scaling", "full_scale_of", "scaling_for"]

PERCENTILES = (0.5, 99.8)
"""Background and full scale of a fluorescence image: values at these percentiles become 0 and 255 (002)."""
SAMPLES = 4_000_000


@dataclass(frozen=True)
class Scaling:
    """Network value = (value - offset) * gain, and back."""

    offset: float
    gain: float

    def forward(self, values: NDArray) -> NDArray[np.float32]:
        """Values of the image, any type → the network's, float32."""
        out = values.astype(np.float32)
        if self.offset:
            out -= np.float32(self.offset)
        out *= np.float32(self.gain)
        return out

    def backward(self, values: NDArray[np.float32], dtype: np.dtype) -> NDArray:
        """The network's values → the image's, rounded and clipped to the type where it is a whole-number "
        "type."""
        out = values * np.float32(1 / self.gain)
        if self.offset:
            out += np.float32(self.offset)
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            # float32 cannot hold the largest 32-bit number, so clip in float64 there
            wide = out.astype(np.float64) if dtype.itemsize > 2 else out
            np.rint(wide, out=wide)
            return np.clip(wide, limits.min, limits.max, out=wide).astype(dtype)
        return out.astype(dtype, copy=False)


def full_scale_of(values: NDArray) -> float:
    """The value of a full pixel: 255 (uint8), 65535 (uint16); for other types the least of 1, 255, 65535 that
    holds.

    A float image may pass its full scale by up to half (an enhanced image overshoots at edges).
    """
    if values.dtype == np.uint8:
        return 255.0
    if values.dtype == np.uint16:
        return 65535.0
    largest = float(values.max()) if values.size else 1.0
    room = 1.5 if values.dtype.kind == "f" else 1.0
    scales = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    return next((scale for scale in scales if largest <= room * scale), largest)


def scaling_for(card: ModelCard, values: NDArray, full_scale: float | None = None) -> Scaling:
    """The scaling that ``card`` asks for, measured on ``values`` (all planes of one image and channel).

    Parameters
    ----------
    card
        Says which normalisation.
    values
        (N, H, W, C), or an array of any other shape.
    full_scale
        Value of a full pixel of a bright-field image, such as 4095 for a 12-bit camera; None as in
        :func:`full_scale_of`.

    Raises
    ------
    InputError
        NaN or infinite values, complex or boolean images.
    """
    if values.dtype.kind not in "uif":
        raise InputError(f"Images of type {values.dtype} cannot be enhanced; convert it to 8 or 16 bits or float.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("The image has pixels that are NaN or infinite; export it again without masked pixels.")
    if card.normalisation == "full scale":
        return Scaling(0.0, 1.0 / (full_scale or full_scale_of(values)))
    # Every k-th pixel of every k-th row, the same that streaming takes.
    step = max(1, int(np.sqrt(values.size / SAMPLES)))
    sample = values[:, ::step, ::step] if values.ndim == 4 else values
    low, high = (float(v) for v in np.percentile(sample, PERCENTILES))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    # an empty image has no contrast; any gain will do, and one keeps its values finite
    return Scaling(low, (card.intensity_range[1] / (high - low)) if high > low else 1.0)
