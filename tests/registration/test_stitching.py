import json
import warnings

import numpy as np
import pytest
import tifffile

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.registration import (
    draw_links,
    read_stage_positions,
    read_tile_configuration,
    stitch,
    write_tile_configuration,
)
from dlm_fiji.registration.layout import grid_cells

SIDE, STEP = 160, 128


def scan(cut, rows, cols, seed=0, jitter=4.0, noise=1.5, rotation=0.0):
    """Tiles of a scan with a sub-pixel stage error, and their true positions."""
    rng = np.random.default_rng(seed)
    angle = np.deg2rad(rotation)
    nominal = np.array([(r * STEP, c * STEP) for r in range(rows) for c in range(cols)], dtype=float)
    true = nominal @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    true += rng.uniform(-jitter, jitter, true.shape)
    tiles = [cut(20 + y, 20 + x, SIDE, SIDE) + rng.normal(size=(SIDE, SIDE)) * noise for y, x in true]
    return np.clip(np.rint(np.array(tiles) * 200), 0, 65535).astype(np.uint16), true


def errors(mosaic, true, which=slice(None)):
    off = mosaic.positions - true
    off = off - np.median(off[which], axis=0)
    return np.linalg.norm(off, axis=1)


def test_sub_pixel_positions(cut):
    tiles, true = scan(cut, 3, 4, rotation=0.2)
    mosaic = stitch(tiles, grid=(3, 4), overlap=0.2)
    assert errors(mosaic, true).max() < 0.03
    assert not mosaic.placed_by_stage.any()
    assert len(mosaic.links) == 17
    assert all(link.used and link.correlation > 0.9 and link.residual < 0.05 for link in mosaic.links)


def test_the_fused_image_lies_where_the_scene_lies(cut):
    tiles, true = scan(cut, 2, 3, noise=0)
    mosaic = stitch(tiles, grid=(2, 3), overlap=0.2)
    shift = true[0] - mosaic.positions[0]
    h, w = mosaic.shape
    y, x = mosaic.origin + shift + 20
    truth = cut(y, x, h, w) * 200
    inside = (slice(20, -20), slice(20, -20))
    assert np.abs(mosaic.image.astype(float) - truth)[inside].mean() < 15  # of a spread of 6000
    part = mosaic.region(slice(50, 180), slice(33, 200))
    np.testing.assert_array_equal(part, mosaic.image[50:180, 33:200])


@pytest.mark.parametrize("order", ["row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"])
@pytest.mark.parametrize("start", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_scan_orders(order, start):
    cells = grid_cells((3, 4), order, start)
    assert sorted(map(tuple, cells)) == [(r, c) for r in range(3) for c in range(4)]
    corner = (2 if start.startswith("bottom") else 0, 3 if start.endswith("right") else 0)
    assert tuple(cells[0]) == corner
    steps = np.abs(np.diff(cells, axis=0)).sum(axis=1)
    assert (steps == 1).all() == order.startswith("snake")
    first = np.abs(cells[1] - cells[0])
    assert tuple(first) == ((1, 0) if "column" in order else (0, 1))


def test_a_snake_from_the_bottom_right_is_stitched(cut):
    tiles, true = scan(cut, 3, 3)
    cells = grid_cells((3, 3), "snake-by-columns", "bottom-right")
    index = cells[:, 0] * 3 + cells[:, 1]
    mosaic = stitch(tiles[index], grid=(3, 3), overlap=0.2, order="snake-by-columns", start="bottom-right")
    assert errors(mosaic, true[index]).max() < 0.03


def test_positions_and_unknown_order_give_the_same_answer(cut):
    tiles, true = scan(cut, 3, 3)
    rng = np.random.default_rng(5)
    by_position = stitch(tiles, positions=true + rng.uniform(-5, 5, true.shape))
    assert errors(by_position, true).max() < 0.03
    shuffled = rng.permutation(9)
    unknown = stitch(tiles[shuffled], order="unknown")
    assert errors(unknown, true[shuffled]).max() < 0.03


def test_a_stage_that_slipped_is_followed(cut):
    tiles, true = scan(cut, 2, 3)
    slipped = true.copy()
    slipped[[2, 5]] -= (0, 45)
    tiles[2], tiles[5] = (cut(20 + y, 20 + x, SIDE, SIDE) * 200 for y, x in slipped[[2, 5]])
    mosaic = stitch(tiles, grid=(2, 3), overlap=0.2)
    assert errors(mosaic, slipped).max() < 0.05
    assert not mosaic.placed_by_stage.any()


@pytest.mark.parametrize("filling", [0, 20000, 65535])
def test_blank_tiles_are_placed_by_the_stage_and_named(cut, filling):
    tiles, true = scan(cut, 3, 4, rotation=0.5, jitter=1.0)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(SIDE, SIDE)) * 300 if filling == 20000 else 0
    tiles[0] = tiles[7] = np.clip(filling + noise, 0, 65535)
    mosaic = stitch(tiles, grid=(3, 4), overlap=0.2)
    blank = np.isin(np.arange(12), [0, 7])
    np.testing.assert_array_equal(mosaic.placed_by_stage, blank)
    assert mosaic.stage_tiles == ["tile 0", "tile 7"]
    off = errors(mosaic, true, ~blank)
    assert off[~blank].max() < 0.03
    assert off[blank].max() < 2.5  # the rotation is known, the stage's own error of 1 px is not
    assert np.isfinite(mosaic.image).all()
    dropped = [link for link in mosaic.links if {link.i, link.j} & {0, 7}]
    assert dropped
    assert all(not link.used and link.reason for link in dropped)


