"""A label of which place, rotation and scale are known has to come back onto the mosaic's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.registration.sampling import reduce_bicubic
from dlm_fiji.steps.pairing import find_label, pair_with_label

SCALE = 2.5


@pytest.fixture(scope="module")
def specimen() -> np.ndarray:
    return data.immunohistochemistry()


@pytest.fixture(scope="module")
def mosaic(specimen: np.ndarray) -> np.ndarray:
    reduced = reduce_bicubic(specimen[:510, :510].astype(np.float32), SCALE)
    return np.clip(np.rint(reduced), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_the_label_comes_back_onto_the_mosaic_grid(specimen: np.ndarray, mosaic: np.ndarray, angle: float) -> None:
    y, x, side = 143, 88, 260
    turned = ndimage.rotate(specimen, angle, axes=(0, 1), reshape=False, order=3) if angle else specimen
    found = find_label(mosaic, turned[y : y + side, x : x + side], "label", SCALE)
    pair = pair_with_label(mosaic, turned[y : y + side, x : x + side], found, SCALE)
    y0, x0, y1, x1 = found.rectangle
    assert (y0 % 2, x0 % 2, (y1 - y0) % 2, (x1 - x0) % 2) == (0, 0, 0, 0)
    assert pair.hr.shape[0] == 2.5 * pair.lr.shape[0]
    truth = specimen[round(y0 * SCALE) : round(y1 * SCALE), round(x0 * SCALE) : round(x1 * SCALE)]
    error = pair.hr[10:-10, 10:-10].astype(float) - truth[10:-10, 10:-10]
    # One label pixel of shift would leave more than twice this.
    shifted = np.roll(truth, 1, axis=1)[10:-10, 10:-10] - truth[10:-10, 10:-10].astype(float)
    assert np.sqrt((error**2).mean()) < 0.5 * np.sqrt((shifted**2).mean())


def test_a_label_from_elsewhere_is_named(mosaic: np.ndarray) -> None:
    other = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    with pytest.raises(InputError, match=r"holiday\.tif"):
        find_label(mosaic, other, "holiday.tif", SCALE)
