"""Field matching, similarity, features, drift and resampling."""

import numpy as np
import pytest
from scipy import ndimage

from dlm_fiji.errors import InputError
from dlm_fiji.registration import (
    MosaicIndex,
    drift,
    match_features,
    match_template,
    reduce_bicubic,
    refine_similarity,
    resample,
)
from dlm_fiji.registration.peaks import fit_gaussian_peak
from dlm_fiji.registration.sampling import sample


@pytest.fixture(scope="module")
def pair(cut):
    """A high-resolution field and the low-resolution mosaic of it: blurred, reduced 2.5 times, noisy."""
    field = cut(0, 0, 700, 800)
    rng = np.random.default_rng(0)
    mosaic = reduce_bicubic(ndimage.gaussian_filter(field, 1.5), 2.5)
    return field, mosaic + rng.normal(size=mosaic.shape).astype(np.float32)


@pytest.mark.parametrize(("y", "x", "h", "w"), [(101, 203, 300, 300), (333, 48, 251, 402), (0, 0, 300, 300)])
@pytest.mark.parametrize("subpixel", ["fit", "gaussian"])
def test_a_label_is_found_to_a_fiftieth_of_a_pixel(pair, y, x, h, w, subpixel):
    field, mosaic = pair
    match = match_template(mosaic, field[y : y + h, x : x + w], scale=2.5, subpixel=subpixel)
    assert np.abs(np.array(match.position) - (y / 2.5, x / 2.5)).max() < (0.02 if subpixel == "fit" else 0.06)
    assert match.correlation > 0.9
    assert match.shape == (int(h / 2.5), int(w / 2.5))


def test_the_crop_lies_on_the_reduced_label(pair):
    field, mosaic = pair
    label = field[150:450, 221:521]
    match = match_template(MosaicIndex(mosaic), label)
    crop = match.crop(mosaic)
    assert crop.shape == match.shape
    again = refine_similarity(crop, reduce_bicubic(label, 2.5))
    assert np.abs(again.shift).max() < 0.02
    assert abs(again.rotation) < 0.02


def test_rotation_and_scale_are_found(scene):
    angle, zoom = np.deg2rad(0.8), 1.01
    rows, cols = np.mgrid[:240, :240] - 119.5
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = np.tensordot(turn, np.stack([rows, cols]), axes=1)
    moving = scene(rows + 119.5 + 200, cols + 119.5 + 200)
    fixed = scene(at[0] + 119.5 + 201.5, at[1] + 119.5 + 197.75)
    found = refine_similarity(moving, fixed * 0.7 + 30)
    assert found.rotation == pytest.approx(0.8, abs=0.005)
    assert found.scale == pytest.approx(1.01, abs=1e-4)
    assert found.shift == pytest.approx((1.5, -2.25), abs=0.02)
    inside = (slice(20, -20), slice(20, -20))
    assert np.abs(found.apply(moving) - fixed)[inside].mean() < 0.2
    by_warp = found.warp().apply(moving.astype(np.float32))
    np.testing.assert_allclose(by_warp[inside], found.apply(moving)[inside], atol=0.05)


def test_a_label_of_another_field_is_refused_by_name(pair):
    _, mosaic = pair
    rng = np.random.default_rng(1)
    with pytest.raises(InputError, match=r"cell_07\.tif was not found in the mosaic: its best correlation is 0\.\d\d"):
        match_template(mosaic, ndimage.gaussian_filter(rng.normal(size=(300, 300)), 3), name="cell_07.tif")
    with pytest.raises(InputError, match="is constant"):
        match_template(mosaic, np.ones((300, 300)))
    with pytest.raises(InputError, match="larger than the mosaic"):
        match_template(mosaic, rng.normal(size=(300, 300)), scale=0.5)
    with pytest.raises(InputError, match="finite image"):
        match_template(mosaic, np.full((300, 300), np.nan))


