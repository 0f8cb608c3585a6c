"""The plugins called directly give the numbers that the plugins themselves gave; the refusals need no plugin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.errors import ConfigurationError, InputError, SetupError
from dlm_fiji.fiji import deconvolution, edf, nanoj, plugins_available, psf_generator, stitching
from dlm_fiji.fiji.runtime import ImageJSettings
from dlm_fiji.registration import ElasticSettings


def needs(key):
    """Skip where the plugin of this key is not installed."""
    there = plugins_available()[key]
    if not there:
        pytest.skip(f"{there.name} is not installed")


@pytest.mark.fiji
class TestGridCollectionStitching:
    @pytest.fixture
    def tiles(self, golden):
        return sorted(golden("tiles_coins").glob("tile_0*.tif"))

    def test_positions_links_and_pixels_are_the_plugins(self, imagej, tiles, golden):
        import tifffile

        mosaic = stitching.stitch(tiles, grid=(3, 3), overlap=0.2, fuse=True)
        registered = json.loads(golden("stitching_fiji.json").read_text())["coins_posfile"]["registered"]
        expected = np.array([registered[tile.name] for tile in tiles])[:, ::-1]
        np.testing.assert_allclose(mosaic.positions, expected, atol=1e-6)
        fused = tifffile.imread(golden("tiles_coins") / "fused_grid_display_subpix.tif")
        assert mosaic.image.dtype == fused.dtype
        assert np.abs(mosaic.image.astype(int) - fused).max() <= 1
        assert len(mosaic.links) == 20
        assert all(0.9 < link.correlation <= 1 for link in mosaic.links)
        assert "3." in mosaic.engine

    def test_other_scan_orders_and_own_fusion(self, imagej, tiles):
        straight = stitching.stitch(tiles, grid=(3, 3), overlap=0.2)
        snake = [tiles[k] for k in (0, 1, 2, 5, 4, 3, 6, 7, 8)]
        turned = stitching.stitch(snake, grid=(3, 3), overlap=0.2, order="snake-by-rows", fusion="average")
        np.testing.assert_allclose(turned.positions[[0, 1, 2, 5, 4, 3, 6, 7, 8]], straight.positions, atol=0.05)
        assert straight.image.shape == turned.image.shape

    def test_colour_tiles(self, imagej, tiles):
        import tifffile

        grey = np.stack([tifffile.imread(tile) for tile in tiles])
        eight = (grey / grey.max() * 255).astype(np.uint8)
        colour = np.stack([eight, 255 - eight, eight // 2], axis=-1)
        mosaic = stitching.stitch(colour, grid=(3, 3), overlap=0.2, fuse=True)
        assert mosaic.image.shape[2] == 3
        assert mosaic.image.dtype == np.uint8
        np.testing.assert_allclose(
            mosaic.positions, stitching.stitch(eight, grid=(3, 3), overlap=0.2).positions, atol=1
        )


@pytest.mark.plugins
class TestPsfGenerator:
    @pytest.mark.parametrize("wavelength", [630, 532, 450])
    def test_born_wolf_is_the_plugins(self, imagej, golden, wavelength):
        needs("psf_generator")
        reference = np.load(golden("psf_generator.npz"))[f"bw_{wavelength}_best_33x33x21"]
        psf = psf_generator.born_wolf(0.4, wavelength / 1000, 0.325, (21, 33, 33), 1.0, 0.5)
        np.testing.assert_allclose(psf / psf.max(), reference, atol=1e-6)
        plane = psf_generator.born_wolf(0.4, wavelength / 1000, 0.325, (33, 33))
        np.testing.assert_allclose(plane / plane.max(), reference[10], atol=1e-6)
        assert plane.sum() == pytest.approx(1)

    def test_gibson_lanni_is_the_plugins(self, imagej, golden):
        needs("psf_generator")
        name = "gl_NA1.4_610nm_100nm_250nm_defaults_ni1.5_ns1.33_ti150um_zp2000nm"
        reference = np.load(golden("psf_generator.npz"))[name]
        psf = psf_generator.gibson_lanni(1.4, 0.61, 0.1, (33, 33, 33), 0.25, accuracy="good")
        np.testing.assert_allclose(psf / psf.max(), reference / reference.max(), atol=1e-6)

    def test_richards_wolf_narrows_with_the_aperture(self, imagej):
        needs("psf_generator")
        wide, narrow = (psf_generator.richards_wolf(na, 0.6, 0.05, (33, 33)) for na in (0.6, 1.3))
        assert narrow.max() > 2 * wide.max()


@pytest.mark.plugins
def test_deconvolutionlab2_is_the_plugins_and_leaves_no_file(imagej, golden):
    needs("deconvolutionlab2")
    before = {folder: set(folder.iterdir()) for folder in (Path.cwd(), Path.home())}
    reference = np.load(golden("richardson_lucy.npz"))
    for count in (1, 10, 50):
        result = deconvolution.richardson_lucy(reference["image"], reference["psf"], count)
        # The PSF is odd: handed over as it is, the plugin would be wrong by up to 99 %.
        np.testing.assert_allclose(result, reference[f"dl2_rl_{count}_psf34"], rtol=1e-5, atol=1e-2)
    for folder, names in before.items():
        assert {path for path in folder.iterdir() if path.suffix == ".tif"} <= names


@pytest.mark.fiji
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ops_10", {}),
        ("ops_noncirc_10", {"boundary": "weights"}),
        ("ops_accel_10", {"accelerate": True}),
        ("ops_tv0.002_10", {"tv": 0.002}),
    ],
)
def test_ops_is_the_plugins(imagej, golden, name, options):
    reference = np.load(golden("richardson_lucy.npz"))
    result = deconvolution.richardson_lucy(reference["image"], reference["psf"], 10, plugin="ops", **options)
    np.testing.assert_allclose(result, reference[name], rtol=1e-4, atol=1.0)


@pytest.mark.plugins
def test_nanoj_is_the_plugins_and_the_papers_schedule_beats_one_run(imagej, golden):
    needs("nanoj")
    pair = np.load(golden("nanoj_elastic.npz"))
    moving, fixed = pair["mov"], pair["ref"]
    for blocks in (1, 3, 5):
        warp = nanoj.register_blocks(moving, fixed, blocks, max_shift=10)
        mask = pair[f"mask_b{blocks}_m10"]
        np.testing.assert_allclose(warp.displacement[1], mask[:, :256], atol=1e-5)
        np.testing.assert_allclose(warp.displacement[0], mask[:, 256:], atol=1e-5)

    def error(warp):
        # mov(x) = image(x + d), so the warp that undoes it is about -d
        return np.hypot(warp.displacement[0] + pair["true_dy"], warp.displacement[1] + pair["true_dx"]).mean()

    iterated = nanoj.register_elastic(moving, fixed, ElasticSettings.paper("002", last_block=40))
    assert iterated.record["correlation_after"] > 0.99
    assert error(iterated) < 0.5 * error(nanoj.register_blocks(moving, fixed, 5))
    with pytest.raises(ConfigurationError, match="no schedule 'fit'"):
        nanoj.register_elastic(moving, fixed, schedule="fit")


@pytest.mark.plugins
def test_nanoj_drift_undoes_a_known_shift(imagej):
    from scipy.ndimage import shift

    from dlm_fiji.registration import drift

    needs("nanoj")
    from skimage import data

    scene = data.coins()[:160, :200].astype(np.float32)
    moved = shift(scene, (3.0, -5.0), order=3, mode="reflect")
    for options in ({}, {"max_shift": 12}):
        found = nanoj.drift(scene, moved, **options)
        np.testing.assert_allclose(found.shift, (3.0, -5.0), atol=0.05)
        np.testing.assert_allclose(found.shift, drift(scene, moved).shift, atol=0.1)
        assert found.correlation > 0.999
        np.testing.assert_allclose(found.apply(moved)[20:-20, 20:-20], scene[20:-20, 20:-20], atol=8)


@pytest.mark.plugins
@pytest.mark.slow
def test_squirrel_finds_the_optimum_that_the_native_error_map_finds(imagej):
    from scipy.ndimage import gaussian_filter

    from dlm_fiji.fiji import squirrel
    from dlm_fiji.measures import error_map

    needs("squirrel")
    rng = np.random.default_rng(11)
    fine = np.zeros((32, 32))
    fine[tuple(rng.integers(3, 29, (2, 25)))] = rng.uniform(500, 2000, 25)
    fine = gaussian_filter(fine, 1.0).astype(np.float32)
    coarse = (1.7 * gaussian_filter(fine, 3.0) + 100).reshape(16, 2, 16, 2).mean((1, 3))
    coarse += rng.normal(0, 1, coarse.shape)
    plugin = squirrel.error_map(fine, coarse)
    native = error_map(fine, coarse.astype(np.float32), shift=plugin.shift, enlargement="plugin")
    assert plugin.objective == pytest.approx(native.objective, rel=1e-3)
    assert native.objective <= plugin.objective * (1 + 1e-6)
    assert plugin.rse == pytest.approx(native.rse, rel=0.02)
    assert plugin.rsp == pytest.approx(native.rsp, abs=0.005)
    assert plugin.map.shape == fine.shape


def test_squirrel_keeps_the_pixels_that_the_plugin_keeps():
    from dlm_fiji.fiji.squirrel import _kept

    assert _kept(0.0, 60, 5) == (0, 60)
    assert _kept(3.2, 60, 5) == (1, 60)
    assert _kept(-7.0, 60, 5) == (0, 58)


def focus_stack():
    """A tilted scene: column x is sharp in plane 3 x / width."""
    from scipy.ndimage import gaussian_filter
    from skimage import data

    scene = data.camera()[100:228, 100:260].astype(float)
    depth = np.broadcast_to(np.linspace(0, 3, 160), scene.shape)
    heights = np.linspace(0, 3, 13)
    planes = [
        sum(gaussian_filter(scene, 1e-3 + 1.2 * abs(k - h)) * (np.abs(depth - h) <= 0.125) for h in heights)
        for k in range(4)
    ]
    return np.stack(planes).clip(0, 255).astype(np.uint8), scene, depth


@pytest.mark.plugins
@pytest.mark.parametrize("method", ["variance", "complex-wavelets"])
def test_extended_depth_of_field_is_sharper_than_the_planes(imagej, method):
    needs("edf")
    stack, scene, depth = focus_stack()
    fused = edf.fuse_focus(stack, method=method)
    assert fused.image.dtype == np.uint8
    inner = (slice(8, -8), slice(8, -8))
    typical = np.mean([np.abs(plane.astype(float) - scene)[inner].mean() for plane in stack])
    error = np.abs(fused.image.astype(float) - scene)[inner].mean()
    assert error < (0.5 if method == "variance" else 0.9) * typical
    assert np.abs(fused.plane - depth)[inner].mean() < 1
    assert fused.plane.min() == 0
    assert fused.plane.max() == 3
    colour = edf.fuse_focus(np.stack([stack, 255 - stack, stack // 2], axis=-1), method="variance")
    assert colour.image.shape == (128, 160, 3)


def test_a_missing_plugin_is_named_before_anything_runs(monkeypatch):
    monkeypatch.delenv("DLM_FIJI_HOME", raising=False)
    monkeypatch.delenv("DLM_FIJI_PLUGINS", raising=False)
    from dlm_fiji.fiji.plugins import require

    for key, plugin in plugins_available(ImageJSettings()).items():
        with pytest.raises(SetupError) as caught:
            require(key, ImageJSettings())
        assert plugin.name in str(caught.value)
        assert "native" in str(caught.value)
        assert plugin.how_to_install in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"damping": 0.1}, "damping"),
        ({"background": 5.0}, "background"),
        ({"tv": 0.01}, "total variation"),
        ({"accelerate": True}, "acceleration"),
        ({"boundary": "mirror"}, "boundary"),
        ({"plugin": "ops", "boundary": "circular"}, "boundary"),
    ],
)
def test_what_a_plugin_does_not_have_is_refused(options, said):
    with pytest.raises(ConfigurationError, match=said):
        deconvolution.richardson_lucy(np.ones((16, 16)), np.ones((3, 3)), 5, **options)


def test_bad_input():
    ones = np.ones((16, 16), np.float32)
    with pytest.raises(InputError, match="larger"):
        deconvolution.richardson_lucy(ones, np.ones((17, 3)))
    with pytest.raises(InputError, match="negative"):
        deconvolution.richardson_lucy(-ones, np.ones((3, 3)))
    with pytest.raises(InputError, match="sum above zero"):
        deconvolution.richardson_lucy(ones, np.zeros((3, 3)))


def test_an_odd_psf_is_centred_for_the_plugin():
    psf = np.zeros((5, 6))
    psf[2, 3] = 1
    even = deconvolution.centred_even(psf)
    assert even.shape == (6, 6)
    assert even[3, 3] == 1
