"""A fluorescence prediction judged by the image: the right one passes, what is wrong is found, fits are named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dlm_fiji.errors import InputError
from dlm_fiji.steps import FluorescenceCamera, FluorescenceTrustSettings
from dlm_fiji.steps.fluorescence_trust import gaussian_lens, optical_psf

SIGMA = 1.8


@pytest.fixture(scope="module")
def truth(filaments: Callable[..., np.ndarray]) -> np.ndarray:
    """Curved filaments, sharp."""
    sharp = filaments(np.random.default_rng(4), 256, 60, 80, radius=200)
    return gaussian_filter(sharp, 0.8)


def taken(truth: np.ndarray, haze: float = 0.0) -> np.ndarray:
    """Blurred, with haze, photon noise and the camera's offset."""
    blurred = gaussian_filter(truth, SIGMA)
    light = (1 - haze) * blurred + haze * gaussian_filter(blurred, 10)
    return np.random.default_rng(1).poisson(light / light.max() * 800 + 20) + 100.0


STRICT = FluorescenceTrustSettings(tolerance=0)


@pytest.mark.parametrize("haze", [0.0, 0.4])
def test_the_truth_passes_and_its_lens_is_found(truth: np.ndarray, haze: float) -> None:
    camera = FluorescenceCamera(taken(truth, haze))
    found = camera.judge(truth, settings=STRICT)
    assert found.flagged < 0.015
    assert found.chi2 == pytest.approx(1, abs=0.08)
    assert "was fitted" in camera.describe(truth)
    assert ("out of focus" in camera.describe(truth)) or haze == 0
    spot = camera.lens(truth).psf
    expected = gaussian_filter((1 - haze) * (k := np.eye(1, spot.size, spot.size // 2).reshape(spot.shape))
                               + haze * gaussian_filter(k, 10), SIGMA)  # fmt: skip
    assert spot.max() == pytest.approx(expected.max(), rel=0.08)


def test_haze_that_is_not_fitted_is_a_contradiction(truth: np.ndarray) -> None:
    image = taken(truth, 0.4)
    psf = gaussian_lens(SIGMA, 1)
    without = FluorescenceCamera(image, psf=psf, haze=False).judge(truth, settings=STRICT)
    assert without.flagged > 0.3


def test_a_structure_that_the_image_lacks_is_flagged_where_it_is(truth: np.ndarray) -> None:
    camera = FluorescenceCamera(taken(truth, 0.3))
    wrong = truth.copy()
    wrong[100:106, 60:66] += 0.1 * truth.max()
    found = camera.judge(wrong)
    y, x = np.nonzero(found.flag_map)
    assert y.size
    far = np.hypot(y + camera.trim - 102.5, x + camera.trim - 62.5)
    assert far.min() < 2
    assert far.max() < 20
    assert camera.judge(truth).flagged < 0.002


def test_only_a_known_lens_sees_that_all_is_too_smooth(truth: np.ndarray) -> None:
    image, smooth = taken(truth), gaussian_filter(truth, 1.2)
    fitted = FluorescenceCamera(image, haze=False).judge(smooth, settings=STRICT)
    known = FluorescenceCamera(image, psf=gaussian_lens(SIGMA, 1), haze=False).judge(smooth, settings=STRICT)
    assert fitted.flagged < 0.02 < 0.3 < known.flagged


def test_an_enlarged_prediction_is_gathered_by_the_camera(truth: np.ndarray) -> None:
    light = gaussian_filter(truth, 2.4).reshape(128, 2, 128, 2).mean((1, 3))
    image = np.random.default_rng(2).poisson(light / light.max() * 900 + 10).astype(float)
    camera = FluorescenceCamera(image, scale=2)
    found = camera.judge(truth, settings=STRICT)
    assert found.flagged < 0.02
    assert found.residual.shape == (128 - 2 * camera.trim,) * 2
    with pytest.raises(InputError, match="another field"):
        camera.judge(truth[:200])


def test_optics_make_the_kernel() -> None:
    psf = optical_psf(1.3, 0.6, 0.06, 0.06)
    assert psf.sum() == pytest.approx(1)
    middle = psf[psf.shape[0] // 2]
    width = 0.06 * (middle > middle.max() / 2).sum()
    assert width == pytest.approx(0.51 * 0.6 / 1.3, abs=0.07)
