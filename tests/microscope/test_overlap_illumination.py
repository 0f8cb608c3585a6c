from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.microscope import flat_field_from_overlaps


def scan(light: np.ndarray, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Nine overlapping tiles of a specimen whose content is far from even."""
    rng = np.random.default_rng(1)
    specimen = data.immunohistochemistry().astype(float) + 5
    side = light.shape[0]
    corners = np.array([(r * side * 3 // 4, c * side * 3 // 4) for r in range(3) for c in range(3)])
    corners = corners + rng.integers(-2, 3, corners.shape) + 3
    tiles = np.stack([specimen[y : y + side, x : x + side] for y, x in corners]) * light[None, ..., None]
    return tiles * (1 + noise * rng.normal(size=tiles.shape)), corners.astype(float)


def vignette(side: int = 120) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    light = np.exp(-0.12 * ((y - 0.2) ** 2 + (x + 0.1) ** 2) + 0.03 * x)
    return light / light.mean()


def test_a_known_illumination_comes_back_from_nine_tiles() -> None:
    light = vignette()
    flat = flat_field_from_overlaps(*scan(light))
    assert flat.shape == (120, 120, 3)
    np.testing.assert_allclose(flat.mean((0, 1)), 1, atol=1e-5)
    assert np.abs(flat / light[..., None] - 1).max() < 0.02


def test_even_light_stays_even() -> None:
    flat = flat_field_from_overlaps(*scan(np.ones((120, 120))))
    assert np.abs(flat - 1).max() < 0.015


def test_one_displaced_tile_does_little_harm() -> None:
    light = vignette()
    tiles, positions = scan(light)
    positions[4] += (9, -7)
    flat = flat_field_from_overlaps(tiles, positions)
    assert np.abs(flat / light[..., None] - 1).max() < 0.06


def test_tiles_apart_are_refused() -> None:
    tiles, positions = scan(np.ones((120, 120)))
    with pytest.raises(InputError, match="overlap"):
        flat_field_from_overlaps(tiles, positions * 10)
