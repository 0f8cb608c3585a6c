"""Images in memory: arrays in and out, pixel size from coordinates."""

import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, is_rgb, pixel_size_um, to_array


def test_array_round_trip_of_all_layouts():
    rng = np.random.default_rng(0)
    for shape, dims in (((5, 7), None), ((5, 7, 3), None), ((5, 7, 2), None), ((2, 4, 5, 7, 3), "tzyxc")):
        values = rng.random(shape)
        image = from_array(values, 0.5, dims=dims)
        assert [d for d in "tzcyx" if d in image.dims] == list(image.dims)
        np.testing.assert_array_equal(to_array(image), values)
        assert to_array(image).flags.c_contiguous


def test_rgb_has_names():
    assert is_rgb(from_array(np.zeros((4, 4, 3))))
    assert not is_rgb(from_array(np.zeros((4, 4, 2))))
    assert not is_rgb(from_array(np.zeros((4, 4))))
    assert not is_rgb(from_array(np.zeros((4, 4, 3)), channels=["a", "b", "c"]))


def test_coordinates_are_pixel_centres_in_um():
    image = from_array(np.zeros((3, 4)), (0.5, 0.25))
    np.testing.assert_allclose(image.coords["y"], [0, 0.5, 1.0])
    np.testing.assert_allclose(image.coords["x"], [0, 0.25, 0.5, 0.75])
    assert pixel_size_um(image) == (0.5, 0.25)


def test_pixel_size_follows_slices():
    image = from_array(np.zeros((20, 20)), 0.325)
    assert pixel_size_um(image[::2, ::4]) == (0.65, 1.3)
    assert pixel_size_um(image[3:9]) == (0.325, 0.325)
    assert pixel_size_um(image[:1, :1]) == (0.325, 0.325)
    assert pixel_size_um(from_array(np.zeros((2, 2)))) is None


def test_like_gives_calibration_names_and_attributes():
    like = from_array(np.zeros((6, 8, 2)), 0.25, channels=["DAPI", "FITC"], na=0.9)
    image = from_array(np.ones((6, 8, 2), np.uint8), like=like)
    assert pixel_size_um(image) == (0.25, 0.25)
    assert list(image.coords["c"].values) == ["DAPI", "FITC"]
    assert image.attrs["na"] == 0.9
    larger = from_array(np.ones((15, 20, 2)), 0.1, like=like, na=1.4)
    assert pixel_size_um(larger) == (0.1, 0.1)
    assert larger.attrs["na"] == 1.4
    assert like.attrs["na"] == 0.9


def test_like_of_another_size_needs_a_pixel_size():
    like = from_array(np.zeros((6, 8)), 0.25)
    with pytest.raises(InputError, match="pixel size"):
        from_array(np.ones((15, 20)), like=like)


def test_like_of_a_stack_names_the_axes():
    like = from_array(np.zeros((3, 6, 8)), 0.25, dims="zyx", z_step_um=0.5)
    image = from_array(np.ones((3, 6, 8)), like=like)
    assert image.dims == ("z", "y", "x")
    np.testing.assert_allclose(image.coords["z"], [0, 0.5, 1])


@pytest.mark.parametrize("pixel", [0, -1.0, float("nan"), (0.1, float("inf"))])
def test_impossible_pixel_sizes(pixel):
    with pytest.raises(InputError, match="positive"):
        from_array(np.zeros((2, 2)), pixel)


def test_axes_must_fit():
    with pytest.raises(InputError, match="Axes"):
        from_array(np.zeros((2, 2)), dims="zyx")
    with pytest.raises(InputError, match="Axes"):
        from_array(np.zeros((2, 2)), dims="yq")
    with pytest.raises(InputError, match="names of its axes"):
        from_array(np.zeros((2, 2, 2, 2)))
    with pytest.raises(InputError, match="2 channel names"):
        from_array(np.zeros((2, 2, 3)), channels=["a", "b"])
