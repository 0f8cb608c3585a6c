import builtins

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.registration import (
    central_fields,
    crop_border,
    degrade_jpeg,
    develop_raw,
    enlarge_linear,
    label_at_factor,
    to_unit_range,
)


def test_linear_enlargement_keeps_a_ramp():
    ramp = np.add.outer(np.arange(20.0), 3 * np.arange(30.0))
    big = enlarge_linear(ramp)
    assert big.shape == (40, 60)
    rows, cols = np.arange(40) / 2 - 0.25, np.arange(60) / 2 - 0.25
    np.testing.assert_allclose(big[2:-2, 2:-2], np.add.outer(rows, 3 * cols)[2:-2, 2:-2], atol=1e-3)


def test_border_and_range():
    image = np.arange(900.0).reshape(30, 30)
    np.testing.assert_array_equal(crop_border(image, 10), image[10:20, 10:20])
    scaled = to_unit_range(image)
    assert (scaled.min(), scaled.max(), scaled.dtype) == (0, 255, np.float32)
    np.testing.assert_allclose(to_unit_range(image, 100, 200)[0, 0], -255)
    with pytest.raises(InputError, match="cannot be cropped"):
        crop_border(image, 15)
    with pytest.raises(InputError, match="from the range"):
        to_unit_range(np.ones((4, 4)))


def test_the_label_has_exactly_two_and_a_half_pixels_for_one():
    # a field of 200 input pixels seen at 2.35 times as many pixels
    position = (np.arange(470) + 0.5) / 2.35
    label = np.add.outer(position, position)
    exact = label_at_factor(label, ratio=2.35)
    assert exact.shape == (500, 500)
    wanted = (np.arange(500) + 0.5) / 2.5
    np.testing.assert_allclose(exact[5:-5, 5:-5], np.add.outer(wanted, wanted)[5:-5, 5:-5], atol=2e-3)
    np.testing.assert_array_equal(label_at_factor(label, 2.5), label.astype(np.float32))
    with pytest.raises(InputError, match="above zero"):
        label_at_factor(label, 0)


def test_central_fields():
    image = np.arange(50 * 61).reshape(50, 61)
    fields = central_fields(image, 20)
    np.testing.assert_array_equal(np.block([fields[:2], fields[2:]]), image[5:45, 10:50])
    with pytest.raises(InputError, match="need 60 px"):
        central_fields(image, 30)


@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_reaches_the_ratio_asked_for(colour):
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(128, 128, 3) if colour else (128, 128)), (5, 5, 0)[: 2 + colour])
    image = (128 + 60 * image / image.std()).clip(0, 255).astype(np.uint8)
    mild, strong = degrade_jpeg(image, 95), degrade_jpeg(image, 10)
    assert mild.ratio < strong.ratio
    assert np.abs(mild.image.astype(int) - image).mean() < np.abs(strong.image.astype(int) - image).mean()
    paper = degrade_jpeg(image, ratio=21)
    assert paper.ratio >= 21
    assert degrade_jpeg(image, paper.quality + 1).ratio < 21
    assert paper.image.shape == image.shape
    with pytest.raises(InputError, match="8-bit"):
        degrade_jpeg(image.astype(np.uint16))
    with pytest.raises(InputError, match="Even at quality 1"):
        degrade_jpeg(rng.integers(0, 255, (64, 64), dtype=np.uint8), ratio=500)


def test_a_raw_file_needs_rawpy_and_a_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="does not exist"):
        develop_raw(tmp_path / "a.dng")
    path = tmp_path / "a.dng"
    path.write_bytes(b"no raw file")
    real = builtins.__import__

    def without_rawpy(name, *rest):
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_rawpy)
    with pytest.raises(SetupError, match="pip install"):
        develop_raw(path)
    monkeypatch.undo()
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    with pytest.raises(InputError, match="cannot be read as a camera raw"):
        develop_raw(path)


def write_dng(path, red, green, blue, white=4095):
    """A DNG as a camera with an RGGB sensor and sRGB's primaries would write it, with its colours (H, W) as counts."""
    y, x = np.mgrid[: red.shape[0], : red.shape[1]] % 2
    mosaic = np.where((y == 0) & (x == 0), red, np.where((y == 1) & (x == 1), blue, green)).astype(np.uint16)
    to_camera = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]
    tags = [
        (271, "s", 0, "dlm", False),  # make, model
        (272, "s", 0, "test camera", False),
        (33421, "H", 2, (2, 2), False),  # CFARepeatPatternDim, CFAPattern: red, green, green, blue
        (33422, "B", 4, bytes([0, 1, 1, 2]), False),
        (50706, "B", 4, bytes([1, 4, 0, 0]), False),  # DNGVersion
        (50708, "s", 0, "dlm test camera", False),  # UniqueCameraModel
        (50714, "H", 1, 0, False),  # BlackLevel, WhiteLevel
        (50717, "I", 1, white, False),
        (50721, "2i", 9, [n for value in to_camera for n in (round(value * 10000), 10000)], False),  # ColorMatrix1
        (50728, "2I", 3, [1, 2, 1, 1, 1, 1], False),  # AsShotNeutral: red is half as bright as it should be
        (50778, "H", 1, 21, False),  # CalibrationIlluminant1: D65
    ]
    tifffile.imwrite(path, mosaic, photometric="CFA", metadata=None, extratags=tags)


def test_a_dng_is_developed_as_light_and_as_the_camera_would(tmp_path):
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    y, x = np.mgrid[:96, :128].astype(float)
    red, green, blue = 200 + 10 * x, np.full_like(x, 800.0), 300 + 8 * y
    path = tmp_path / "field.dng"
    write_dng(path, red, green, blue)
    light = develop_raw(path, linear=True)
    assert light.shape == (96, 128, 3)
    assert light.dtype == np.uint16
    # linear: the white balance of the shot, then counts up to the white level on 0 … 65535, and nothing else
    expected = np.stack([2 * red, green, blue], -1) * (65535 / 4095)
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(light[inside], expected[inside], rtol=0.01, atol=150)
    rendered = develop_raw(path)
    assert rendered.dtype == np.uint16
    assert rendered[inside].mean() > 1.3 * light[inside].mean()  # the curve lifts what is not yet white
    assert np.all(np.diff(rendered[48, 4:-4, 0].astype(int)) >= 0)


def test_a_dng_is_cut_into_the_paper_s_fields(tmp_path):
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    y, x = np.mgrid[:80, :100].astype(float)
    write_dng(tmp_path / "field.dng", 10 * x, 10 * y, 5 * (x + y))
    fields = central_fields(develop_raw(tmp_path / "field.dng", linear=True), 32)
    assert [field.shape for field in fields] == [(32, 32, 3)] * 4
    whole = np.vstack([np.hstack(fields[:2]), np.hstack(fields[2:])])
    np.testing.assert_allclose(whole[..., 1] * (4095 / 65535), 10 * y[8:72, 18:82], atol=15)
