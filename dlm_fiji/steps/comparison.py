"""Images of one area measured against its label, as the comparison report prints it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.measures import luminance, psnr, ssim

__all__ = ["BORDER", "compare_regions", "area_measures"]

BORDER = 20
"""Pixels left out at the edge of the area: networks and deconvolution treat edges differently."""


def area_measures(image: NDArray[np.uint8], label: NDArray[np.uint8], border: int = BORDER) -> dict[str, float]:
    """SSIM and PSNR (dB) of 8-bit RGB or grey images, both on the luminance Y, data range 255, border left out.

    Raises
    ------
    InputError
        The shapes differ, or nothing is left inside the border.
    """
    if image.shape != label.shape:
        raise InputError(f"The image is {image.shape}, its label {label.shape}; they must have the same shape.")
    if min(label.shape[:2]) < 2 * border + 11:
        raise InputError(f"The area of {label.shape[0]}x{label.shape[1]} px is too small for a border of {border} px.")
    a, b = (luminance(x) if x.ndim == 3 and x.shape[-1] == 3 else x.reshape(x.shape[:2]) for x in (image, label))
    return {
        "ssim": float(ssim(a, b, 255.0, border=border)),
        "psnr_db": float(psnr(a, b, 255.0, border=border)),
    }




def compare_regions(images: Mapping[str, NDArray[np.uint8]], label: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """:func:`area_measures` of several images of one area, by name."""
    return {name: dict(area_measures(image, label)) for name, image in images.items()}
