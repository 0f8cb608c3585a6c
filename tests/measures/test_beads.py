"""Spot widths: known Gaussians, blur that adds in squares, crowding, and too few spots."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dlm_fiji.errors import InputError
from dlm_fiji.measures import bead_fwhm
from dlm_fiji.measures.beads import FWHM, fit_spots, isolated_spots


def field(sigma, count=100, spacing=28, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(count))
    size = side * spacing
    y, x = np.mgrid[:size, :size].astype(float)
    image = np.full((size, size), 20.0)
    for i in range(side):
        for j in range(side):
            cy, cx = ((k + 0.5) * spacing + rng.uniform(-2, 2) for k in (i, j))
            rows, columns = (slice(int(c) - 13, int(c) + 14) for c in (cy, cx))
            d = (y[rows, columns] - cy) ** 2 + (x[rows, columns] - cx) ** 2
            image[rows, columns] += rng.uniform(150, 300) * np.exp(-d / (2 * sigma**2))
    return image + rng.normal(0, noise, image.shape)


def test_fit_recovers_every_parameter():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-9:10, -9:10]
    truth = np.stack([rng.uniform(*r, 50) for r in ((50, 200), (-1, 1), (-1, 1), (1.2, 3), (1.2, 3), (5, 30))], axis=1)
    crops = np.stack(
        [a * np.exp(-((x - u) ** 2) / 2 / s**2 - (y - v) ** 2 / 2 / t**2) + b for a, u, v, s, t, b in truth]
    )
    found, good = fit_spots(crops)
    assert good.all()
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5)


def test_widths_with_noise_and_interval():
    label = field(1.6, noise=3)
    result = bead_fwhm(label, {"input": gaussian_filter(label, 2.0)}, pixel_um=0.1, bootstrap=200)
    sharp, blurred = result.images["label"], result.images["input"]
    assert len(result.positions) >= 95
    assert sharp.mean == pytest.approx(0.16 * FWHM, rel=0.02)
    assert blurred.mean == pytest.approx(0.1 * np.hypot(1.6, 2.0) * FWHM, rel=0.03)
    assert sharp.interval[0] < sharp.mean < sharp.interval[1]
    assert np.ptp(sharp.interval) < 0.05 * sharp.mean
    assert result.fwhm == sharp.mean
    assert sharp.counts.sum() > 0.9 * len(sharp.fwhm)


def test_crowded_spots_are_left_out():
    image = field(1.5, count=4, spacing=60)
    close = image + np.roll(image, 8, 1) - 20
    assert len(isolated_spots(image)) == 4
    assert len(isolated_spots(close)) == 0


def test_same_answer_twice():
    label = field(1.6, noise=3)
    a, b = (bead_fwhm(label, bootstrap=50).images["label"] for _ in range(2))
    assert a.interval == b.interval


def test_bad_fields_get_a_sentence():
    with pytest.raises(InputError, match="isolated spots"):
        bead_fwhm(field(1.5, count=4))
    with pytest.raises(InputError, match="isolated spots"):
        bead_fwhm(np.zeros((100, 100)))
    with pytest.raises(InputError, match="same pixels"):
        bead_fwhm(np.zeros((100, 100)), {"output": np.zeros((50, 50))})
    with pytest.raises(InputError, match="odd"):
        bead_fwhm(np.zeros((100, 100)), size=18)