def test_a_wrong_link_is_dropped_and_does_not_bend_the_rest(cut):
    tiles, true = scan(cut, 3, 3)
    # the overlap of tiles 1 and 4 shows something else, 9 px away from where it should: dirt that moved with
    # the stage
    dirt = cut(400, 500, 32, SIDE) * 200
    tiles[1][-32:] = dirt
    tiles[4][:32, 9:] = dirt[:, :-9]
    mosaic = stitch(tiles, grid=(3, 3), overlap=0.2)
    assert errors(mosaic, true).max() < 1.0  # the dirt covers a part of the honest overlaps too
    link = next(link for link in mosaic.links if (link.i, link.j) == (1, 4))
    assert not link.used
    assert link.residual > 2


def test_vignetting_is_estimated_and_divided_out(cut):
    tiles, true = scan(cut, 3, 4)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    shade = 1 - 0.5 * (y**2 + x**2)
    shaded = np.rint(tiles * shade).astype(np.uint16)
    mosaic = stitch(shaded, grid=(3, 4), overlap=0.2, flat_field=shade / shade.mean())
    plain = stitch(tiles, grid=(3, 4), overlap=0.2)
    assert errors(mosaic, true).max() < 0.03
    inside = (slice(30, -30), slice(30, -30))
    assert mosaic.shape == plain.shape
    covered = plain.image[inside] > 0
    ratio = mosaic.image[inside][covered] / plain.image[inside][covered]
    assert ratio.std() < 0.005


def test_colour_tiles_and_a_reference_channel(cut):
    tiles, true = scan(cut, 2, 2)
    colour = np.stack([tiles, np.full_like(tiles, 1000), 65535 - tiles], axis=-1)
    for channel in (None, 0, 2):
        mosaic = stitch(colour, grid=(2, 2), overlap=0.2, channel=channel)
        assert errors(mosaic, true).max() < 0.03
    assert mosaic.image.shape[2] == 3
    assert mosaic.image.dtype == np.uint16
    blind = stitch(colour, grid=(2, 2), overlap=0.2, channel=1)
    assert blind.placed_by_stage.all()


def test_each_channel_by_its_own(cut):
    """Two channels scanned one after the other: the stage errs anew, and each channel keeps its own positions."""
    (first, true), (second, again) = scan(cut, 2, 3), scan(cut, 2, 3, seed=1)
    blank = np.full_like(first, 1000)
    colour = np.stack([first, second, blank], axis=-1)
    mosaic = stitch(colour, grid=(2, 3), overlap=0.2, channel=0, channels="each")
    a, b, c = mosaic.channels
    assert errors(a, true).max() < 0.03
    assert errors(b, again).max() < 0.03
    assert np.abs(np.median(a.positions - b.positions, axis=0)).max() < 1e-9
    np.testing.assert_array_equal(c.positions, mosaic.positions)
    assert mosaic.summary()["channels_apart_px"][1] > 1
    assert mosaic.image.shape == mosaic.shape
    part = mosaic.image[: b.shape[0] - 20, : b.shape[1] - 20, 1]
    offset = b.origin - mosaic.origin
    own = b.image[: part.shape[0] - offset[0], : part.shape[1] - offset[1]]
    np.testing.assert_array_equal(part[offset[0] :, offset[1] :], own)
    assert stitch(first, grid=(2, 3), overlap=0.2, channels="each").channels == []


