from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from dlm_fiji.steps.fluorescence_area import registered_label


def test_a_label_beside_its_image_is_moved_onto_it() -> None:
    rng = np.random.default_rng(0)
    specimen = gaussian_filter(rng.random((160, 176)), 1.5)
    image = gaussian_filter(specimen, 2.0)
    beside = shift(specimen, (0.4, -2.3), order=3, mode="nearest")
    label, moved = registered_label(image, beside)
    assert moved == pytest.approx((-0.4, 2.3), abs=0.05)
    inner = (slice(10, -10),) * 2
    assert np.abs(label - specimen)[inner].mean() < 0.1 * np.abs(beside - specimen)[inner].mean()


def test_a_label_without_anything_in_common_stays_where_it_is() -> None:
    rng = np.random.default_rng(1)
    label = rng.random((64, 64)).astype(np.float32)
    same, moved = registered_label(np.ones((64, 64)), label)
    assert moved == (0, 0)
    np.testing.assert_array_equal(same, label)
