"""What the microscope would have seen of a prediction: blur by the PSF, sampling on the camera's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import map_coordinates

from dlm_fiji.errors import InputError

__all__ = ["ForwardModel"]


class ForwardModel:
    """A point spread function on the prediction's pixels, and a camera whose pixels are ``ratio`` times as
    large.

    Parameters
    ----------
    psf
        Shape (rows, columns), on the prediction's pixels, the camera pixel included (``born_wolf(...,
        camera_pixel_um=...)``); normalised here.
    fine, coarse
        Shapes of prediction and camera image; the ratio need not be whole (2.5), but must be one for both
        axes.
    scale
        The ratio, where it is known better than by the two shapes (an enlargement rounds its size).
    """

    def __init__(
        self, psf: NDArray[Any], fine: tuple[int, ...], coarse: tuple[int, ...], scale: float | None = None
    ) -> None:
        kernel = np.asarray(psf, dtype=np.float64)
        if kernel.ndim != 2 or kernel.min() < 0 or not kernel.sum() > 0:
            raise InputError("The point spread function must have rows and columns, none negative, not all zero.")
        if any(p > n for p, n in zip(kernel.shape, fine, strict=True)):
            raise InputError(f"The point spread function {kernel.shape} is larger than the prediction {fine}.")
        ratios = [f / c for f, c in zip(fine, coarse, strict=True)]
        if min(ratios) < 0.999 or abs(ratios[0] - ratios[1]) * min(coarse) > 1.5:
            raise InputError(
                f"The prediction {fine} and the image {coarse} do not show one field: their ratio of sizes "
                "must be 1 or more and the same for both axes."
            )
        self.psf = kernel / kernel.sum()
        self.fine, self.coarse, self.scale = fine, coarse, scale
        self.ratios = (ratios[0], ratios[1]) if scale is None else (scale, scale)
        self.ratio = float(np.mean(self.ratios))

    def __call__(self, prediction: NDArray[Any]) -> NDArray[Any]:
        """The camera image, without noise; beyond its edge the prediction is mirrored."""
        return self.sampled(self.blurred(prediction), [np.arange(c) for c in self.coarse])

    def blurred(self, prediction: NDArray[Any]) -> NDArray[Any]:
        """The light on the camera, on the prediction's pixels."""
        pad = [p // 2 for p in self.psf.shape]
        padded = np.pad(prediction, [(p, p) for p in pad], mode="symmetric")
        return _convolved(padded, self.psf)[tuple(slice(p, p + n) for p, n in zip(pad, self.fine, strict=True))]

    def sampled(self, blurred: NDArray[Any], pixels: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The light at camera rows and columns, which may be fractions (a tile that lies between the pixels)."""
        if self.ratio == 1 and all(np.array_equal(at, np.rint(at)) for at in pixels):
            return blurred[np.ix_(*(at.astype(int) for at in pixels))]
        rows, columns = ((at + 0.5) * r - 0.5 for at, r in zip(pixels, self.ratios, strict=True))
        return map_coordinates(blurred, np.meshgrid(rows, columns, indexing="ij"), order=3, mode="nearest")

    def camera_spot(self) -> NDArray[Any]:
        """What a single point at a camera pixel's centre makes on the camera, odd size, sum of squares 1."""
        half = [int(np.ceil((p // 2 + 1) / self.ratio)) for p in self.psf.shape]
        offsets = [np.arange(-h, h + 1) * self.ratio + (p - 1) / 2 for h, p in zip(half, self.psf.shape, strict=True)]
        spot = map_coordinates(self.psf, np.meshgrid(*offsets, indexing="ij"), order=3, mode="constant")
        spot = np.maximum(spot, 0)
        return spot / np.sqrt((spot**2).sum())

    def transfer(self) -> NDArray[Any]:
        """|OTF| on the half-spectrum of the prediction's shape."""
        return np.abs(fft.rfft2(self.psf, self.fine))


def _convolved(image: NDArray[Any], psf: NDArray[Any]) -> NDArray[Any]:
    """Same size, PSF centred at (N - 1) / 2 for odd and N // 2 for even sizes."""
    shape = [fft.next_fast_len(n + p - 1, real=True) for n, p in zip(image.shape, psf.shape, strict=True)]
    full = fft.irfft2(fft.rfft2(image, shape) * fft.rfft2(psf, shape), shape)
    return full[tuple(slice(p // 2, p // 2 + n) for n, p in zip(image.shape, psf.shape, strict=True))]
