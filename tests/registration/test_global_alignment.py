import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.registration import ElasticSettings, align_global, optical_density, register_elastic, tissue


def stained(density, colour):
    """An RGB bright-field image of a density map."""
    return np.clip(255 * 10 ** (-density[..., None] * np.array(colour)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sections(scene):
    """Two stains of one specimen, the second turned by 6°, enlarged by 3 % and shifted by about 40 px."""
    angle, zoom = np.deg2rad(6), 1.03
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rows, cols = np.mgrid[:360, :400].astype(float)
    centre = np.array([179.5, 199.5])[:, None, None]
    at = np.tensordot(turn, np.stack([rows, cols]) - centre, axes=1) + centre + np.array([30, -25])[:, None, None]
    tissue = [np.clip(scene(r + 150, c + 180) - 120, 0, None) / 100 for r, c in ((rows, cols), at)]
    return stained(tissue[0], (0.6, 1.0, 0.4)), stained(tissue[1] ** 1.3, (0.9, 0.5, 0.2)), at


def test_another_stain_is_brought_into_place(sections):
    moving, fixed, at = sections
    found = align_global(moving, fixed)
    rows, cols = found.warp().coordinates()
    assert np.hypot(rows - at[0], cols - at[1]).mean() < 0.5
    assert found.rotation == pytest.approx(6, abs=0.2)
    assert found.scale == pytest.approx(1.03, abs=0.003)
    elastic = register_elastic(found.apply(moving), fixed, ElasticSettings.sections())
    whole = found.warp().compose(elastic)
    rows, cols = whole.coordinates()
    inside = (at[0] > 20) & (at[0] < 340) & (at[1] > 20) & (at[1] < 380)
    assert np.hypot(rows - at[0], cols - at[1])[inside].mean() < 1.0


def test_there_and_back_is_one_map(sections):
    moving, fixed, _ = sections
    there, back = align_global(moving, fixed).matrix, align_global(fixed, moving).matrix
    corners = np.array([[0, 0, 1], [0, 399, 1], [359, 0, 1], [359, 399, 1.0]])
    round_trip = np.column_stack([corners @ back.T, np.ones(4)]) @ there.T
    assert np.hypot(*(round_trip - corners[:, :2]).T).max() < 0.05


def test_sizes_may_differ(sections):
    moving, fixed, at = sections
    found = align_global(moving, fixed[:340, :380])
    assert found.apply(moving).shape == (340, 380, 3)
    rows, cols = found.warp().coordinates()
    assert np.hypot(rows - at[0][:340, :380], cols - at[1][:340, :380]).mean() < 0.5
    assert found.warp().apply(moving, same_size=False).shape == (340, 380, 3)


def test_optical_density_is_the_amount_of_stain():
    amount = np.linspace(0, 0.8, 200)[None, :] + np.zeros((50, 1))
    amount[:, :40] = 0
    density = optical_density(255 * 10 ** (-amount[..., None] * np.array([0.5, 1.0, 0.25])))
    inside = amount < 0.75
    np.testing.assert_allclose(density[inside], 1.75 * amount[inside], atol=0.01)


def test_tissue_is_the_same_however_strong_the_stain():
    rng = np.random.default_rng(0)
    there = (rng.random((100, 120)) < 0.4).astype(float)
    faint, strong = (255 * 10 ** (-there[..., None] * np.array(stain)) for stain in ([0.2, 0.3, 0.05], [0.5, 0.4, 0.9]))
    for image in (faint, strong):
        np.testing.assert_allclose(tissue(image), there, atol=0.05)
    assert not tissue(np.full((20, 20, 3), 255)).any()


def test_unlike_images_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="constant"):
        align_global(np.ones((100, 100)), rng.normal(size=(100, 100)), contrast="intensity")
    with pytest.raises(InputError, match="do not seem to show"):
        align_global(
            rng.normal(size=(200, 200)), rng.normal(size=(200, 200)), contrast="intensity", min_correlation=0.8
        )