@pytest.mark.parametrize("fusion", ["linear", "average", "maximum", "none"])
def test_fusion_of_equal_tiles_is_the_tile(fusion):
    tiles = np.full((4, 40, 40), 77, np.uint8)
    mosaic = stitch(tiles, grid=(2, 2), overlap=0.25, fusion=fusion)
    assert mosaic.placed_by_stage.all()
    assert (mosaic.image == 77).all()


def test_files_are_read_and_the_mosaic_is_written_whole(cut, tmp_path):
    tiles, true = scan(cut, 2, 2)
    paths = []
    for k, tile in enumerate(tiles):
        paths.append(tmp_path / f"tile {k}.tif")
        tifffile.imwrite(paths[-1], tile)
    mosaic = stitch(paths, grid=(2, 2), overlap=0.2)
    assert errors(mosaic, true).max() < 0.03
    written = mosaic.save(tmp_path / "mosaic.ome.tif", pixel_um=0.325, stripe=100)
    np.testing.assert_array_equal(tifffile.imread(written), mosaic.image)
    layout = mosaic.write_positions(tmp_path / "TileConfiguration.registered.txt")
    names, positions = read_tile_configuration(layout)
    assert names == paths
    np.testing.assert_array_equal(positions, mosaic.positions)
    again = stitch(names, positions=positions)
    np.testing.assert_allclose(again.positions, mosaic.positions, atol=0.02)
    picture = draw_links(mosaic, side=200)
    assert picture.dtype == np.uint8
    assert max(picture.shape) == 200


def test_stage_positions_from_ome_metadata(tmp_path):
    path = tmp_path / "tile.ome.tif"
    metadata = {
        "axes": "YX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.25,
        "Plane": {"PositionX": [0.1], "PositionXUnit": ["mm"], "PositionY": [30.0], "PositionYUnit": ["µm"]},
    }
    tifffile.imwrite(path, np.zeros((20, 20), np.uint8), ome=True, metadata=metadata)
    np.testing.assert_allclose(read_stage_positions([path]), [[120.0, 200.0]])
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.zeros((20, 20), np.uint8))
    with pytest.raises(InputError, match=r"plain\.tif"):
        read_stage_positions([plain])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"grid": (2, 3)}, "holds 6 tiles, but there are 4"),
        ({}, "needs the grid"),
        ({"grid": (2, 2), "overlap": 0.0}, "overlap is a fraction"),
        ({"grid": (2, 2), "order": "spiral"}, "'spiral' is unknown"),
        ({"positions": np.arange(8).reshape(4, 2) * 500.0}, "No two of the 4 tiles"),
        ({"positions": np.zeros((3, 2))}, "positions of shape"),
        ({"grid": (2, 2), "flat_field": np.ones((10, 10))}, "flat field has shape"),
        ({"grid": (2, 2), "flat_field": np.zeros((40, 40))}, "above zero"),
        ({"grid": (2, 2), "channel": 5}, None),
    ],
)
def test_bad_layouts_are_refused_in_a_sentence(arguments, words):
    tiles = np.random.default_rng(0).integers(0, 255, (4, 40, 40), dtype=np.uint8)
    if words is None:
        stitch(tiles, **arguments)  # grey tiles have one channel; the setting asks for nothing else
        return
    with pytest.raises(InputError, match=words):
        stitch(tiles, **arguments)


def test_unequal_and_missing_tiles_are_named(tmp_path):
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 255, (40, 40), dtype=np.uint8) for _ in range(4)]
    with pytest.raises(InputError, match="tile 2 has shape"):
        stitch([*tiles[:2], tiles[2][:30], tiles[3]], grid=(2, 2))
    with pytest.raises(InputError, match="tile 3 is uint16"):
        stitch([*tiles[:3], tiles[3].astype(np.uint16)], grid=(2, 2))
    with pytest.raises(InputError, match=r"nothing\.tif does not exist"):
        stitch([tmp_path / "nothing.tif"], grid=(1, 1))
    with pytest.raises(InputError, match="no tiles"):
        stitch([], grid=(1, 1))
    with pytest.raises(ConfigurationError, match="did you mean 'overlap'"):
        stitch(tiles, grid=(2, 2), overlapp=0.1)


