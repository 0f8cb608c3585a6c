"""Resolution by ring correlation and by decorrelation: a known cut-off comes back."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.measures import decorrelation_resolution, ring_correlation, split_image


def band_limited(cutoff, size=512, seed=0):
    """Random structure of a natural spectrum that ends sharply at ``cutoff`` cycles a pixel."""
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) * (f < cutoff) / (f + 0.02)
    image = np.fft.ifft2(spectrum).real
    return 100 + 20 * image / image.std()


@pytest.mark.parametrize("cutoff", [0.1, 0.2, 0.3])
def test_ring_correlation_finds_the_cut_off(cutoff):
    scene, rng = band_limited(cutoff), np.random.default_rng(1)
    a, b = (scene + rng.normal(0, 3, scene.shape) for _ in range(2))
    assert ring_correlation(a, b, 0.5).resolution == pytest.approx(0.5 / cutoff, rel=0.1)


@pytest.mark.parametrize("cutoff", [0.1, 0.2, 0.3])
def test_decorrelation_finds_the_cut_off(cutoff):
    scene = band_limited(cutoff) + np.random.default_rng(1).normal(0, 0.5, (512, 512))
    assert decorrelation_resolution(scene, 0.5).resolution == pytest.approx(0.5 / cutoff, rel=0.12)


def test_blur_coarsens_both():
    scene = data.camera().astype(float) * 5
    fine, coarse = [], []
    for sigma in (1.0, 2.5):
        image = np.random.default_rng(2).poisson(gaussian_filter(scene, sigma))
        fine.append(ring_correlation(*split_image(image)).resolution)
        coarse.append(decorrelation_resolution(image).resolution)
    assert fine[1] > 1.3 * fine[0]
    assert coarse[1] > 1.3 * coarse[0]


def test_split_keeps_every_photon():
    image = np.random.default_rng(0).poisson(20, (64, 64))
    a, b = split_image(image)
    np.testing.assert_array_equal(a + b, image)
    assert abs(np.corrcoef((a - 10).ravel(), (b - 10).ravel())[0, 1]) < 0.06


def test_noise_alone_has_no_resolution_and_bad_input_a_sentence():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 128, 128))
    assert ring_correlation(a, b).resolution > 40 or np.isnan(ring_correlation(a, b).resolution)
    with pytest.raises(InputError, match="same"):
        ring_correlation(a, a)
    with pytest.raises(InputError, match="32"):
        ring_correlation(a[:20], b[:20])
    with pytest.raises(InputError, match="photon"):
        split_image(a)
    with pytest.raises(InputError, match="empty"):
        decorrelation_resolution(np.ones((64, 64)))
