"""Images larger than memory: parts in, parts out, the same pixels as the whole."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.micrograph import (
    PyramidWriter,
    open_image,
    open_region_reader,
    pixel_size_um,
    provenance,
    save_image,
    to_array,
)
from dlm_fiji.micrograph.pyramids import _half

SHAPES = [
    ((641, 533, 3), "uint8"),
    ((641, 533), "float32"),
    ((300, 533, 2), "uint16"),
    ((300, 533, 3), "float32"),
]


def pixels(shape, dtype):
    return (np.random.default_rng(3).random(shape) * 250).astype(dtype)


@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_regions_in_any_order_make_the_whole(tmp_path, ending, shape, dtype):
    values = pixels(shape, dtype)
    path = tmp_path / f"mosaic{ending}"
    places = [(y, x) for y in range(0, shape[0], 250) for x in range(0, shape[1], 300)]
    np.random.default_rng(0).shuffle(places)
    with PyramidWriter(path, shape, dtype, pixel_um=0.25, provenance={"by": "test"}, tile=256, na=0.5) as writer:
        for y, x in places:
            writer.write(y, x, values[y : y + 250, x : x + 300])
        assert not path.exists()
    image = open_image(path)
    np.testing.assert_array_equal(to_array(image), values)
    assert pixel_size_um(image) == (0.25, 0.25)
    assert image.attrs["na"] == 0.5
    assert provenance(path) == {"by": "test"}
    with open_region_reader(path) as reader:
        assert not reader.in_memory
        assert reader.shape == shape
        assert reader.dtype == np.dtype(dtype)
        assert reader.pixel_um == (0.25, 0.25)
        np.testing.assert_array_equal(reader.read(100, 297, 50, 300), values[100:297, 50:300])
    assert list(tmp_path.iterdir()) == [path]


def test_levels_are_means_of_two_by_two(tmp_path):
    values = pixels((1061, 1043, 3), "uint8")
    for ending in (".ome.tif", ".ome.zarr"):
        with PyramidWriter(tmp_path / f"a{ending}", values.shape, values.dtype, tile=256, pixel_um=0.25) as writer:
            writer.write(0, 0, values)
    half = np.rint(values[:1060, :1042].reshape(530, 2, 521, 2, 3).mean(axis=(1, 3))).astype(np.uint8)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_ome
        assert [level.shape for level in tif.series[0].levels] == [
            (1061, 1043, 3),
            (530, 521, 3),
            (265, 260, 3),
        ]
        np.testing.assert_array_equal(tif.series[0].levels[1].asarray(), half)
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    np.testing.assert_array_equal(np.moveaxis(group["1"][...], 0, 2), half)
    scales = group.attrs["multiscales"][0]
    assert [axis["name"] for axis in scales["axes"]] == ["c", "y", "x"]
    assert scales["datasets"][1]["coordinateTransformations"][0]["scale"] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"rowsperstrip": 16, "compression": "zlib"},
        {"tile": (64, 64)},
        {"tile": (64, 64), "compression": "zlib", "planarconfig": "separate"},
        {"planarconfig": "separate"},
        {"rowsperstrip": 500, "compression": "zlib"},
    ],
)
def test_any_tiff_layout_in_parts(tmp_path, options):
    values = pixels((300, 220, 3), "uint16")
    stored = np.moveaxis(values, 2, 0) if options.get("planarconfig") else values
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    with open_region_reader(tmp_path / "a.tif") as reader:
        assert reader.shape == (300, 220, 3)
        assert reader.channels == ["red", "green", "blue"]
        assert reader.in_memory == (options.get("rowsperstrip") == 500)
        for y0, y1, x0, x1 in ((0, 300, 0, 220), (1, 2, 219, 220), (60, 200, 30, 170)):
            part = reader.read(y0, y1, x0, x1)
            np.testing.assert_array_equal(part, values[y0:y1, x0:x1])
            assert part.dtype.isnative
            part[:] = 0  # the caller's own copy


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_small_files_too(tmp_path, ending):
    values = pixels((30, 40), "uint8")
    save_image(values, tmp_path / f"a{ending}")
    with open_region_reader(tmp_path / f"a{ending}") as reader:
        assert reader.shape == (30, 40)
        np.testing.assert_array_equal(reader.read(3, 9, 4, 40), values[3:9, 4:])


def test_regions_outside_and_stacks_are_refused(tmp_path):
    save_image(pixels((30, 40), "uint8"), tmp_path / "a.tif")
    with open_region_reader(tmp_path / "a.tif") as reader:
        for bad in ((0, 31, 0, 4), (5, 5, 0, 4), (-1, 4, 0, 4), (0, 4, 30, 41)):
            with pytest.raises(InputError, match="outside"):
                reader.read(*bad)
    tifffile.imwrite(tmp_path / "stack.tif", np.ones((3, 20, 20), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="stack"):
        open_region_reader(tmp_path / "stack.tif")


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_a_killed_writer_leaves_nothing(tmp_path, ending):
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        PyramidWriter(tmp_path / f"a{ending}", (100, 100), "uint8", tile=64) as writer,
    ):
        writer.write(0, 0, np.ones((50, 50), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(InputError, match=r"ome\.tif"):
        PyramidWriter(tmp_path / "a.png", (100, 100), "uint8")
    with pytest.raises(InputError, match="multiple of 16"):
        PyramidWriter(tmp_path / "a.ome.tif", (100, 100), "uint8", tile=100)
    with PyramidWriter(tmp_path / "a.ome.tif", (100, 100), "uint8", tile=64) as writer:
        for y, x, region in (
            (90, 0, np.ones((20, 5), "uint8")),
            (0, 0, np.ones((5, 5, 3), "uint8")),
            (0, 0, np.ones((5, 5))),
        ):
            with pytest.raises(InputError, match="does not fit"):
                writer.write(y, x, region)
        writer.write(0, 0, np.ones((100, 100), "uint8"))


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_finishing_reports_and_may_be_interrupted(tmp_path, ending):
    """Levels and compression take minutes for a large image: each block is told, and Ctrl-C leaves nothing."""
    told = []

    def finish(name, progress):
        with PyramidWriter(tmp_path / name, (1100, 700, 2), "uint16", tile=64, progress=progress) as writer:
            writer.write(0, 0, pixels((1100, 700, 2), "uint16"))

    finish(f"whole{ending}", lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(f"half{ending}", stop)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"whole{ending}"]


def test_too_little_disk_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(SetupError, match="GB of disk while written"):
        PyramidWriter(tmp_path / "a.ome.tif", (100, 100), "uint8", tile=64).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_clears_what_a_killed_one_left(tmp_path):
    """SIGKILL cannot be caught: the pixels of a large image would fill the disk, run after run."""
    code = (
        "import sys, os, numpy as np; from dlm_fiji.micrograph import PyramidWriter\n"
        "writer = PyramidWriter(sys.argv[1], (100, 100), 'uint8', tile=64).__enter__()\n"
        "writer.write(0, 0, np.ones((100, 100), 'uint8')); os._exit(9)"
    )
    for name in ("a.ome.tif", "other.ome.tif"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False, cwd=os.getcwd())
    assert len(list(tmp_path.iterdir())) == 2
    with PyramidWriter(tmp_path / "a.ome.tif", (100, 100), "uint8", tile=64):
        PyramidWriter(tmp_path / "a.ome.tif", (100, 100), "uint8", tile=64).__enter__().__exit__(None, None, None)
    left = [entry.name for entry in tmp_path.iterdir() if entry.name != "a.ome.tif"]
    assert len(left) == 1
    assert left[0].endswith("other.ome.tif.levels")


@pytest.mark.parametrize(("dtype", "predictor"), [("uint16", 2), ("float32", 1)])
def test_tiff_is_compressed_as_fiji_reads_it(tmp_path, dtype, predictor):
    with PyramidWriter(tmp_path / "a.ome.tif", (600, 600), dtype, tile=256) as writer:
        writer.write(0, 0, pixels((600, 600), dtype))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        pages = [level.keyframe for level in tif.series[0].levels]
    assert [(page.compression.name, page.predictor) for page in pages] == [("ADOBE_DEFLATE", predictor)] * 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_halves_of_whole_numbers_are_rounded_means(dtype):
    """Ties to the even number, and the type's largest values do not overflow."""
    block = np.random.default_rng(0).integers(0, 7, (64, 80, 3), dtype)
    block[:32] += np.iinfo(dtype).max - 6
    expected = np.rint(block.reshape(32, 2, 40, 2, 3).mean((1, 3)))
    np.testing.assert_array_equal(_half(block), expected)
