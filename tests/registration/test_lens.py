import numpy as np
import pytest

from dlm_fiji.registration import stitch

SIDE, STEP, ROWS, COLS = 224, 112, 3, 4


def distortion(points, largest):
    """Pincushion about a point off the tile's centre, ``largest`` px in its corners."""
    away = (points - (SIDE * 0.48, SIDE * 0.53)) / (SIDE / 2)
    return largest / 2**1.5 * away * (away**2).sum(axis=-1, keepdims=True)


def scan(scene, largest, tilt, seed=0):
    """Distorted tiles, and where pixels (n, 2) of tile k truly lie."""
    rng = np.random.default_rng(seed)
    nominal = np.array([(r, c) for r in range(ROWS) for c in range(COLS)], float) * STEP
    corner = nominal + rng.uniform(-4, 4, nominal.shape) + 40
    linear = rng.normal(size=(len(corner), 2)) * tilt * 2 / SIDE  # rolling shutter: a shift that grows with the row

    def place(k, points):
        return corner[k] + points + distortion(points, largest) + (points[..., :1] - SIDE / 2) * linear[k]

    pixels = np.stack(np.mgrid[:SIDE, :SIDE], -1).astype(float)
    tiles = [scene(*np.moveaxis(place(k, pixels), -1, 0)) + rng.normal(size=(SIDE, SIDE)) for k in range(len(corner))]
    return np.clip(np.rint(np.array(tiles) * 200), 0, 65535).astype(np.uint16), place


def misplaced(mosaic, place, degree=1):
    """Distance in px of found from true places, after the best linear map, which no overlap can tell (nor, where each
    tile has a linear map of its own, one of degree 2); and where a found place truly lies.
    """
    grid = np.linspace(8, SIDE - 9, 7)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    found, true = [], []
    for k, corner in enumerate(mosaic.positions):
        bent = 0 if mosaic.lens is None else mosaic.lens.displacement(k, points)
        found.append(corner + points + bent)
        true.append(place(k, points))
    a, b = (np.concatenate(part) for part in (found, true))

    def terms(points):
        y, x = np.moveaxis(points, -1, 0) / 100
        return np.stack([y**i * x**j for i in range(degree + 1) for j in range(degree + 1 - i)], -1)

    fit = np.linalg.lstsq(terms(a), b, rcond=None)[0]
    return np.linalg.norm(terms(a) @ fit - b, axis=1), lambda points: terms(points) @ fit


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_a_known_distortion_is_recovered(scene, tilt):
    tiles, place = scan(scene, 3.0, tilt)
    plain = stitch(tiles, grid=(ROWS, COLS), overlap=0.5, lens="none")
    assert plain.lens is None
    assert misplaced(plain, place)[0].max() > 1
    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=0.5)
    off, _ = misplaced(mosaic, place, degree=1 if tilt == 0 else 2)
    assert np.sqrt((off**2).mean()) < 0.07
    assert off.max() < 0.2
    record = mosaic.summary()
    assert record["links_used"] == len(mosaic.links) == 17
    assert record["residual_max_px"] < 0.1
    assert record["lens"]["local_deviation_after_px"] < 0.05 < 0.2 < record["lens"]["local_deviation_before_px"]
    assert 0.5 < record["lens"]["largest_px"] < 6


def test_the_mosaic_is_fused_without_the_distortion(scene):
    tiles, place = scan(scene, 3.0, 1.0)
    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=0.5)
    _, truly = misplaced(mosaic, place, degree=2)
    height, width = mosaic.shape
    y, x = np.mgrid[20 : height - 20, 20 : width - 20]
    at = truly(np.stack([y + mosaic.origin[0], x + mosaic.origin[1]], -1))
    truth = scene(at[..., 0], at[..., 1]) * 200
    bent = np.abs(mosaic.image[20:-20, 20:-20] - truth).mean()
    mosaic.lens = None
    straight = np.abs(mosaic.region()[20:-20, 20:-20] - truth).mean()
    assert bent < 120  # noise alone is 160 before tiles are averaged
    assert straight > 2 * bent


@pytest.mark.parametrize("fusion", ["linear", "average", "maximum", "none"])
@pytest.mark.parametrize("interpolation", ["cubic", "nearest"])
def test_any_region_is_the_same_part_of_the_whole(scene, fusion, interpolation):
    tiles, _ = scan(scene, 3.0, 0.0)
    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=0.5, fusion=fusion, interpolation=interpolation)
    assert mosaic.lens is not None
    part = mosaic.region(slice(50, 180), slice(133, 300)).astype(float)
    # the distortion is interpolated from nodes that lie elsewhere
    assert np.abs(part - mosaic.image[50:180, 133:300]).mean() < 20
    assert (mosaic.image[20:-20, 20:-20] == 0).mean() < 1e-4  # the scene has a few black pixels


def test_straight_tiles_are_left_alone(scene):
    tiles, place = scan(scene, 0.0, 0.0)
    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=0.5)
    assert mosaic.lens is None
    assert mosaic.summary()["lens"] is None
    assert mosaic.local_deviation < 0.1
    asked = stitch(tiles, grid=(ROWS, COLS), overlap=0.5, lens="fit")
    assert asked.lens.largest < 0.1
    assert misplaced(asked, place)[0].max() < 0.05


def test_a_specimen_that_moves_is_no_lens(scene):
    """Local shifts that no lens explains are reported and change nothing."""
    tiles, _ = scan(scene, 0.0, 0.0)
    rng = np.random.default_rng(4)
    pixels = np.mgrid[:SIDE, :SIDE].astype(float)
    for k in range(len(tiles)):
        phase = rng.uniform(0, 6, 4)
        sway = [3 * np.sin(pixels[0] / 15 + phase[a]) * np.sin(pixels[1] / 15 + phase[a + 2]) for a in (0, 1)]
        corner = 40 + STEP * np.array(divmod(k, COLS))
        tiles[k] = scene(corner[0] + pixels[0] + sway[0], corner[1] + pixels[1] + sway[1]) * 200
    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=0.5)
    assert mosaic.lens is None
    assert mosaic.local_deviation > 0.3
