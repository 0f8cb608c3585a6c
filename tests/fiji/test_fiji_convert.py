"""Images cross the border to ImageJ and back without a change."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from dlm_fiji.errors import InputError
from dlm_fiji.fiji.convert import from_imageplus, to_imageplus
from dlm_fiji.fiji.runtime import java_class
from dlm_fiji.micrograph import from_array, is_rgb, pixel_size_um

pytestmark = pytest.mark.usefixtures("imagej")
RNG = np.random.default_rng(7)


def integers(shape, dtype):
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


IMAGES = {
    "8-bit": from_array(integers((31, 47), np.uint8), 0.25, objective="10x/0.4", na=0.4, wavelength_um=0.532),
    "16-bit, other pixel height": from_array(integers((31, 47), np.uint16), (0.5, 0.325)),
    "float, not calibrated": from_array(RNG.normal(size=(31, 47)).astype(np.float32)),
    "RGB": from_array(integers((31, 47, 3), np.uint8), 0.1),
    "16-bit RGB": from_array(integers((31, 47, 3), np.uint16), 0.1),
    "channels": from_array(integers((31, 47, 2), np.uint8), 0.1, channels=["DAPI", "actin"]),
    "RGB stack": from_array(integers((4, 31, 47, 3), np.uint8), 0.1, dims=("z", "y", "x", "c"), z_step_um=1.5),
    "hyperstack": from_array(
        integers((2, 3, 31, 47, 2), np.uint16), 0.1, dims=("t", "z", "y", "x", "c"), z_step_um=0.3, channels=["a", "b"]
    ),
    "one plane of a stack": from_array(integers((1, 31, 47), np.uint8), 0.1, dims=("z", "y", "x"), z_step_um=0.3),
    "big-endian": from_array(integers((31, 47), np.uint16).astype(">u2"), 0.25),
}


@pytest.mark.parametrize("name", IMAGES)
def test_round_trip_is_exact(name):
    image = IMAGES[name]
    back = from_imageplus(to_imageplus(image))
    assert back.dims == image.dims
    np.testing.assert_array_equal(back.values, image.values)
    assert back.dtype == image.dtype.newbyteorder("=")
    assert set(back.coords) == set(image.coords)
    for coordinate in image.coords:
        np.testing.assert_array_equal(back.coords[coordinate].values, image.coords[coordinate].values)
    assert back.attrs == image.attrs


def test_times_and_a_shifted_origin_come_back():
    image = IMAGES["hyperstack"].assign_coords(t=("t", [0.0, 2.5], {"units": "s"})).isel(x=slice(5, 25), y=slice(7, 30))
    back = from_imageplus(to_imageplus(image))
    for coordinate in "tzyx":
        np.testing.assert_allclose(back.coords[coordinate].values, image.coords[coordinate].values, rtol=1e-12)


def test_what_imagej_sees():
    imp = to_imageplus(IMAGES["hyperstack"], "my title")
    assert [int(n) for n in imp.getDimensions()] == [47, 31, 2, 3, 2]
    # ImageJ's own numbering: channel 2, plane 3, frame 1.
    index = imp.getStackIndex(2, 3, 1)
    assert int(imp.getStack().getProcessor(index).get(11, 5)) == int(IMAGES["hyperstack"].values[0, 2, 1, 5, 11])
    calibration = imp.getCalibration()
    assert (float(calibration.pixelWidth), float(calibration.pixelDepth)) == (0.1, 0.3)
    assert str(calibration.getUnit()) == "µm"
    assert str(imp.getTitle()) == "my title"
    assert to_imageplus(IMAGES["RGB"]).getBitDepth() == 24


@pytest.mark.parametrize(("unit", "pixel_um"), [("micron", 0.5), ("nm", 0.0005), ("mm", 500.0), ("\\u00B5m", 0.5)])
def test_units_of_length_become_um(unit, pixel_um):
    imp = to_imageplus(IMAGES["float, not calibrated"])
    calibration = imp.getCalibration()
    calibration.pixelWidth = calibration.pixelHeight = 0.5
    calibration.setUnit(unit)
    assert pixel_size_um(from_imageplus(imp)) == pytest.approx((pixel_um, pixel_um))


def test_pixels_are_no_length():
    assert pixel_size_um(from_imageplus(to_imageplus(IMAGES["float, not calibrated"]))) is None


def test_colour_table_becomes_rgb():
    imp = to_imageplus(IMAGES["8-bit"])
    imp.setProcessor(imp.getProcessor())
    java_class("ij.IJ").run(imp, "8-bit Color", "number=256") if imp.getBitDepth() == 24 else None
    rgb = to_imageplus(IMAGES["RGB"])
    java_class("ij.process.ImageConverter")(rgb).convertRGBtoIndexedColor(256)
    assert is_rgb(from_imageplus(rgb))


def test_tiff_written_by_imagej_carries_everything(tmp_path):
    path = tmp_path / "an image.tif"
    image = IMAGES["16-bit, other pixel height"].assign_attrs(na=0.4)
    java_class("ij.IJ").saveAsTiff(to_imageplus(image), str(path))
    back = from_imageplus(java_class("ij.IJ").openImage(str(path)))
    np.testing.assert_array_equal(back.values, image.values)
    assert pixel_size_um(back) == pytest.approx((0.5, 0.325), rel=1e-6)
    assert back.attrs["na"] == 0.4


def test_other_numbers():
    signed = xr.DataArray(np.array([[-3, 7]], dtype=np.int16), dims=("y", "x"))
    np.testing.assert_array_equal(from_imageplus(to_imageplus(signed)).values, [[-3.0, 7.0]])
    mask = xr.DataArray(np.array([[True, False]]), dims=("y", "x"))
    np.testing.assert_array_equal(from_imageplus(to_imageplus(mask)).values, [[255, 0]])
    with pytest.raises(InputError, match="does not hold"):
        to_imageplus(xr.DataArray(np.array([[2**30, 1]], dtype=np.int32), dims=("y", "x")))
    with pytest.raises(InputError, match="t z c y x"):
        to_imageplus(xr.DataArray(np.zeros((2, 2, 3), np.uint8), dims=("y", "x", "c")))
