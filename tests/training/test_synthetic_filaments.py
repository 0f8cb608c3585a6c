"""Filaments made by chance: as wide, as bright and as dense as asked."""

import numpy as np
import pytest

from dlm_fiji.training.synthetic_filaments import FilamentSettings, splat, synthetic_filaments

STRAIGHT = FilamentSettings(
    spacing=(200, 200), persistence=(1e6, 1e6), length=(40, 40), brightness=(1e-3, 1e-3), spots=(1e-9, 1e-9)
)


def test_same_seed_same_field():
    one, two, other = (synthetic_filaments((80, 90), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (80, 90)
    assert one.dtype == np.float32
    assert one.min() >= 0
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_light_falls_where_its_point_is():
    image = splat(np.array([3.25]), np.array([5.5]), np.array([8.0]), (10, 12))
    assert image.sum() == pytest.approx(8)
    y, x = np.mgrid[:10, :12]
    assert (image * y).sum() / 8 == pytest.approx(3.25)
    assert (image * x).sum() / 8 == pytest.approx(5.5)
    assert splat(np.array([-1.0, 20.0]), np.array([2.0, 2.0]), np.ones(2), (10, 12)).sum() == 0


@pytest.mark.parametrize("width", [0.8, 1.3])
def test_a_lone_filament_has_its_width_across(width):
    settings = FilamentSettings.of(STRAIGHT, width=(width, width))
    for seed in range(40):  # the first field with its filament well inside
        image = synthetic_filaments((90, 90), np.random.default_rng(seed), settings)
        if image[:8].sum() + image[-8:].sum() + image[:, :8].sum() + image[:, -8:].sum() < 1e-6:
            break
    y, x = np.mgrid[:90, :90]
    weight = image / image.sum()
    dy, dx = y - (weight * y).sum(), x - (weight * x).sum()
    spread = np.linalg.eigvalsh([[(weight * a * b).sum() for a in (dy, dx)] for b in (dy, dx)])
    # bilinear sharing adds up to a sixth of a square pixel
    assert width**2 - 0.02 < spread[0] < width**2 + 0.25
    assert spread[1] == pytest.approx(40**2 / 12, rel=0.25)
