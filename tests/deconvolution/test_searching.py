"""The search over iterations and damping: the same numbers as single runs, one pass for each damping."""

import numpy as np
import pytest
from skimage import data

from dlm_fiji.deconvolution import richardson_lucy, search
from dlm_fiji.deconvolution import searching as module
from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.measures import ssim
from dlm_fiji.microscope import born_wolf


@pytest.fixture(scope="module")
def scene():
    truth = data.camera().astype(np.float32)[150:310, 150:310] + 5
    psf = born_wolf(0.4, 0.532, 0.2, (21, 21))
    grid = np.zeros(truth.shape)
    grid[:21, :21] = psf
    spectrum = np.fft.fft2(np.roll(grid, (-10, -10), (0, 1)))
    image = np.random.default_rng(0).poisson(np.fft.ifft2(np.fft.fft2(truth) * spectrum).real.clip(0))
    return truth, psf, image.astype(np.float32)


def test_every_point_of_the_surface_is_a_single_run(scene):
    truth, psf, image = scene
    result = search(image, psf, (2, 5, 9), (0, 0.05), truth, border=12)
    assert result.surface.shape == (2, 3)
    span = float(truth.max() - truth.min())
    for row, damping in enumerate((0, 0.05)):
        for column, count in enumerate((2, 5, 9)):
            single = ssim(richardson_lucy(image, psf, count, damping=damping), truth, span, border=12)
            assert result.surface[row, column] == pytest.approx(single, abs=1e-6)
    assert result.score == result.surface.max()
    np.testing.assert_array_equal(result.image, richardson_lucy(image, psf, result.iterations, damping=result.damping))


def test_one_pass_for_each_damping(scene, monkeypatch):
    truth, psf, image = scene
    runs = []
    original = module.steps
    monkeypatch.setattr(module, "steps", lambda *a, **k: runs.append(1) or original(*a, **k))
    done = []
    search(image, psf, range(1, 13), (0, 0.01, 0.1), truth, progress=lambda i, n: done.append((i, n)))
    assert len(runs) == 3
    assert done[-1] == (36, 36)


def test_noise_makes_the_best_count_finite(scene):
    truth, psf, image = scene
    noisy = np.random.default_rng(1).poisson(image / 20).astype(np.float32) * 20
    result = search(noisy, psf, range(1, 31), (0,), truth)
    assert 1 < result.iterations < 30
    assert not result.at_edge
    assert result.iterations_tried == tuple(range(1, 31))
    assert search(image, psf, (1, 2), (0,), truth).at_edge


def test_own_score_and_the_first_of_equals(scene):
    _, psf, image = scene
    result = search(image, psf, (1, 2, 3), (0.0, 0.1), score=lambda estimate: 1.0)
    assert (result.iterations, result.damping) == (1, 0.0)
    sharpest = search(image, psf, (1, 4), (0.0,), score=lambda estimate: float(estimate.std()))
    assert sharpest.iterations == 4


def test_without_label_the_residual_is_made_white(scene):
    truth, psf, image = scene
    result = search(image, psf, range(1, 41), (0, 0.1))
    assert "whitest residual" in result.criterion
    span = float(truth.max() - truth.min())
    before = ssim(image, truth, span, border=10)
    after = ssim(result.image, truth, span, border=10)
    assert after > before + 0.02


def test_bad_searches_get_a_sentence(scene):
    truth, psf, image = scene
    with pytest.raises(InputError, match="image itself"):
        search(image, psf, reference=image)
    with pytest.raises(InputError, match="shape"):
        search(image, psf, reference=truth[1:])
    with pytest.raises(ConfigurationError, match="at least one"):
        search(image, psf, iterations=(), reference=truth)
    with pytest.raises(InputError, match="border"):
        search(image, psf, reference=truth, border=80)
    with pytest.raises(InputError, match="NaN"):
        search(image, psf, (1,), (0,), score=lambda estimate: float("nan"))
