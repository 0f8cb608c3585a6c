from __future__ import annotations

import numpy as np
from scipy import fft

from dlm_fiji.microscope import born_wolf
from dlm_fiji.microscope.linear_light import linear_to_srgb, srgb_to_linear
from dlm_fiji.microscope.virtual import (
    VirtualMicroscope,
    blur,
    effective_na,
    expose,
    optical_transfer,
    record,
    sample,
)


def test_srgb_there_and_back() -> None:
    values = np.arange(256) / 255
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-5)


def test_the_transfer_function_is_that_of_born_and_wolf() -> None:
    # 64 Airy radii wide, so that the truncated tails do not matter.
    shape, pixel, na, wavelength = (513, 513), 0.1, 0.35, 0.532
    psf = born_wolf(na, wavelength, pixel, shape)
    from_psf = np.abs(fft.rfft2(psf))
    direct = optical_transfer(shape, pixel, na, wavelength)
    assert np.abs(from_psf - direct)[:, :100].max() < 0.02


def test_effective_na_is_the_mean_and_never_above_the_objective() -> None:
    assert effective_na(0.4, 0.3) == 0.35
    assert effective_na(0.4, 0.9) == 0.4


def test_even_light_stays_even_and_corners_meet() -> None:
    microscope = VirtualMicroscope()
    grey = np.full((100, 100, 3), 0.5, np.float32)
    np.testing.assert_allclose(blur(grey, microscope), 0.5, atol=1e-5)
    label = np.full((250, 125, 3), 180, np.uint8)
    image = record(label, microscope, np.random.default_rng(0))
    assert image.shape == (100, 50, 3)
    assert abs(float(image.mean()) - 180) < 0.5


def test_sampling_reads_the_centres_of_the_camera_pixels() -> None:
    microscope = VirtualMicroscope()
    ramp = np.broadcast_to(np.arange(200, dtype=np.float32)[None, :, None], (200, 200, 3))
    image = sample(ramp, microscope, (20, 20), (30.0, 40.0))
    expected = 40 + (np.arange(20) + 0.5) * 2.5 - 0.5
    np.testing.assert_allclose(image[10, :, 0], expected, atol=1e-3)


def test_noise_is_that_of_the_electrons() -> None:
    microscope = VirtualMicroscope(electrons=400, read_noise=0)
    light = np.full((400, 400, 1), 0.25)
    counts = srgb_to_linear(expose(light, microscope, np.random.default_rng(0)) / 255)
    assert abs(counts.std() - np.sqrt(0.25 / 400)) < 0.001
