import numpy as np
import pytest

from dlm_fiji.registration.subpixel import (
    correlation_peaks,
    fractional_kernel,
    overlap_correlation,
    refine_shift,
    smooth,
)


@pytest.mark.parametrize(("kind", "degree"), [("quintic", 5), ("cubic", 2), ("linear", 1)])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.9])
def test_a_kernel_reproduces_polynomials(kind, degree, fraction):
    kernel = fractional_kernel(fraction, kind)
    t = np.arange(-3, 4)
    for power in range(degree + 1):
        assert kernel @ t.astype(float) ** power == pytest.approx(fraction**power, abs=1e-12)


@pytest.mark.parametrize("shift", [(60.0, 3.0), (55.37, -4.81), (-30.5, 70.25)])
def test_a_shift_is_found_to_a_hundredth_of_a_pixel(cut, shift):
    a = cut(200, 200, 120, 150)
    b = cut(200 + shift[0], 200 + shift[1], 120, 150)
    a, b = (smooth(image, 0.8) for image in (a, b))
    peaks = correlation_peaks(a, b, np.round(shift) + np.array([3, -4]), np.array([8, 8]))
    fit = refine_shift(a, b, peaks[0][1])
    assert fit is not None
    assert np.abs(fit.shift - shift).max() < 0.01


def test_gain_offset_and_slope_do_not_move_the_answer(cut):
    a, b = cut(100, 100, 90, 200), cut(150.3, 102.7, 90, 200)
    lit = a * 0.6 + 40 + np.linspace(0, 25, 200)
    fit = refine_shift(smooth(lit, 0.8), smooth(b, 0.8), np.array([50, 3]))
    assert fit is not None
    assert np.abs(fit.shift - (50.3, 2.7)).max() < 0.02


def test_the_stated_error_is_the_error(cut):
    rng = np.random.default_rng(0)
    a, b = cut(100, 100, 64, 128), cut(140.4, 100.6, 64, 128)
    errors, stated = [], []
    for _ in range(60):
        pair = [smooth(image + rng.normal(size=image.shape) * 15, 0.8) for image in (a, b)]
        fit = refine_shift(*pair, np.array([40, 1]))
        assert fit is not None
        errors.append(fit.shift - (40.4, 0.6))
        stated.append(np.sqrt(np.diag(np.linalg.inv(fit.information))))
    ratio = np.std(errors) / np.mean(stated)
    assert 0.5 < ratio < 2


def test_a_straight_edge_says_nothing_along_itself():
    rng = np.random.default_rng(1)
    edge = np.where(np.arange(80)[:, None] < 40, 50.0, 200.0) + np.zeros((80, 200))
    a, b = (smooth(edge + rng.normal(size=edge.shape) * 4, 0.8) for _ in range(2))
    fit = refine_shift(a, b, np.zeros(2))
    if fit is not None:
        assert np.linalg.eigvalsh(fit.information)[0] <= 0


def test_overlap_correlation_by_hand():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(40, 50)).astype(np.float32)
    b = rng.normal(size=(40, 50)).astype(np.float32)
    r, pixels = overlap_correlation(a, b, np.array([5, -7]))
    expected = np.corrcoef(a[5:, :43].ravel(), b[:35, 7:].ravel())[0, 1]
    assert r == pytest.approx(expected, abs=1e-5)
    assert pixels == 35 * 43
    assert overlap_correlation(a, b, np.array([38, 0])) == (0.0, 0)
