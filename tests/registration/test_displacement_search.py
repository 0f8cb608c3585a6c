import numpy as np
import pytest
from scipy import ndimage

from dlm_fiji.registration import ElasticSettings, register_elastic
from dlm_fiji.registration.displacement_search import search_displacement, shift_likelihood


@pytest.fixture(scope="module")
def unlike(scene):
    """A smooth warp of up to 7 px between two images of which half the variance is not common, 110 x 130 px."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:110, :130].astype(float)
    u = np.stack([4 + 3 * np.sin(rows / 40), -3 + 3 * np.cos(cols / 50)])
    own = [ndimage.gaussian_filter(rng.normal(size=rows.shape), 1.5) for _ in range(2)]
    images = []
    for image, other in zip(
        (scene(rows + 150, cols + 200), scene(rows + u[0] + 150, cols + u[1] + 200)), own, strict=True
    ):
        image = image - ndimage.gaussian_filter(image, 8)
        images.append((image / image.std() + other / other.std()).astype(np.float32))
    return images[0], images[1], u


def test_neighbours_settle_what_a_window_cannot(unlike):
    moving, fixed, u = unlike
    inside = (slice(10, -10), slice(10, -10))
    found = search_displacement(moving, fixed, 10)
    together = np.hypot(*(found - u))[inside]
    assert together.mean() < 0.9
    shifts, likelihood = shift_likelihood(moving, fixed, 10, 3.0, 6)
    best = likelihood.reshape(*likelihood.shape[:2], -1).argmax(axis=-1)
    alone = np.stack([shifts[best // len(shifts)], shifts[best % len(shifts)]])
    lost = np.hypot(*(alone - u[:, 3::6, 3::6][:, : alone.shape[1], : alone.shape[2]]))[2:-2, 2:-2]
    assert together.mean() < 0.5 * lost.mean()  # some windows alone are far off


def test_the_likelihood_is_highest_at_the_shift(scene):
    rows, cols = np.mgrid[:80, :90].astype(float)
    moving, fixed = (scene(rows + y, cols + x).astype(np.float32) for y, x in ((200, 200), (203, 196)))
    shifts, likelihood = shift_likelihood(moving, fixed, 6, 4.0, 8)
    best = likelihood[2:-2, 2:-2].sum(axis=(0, 1))
    y, x = np.unravel_index(best.argmax(), best.shape)
    assert (shifts[y], shifts[x]) == (3, -4)
    assert likelihood.min() == 0


def test_where_details_agree_a_fit_follows_the_search(scene):
    rows, cols = np.mgrid[:280, :300].astype(float)
    u = np.stack([9 * np.sin(rows / 90), 7 * np.cos(cols / 100)])
    warp = register_elastic(
        scene(rows + 200, cols + 200), scene(rows + u[0] + 200, cols + u[1] + 200), schedule="search", sigma=1.0
    )
    assert warp.record["iterations"] > 2
    assert np.hypot(*(warp.displacement - u)).mean() < 0.1
    assert warp.check().ok


def test_sections_search_where_tissue_is():
    assert ElasticSettings.sections().schedule == "search"
    assert ElasticSettings.sections().contrast == "tissue"
