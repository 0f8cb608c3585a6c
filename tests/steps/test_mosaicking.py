"""Tiles found in a folder or in one file, and stitched without a grid."""

import numpy as np
import pytest
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.registration import nominal_layout
from dlm_fiji.steps import stitch_tiles, tiles_in


def test_files_are_taken_in_the_order_of_their_numbers(tmp_path):
    for name in ("t10.png", "t2.png", "t1.png", ".t3.png"):
        save_image(np.ones((8, 8), np.uint8), tmp_path / name)
    (tmp_path / "notes.txt").write_text("none of the tiles")
    assert [tile.name for tile in tiles_in(tmp_path)] == ["t1.png", "t2.png", "t10.png"]
    assert [tile.name for tile in tiles_in(tmp_path / "t2.png")] == ["t2.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images in .*empty"):
        tiles_in(tmp_path / "empty")


def test_the_stage_in_our_own_files_places_them(tmp_path):
    scene = data.coins()[:200, :300]
    for number, x in enumerate((0, 90, 180)):
        tile = from_array(scene[:, x : x + 120], 0.5, stage_um=(7.0, 0.5 * x + 3))
        save_image(tile, tmp_path / f"{number}.tif")
    tiles = tiles_in(tmp_path)
    np.testing.assert_allclose(nominal_layout(tiles).positions, [[0, 0], [0, 90], [0, 180]])
    mosaic = stitch_tiles(tiles)
    np.testing.assert_array_equal(mosaic.image, scene)
