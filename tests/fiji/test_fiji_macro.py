"""Macros run on micrographs by the real ImageJ."""

from __future__ import annotations

import numpy as np
import pytest

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.fiji.macro import divide_by_flat_field, has_command, refuse_crash, run_command, run_macro
from dlm_fiji.micrograph import from_array, pixel_size_um

pytestmark = pytest.mark.usefixtures("imagej")
RNG = np.random.default_rng(3)


@pytest.fixture
def image():
    return from_array(RNG.integers(0, 200, (40, 52), dtype=np.uint8), 0.5, na=0.4)


def test_the_active_image_the_argument_and_the_value(image):
    result = run_macro(image, 'run("Add...", "value=10"); return "got " + getArgument() + " " + getWidth();', "a b")
    np.testing.assert_array_equal(result.image.values, image.values + 10)
    assert result.value == "got a b 52"
    assert result.image.attrs["na"] == 0.4


def test_the_macro_may_change_size_type_and_scale(image):
    text = 'run("Duplicate...", "title=x"); run("Scale...", "x=2 y=2 interpolation=None create"); run("32-bit");'
    result = run_macro(image, text).image
    assert result.shape == (80, 104)
    assert result.dtype == np.float32
    assert pixel_size_um(result) == pytest.approx((0.25, 0.25))


def test_a_file_with_blanks_in_its_path(image, tmp_path):
    folder = tmp_path / "my macros (new)"
    folder.mkdir()
    path = folder / "invert it.ijm"
    path.write_text('run("Invert");')
    np.testing.assert_array_equal(run_macro(image, path).image.values, 255 - image.values)
    np.testing.assert_array_equal(run_macro(image, str(path)).image.values, 255 - image.values)
    with pytest.raises(InputError, match="cannot be read"):
        run_macro(image, folder / "absent.ijm")


def test_a_macro_opens_and_saves_files(image, tmp_path):
    path = tmp_path / "with blank.tif"
    run_macro(image, 'saveAs("Tiff", getArgument());', str(path))
    np.testing.assert_array_equal(run_macro(None, "open(getArgument());", str(path)).image.values, image.values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1;\nfoo bar;", "line 2: Undefined variable"),
        ('run("No such command");', "Unrecognized command"),
        ('open("/no/such file.tif");', "File not found: /no/such file.tif"),
        ('exit("wrong light source");', "wrong light source"),
        ('selectImage("absent");', '"absent" not found'),
    ],
)
def test_errors_are_one_sentence_and_do_no_harm_to_the_next(image, text, said, capfd):
    with pytest.raises(InputError) as caught:
        run_macro(image, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run_macro(image, "return d2s(nImages, 0);").value == "1"
    assert capfd.readouterr().err == ""


def test_commands(image):
    blurred = run_command(image, "Gaussian Blur...", "sigma=2")
    assert blurred.values.std() < image.values.std() / 2
    assert has_command("Gaussian Blur...")
    with pytest.raises(SetupError, match="no command 'Gausian Blur"):
        run_command(image, "Gausian Blur...", "sigma=2")


def flat_field(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    field = 1 + 0.4 * np.cos(x / shape[1] * 2) - 0.3 * (y / shape[0]) ** 2
    return (field / field.mean()).astype(np.float32)


def divided(image, flat):
    """The macro's work in NumPy: divide in 32-bit, round half up, clip."""
    quotient = image.astype(np.float32) / flat
    if image.dtype == np.float32:
        return quotient
    return np.clip(np.floor(quotient + 0.5), 0, np.iinfo(image.dtype).max).astype(image.dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_flat_field_is_the_division(dtype):
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    values = (RNG.random((60, 50)) * top).astype(dtype)
    flat = flat_field(values.shape)
    image = from_array(values, 0.65, na=0.4)
    result = divide_by_flat_field(image, from_array(flat))
    assert result.dtype == dtype
    assert result.attrs["na"] == 0.4
    assert pixel_size_um(result) == (0.65, 0.65)
    difference = np.abs(result.values.astype(float) - divided(values, flat).astype(float)).max()
    assert difference <= (1e-6 if dtype == np.float32 else 1)
    # The range is not stretched: a rescaling conversion would make the brightest pixel the type's maximum.
    half = divide_by_flat_field(image // 2 if dtype != np.float32 else image / 2, from_array(np.ones_like(flat)))
    assert half.values.max() <= top / 2 + 1


def test_flat_field_of_colour_channel_by_channel():
    values = RNG.integers(0, 255, (30, 41, 3), dtype=np.uint8)
    flat = np.stack([flat_field((30, 41)), np.ones((30, 41), np.float32), flat_field((30, 41))[::-1]], axis=-1)
    image = from_array(values, 0.5)
    result = divide_by_flat_field(image, from_array(flat))
    assert result.dims == ("c", "y", "x")
    assert list(result.c.values) == ["red", "green", "blue"]
    expected = divided(values, flat).transpose(2, 0, 1)
    assert np.abs(result.values.astype(int) - expected.astype(int)).max() <= 1
    # One field for all channels
    same = divide_by_flat_field(image, from_array(flat[..., 0]))
    assert np.abs(same.values[1].astype(int) - divided(values[..., 1], flat[..., 0]).astype(int)).max() <= 1


def test_a_flat_field_macro_of_the_user(tmp_path):
    image = from_array(RNG.integers(50, 100, (20, 22), dtype=np.uint8))
    flat = from_array(flat_field((20, 22)))
    path = tmp_path / "my flat field.ijm"
    path.write_text('imageCalculator("Divide create 32-bit", getTitle(), "flat_field");')
    result = divide_by_flat_field(image, flat, path)
    np.testing.assert_allclose(result.values, image.values / flat.values, rtol=1e-6)
    path.write_text('run("Scale...", "x=2 y=2 interpolation=None create");')
    with pytest.raises(InputError, match="returned shape"):
        divide_by_flat_field(image, flat, path)
    with pytest.raises(InputError, match="flat field has 21×20"):
        divide_by_flat_field(image, from_array(flat_field((20, 21))))


def test_a_command_that_java_cannot_load_is_not_passed_over():
    """The text is what Fiji 2.3.0 (ij 1.53f, ij1-patcher 1.2.1) prints for every filter with a preview."""
    printed = "java.lang.VerifyError: Bad type on operand stack\nException Details:\n  Location:\n    ij/gui/..."
    with pytest.raises(SetupError, match=r"^The macro was not carried out: .* VerifyError, .* update that Fiji"):
        refuse_crash(printed, "the macro")
    refuse_crash("mean = 3\nthe java.lang.Errors are none", "the macro")
