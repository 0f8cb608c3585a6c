"""What Richardson-Lucy asks of image, point spread function and first guess."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from dlm_fiji.errors import ConfigurationError, InputError

__all__ = ["check_voxels", "checked", "first_guess"]


def first_guess(data: torch.Tensor, initial: Any, background: float) -> torch.Tensor:
    """The estimate before the first update."""
    if isinstance(initial, str):
        if initial == "image":
            return (data - background).clamp_(min=0) if background > 0 else data
        if initial == "constant":
            return torch.full_like(data, float((data - background).clamp(min=0).mean()))
        raise ConfigurationError(f"initial is 'image', 'constant' or an array, not {initial!r}.")
    start = torch.as_tensor(np.asarray(initial) if not isinstance(initial, torch.Tensor) else initial)
    start = start.to(device=data.device, dtype=data.dtype)
    if start.shape != data.shape:
        raise InputError(
            f"The first guess has the shape {tuple(start.shape)}, the image {tuple(data.shape)}: they must agree."
        )
    if not bool(torch.isfinite(start).all()) or float(start.min()) < 0:
        raise InputError("The first guess must be finite and not negative.")
    return start


def checked(
    image: np.ndarray | torch.Tensor, psf: np.ndarray | torch.Tensor, device: str | torch.device | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and normalised PSF as tensors of one type on one device."""
    data = image if isinstance(image, torch.Tensor) else torch.from_numpy(_native(image))
    kernel = psf if isinstance(psf, torch.Tensor) else torch.from_numpy(_native(psf))
    double = isinstance(image, torch.Tensor) and image.dtype == torch.float64
    kind = torch.float64 if double else torch.float32
    data = data.to(device=device or data.device, dtype=kind)
    kernel = kernel.to(device=data.device, dtype=kind)
    if data.ndim not in (2, 3) or data.numel() == 0:
        raise InputError(
            "Richardson-Lucy takes (rows, columns) or (planes, rows, columns), not the shape "
            f"{tuple(data.shape)}; "
            "deconvolve channels and times one by one."
        )
    if kernel.ndim != data.ndim:
        raise InputError(
            f"The image has {data.ndim} axes and the point spread function {kernel.ndim}: give one of the same kind."
        )
    if any(p > n for p, n in zip(kernel.shape, data.shape, strict=True)):
        raise InputError(
            f"The point spread function {tuple(kernel.shape)} is larger than the image "
            f"{tuple(data.shape)}: crop it "
            "or deconvolve a larger field."
        )
    highest = {}
    for name, array in (("image", data), ("point spread function", kernel)):
        # One pass: NaN and infinity come through as the extremes.
        low, high = (float(v) for v in torch.aminmax(array))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(f"The {name} holds NaN or infinite values: replace them before deconvolving.")
        if low < 0:
            raise InputError(
                f"The {name} holds negative values (lowest {low:.4g}), and counts of light cannot be: add back "
                "a subtracted background or clip at 0."
            )
        highest[name] = high
    if highest["point spread function"] == 0:
        raise InputError("The point spread function is zero everywhere.")
    if highest["image"] == 0:
        raise InputError("The image is zero everywhere, so there is nothing to deconvolve.")
    return data, kernel / float(kernel.sum(dtype=torch.float64))


def _native(array: Any) -> np.ndarray:
    """float32 in the machine's byte order, which torch needs; other kinds than real numbers are refused."""
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise InputError(f"Deconvolution needs real numbers, not {array.dtype}.")
    return np.ascontiguousarray(array, dtype=np.float32)


def check_voxels(image: tuple[float, ...] | float | None, psf: tuple[float, ...] | float | None) -> None:
    """Refuse a PSF that was made for another voxel size."""
    if image is None or psf is None:
        return
    a, b = np.atleast_1d(np.asarray(image, float)), np.atleast_1d(np.asarray(psf, float))
    if (a.size != b.size and 1 not in (a.size, b.size)) or np.any(np.abs(a - b) > 0.01 * np.abs(a)):
        raise InputError(
            f"The image has voxels of {_sizes(a)} µm and the point spread function of {_sizes(b)} µm: make "
            "the point "
            "spread function for the image's voxels (after any enlargement)."
        )


def _sizes(values: np.ndarray) -> str:
    return " × ".join(f"{v:g}" for v in values)
