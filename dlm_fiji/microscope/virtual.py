"""A virtual bright-field microscope: what a camera behind a lens records of a known specimen.

The specimen is a sharp micrograph (the label). Its light is blurred by the incoherent point spread function of the
lens, integrated over the camera's pixels, sampled, given photon and read noise, and encoded with 8 bits. Whatever
was made by it is *simulated* and has to be called so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from dlm_fiji.microscope.linear_light import linear_to_srgb, srgb_to_linear
from dlm_fiji.settings import Settings, setting

__all__ = ["VirtualMicroscope", "blur", "effective_na", "expose", "optical_transfer", "sample"]


class VirtualMicroscope(Settings):
    """Optics and camera of the simulated instrument."""

    label_pixel_um: float = setting(0.25, "pixel of the specimen (label) image", unit="µm", gt=0)
    scale: float = setting(2.5, "camera pixel in label pixels", source="L of 000", gt=1, le=8)
    na: float = setting(0.4, "numerical aperture of the objective", source="002: 10×/0.4NA", gt=0, le=1.6)
    condenser_na: float = setting(0.3, "numerical aperture of the condenser", ge=0, le=1.6)
    wavelengths_um: tuple[float, ...] = setting(
        (0.630, 0.532, 0.450), "one a colour channel", unit="µm", source="002, Lucy-Richardson"
    )
    blur_um: float = setting(0.0, "further Gaussian blur (sigma): aberrations", unit="µm", ge=0)
    electrons: float = setting(10_000.0, "photo-electrons at full scale", unit="electrons", gt=0)
    read_noise: float = setting(5.0, "camera noise (sigma)", unit="electrons", ge=0)

    @property
    def pixel_um(self) -> float:
        """Camera pixel in the specimen, µm."""
        return self.label_pixel_um * self.scale


def effective_na(objective: float, condenser: float) -> float:
    """(objective + condenser) / 2: what limits a bright-field image (000: 0.55 condenser, 0.36 / 0.28 µm)."""
    return (objective + min(condenser, objective)) / 2


def optical_transfer(shape: tuple[int, int], pixel_um: float, na: float, wavelength_um: float) -> NDArray[np.float32]:
    """Incoherent transfer function of a perfect lens in focus, on the grid of ``scipy.fft.rfft2``.

    The Fourier transform of the in-focus Born-Wolf (Airy) point spread function, without its truncation:
    2/π (acos s - s √(1 - s²)) with s = |ν| λ / (2 NA) (Goodman, Introduction to Fourier Optics, eq. 6-32).
    """
    fy = fft.fftfreq(shape[0], pixel_um)[:, None]
    fx = fft.rfftfreq(shape[1], pixel_um)[None]
    s = np.minimum(np.hypot(fy, fx) * wavelength_um / (2 * na), 1.0)
    return (2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))).astype(np.float32)


def blur(intensity: NDArray, microscope: VirtualMicroscope) -> NDArray[np.float32]:
    """The image on the camera, integrated over its pixels, still on the label's grid.

    Parameters
    ----------
    intensity
        (H, W, C) linear light 0 … 1 on the label's grid, C = number of wavelengths.

    Returns
    -------
    (H, W, C) float32. The border is mirrored.
    """
    margin = 32
    height, width = intensity.shape[:2]
    padded = np.pad(intensity, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    shape = (fft.next_fast_len(padded.shape[0], True), fft.next_fast_len(padded.shape[1], True))
    padded = np.pad(
        padded, ((0, shape[0] - padded.shape[0]), (0, shape[1] - padded.shape[1]), (0, 0)), mode="symmetric"
    )
    fy = fft.fftfreq(shape[0])[:, None]
    fx = fft.rfftfreq(shape[1])[None]
    pixel = np.sinc(fy * microscope.scale) * np.sinc(fx * microscope.scale)
    sigma = microscope.blur_um / microscope.label_pixel_um
    gauss = np.exp(-2 * (np.pi * sigma) ** 2 * (fy**2 + fx**2))
    na = effective_na(microscope.na, microscope.condenser_na)
    out = np.empty(intensity.shape, np.float32)
    for channel, wavelength in enumerate(microscope.wavelengths_um):
        transfer = optical_transfer(shape, microscope.label_pixel_um, na, wavelength) * pixel * gauss
        spectrum = fft.rfft2(padded[..., channel]) * transfer.astype(np.float32)
        image = fft.irfft2(spectrum, shape)
        out[..., channel] = image[margin : margin + height, margin : margin + width]
    return out


def sample(
    blurred: NDArray,
    microscope: VirtualMicroscope,
    shape: tuple[int, int],
    corner: tuple[float, float],
    angle_deg: float = 0.0,
) -> NDArray[np.float32]:
    """Intensities at the centres of the camera's pixels (quintic spline).

    Parameters
    ----------
    blurred
        (H, W, C) from :func:`blur`.
    shape
        Camera rows and columns.
    corner
        Position of the camera's top-left *corner* in label pixels, (y, x); (0, 0) is the label's own corner.
    angle_deg
        Rotation of the camera about its centre, anticlockwise on the screen.

    Returns
    -------
    (rows, cols, C) float32.
    """
    rows = (np.arange(shape[0]) + 0.5) * microscope.scale
    cols = (np.arange(shape[1]) + 0.5) * microscope.scale
    centre_y, centre_x = (shape[0] * microscope.scale / 2, shape[1] * microscope.scale / 2)
    y, x = np.meshgrid(rows - centre_y, cols - centre_x, indexing="ij")
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    at = np.stack([cos * y - sin * x + centre_y + corner[0] - 0.5, sin * y + cos * x + centre_x + corner[1] - 0.5])
    return np.stack(
        [
            ndimage.map_coordinates(blurred[..., c], at, order=5, mode="mirror", output=np.float32)
            for c in range(blurred.shape[-1])
        ],
        axis=-1,
    )


def expose(intensity: NDArray, microscope: VirtualMicroscope, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Photon noise, read noise, clipping at full scale, sRGB encoding and 8 bits, of any shape."""
    expected = np.clip(intensity, 0, None).astype(np.float64) * microscope.electrons
    counts = rng.poisson(expected) + rng.normal(0, microscope.read_noise, expected.shape)
    return np.rint(255 * linear_to_srgb(counts / microscope.electrons)).astype(np.uint8)


def record(label: NDArray[np.uint8], microscope: VirtualMicroscope, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The whole label field (H, W, C) uint8 as the camera sees it: (H // L, W // L, C) uint8, corners aligned."""
    blurred = blur(srgb_to_linear(label / np.float32(255)), microscope)
    shape = (int(label.shape[0] // microscope.scale), int(label.shape[1] // microscope.scale))
    return expose(sample(blurred, microscope, shape, (0.0, 0.0)), microscope, rng)
