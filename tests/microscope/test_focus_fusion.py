import numpy as np
import pytest
from scipy import ndimage

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.microscope import fuse_focus
from dlm_fiji.microscope.complex_wavelets import SCALING_FILTER, forward, inverse


@pytest.fixture(scope="module")
def tilted():
    """A sharp 128 x 192 px scene that is in focus in another of four planes in every quarter, the planes,
    the depth.
    """
    rng = np.random.default_rng(0)
    sharp = 100 + 60 * ndimage.gaussian_filter(rng.normal(size=(128, 192)), 1.2) / 0.23
    depth = np.repeat(np.arange(4), 48)[None, :] + np.zeros((128, 1), int)
    blurred = [sharp, *(ndimage.gaussian_filter(sharp, 1.5 * k) for k in (1, 2, 3))]
    stack = np.stack([np.choose(np.abs(depth - z), blurred) for z in range(4)])
    return sharp, stack + rng.normal(size=stack.shape), depth


def test_the_filter_is_orthogonal_and_symmetric():
    h = SCALING_FILTER
    np.testing.assert_allclose(h, h[::-1])
    assert h.sum() == pytest.approx(np.sqrt(2))
    for shift in (0, 2, 4):
        assert np.sum(h[shift:] * np.conj(h[: 6 - shift])) == pytest.approx(float(shift == 0), abs=1e-12)


@pytest.mark.parametrize("shape", [(64, 64), (101, 133), (17, 40)])
@pytest.mark.parametrize("levels", [1, 3])
def test_the_transform_is_inverted(shape, levels):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    bands, lowest = forward(image, levels)
    assert len(bands) == levels
    np.testing.assert_allclose(inverse(bands, lowest, shape), image, atol=1e-5)


@pytest.mark.parametrize("method", ["complex-wavelets", "variance"])
def test_the_sharp_plane_is_chosen(tilted, method):
    sharp, stack, depth = tilted
    fused = fuse_focus(stack, method=method)
    single = min(np.sqrt(((plane - sharp) ** 2).mean()) for plane in stack)
    assert np.sqrt(((fused.image - sharp) ** 2).mean()) < 0.25 * single
    middle = np.abs(np.arange(192) % 48 - 24) < 14
    assert (fused.plane[:, middle] == depth[:, middle]).mean() > 0.6
    assert fused.method == method


def test_every_value_was_seen_unless_asked_otherwise(tilted):
    _, stack, _ = tilted
    eight = stack.clip(0, 255).round().astype(np.uint8)
    fused = fuse_focus(eight).image
    assert fused.dtype == np.uint8
    assert (fused[None] == eight).any(axis=0).all()
    free = fuse_focus(stack, reassign=False).image
    assert not (np.abs(free[None] - stack) < 1e-6).any(axis=0).all()


def test_colour_keeps_whole_pixels(tilted):
    _, stack, _ = tilted
    colour = np.stack([stack, 0.5 * stack + 10, 255 - stack], axis=-1)
    fused = fuse_focus(colour)
    assert fused.image.shape == (128, 192, 3)
    assert (fused.image[None] == colour).all(axis=-1).any(axis=0).all()


def test_equal_planes_give_the_plane():
    plane = np.random.default_rng(0).normal(size=(40, 50))
    for method in ("complex-wavelets", "variance"):
        np.testing.assert_array_equal(fuse_focus(np.stack([plane] * 3), method=method).image, plane)


def test_bad_stacks_are_refused():
    good = np.random.default_rng(0).normal(size=(3, 40, 40))
    for stack, words in (
        (good[:1], "two planes"),
        (good[0], "focus stack is"),
        (good[:, :8], "16 x 16"),
        (good * np.nan, "not finite"),
    ):
        with pytest.raises(InputError, match=words):
            fuse_focus(stack)
    with pytest.raises(ConfigurationError, match="method"):
        fuse_focus(good, method="pyramid")
