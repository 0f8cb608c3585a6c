"""What lies beyond the edge of an image, and on which grid its Fourier transforms run.

A convolution by FFT takes the image for periodic: without more, the left edge bleeds into the right one and
Richardson-Lucy turns the step into a frame of ringing. Three answers:

``"reflect"``
    The image is continued by its mirror image; where the mirror images of opposite edges meet, half a period
    further, they are cross-faded, so that the periodic image has no step anywhere.
``"weights"``
    Nothing is known beyond the edge: the object is estimated on a larger field, pixels outside the image have
    weight 0, and each update is divided by the blurred weights (Bertero & Boccacci 2005). Light from objects
    outside gets a place to come from; on ordinary scenes the outermost pixels are less exact than with
    ``"reflect"``.
``"circular"``
    The image is periodic. For simulated images that are.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

__all__ = ["BOUNDARIES", "Boundary", "Grid", "transfer_function"]

Boundary = Literal["reflect", "weights", "circular"]
BOUNDARIES = ("reflect", "weights", "circular")


class Grid:
    """The padded grid of one image: how to lay an image on it and how to cut it out again."""

    def __init__(self, shape: tuple[int, ...], psf_shape: tuple[int, ...], boundary: Boundary) -> None:
        self.shape, self.boundary = shape, boundary
        if boundary == "circular":
            self.padded = shape
        else:
            # One PSF between the image and its own repetition: half of it belongs to either side.
            self.padded = tuple(_fast_size(n + p - 1) for n, p in zip(shape, psf_shape, strict=True))
        self.before = tuple((m - n) // 2 for m, n in zip(self.padded, shape, strict=True))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """The image on the padded grid, its surroundings filled as the boundary says."""
        if self.padded == self.shape:
            return image.clone()
        if self.boundary == "weights":
            padded = image.new_zeros(self.padded)
            self.cut(padded).copy_(image)
            return padded
        for axis, (size, total, start) in enumerate(zip(self.shape, self.padded, self.before, strict=True)):
            image = _continued(image, axis, size, total, start)
        return image

    def cut(self, padded: torch.Tensor) -> torch.Tensor:
        """The part of a padded array that is the image; a view."""
        return padded[tuple(slice(b, b + n) for b, n in zip(self.before, self.shape, strict=True))]


def _fast_size(least: int) -> int:
    """Smallest even size from ``least`` without prime factors above 7: what MKL and cuFFT transform fast."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def _continued(image: torch.Tensor, axis: int, size: int, total: int, start: int) -> torch.Tensor:
    """The image with mirror images beyond both ends of one axis, cross-faded where they meet."""
    gap = total - size
    if gap == 0:
        return image
    shape = list(image.shape)
    shape[axis] = total
    result = image.new_empty(shape)
    result.narrow(axis, start, size).copy_(image)
    # Steps beyond the last pixel, going round to the first one.
    beyond = np.arange(1, gap + 1)
    after = torch.as_tensor(_mirrored(size - 1 + beyond, size), device=image.device)
    ahead = torch.as_tensor(_mirrored(beyond - gap - 1, size), device=image.device)
    fade = torch.as_tensor(0.5 - 0.5 * np.cos(np.pi * beyond / (gap + 1)), dtype=image.dtype, device=image.device)
    weight = fade.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    margin = torch.lerp(image.index_select(axis, after), image.index_select(axis, ahead), weight)
    tail = gap - start
    result.narrow(axis, start + size, tail).copy_(margin.narrow(axis, 0, tail))
    result.narrow(axis, 0, start).copy_(margin.narrow(axis, tail, start))
    return result


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Index into an axis that is continued by mirror images with the edge pixel repeated."""
    index = np.mod(index, 2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def transfer_function(psf: torch.Tensor, padded: tuple[int, ...]) -> torch.Tensor:
    """Half-spectrum of a PSF on the padded grid, its centre at the origin.

    The centre is (N - 1) / 2 where the PSF is its own mirror image about that point (an even size, as from
    `dlm_fiji.microscope.born_wolf`, has it between pixels), and else the pixel N // 2.
    """
    grid = psf.new_zeros(padded)
    grid[tuple(slice(0, n) for n in psf.shape)] = psf
    spectrum = torch.fft.rfftn(grid)
    for axis, size in enumerate(psf.shape):
        symmetric = torch.allclose(psf, psf.flip(axis), rtol=1e-3, atol=1e-5 * float(psf.max()))
        centre = (size - 1) / 2 if symmetric else float(size // 2)
        last = axis == psf.ndim - 1
        frequency = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(
            padded[axis], dtype=torch.float64, device=psf.device
        )
        turn = torch.exp(2j * torch.pi * frequency * centre).to(spectrum.dtype)
        shape = [1] * psf.ndim
        shape[axis] = -1
        spectrum *= turn.reshape(shape)
    return spectrum
