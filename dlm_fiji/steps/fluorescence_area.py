"""A fluorescence image, what is made of it, and its label: brought to one scale of values, measured, deconvolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shifted

from dlm_fiji.deconvolution import search
from dlm_fiji.errors import InputError
from dlm_fiji.measures import decorrelation_resolution, match_intensity, psnr, ring_correlation, ssim
from dlm_fiji.microscope import gaussian_psf
from dlm_fiji.registration import drift

__all__ = [
    "BORDER",
    "FluorescenceRival",
    "compare_fluorescence",
    "enlargement",
    "registered_label",
    "search_fluorescence",
    "unit_label",
]

BORDER = 10
"""Pixels left out at the edge of the area."""
SIGMAS = (1.0, 1.4, 1.6, 1.7, 1.8, 2.0, 2.4)
"""Widths of the Gaussian point spread function that are tried, label pixels."""
REACH = 8.0
"""Pixels of the label by which it may lie beside the image."""
_FWHM = 2.3548


@dataclass(frozen=True)
class FluorescenceRival:
    """Richardson-Lucy at its best: image, σ of its point spread function (label pixels), iterations, every score."""

    image: NDArray[np.float32]
    sigma: float
    iterations: int
    scores: dict[float, list[tuple[int, float]]]


def enlargement(image: NDArray[Any], label: NDArray[Any]) -> int:
    """Label pixels in a pixel of the image.

    Raises
    ------
    InputError
        The two do not show one field on whole pixels.
    """
    (h, w), (height, width) = image.shape, label.shape
    ratio = round(height / h)
    if ratio < 1 or (height, width) != (ratio * h, ratio * w):
        raise InputError(
            f"The label is {width} × {height} px, the image {w} × {h} px: register and crop them so that the label is "
            "as large, or a whole number of times as large."
        )
    return ratio


def registered_label(image: NDArray[Any], label: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The label moved onto the image, and by how much: a third of a pixel costs every image 0.1 of SSIM.

    As 002 registers its pairs before a figure is taken. Cubic spline, the edges repeated.

    Parameters
    ----------
    image
        Enlarged to the label's size.
    label
        (H, W).

    Returns
    -------
    The label, and its (y, x) shift in label pixels; (0, 0) where none can be measured within 8 px.
    """
    label = np.asarray(label, np.float32)
    try:
        found = drift(image, label, max_shift=REACH).shift
    except InputError:
        return label, (0.0, 0.0)
    move = (-found[0], -found[1])
    if max(map(abs, move)) > REACH:
        return label, (0.0, 0.0)
    return shifted(label, move, order=3, mode="nearest").astype(np.float32), move


def unit_label(label: NDArray[Any]) -> NDArray[np.float32]:
    """The label with its 0.5th and 99.8th percentiles at 0 and 1, clipped there (002)."""
    low, high = np.percentile(label, (0.5, 99.8))
    if not high > low:
        raise InputError("The label is empty (one value everywhere).")
    return np.clip((label - low) / (high - low), 0, 1).astype(np.float32)


def search_fluorescence(
    image: NDArray[Any], label: NDArray[np.float32], iterations: int, sigma: float | None = None
) -> FluorescenceRival:
    """Richardson-Lucy with the Gaussian width and the iterations of the best SSIM against the label.

    Parameters
    ----------
    image
        Shape of the label, any scale of values; what lies below its 0.1st percentile is background.
    label
        From :func:`unit_label`.
    iterations
        Largest number tried: all up to 20, then in steps of a tenth.
    sigma
        Width of the point spread function in label pixels, where it is known; else several are tried.
    """
    positive = np.clip(image - np.percentile(image, 0.1), 0, None) + 1e-3 * float(np.max(image))
    positive = positive.astype(np.float32)
    best: FluorescenceRival | None = None
    top = -np.inf
    scores = {}
    counts = sorted({*range(1, min(20, iterations) + 1), *_steps_of_a_tenth(20, iterations), iterations})
    for width in SIGMAS if sigma is None else (sigma,):
        side = 2 * int(np.ceil(4 * width)) + 1
        psf = gaussian_psf(_FWHM * width, 1.0, (side, side))
        found = search(positive, psf, counts, (0.0,), score=lambda e: _ssim(e, label), border=BORDER)
        scores[width] = list(zip(found.iterations_tried, found.surface[0].tolist(), strict=True))
        if found.score > top:
            top, best = found.score, FluorescenceRival(found.image, width, found.iterations, scores)
    assert best is not None
    return best


def _steps_of_a_tenth(start: int, end: int) -> list[int]:
    counts = [start]
    while counts[-1] * 1.1 < end:
        counts.append(round(counts[-1] * 1.1))
    return counts if end > start else []


def compare_fluorescence(
    images: Mapping[str, NDArray[Any]], label: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
    """Images fitted to the label by a line, and their figures; the label's own resolution under ``"label"``.

    Figures: SSIM and PSNR (data range 1), the Fourier ring correlation with the label (1/7) and the decorrelation
    resolution of the image alone, both in label pixels and None where there is none; 10 px of border left out.
    """
    fitted = {name: match_intensity(image, label) for name, image in images.items()}
    figures: dict[str, dict[str, Any]] = {}
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    square = (slice(BORDER, min(label.shape) - BORDER),) * 2
    for name, image in {**fitted, "label": label}.items():
        own = decorrelation_resolution(image[inner]).resolution
        figures[name] = {"decorrelation_px": _number(own)}
        if name != "label":
            figures[name] |= {
                "ssim": _ssim(images[name], label),
                "psnr_db": float(psnr(match_intensity(images[name][inner], label[inner]), label[inner], 1.0)),
                "frc_px": _number(ring_correlation(image[square], label[square]).resolution),
            }
    return fitted, figures


def _ssim(image: NDArray[Any], label: NDArray[np.float32]) -> float:
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    return float(ssim(match_intensity(image[inner], label[inner]), label[inner], 1.0))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