def test_one_tile_is_its_own_mosaic():
    tile = np.random.default_rng(0).integers(0, 255, (1, 40, 50), dtype=np.uint8)
    mosaic = stitch(tile, grid=(1, 1))
    np.testing.assert_array_equal(mosaic.image, tile[0])
    assert not mosaic.placed_by_stage.any()


def test_non_finite_pixels_do_not_spread(cut):
    tiles, true = scan(cut, 2, 2)
    tiles = tiles.astype(np.float32)
    tiles[1, 30:33, 100:140] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mosaic = stitch(tiles, grid=(2, 2), overlap=0.2)
    assert np.isfinite(mosaic.positions).all()
    assert errors(mosaic, true).max() < 0.1


def test_layout_files(tmp_path, shared):
    path = tmp_path / "TileConfiguration.txt"
    write_tile_configuration(path, ["a b.tif", "c.tif"], np.array([[1.5, -2.25], [3, 1e-7]]))
    names, positions = read_tile_configuration(path)
    assert [name.name for name in names] == ["a b.tif", "c.tif"]
    np.testing.assert_array_equal(positions, [[1.5, -2.25], [3, 1e-7]])
    path.write_text("dim = 2\nnonsense\n")
    with pytest.raises(InputError, match="Line 2"):
        read_tile_configuration(path)
    names, positions = read_tile_configuration(shared / "golden/tiles_coins/TileConfiguration.registered.txt")
    assert positions[1] == pytest.approx([5.2818836270363265, 123.43623274592736])


def test_nearer_the_truth_than_fiji(shared):
    """golden/tiles_coins: Fiji's plugin keeps a wrong diagonal link and ends 0.83 px off."""
    folder = shared / "golden/tiles_coins"
    truth = json.loads((folder / "truth.json").read_text())["tiles"]
    tiles = np.array([tifffile.imread(folder / tile["tile"]) for tile in truth])
    mosaic = stitch(tiles, grid=(3, 3), overlap=0.2)
    true = np.array([(tile["y"], tile["x"]) for tile in truth])
    assert np.abs(mosaic.positions - true).max() < 0.03
    names, registered = read_tile_configuration(folder / "TileConfiguration.registered.txt")
    assert len(names) == 9
    assert np.abs(registered - true).max() > 0.5


@pytest.mark.slow
def test_a_real_scan_with_irregular_steps(shared):
    """stitching/he_3x3: steps of 600 to 790 px, a distorting lens, a stage that moves during the exposure."""
    files = sorted((shared / "data/stitching/he_3x3").glob("*.jpg"))
    mosaic = stitch(files, grid=(3, 3), overlap=0.55, order="snake-by-rows")
    assert len(mosaic.links) == 12
    assert all(link.used for link in mosaic.links)
    assert not mosaic.placed_by_stage.any()
    shift = {(link.i, link.j): np.array(link.shift) for link in mosaic.links}
    shift |= {(j, i): -s for (i, j), s in shift.items()}
    for loop in ((0, 1, 4, 5), (1, 2, 3, 4), (5, 4, 7, 6), (4, 3, 8, 7)):
        closure = sum(shift[loop[k], loop[(k + 1) % 4]] for k in range(4))
        assert np.hypot(*closure) < 0.5
    assert mosaic.lens.largest > 3


def test_tiles_placed_by_the_stage_carry_their_number_in_the_picture(cut, monkeypatch):
    from dlm_fiji.registration import link_picture

    tiles, _ = scan(cut, 1, 4)
    tiles[3] = 1000
    written = []
    monkeypatch.setattr(link_picture.cv2, "putText", lambda canvas, text, *rest: written.append(text))
    tiles = np.concatenate([tiles[3:], tiles[:3]])  # the blank tile is the first
    draw_links(stitch(tiles, grid=(1, 4), overlap=0.2), side=300)
    assert written == ["0"]
