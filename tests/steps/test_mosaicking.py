"""Tiles found in a folder or in one file, and stitched without a grid."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.registration import StitchSettings, nominal_layout
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


def test_positions_of_a_vendors_file_place_its_images(tmp_path):
    """Two channels, the stage's y axis upwards; each channel may have its own positions."""
    pytest.importorskip("nd2")
    write_nd2 = runpy.run_path(str(Path(__file__).parents[1] / "micrograph" / "vendor_files.py"))["write_nd2"]
    coins = data.coins()[:250, :250].astype(np.uint16)
    scene = np.stack([coins, 300 + 2 * coins])
    places = [(0, 0), (0, 100), (100, 100)]
    frames = np.stack([scene[None, :, y : y + 150, x : x + 150] for y, x in places])
    write_nd2(
        tmp_path / "a.nd2", frames, pixel_um=0.5, names=["a", "b"], wavelengths_nm=[461, 520], na=0.75,
        stage_um=[(900 - 0.5 * y, 0.5 * x) for y, x in places], step_um=1.0,
    )  # fmt: skip
    for channels in ("together", "each"):
        mosaic = stitch_tiles(tiles_in(tmp_path / "a.nd2"), settings=StitchSettings.of(channels=channels))
        assert mosaic.layout == "stage positions in the files, y reversed"
        assert mosaic.shape == (250, 250, 2)
        covered = mosaic.image[:150]
        assert np.abs(covered.astype(int) - np.moveaxis(scene, 0, -1)[:150]).max() <= 1
