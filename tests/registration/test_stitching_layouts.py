"""Tiles whose places the files tell: stage positions, names, and both with tiles missing."""

import numpy as np
import pytest
import tifffile

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import fields_of, from_array, save_image
from dlm_fiji.registration import read_stage_positions, stitch
from dlm_fiji.registration.layout import cells_by_name, scan_numbers

SIDE, STEP, PIXEL = 160, 128, 0.5


@pytest.fixture(scope="module")
def scanned(cut):
    """A scan of 2 x 3 tiles with a sub-pixel stage error: the tiles, and their true positions."""
    rng = np.random.default_rng(1)
    true = np.array([(r, c) for r in range(2) for c in range(3)]) * STEP + rng.uniform(-4, 4, (6, 2))
    tiles = [np.rint(cut(20 + y, 20 + x, SIDE, SIDE) * 200).astype(np.uint16) for y, x in true]
    return tiles, true


def worst(mosaic, true):
    off = mosaic.positions - true
    return np.linalg.norm(off - np.median(off, axis=0), axis=1).max()


def plane(stage_px, pixel=PIXEL):
    y, x = np.asarray(stage_px, float) * PIXEL
    return {
        "axes": "YX", "PhysicalSizeX": pixel, "PhysicalSizeY": pixel,
        "Plane": {"PositionX": [x / 1000], "PositionXUnit": ["mm"], "PositionY": [y], "PositionYUnit": ["µm"]},
    }  # fmt: skip


def ome(path, tiles, stage_px):
    """One OME-TIFF with an image for each tile."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for tile, place in zip(tiles, stage_px, strict=True):
            file.write(tile, metadata=plane(place))


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ([[1, 0], [0, 1]], "stage positions in the files"),
        ([[-1, 0], [0, 1]], "y reversed"),
        ([[0, -1], [1, 0]], "exchanged, y reversed"),
    ],
)
def test_images_of_one_file_lie_where_the_stage_was(scanned, tmp_path, axes, said):
    tiles, true = scanned
    order = np.array([4, 0, 5, 2, 1, 3])
    stage = (true + np.random.default_rng(2).uniform(-5, 5, true.shape)) @ np.array(axes) + 1000
    ome(tmp_path / "scan.ome.tif", [tiles[k] for k in order], stage[order])
    fields = fields_of(tmp_path / "scan.ome.tif")
    assert [field.name for field in fields[:2]] == ["scan.ome.tif [0]", "scan.ome.tif [1]"]
    np.testing.assert_allclose(read_stage_positions(fields), stage[order])
    mosaic = stitch(fields)
    assert worst(mosaic, true[order]) < 0.03
    assert mosaic.layout.startswith("stage positions in the files")
    assert mosaic.layout.endswith(said)


def test_a_hole_in_the_grid_is_left_open_by_the_stage(scanned, tmp_path):
    tiles, true = scanned
    paths = []
    for k in (0, 1, 3, 4, 5):
        paths.append(tmp_path / f"{k}.ome.tif")
        tifffile.imwrite(paths[-1], tiles[k], ome=True, metadata=plane(true[k]))
    mosaic = stitch(paths, grid=(2, 3))
    assert worst(mosaic, true[[0, 1, 3, 4, 5]]) < 0.03
    assert "stage" in mosaic.layout


@pytest.mark.parametrize(
    ("name", "grid", "layout"),
    [
        ("s_x{c}_y{r}.tif", None, "rows and columns"),
        ("Row{r:02d} Col{c:02d}.tif", (2, 3), "rows and columns"),
        ("tile_{k:03d}.tif", (2, 3), "numbers"),
    ],
)
def test_a_hole_in_the_grid_is_left_open_by_the_names(scanned, tmp_path, name, grid, layout):
    tiles, true = scanned
    kept = [0, 2, 3, 4, 5]
    paths = []
    for k in kept:
        paths.append(tmp_path / name.format(r=k // 3 + 1, c=k % 3 + 1, k=k))
        tifffile.imwrite(paths[-1], tiles[k])
    mosaic = stitch(paths, grid=grid, overlap=0.2)
    assert worst(mosaic, true[kept]) < 0.03
    assert layout in mosaic.layout
    assert mosaic.summary()["layout"] == mosaic.layout


def test_rows_that_are_counted_upwards(scanned, tmp_path):
    tiles, true = scanned
    paths = []
    for k in range(6):
        paths.append(tmp_path / f"r{1 - k // 3}c{k % 3}.tif")
        tifffile.imwrite(paths[-1], tiles[k])
    mosaic = stitch(paths, overlap=0.2)
    assert worst(mosaic, true) < 0.03
    assert mosaic.layout.endswith("y reversed")


def test_cells_in_names():
    np.testing.assert_array_equal(cells_by_name(["x0_y0", "x435_y0", "x1305_y870"]), [[0, 0], [0, 1], [1, 3]])
    np.testing.assert_array_equal(cells_by_name(["x1_y1", "x1_y3"]), [[0, 0], [2, 0]])
    np.testing.assert_array_equal(cells_by_name(["a_r03_c1.tif", "a_r02_c2.tif"]), [[1, 0], [0, 1]])
    assert cells_by_name(["tile 1", "tile 2"]) is None
    assert cells_by_name(["x1_y1", "x1_y1"]) is None
    assert cells_by_name(["x0_y0", "x40_y0", "x57_y0"]) is None
    np.testing.assert_array_equal(scan_numbers(["a1_05.tif", "a1_07.tif"]), [4, 6])
    np.testing.assert_array_equal(scan_numbers(["0.tif", "2.tif"]), [0, 2])
    assert scan_numbers(["a1_5.tif", "a2_7.tif"]) is None


def test_positions_that_cannot_be_right_are_a_sentence(scanned, tmp_path):
    tiles, true = scanned
    ome(tmp_path / "far.ome.tif", tiles, true * 7)
    with pytest.raises(InputError, match=r"no two tiles over each other .* 160 x 160 px"):
        stitch(fields_of(tmp_path / "far.ome.tif"))
    noise = [np.random.default_rng(k).integers(0, 999, (SIDE, SIDE), dtype=np.uint16) for k in range(6)]
    ome(tmp_path / "other.ome.tif", noise, true)
    with pytest.raises(InputError, match="whichever way the stage's axes lie"):
        stitch(fields_of(tmp_path / "other.ome.tif"))
    ome(tmp_path / "none.ome.tif", tiles, 0 * true)
    with pytest.raises(InputError, match="no stage positions, and their names no rows and columns"):
        stitch(fields_of(tmp_path / "none.ome.tif"))
    tifffile.imwrite(tmp_path / "plain.tif", tiles[0])
    mixed = [*fields_of(tmp_path / "far.ome.tif"), *fields_of(tmp_path / "plain.tif")]
    with pytest.raises(InputError, match=r"6 of 7 tiles have a stage position .* plain\.tif has not"):
        stitch(mixed)
    with pytest.raises(InputError, match="tell which are missing"):
        stitch(tiles[:5], grid=(2, 3))


def test_a_stack_is_no_tile(tmp_path):
    stack = from_array(np.ones((4, 32, 32), np.uint8), dims=("z", "y", "x"))
    save_image(stack, tmp_path / "stack.tif")
    with pytest.raises(InputError, match="stack of 4 planes"):
        stitch([tmp_path / "stack.tif"])
