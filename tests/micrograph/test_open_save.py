"""Every format gives back the pixels, the calibration, the names and what made the file."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from dlm_fiji.errors import DlmWarning, InputError
from dlm_fiji.micrograph import (
    from_array,
    is_image_file,
    is_rgb,
    open_image,
    pixel_size_um,
    provenance,
    save_image,
)

MADE_BY = {"model": "brightfield-x2.5", "note": "computationally enhanced, 0.25 µm", "seconds": 1.5}
LAYOUTS = {
    "grey": (("y", "x"), (41, 33)),
    "rgb": (("c", "y", "x"), (3, 41, 33)),
    "channels": (("c", "y", "x"), (2, 41, 33)),
    "stack": (("z", "y", "x"), (4, 41, 33)),
    "hyperstack": (("t", "z", "c", "y", "x"), (2, 3, 2, 41, 33)),
}


def micrograph(layout, dtype, pixel=(0.325, 0.25)):
    dims, shape = LAYOUTS[layout]
    names = {3: ["red", "green", "blue"], 2: ["DAPI", "FITC"]}.get(shape[dims.index("c")] if "c" in dims else 0)
    values = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    step = 0.5 if "z" in dims else None
    return from_array(
        values, pixel, dims=dims, channels=names, z_step_um=step, na=0.4, objective="10x", wavelength_um=0.532
    )


def assert_same(read, written):
    assert read.dims == written.dims
    assert read.dtype == written.dtype
    np.testing.assert_array_equal(read.values, written.values)
    assert pixel_size_um(read) == pixel_size_um(written)
    assert dict(read.attrs) == dict(written.attrs)
    assert set(read.coords) == set(written.coords)
    for name in written.coords:
        if written.coords[name].dtype.kind == "f":
            np.testing.assert_allclose(read.coords[name], written.coords[name], rtol=1e-12)
        else:
            assert list(read.coords[name].values) == list(written.coords[name].values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("ending", "dtype"),
    [(ending, dtype) for ending in (".tif", ".ome.tif") for dtype in ("uint8", "uint16", "float32", "float64", "int32")]
    + [(".ome.zarr", "uint16")],
)
def test_stacks_come_back_whole(tmp_path, ending, dtype, layout):
    image = micrograph(layout, dtype)
    path = save_image(image, tmp_path / f"image{ending}", provenance=MADE_BY)
    assert_same(open_image(path), image)
    assert provenance(path) == MADE_BY
    assert [entry.name for entry in tmp_path.iterdir()] == [f"image{ending}"]


@pytest.mark.parametrize("layout", ["grey", "rgb"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_comes_back_whole(tmp_path, dtype, layout):
    image = micrograph(layout, dtype)
    path = save_image(image, tmp_path / "image.png", provenance=MADE_BY)
    assert_same(open_image(path), image)
    assert provenance(path) == MADE_BY


@pytest.mark.parametrize("layout", ["grey", "rgb"])
def test_jpeg_keeps_calibration_and_nearly_the_pixels(tmp_path, layout):
    ramp = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    image = from_array(np.dstack([ramp] * 3) if layout == "rgb" else ramp, (0.325, 0.25), na=0.4)
    path = save_image(image, tmp_path / "image.jpg", provenance=MADE_BY)
    read = open_image(path)
    assert read.dims == image.dims
    assert abs(read.values.astype(int) - image.values).max() <= 3
    assert pixel_size_um(read) == (0.325, 0.25)
    assert dict(read.attrs) == dict(image.attrs)
    assert provenance(path) == MADE_BY


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".png", ".jpg", ".ome.zarr"])
def test_unknown_pixel_size_stays_unknown(tmp_path, ending):
    path = save_image(np.full((20, 30), 7, np.uint8), tmp_path / f"image{ending}")
    read = open_image(path)
    assert pixel_size_um(read) is None
    assert not set(read.coords) & {"y", "x"}
    assert provenance(path) is None


def test_large_pixels_of_ours_are_kept(tmp_path):
    for ending in (".tif", ".ome.tif", ".png", ".jpg"):
        path = save_image(from_array(np.ones((9, 9), np.uint8), 100.0), tmp_path / f"image{ending}")
        assert pixel_size_um(open_image(path)) == (100.0, 100.0)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_either_byte_order(tmp_path, byteorder, dtype):
    values = np.arange(600).reshape(20, 30).astype(dtype)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, values, byteorder=byteorder, resolution=(40000, 20000), resolutionunit="CENTIMETER")
    read = open_image(path)
    np.testing.assert_array_equal(read.values, values)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert pixel_size_um(read) == (0.5, 0.25)


def test_imagej_file_of_another_program(tmp_path):
    values = np.random.default_rng(0).integers(0, 9, (2, 3, 10, 12)).astype(np.uint16)
    path = tmp_path / "image.tif"
    labels = ["a", "b", "c"] * 2
    tifffile.imwrite(
        path, values, imagej=True, resolution=(4, 4),
        metadata={"axes": "ZCYX", "unit": "\\u00B5m", "spacing": 0.7, "Labels": labels},
    )  # fmt: skip
    read = open_image(path)
    assert read.dims == ("z", "c", "y", "x")
    assert pixel_size_um(read) == (0.25, 0.25)
    np.testing.assert_allclose(read.coords["z"], [0, 0.7])
    np.testing.assert_array_equal(read.values, values)


def test_imagej_units(tmp_path):
    for unit, expected in (("nm", 0.25), ("mm", 250_000.0), ("pixel", None), ("um", 250.0)):
        path = tmp_path / f"{unit}.tif"
        tifffile.imwrite(
            path, np.ones((8, 8), np.uint8), imagej=True, resolution=(1 / 250,) * 2, metadata={"unit": unit}
        )
        size = pixel_size_um(open_image(path))
        assert size == (None if expected is None else pytest.approx((expected, expected), rel=1e-8))


def test_written_file_is_an_imagej_hyperstack_with_units(tmp_path):
    path = save_image(micrograph("hyperstack", "uint16"), tmp_path / "image.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        assert tif.imagej_metadata["unit"] == "micron"
        assert (
            tif.imagej_metadata["frames"],
            tif.imagej_metadata["slices"],
            tif.imagej_metadata["channels"],
        ) == (2, 3, 2)
        assert tif.imagej_metadata["spacing"] == 0.5
        assert tif.pages.first.resolution == pytest.approx((4.0, 1 / 0.325))
        assert tif.pages.first.software.startswith("dlm_fiji")


def test_ome_fields_of_another_program(tmp_path):
    path = tmp_path / "image.ome.tif"
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">'
        '<Objective ID="Objective:0" LensNA="0.95" NominalMagnification="40" Model="Plan Apo"/></Instrument>'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="12" SizeY="10" '
        'SizeC="2" SizeZ="1" SizeT="1" PhysicalSizeX="162.5" PhysicalSizeXUnit="nm" PhysicalSizeY="162.5" '
        'PhysicalSizeYUnit="nm"><Channel ID="Channel:0:0" Name="actin" EmissionWavelength="520"/>'
        '<Channel ID="Channel:0:1" Name="nuclei" EmissionWavelength="461"/><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, np.ones((2, 10, 12), np.uint8), description=xml, metadata=None, photometric="minisblack")
    read = open_image(path)
    assert list(read.coords["c"].values) == ["actin", "nuclei"]
    assert pixel_size_um(read) == (0.1625, 0.1625)
    assert read.attrs["na"] == 0.95
    assert read.attrs["magnification"] == 40
    assert read.attrs["objective"] == "Plan Apo"
    assert read.attrs["wavelength_um"] == [0.52, 0.461]


def test_written_ome_is_valid_and_calibrated(tmp_path):
    path = save_image(micrograph("hyperstack", "uint8"), tmp_path / "image.ome.tif", provenance=MADE_BY)
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    assert 'PhysicalSizeX="0.25"' in xml
    assert 'PhysicalSizeY="0.325"' in xml
    assert 'Name="DAPI"' in xml


def test_print_resolution_is_no_pixel_size(tmp_path):
    picture = Image.fromarray(np.ones((8, 8), np.uint8))
    for name in ("a.png", "a.jpg", "a.tif"):
        picture.save(tmp_path / name, dpi=(300, 300))
        assert pixel_size_um(open_image(tmp_path / name)) is None


def test_png_physical_size_of_another_program(tmp_path):
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "a.png", dpi=(101600, 101600))
    assert pixel_size_um(open_image(tmp_path / "a.png")) == pytest.approx((0.25, 0.25), rel=1e-6)


def test_written_png_and_jpeg_tell_other_programs_the_pixel_size(tmp_path):
    image = micrograph("grey", "uint8")
    with Image.open(save_image(image, tmp_path / "a.png")) as picture:
        assert picture.info["dpi"] == pytest.approx((101600, 25400 / 0.325), rel=1e-6)
    head = save_image(image, tmp_path / "a.jpg").read_bytes()[:40]
    start = head.index(b"JFIF\0") + 7
    assert struct.unpack(">BHH", head[start : start + 5]) == (2, 40000, round(10000 / 0.325))


def test_transparency_is_left_out_with_a_warning(tmp_path):
    rgba = np.full((8, 8, 4), 200, np.uint8)
    Image.fromarray(np.where(np.arange(4) == 3, 255, rgba).astype(np.uint8)).save(tmp_path / "opaque.png")
    assert is_rgb(open_image(tmp_path / "opaque.png"))
    Image.fromarray(rgba).save(tmp_path / "glass.png")
    with pytest.warns(DlmWarning, match="transparen"):
        assert open_image(tmp_path / "glass.png").sizes["c"] == 3
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert is_rgb(open_image(tmp_path / "a.tif"))


def test_planar_rgb_and_compression(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (3, 30, 40)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate")
    read = open_image(tmp_path / "a.tif")
    assert is_rgb(read)
    np.testing.assert_array_equal(read.values, values)
    for codec in ("zlib", "lzw", "zstd"):
        save_image(read, tmp_path / "b.tif", compression=codec)
        np.testing.assert_array_equal(open_image(tmp_path / "b.tif").values, values)


def test_content_tells_the_format_not_the_name(tmp_path):
    save_image(micrograph("rgb", "uint8"), tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    assert is_rgb(open_image(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    ("ending", "image", "words"),
    [
        (".png", np.ones((4, 4), np.float32), "float32"),
        (".jpg", np.ones((4, 4), np.uint16), "uint16"),
        (".png", np.ones((4, 4, 5), np.uint8), "c 5"),
        (".gif", np.ones((4, 4), np.uint8), "gif"),
        (".svs", np.ones((4, 4), np.uint8), "svs"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, ending, image, words):
    with pytest.raises(InputError, match=words):
        save_image(image, tmp_path / f"image{ending}")
    assert list(tmp_path.iterdir()) == []


def test_image_names():
    assert is_image_file("a.TIF")
    assert is_image_file("b.ome.tiff")
    assert not is_image_file(".part-1-a.tif")
    assert not is_image_file("notes.txt")
