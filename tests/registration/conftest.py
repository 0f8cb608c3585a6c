"""Scenes that can be read anywhere between their pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

SHARED = Path(__file__).resolve().parents[3] / "shared"

Scene = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real micrographs and reference outputs, which the project does not carry."""
    if not SHARED.is_dir():
        pytest.skip("the shared reference data are not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A 700 x 800 px field with structure of several sizes, values about 20 … 230, sampled by a quintic
    spline.
    """
    rng = np.random.default_rng(3)
    field = sum(
        ndimage.gaussian_filter(rng.normal(size=(700, 800)), s) * s * w
        for s, w in ((2.0, 1.0), (5.0, 1.0), (15.0, 1.0))
    )
    field = 125 + 30 * (field - field.mean()) / field.std()
    coefficients = ndimage.spline_filter(field, 5)

    def read(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        at = np.broadcast_arrays(rows, cols)
        return ndimage.map_coordinates(coefficients, at, order=5, prefilter=False, mode="mirror")

    return read


@pytest.fixture(scope="session")
def cut(scene: Scene) -> Callable[..., np.ndarray]:
    """cut(y, x, h, w): the part of the scene whose first pixel lies at (y, x), any fraction of a pixel."""

    def part(y: float, x: float, height: int, width: int) -> np.ndarray:
        return scene(y + np.arange(height)[:, None] * 1.0, x + np.arange(width)[None, :] * 1.0)

    return part
