import builtins

import numpy as np
import pytest
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