@pytest.mark.parametrize("method", ["gaussian", "fit"])
@pytest.mark.parametrize("shift", [(0.33, -0.41), (3.62, -7.17), (0.0, 0.0)])
def test_drift_to_a_fiftieth_of_a_pixel(cut, shift, method):
    rng = np.random.default_rng(0)
    a = cut(200, 200, 160, 160)
    b = ndimage.gaussian_filter(cut(200 - shift[0], 200 - shift[1], 160, 160), 1.0)  # confocal is blurred, STED not
    b = 0.2 * b + rng.normal(size=b.shape) * 0.2
    found = drift(a, b, method=method)
    assert np.abs(np.array(found.shift) - shift).max() < 0.02
    back = found.apply(b)
    assert abs(drift(a, back, method=method).shift[0]) < 0.02


def test_drift_of_different_fields_is_an_error():
    rng = np.random.default_rng(0)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(120, 120)), 2) for _ in range(2))
    with pytest.raises(InputError, match="do not seem to show"):
        drift(a, b, min_correlation=0.5)
    with pytest.raises(InputError, match="different sizes"):
        drift(a, b[:100])
    with pytest.raises(InputError, match="constant"):
        drift(a, np.zeros_like(a))


def test_a_gaussian_peak_is_fitted_exactly():
    y, x = np.mgrid[:15, :17]
    surface = 3 * np.exp(-((y - 7.3) ** 2) / 8 - ((x - 8.8) ** 2) / 18 - (y - 7.3) * (x - 8.8) / 30) - 1
    np.testing.assert_allclose(fit_gaussian_peak(surface), [7.3, 8.8], atol=1e-4)


def test_features_find_a_turned_and_enlarged_field(scene):
    rng = np.random.default_rng(0)
    mosaic = np.clip(scene(*np.mgrid[:700, :800].astype(float)), 0, 255)
    angle, zoom = 0.4, 1 / 1.3
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rows, cols = np.mgrid[:300, :320].astype(float)
    at = np.tensordot(turn, np.stack([rows, cols]), axes=1) + np.array([250, 200])[:, None, None]
    field = 0.5 * sample(mosaic, at[0], at[1]) + 60 + rng.normal(size=rows.shape)
    found = match_features(field.astype(np.uint8), mosaic.astype(np.uint8))
    corners = np.array([[0, 0], [0, 319], [299, 319], [299, 0]]) @ turn.T + (250, 200)
    assert np.abs(found.corners() - corners).max() < 1.0
    assert found.inliers > 50
    assert found.error < 1.0
    assert found.scale == pytest.approx(zoom, rel=0.01)
    label = found.crop_mosaic(mosaic, factor=2.5)
    assert label.shape == (750, 800)
    truth = sample(mosaic, at[0], at[1])
    assert np.corrcoef(resample(label, 0.4)[20:-20, 20:-20].ravel(), truth[20:-20, 20:-20].ravel())[0, 1] > 0.99
    seen = found.project_field(field, (280, 230), (60, 70))
    assert np.corrcoef(seen.ravel(), mosaic[280:340, 230:300].ravel())[0, 1] > 0.98


def test_features_of_another_field_are_refused():
    rng = np.random.default_rng(0)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(300, 300)), 2) for _ in range(2))
    with pytest.raises(InputError, match=r"phone_3 was not found"):
        match_features(a, b, name="phone_3")
    with pytest.raises(InputError, match="0 features"):
        match_features(np.zeros((100, 100)), b)


def test_resampling_keeps_the_edges_in_place():
    ramp = np.add.outer(np.arange(60.0), 2 * np.arange(80.0))
    for factor in (2.5, 0.4, 2.0):
        out = resample(ramp, factor)
        assert out.shape == (int(60 * factor), int(80 * factor))
        rows = (np.arange(out.shape[0]) + 0.5) / factor - 0.5
        cols = (np.arange(out.shape[1]) + 0.5) / factor - 0.5
        k = int(8 * max(1, factor))
        np.testing.assert_allclose(out[k:-k, k:-k], np.add.outer(rows, 2 * cols)[k:-k, k:-k], atol=0.03)
    colour = np.stack([ramp, ramp * 0, ramp], axis=-1)
    np.testing.assert_array_equal(resample(colour, 0.4)[..., 0], resample(ramp, 0.4))
