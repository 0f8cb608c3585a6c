"""Difference maps, profiles, block shifts, depth of field and the cross matrix on cases with known answers."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.measures import (
    block_shifts,
    cross_matrix,
    depth_of_field,
    line_profile,
    percent_difference,
    ssim,
)


def test_percent_difference():
    label = np.array([[0, 100], [200, 50]], np.uint8)
    image = np.array([[20, 100], [180, 50]], np.uint8)
    np.testing.assert_allclose(percent_difference(image, label), [[10, 0], [-10, 0]])
    np.testing.assert_allclose(percent_difference(image, label, 255)[0, 0], 100 * 20 / 255, rtol=1e-6)
    with pytest.raises(InputError, match="undefined"):
        percent_difference(image, np.ones_like(label))


def test_profile_of_two_lines():
    image = np.full((60, 60), 10.0)
    image[:, 25] = image[:, 33] = 200
    sharp = line_profile(image, (30, 10), (30, 50), width=5, pixel_um=0.1)
    assert sharp.peaks == pytest.approx(0.8)
    assert sharp.dip == pytest.approx((200 - 10) / 210)
    np.testing.assert_allclose(sharp.distance, np.arange(41) * 0.1)
    merged = line_profile(gaussian_filter(image, 5), (30, 10), (30, 50))
    assert merged.dip == 0
    assert np.isnan(merged.peaks)
    slanted = line_profile(np.add.outer(np.arange(60.0), np.zeros(60)), (10, 5), (40, 45))
    np.testing.assert_allclose(slanted.values, np.linspace(10, 40, 51))
    with pytest.raises(InputError, match="leaves"):
        line_profile(image, (30, 10), (30, 80))


def test_block_shifts():
    scene = gaussian_filter(np.random.default_rng(0).random((300, 300)), 2)
    moved = shift(scene, (1.5, -0.75), order=3, mode="mirror")
    np.testing.assert_allclose(block_shifts(moved, scene, 3).mean((0, 1)), [1.5, -0.75], atol=0.1)
    np.testing.assert_allclose(block_shifts(scene, scene, 3), 0, atol=1e-9)
    with pytest.raises(InputError, match="blocks"):
        block_shifts(scene[:40], scene[:40])


def test_depth_of_field_is_wider_for_the_lens_that_blurs_slower():
    label = data.camera().astype(np.float32)[:200, :200]
    z = np.linspace(-4, 4, 9)
    slow, fast = ([gaussian_filter(label, 0.3 + k * abs(v)) for v in z] for k in (0.3, 0.9))
    result = depth_of_field({"input": fast, "output": slow}, z, label, data_range=255)
    assert result.depth_um["output"] > 1.5 * result.depth_um["input"] > 0
    assert result.ssim["input"].argmax() == 4
    assert result.contrast["input"][4] > result.contrast["input"][0]
    flat = depth_of_field({"input": fast}, z, label, data_range=255, level=1.01)
    assert flat.depth_um["input"] == 0
    with pytest.raises(InputError, match="heights"):
        depth_of_field({"input": fast[:3]}, z, label, data_range=255)


def test_cross_matrix():
    scene = data.camera().astype(np.float32)[:128, :128]
    blurred = gaussian_filter(scene, 2)
    noisy = scene + np.random.default_rng(0).normal(0, 20, scene.shape).astype(np.float32)
    models = {"sharpen": lambda x: x + (x - gaussian_filter(x, 2)), "smooth": lambda x: gaussian_filter(x, 1)}
    matrix = cross_matrix(models, {"blurred": (blurred, scene), "noisy": (noisy, scene)}, lambda a, b: ssim(a, b, 255))
    assert matrix.values.shape == (2, 2)
    assert matrix.values[0, 0] > matrix.unprocessed[0] > matrix.values[1, 0]
    assert matrix.values[1, 1] > matrix.unprocessed[1] > matrix.values[0, 1]
    with pytest.raises(InputError, match="at least one"):
        cross_matrix({}, {}, lambda a, b: 0.0)
