"""Error maps against NanoJ-SQUIRREL's own numbers, and on images whose errors are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.measures import error_map

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
# The plugin registers first; recovered from its convolved images to 0.005 px.
SHIFTS = ((-0.7987, -0.4269), (-0.6140, -0.4605))


@pytest.fixture(scope="module")
def golden():
    folder = GOLDEN / "squirrel_input"
    if not folder.exists():
        pytest.skip("NanoJ-SQUIRREL's test pictures are not on this machine")
    import tifffile

    stack = tifffile.imread(folder / "super_resolution_stack.tif")
    with np.load(GOLDEN / "squirrel_maps.npz") as arrays:
        return stack, dict(arrays), json.loads((GOLDEN / "squirrel.json").read_text())["frames"]


@pytest.mark.parametrize("frame", [0, 1])
def test_plugins_parameters_give_the_plugins_numbers(golden, frame):
    from scipy.ndimage import shift

    stack, maps, frames = golden
    sr = shift(stack[frame].astype(float), SHIFTS[frame], order=1, mode="nearest")[:295, :295]
    reference, truth = maps["ref_cropped"], frames[frame]["optimum"]
    fixed = {"alpha": truth["alpha"], "beta": truth["beta"], "sigma": truth["sigma_ref_px"]}
    result = error_map(sr, reference, shift=None, enlargement="plugin", **fixed)
    # the stored maps are float16, a step of 1 to 2 at these counts
    assert np.abs(result.convolved - maps["convolved"][frame].astype(float)).max() < 1e-3 * 2388 + 0.5
    assert result.objective == pytest.approx(truth["objective_rmse"], rel=1e-3)
    assert result.rsp == pytest.approx(truth["RSP"], rel=1e-3)
    assert result.rse == pytest.approx(truth["RSE"], rel=3e-3)
    inner = (slice(10, -10), slice(10, -10))
    difference = np.abs(result.map - maps["error_map"][frame].astype(float))[inner]
    assert difference.mean() < 1e-3 * 2388

    fitted = error_map(sr, reference, shift=None)
    assert fitted.objective <= result.objective
    assert fitted.sigma == pytest.approx(truth["sigma_ref_px"], rel=0.03)


def made(m=4, sigma=1.5):
    """A fine image and what a coarse camera sees of it: gain 3, offset 100."""
    sr = data.camera()[100:292, 100:292].astype(float)
    seen = gaussian_filter(sr, sigma * m, mode="nearest", truncate=6)
    return sr, 3 * seen.reshape(192 // m, m, 192 // m, m).mean((1, 3)) + 100


def test_known_scaling_is_found():
    sr, reference = made()
    result = error_map(sr, reference, shift=None)
    assert result.alpha == pytest.approx(3, rel=0.01)
    assert result.beta == pytest.approx(100, abs=3)
    assert result.sigma == pytest.approx(1.5, rel=0.02)
    # truncation of the kernel at 3 int(σ) and top-left pixels are the definition's own error
    assert result.objective < 0.01 * reference.std()


def test_shift_is_found():
    sr, reference = made()
    moved = np.roll(sr, (3, -2), (0, 1))
    result = error_map(moved, reference)
    assert result.shift == pytest.approx((-3, 2), abs=0.5)
    assert result.objective < 0.5 * error_map(moved, reference, shift=None).objective


def test_an_invented_structure_lights_up():
    sr, reference = made()
    wrong = sr.copy()
    wrong[60:72, 100:112] += 400
    result = error_map(wrong, reference, shift=None)
    y, x = np.unravel_index(np.argmax(result.map), result.map.shape)
    assert 50 <= y <= 82
    assert 90 <= x <= 122
    assert result.rse > 2 * error_map(sr, reference, shift=None).rse


def test_equal_sizes_and_bad_sizes():
    sr, _ = made()
    assert error_map(gaussian_filter(sr, 1), gaussian_filter(sr, 3), shift=None).map.shape == sr.shape
    with pytest.raises(InputError, match="whole multiple"):
        error_map(sr, sr[:100, :100])
    with pytest.raises(InputError, match="one value"):
        error_map(np.ones((64, 64)), sr[:64, :64])
    with pytest.raises(InputError, match="NaN"):
        error_map(np.full((64, 64), np.nan), sr[:64, :64])
