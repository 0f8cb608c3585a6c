import numpy as np
import pytest
from scipy import ndimage

from dlm_fiji.errors import InputError
from dlm_fiji.microscope import estimate_flat_field


@pytest.fixture(scope="module")
def specimen():
    """24 bright-field tiles of 120 x 160 px, even light, stained blobs on an empty slide."""
    rng = np.random.default_rng(0)
    tiles = []
    for _ in range(24):
        blobs = ndimage.gaussian_filter(rng.normal(size=(120, 160)), rng.uniform(3, 9))
        density = np.clip(blobs / blobs.std() - 0.8, 0, None)
        tiles.append(40000 * rng.uniform(0.9, 1.1) * 10 ** (-0.4 * density))
    return np.array(tiles)


def shade(strength=0.3):
    y, x = np.mgrid[:120, :160]
    field = 1 - strength * (((y - 50) / 120) ** 2 + ((x - 90) / 120) ** 2)
    return field / field.mean()


def test_vignetting_is_found_to_half_a_percent(specimen):
    rng = np.random.default_rng(1)
    tiles = specimen * shade() + rng.normal(size=specimen.shape) * 200
    found = estimate_flat_field(np.clip(tiles, 0, 65535).astype(np.uint16))
    assert found.shape == (120, 160)
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(1, abs=1e-5)
    assert (found / shade() - 1).std() < 0.005
    assert shade().std() > 0.05


def test_even_light_stays_even(specimen):
    assert estimate_flat_field(specimen).std() < 0.01


def test_a_tile_more_or_less_bright_or_a_black_one_changes_nothing(specimen):
    tiles = specimen * shade()
    plain = estimate_flat_field(tiles)
    tiles = tiles * np.where(np.arange(24) % 3 == 0, 0.5, 1.0)[:, None, None]
    tiles = np.concatenate([tiles, np.zeros((1, 120, 160)), np.full((1, 120, 160), np.nan)])
    assert np.abs(estimate_flat_field(tiles) / plain - 1).max() < 0.02


def test_saturated_places_are_left_out(specimen):
    tiles = np.clip(specimen * shade() * 1.3, 0, 52000).astype(np.float64)
    clipped = (tiles / 52000 * 255).round().clip(0, 255).astype(np.uint8)
    found = estimate_flat_field(clipped)
    assert (found / shade() - 1).std() < 0.25 * shade().std()


def test_colours_are_estimated_each_for_itself(specimen):
    strong, weak = shade(0.4), shade(0.1)
    colour = np.stack([specimen * strong, specimen * weak], axis=-1)
    found = estimate_flat_field(list(colour))
    assert found.shape == (120, 160, 2)
    assert (found[..., 0] / strong - 1).std() < 0.01
    assert (found[..., 1] / weak - 1).std() < 0.01


def test_the_camera_offset_is_not_light(specimen):
    tiles = specimen[:, ::2, ::2] * shade()[::2, ::2] * 0.02 + 500
    with_offset = estimate_flat_field(tiles, offset=500)
    without = estimate_flat_field(tiles)
    truth = shade()[::2, ::2]
    assert (with_offset / truth - 1).std() < 0.01
    assert (without / truth - 1).std() > 2 * (with_offset / truth - 1).std()


def test_bad_tiles_are_refused(specimen):
    for tiles, words in (
        ([], "at least one tile"),
        ([specimen[0], specimen[1][:60]], "differ in shape"),
        ([np.zeros((50, 50))], "black throughout"),
        ([np.zeros(50)], r"\(H, W\)"),
    ):
        with pytest.raises(InputError, match=words):
            estimate_flat_field(tiles)
