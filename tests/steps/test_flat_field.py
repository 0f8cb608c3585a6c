from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from dlm_fiji import fiji
from dlm_fiji.errors import DlmWarning, SetupError
from dlm_fiji.micrograph import from_array
from dlm_fiji.pipeline.configuration import AcquireSettings
from dlm_fiji.pipeline.demo import _illumination
from dlm_fiji.steps.flat_field import correct_illumination


def tiles(light: np.ndarray) -> list[xr.DataArray]:
    """Nine crops of one texture, unevenly lit."""
    rng = np.random.default_rng(0)
    texture = 120 + 40 * rng.random((400, 400, 3))
    cuts = [texture[y : y + 80, x : x + 80] for y in (0, 100, 300) for x in (0, 150, 310)]
    return [from_array(np.rint(cut * light[..., None]).astype(np.uint8), 0.6) for cut in cuts]


def test_uneven_light_is_evened_by_imagej() -> None:
    light = _illumination((80, 80), AcquireSettings().vignetting)
    result = correct_illumination(tiles(light))
    assert "ImageJ" in result.engine
    before, after = (np.mean([t.values.mean(0) for t in images], axis=0) for images in (tiles(light), result.tiles))
    corners = [(slice(0, 12), slice(0, 12)), (slice(-12, None), slice(-12, None))]
    centre = (slice(34, 46), slice(34, 46))

    def unevenness(image: np.ndarray) -> float:
        return max(abs(float(image[c].mean() / image[centre].mean()) - 1) for c in corners)

    assert unevenness(before) > 0.15
    assert unevenness(after) < 0.03


def test_without_imagej_numpy_divides_the_same_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    light = _illumination((80, 80), AcquireSettings().vignetting)
    by_macro = correct_illumination(tiles(light))

    def unreachable() -> None:
        raise SetupError("Maven Central did not answer.")

    monkeypatch.setattr(fiji, "start", unreachable)
    with pytest.warns(DlmWarning, match="Maven Central did not answer"):
        by_numpy = correct_illumination(tiles(light))
    assert by_numpy.engine == "native"
    for a, b in zip(by_macro.tiles, by_numpy.tiles, strict=True):
        assert np.abs(a.values.astype(int) - b.values).max() <= 1


def test_a_macro_of_the_users_is_never_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def unreachable() -> None:
        raise SetupError("Maven Central did not answer.")

    monkeypatch.setattr(fiji, "start", unreachable)
    with pytest.raises(SetupError):
        correct_illumination(tiles(np.ones((80, 80))), tmp_path / "mine.ijm")
