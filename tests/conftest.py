"""What several test folders share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def state_of_no_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered between runs lies in a folder of its own: no test reads or writes the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLM_FIJI_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real micrographs beside the checkout; the test skips where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real micrographs (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def filaments() -> Callable[..., np.ndarray]:
    """Random arcs drawn into an image: how many lie at each pixel."""

    def draw(rng: np.random.Generator, side: int, count: int, reach: float, radius: float = np.inf) -> np.ndarray:
        image = np.zeros((side, side))
        for _ in range(count):
            y, x = rng.uniform(0, side, 2)
            angle = rng.uniform(0, np.pi)
            for step in np.arange(-reach, reach, 0.5):
                way = angle + step / radius
                row, column = int(y + step * np.sin(way)), int(x + step * np.cos(way))
                if 0 <= row < side and 0 <= column < side:
                    image[row, column] += 1
        return image

    return draw
