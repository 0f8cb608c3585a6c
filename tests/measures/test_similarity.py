"""SSIM and pixel errors against scikit-image, and what they must obey."""

import numpy as np
import pytest
from skimage import data, metrics

from dlm_fiji.errors import InputError
from dlm_fiji.measures import luminance, match_intensity, ms_ssim, nrmse, psnr, ssim, ssim_map


def scikit(a, b, span, **more):
    return metrics.structural_similarity(
        a, b, data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, **more
    )


@pytest.fixture(scope="module")
def images():
    a = data.camera()[:301, :277]
    noise = np.random.default_rng(0).normal(0, 12, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(11, 11), (64, 64), (65, 40), (130, 77), (301, 277)])
def test_ssim_equals_scikit_image(images, size):
    a, b = (x[: size[0], : size[1]] for x in images)
    assert ssim(a, b) == pytest.approx(scikit(a, b, 255), abs=1e-6)


def test_ssim_of_floats_far_from_zero(images):
    a, b = (x.astype(np.float64) + 30_000 for x in images)
    assert ssim(a, b, 255) == pytest.approx(scikit(a, b, 255), abs=1e-6)


def test_map_and_border(images):
    a, b = images
    value, expected = scikit(a, b, 255, full=True)
    np.testing.assert_allclose(ssim_map(a, b), expected, atol=2e-4)
    assert ssim(a, b, border=40) == pytest.approx(expected[40:-40, 40:-40].mean(), abs=1e-6)
    assert ssim(a, b, border=0) == pytest.approx(expected.mean(), abs=1e-6)
    assert value != pytest.approx(expected[40:-40, 40:-40].mean(), abs=1e-3)


def test_channels_and_stacks(images):
    a = data.astronaut()[:90, :80]
    b = np.roll(a, 1, 0)
    assert ssim(a, b, channel_axis=-1) == pytest.approx(scikit(a, b, 255, channel_axis=-1), abs=1e-6)
    stack = np.random.default_rng(1).random((15, 20, 33)).astype(np.float32)
    other = stack + 0.1 * np.random.default_rng(2).random(stack.shape).astype(np.float32)
    assert ssim(stack, other, 1.0) == pytest.approx(scikit(stack, other, 1.0), abs=1e-6)


def test_same_number_every_time(images):
    assert len({ssim(*images) for _ in range(5)}) == 1
    assert ssim(images[0], images[0]) == pytest.approx(1, abs=1e-7)


def test_ms_ssim_orders_and_weighs():
    a = data.camera().astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 1, a.shape).astype(np.float32)
    values = [ms_ssim(a + s * noise, a, 255) for s in (0, 5, 20, 60)]
    assert values[0] == pytest.approx(1, abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert ms_ssim(a + noise, a, 255, weights=(1.0,)) == pytest.approx(ssim(a + noise, a, 255), abs=1e-7)
    # fine noise hurts less on coarse scales
    assert ms_ssim(a + 20 * noise, a, 255) > ssim(a + 20 * noise, a, 255)


def test_psnr_and_nrmse_equal_scikit_image(images):
    a, b = images
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(b, a), abs=1e-9)
    assert psnr(a, a) == float("inf")
    for kind in ("euclidean", "min-max", "mean"):
        expected = metrics.normalized_root_mse(b, a, normalization=kind)
        assert nrmse(a, b, kind) == pytest.approx(expected, rel=1e-9)
    assert psnr(a, b, border=50) == pytest.approx(
        metrics.peak_signal_noise_ratio(b[50:-50, 50:-50], a[50:-50, 50:-50]), abs=1e-9
    )


def test_scale_invariance(images):
    a, b = (x.astype(np.float32) for x in images)
    plain = match_intensity(a, b)
    scaled = match_intensity(-3.5 * a + 700, b)
    np.testing.assert_allclose(plain, scaled, atol=2e-3)
    assert nrmse(plain, b) <= nrmse(a, b)


def test_luminance():
    rgb = np.array([[[255, 255, 255], [255, 0, 0], [0, 100, 0]]], np.uint8)
    np.testing.assert_allclose(luminance(rgb), [[255, 76.245, 58.7]], rtol=1e-6)
    assert luminance(np.ones((4, 4), np.uint8)).shape == (4, 4)


def test_bad_images_get_a_sentence(images):
    a, b = images
    with pytest.raises(InputError, match="different shapes"):
        ssim(a, b[1:])
    with pytest.raises(InputError, match="data_range"):
        ssim(a.astype(float), b.astype(float))
    with pytest.raises(InputError, match="needs an image above"):
        ssim(a[:10], b[:10])
    with pytest.raises(InputError, match="NaN"):
        ssim(np.full(a.shape, np.nan), b.astype(float), 255)
    with pytest.raises(InputError, match="NaN"):
        psnr(np.full(a.shape, np.nan), b.astype(float), 255)
    with pytest.raises(InputError, match="undefined"):
        nrmse(a, np.zeros_like(a))
    with pytest.raises(InputError, match="176"):
        ms_ssim(a[:100], b[:100])
    with pytest.raises(InputError, match="border"):
        psnr(a, b, border=200)
    with pytest.raises(InputError, match="above 0"):
        psnr(a, b, data_range=0)
