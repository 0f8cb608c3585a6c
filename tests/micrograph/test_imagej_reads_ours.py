"""ImageJ itself opens what we save with the same calibration, and what it saves again keeps our record."""

import numpy as np
import pytest

from dlm_fiji.errors import SetupError
from dlm_fiji.micrograph import from_array, is_rgb, open_image, pixel_size_um, provenance, save_image

MACRO = """
open(getArgument());
getDimensions(width, height, channels, slices, frames);
getVoxelSize(dx, dy, dz, unit);
saveAs("Tiff", getArgument() + ".again.tif");
close();
return "" + channels + " " + slices + " " + frames + " " + dx + " " + dy + " " + dz + " " + unit;
"""


def through_imagej(path):
    from dlm_fiji.fiji.macro import run_macro

    try:
        return run_macro(None, MACRO, str(path)).value.split()
    except SetupError as error:
        pytest.skip(f"no ImageJ on this machine: {error}")


def test_hyperstack(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, (2, 3, 2, 30, 40)).astype(np.uint16)
    image = from_array(values, 0.25, dims="tzcyx", channels=["DAPI", "FITC"], z_step_um=0.5, na=0.8)
    path = save_image(image, tmp_path / "hyper.tif", provenance={"model": "x"})
    *numbers, unit = through_imagej(path)
    assert [float(n) for n in numbers] == [2, 3, 2, 0.25, 0.25, 0.5]
    assert unit in ("micron", "microns", "µm")
    again = open_image(tmp_path / "hyper.tif.again.tif")
    np.testing.assert_array_equal(again.values, values)
    assert again.dims == image.dims
    assert list(again.coords["c"].values) == ["DAPI", "FITC"]
    assert again.attrs["na"] == 0.8
    assert provenance(tmp_path / "hyper.tif.again.tif") == {"model": "x"}


def test_rgb_with_oblong_pixels(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    path = save_image(from_array(values, (0.325, 0.25)), tmp_path / "rgb.tif")
    numbers = through_imagej(path)
    assert [float(n) for n in numbers[3:5]] == pytest.approx([0.25, 0.325], rel=1e-6)
    again = open_image(tmp_path / "rgb.tif.again.tif")
    assert is_rgb(again)
    np.testing.assert_array_equal(again.transpose("y", "x", "c").values, values)
    assert pixel_size_um(again) == pytest.approx((0.325, 0.25), rel=1e-6)
