import numpy as np
import pytest
from scipy import ndimage

from dlm_fiji.errors import InputError
from dlm_fiji.microscope import background_level, rolling_ball_background, subtract_background


@pytest.fixture
def cells():
    """200 x 240 px: a background of 300 ± 20 counts, bright cells everywhere but in the upper right."""
    rng = np.random.default_rng(0)
    image = 300 + rng.normal(size=(200, 240)) * 20
    spots = np.zeros((200, 240))
    spots[rng.integers(0, 200, 60), rng.integers(0, 240, 60)] = 1
    spots[:60, 170:] = 0
    return image + 4e5 * ndimage.gaussian_filter(spots, 5)


def test_the_level_of_an_empty_region_is_found(cells):
    found = background_level(cells)
    assert found.mean == pytest.approx(300, abs=6)
    assert found.deviation == pytest.approx(20, rel=0.3)
    y0, x0, y1, x1 = found.region
    assert (y1 - y0, x1 - x0) == (25, 25)
    given = background_level(cells, region=(0, 190, 40, 230))
    assert given.mean == pytest.approx(cells[:40, 190:230].mean())


def test_subtraction_clips_only_when_asked(cells):
    image = cells.astype(np.uint16)
    clipped, plain = subtract_background(image, 300), subtract_background(image, 300, clip=False)
    assert clipped.dtype == plain.dtype == np.float32
    assert clipped.min() == 0
    assert plain.min() < -30
    np.testing.assert_array_equal(clipped, np.maximum(plain, 0))


@pytest.mark.parametrize("radius", [8, 25, 60])
def test_a_rolling_ball_takes_a_slope_and_leaves_the_cells(radius):
    y, x = np.mgrid[:200, :240]
    slope = 100 + 0.3 * x + 0.2 * y
    cell = 80 * np.exp(-((y - 90) ** 2 + (x - 120) ** 2) / (2 * 2.0**2))
    background = rolling_ball_background(slope + cell, radius)
    assert (background <= slope + cell + 1e-3).all()
    inside = (slice(20, -20), slice(20, -20))
    assert np.abs(background - slope)[inside].max() < 8
    assert (slope + cell - background)[90, 120] > 70


def test_bad_input_is_refused(cells):
    with pytest.raises(InputError, match="does not lie within"):
        background_level(cells, region=(0, 0, 500, 10))
    with pytest.raises(InputError, match="one channel"):
        background_level(cells[..., None])
    with pytest.raises(InputError, match="no finite pixel"):
        background_level(cells * np.nan)
    with pytest.raises(InputError, match="at least 1 px"):
        rolling_ball_background(cells, 0.5)
    with pytest.raises(InputError, match="finite channel"):
        rolling_ball_background(cells * np.inf)
