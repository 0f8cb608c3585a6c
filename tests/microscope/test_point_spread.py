"""The point spread functions against PSF Generator's arrays and against what any lens obeys."""

from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.microscope import born_wolf, gaussian_psf

GOLDEN = Path(__file__).parents[1] / "golden" / "psf_generator_small.npz"
PAPER = {"na": 0.4, "pixel_um": 0.325}
COLOURS = (630, 532, 450)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("nm", COLOURS)
def test_exact_integral_in_focus(golden, nm):
    psf = born_wolf(wavelength_um=nm / 1000, shape=(33, 33), **PAPER)
    assert psf.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(psf / psf.max(), golden[f"bw_{nm}_exact_infocus_33x33"], atol=1e-12)


@pytest.mark.parametrize("nm", COLOURS)
def test_plugin_stack_to_the_last_digit_of_its_float32(golden, nm):
    psf = born_wolf(wavelength_um=nm / 1000, shape=(21, 33, 33), z_step_um=0.5, radial="plugin", **PAPER)
    # the plugin's file is float32: numbers next to 1 are rounded by up to 3e-8, all others agree to 1e-8
    difference = np.abs(psf / psf.max() - golden[f"bw_{nm}_best_33x33x21"])
    assert difference.max() < 6e-8
    assert difference[psf < 0.25 * psf.max()].max() < 1e-8


@pytest.mark.parametrize("nm", COLOURS)
def test_plugin_even_size_has_four_centre_pixels(golden, nm):
    psf = born_wolf(wavelength_um=nm / 1000, shape=(32, 32), radial="plugin", **PAPER)
    np.testing.assert_allclose(psf / psf.max(), golden[f"bw_{nm}_best_32x32_infocus"], atol=3e-8)
    assert np.ptp(psf[15:17, 15:17]) == 0


def test_pixel_integral_equals_fine_sampling():
    fine = born_wolf(0.4, 0.532, 0.325 / 21, (21 * 9, 21 * 9))
    psf = born_wolf(0.4, 0.532, 0.325, (9, 9), pixel_integrated=True)
    binned = fine.reshape(9, 21, 9, 21).sum((1, 3))
    np.testing.assert_allclose(psf, binned, atol=4e-4 * binned.max())


def test_camera_pixel_wider_than_the_sampling():
    """Every fifth sample of a five times finer grid is the PSF of the coarse grid."""
    fine = born_wolf(0.4, 0.532, 0.065, (65, 65), camera_pixel_um=0.325)
    coarse = born_wolf(0.4, 0.532, 0.325, (13, 13), pixel_integrated=True)
    np.testing.assert_allclose(fine[2::5, 2::5] / fine.max(), coarse / coarse.max(), atol=1e-6)


def test_defocus_is_a_plane_of_the_stack():
    stack = born_wolf(0.8, 0.5, 0.1, (5, 21, 23), 1.33, z_step_um=0.4)
    plane = born_wolf(0.8, 0.5, 0.1, (21, 23), 1.33, defocus_um=0.8)
    np.testing.assert_allclose(stack[4] / stack[4].sum(), plane, rtol=1e-9)
    np.testing.assert_allclose(stack, stack[::-1], rtol=1e-9)


def test_spline_for_large_arrays_equals_the_integral():
    large = born_wolf(0.4, 0.532, 0.13, (129, 129))
    small = born_wolf(0.4, 0.532, 0.13, (65, 65))
    np.testing.assert_allclose(large[32:97, 32:97] / large.max(), small / small.max(), atol=1e-7)


def test_first_dark_ring_is_rayleighs():
    """The Airy pattern is dark at 0.61 λ / NA."""
    radius = 0.6098 * 0.532 / 0.4
    psf = born_wolf(0.4, 0.532, radius, (3, 3))
    assert psf[1, 0] < 1e-6 * psf[1, 1]


def test_gaussian_width_and_integral():
    psf = gaussian_psf(0.6, 0.1, (41, 41))
    row = psf[20] / psf[20].max()
    assert row[17] == pytest.approx(0.5, abs=1e-12)
    wide = gaussian_psf(0.6, 0.1, (41, 41), camera_pixel_um=0.3)
    x = np.arange(41) - 20
    variance = (wide.sum(0) * x**2).sum() - (psf.sum(0) * x**2).sum()
    assert variance == pytest.approx(3**2 / 12, rel=0.01)
    stack = gaussian_psf(0.6, 0.1, (9, 21, 21), fwhm_z_um=0.8, z_step_um=0.2)
    assert stack[2, 10, 10] / stack.max() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"na": 1.2}, "numerical aperture"),
        ({"wavelength_um": 532}, "not nm"),
        ({"wavelength_um": 0}, "wavelength"),
        ({"pixel_um": -1}, "pixel size"),
        ({"shape": (3, 3, 3)}, "z_step_um"),
        ({"shape": (3,)}, "shape"),
        ({"radial": "best"}, "radial"),
        ({"radial": "plugin", "pixel_integrated": True}, "PSF Generator"),
        ({"camera_pixel_um": 0}, "camera pixel"),
        ({"refractive_index": 0.5}, "refractive index"),
    ],
)
def test_impossible_optics_are_refused_with_a_sentence(changes, sentence):
    arguments = {"na": 0.4, "wavelength_um": 0.532, "pixel_um": 0.325, "shape": (9, 9)} | changes
    with pytest.raises(ConfigurationError, match=sentence):
        born_wolf(**arguments)
