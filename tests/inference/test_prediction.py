"""Tiled prediction: equal to the whole image for any size and tile, in every kind of array."""

import json
import time

import numpy as np
import pytest
import torch
import xarray as xr

from dlm_fiji.errors import ConfigurationError, DlmWarning, InputError
from dlm_fiji.inference import (
    InferenceSettings,
    Model,
    ModelCard,
    load_model,
    plan_tiles,
    predict,
    save_model,
)
from dlm_fiji.inference.tiling import margin_on_grid
from dlm_fiji.networks import BrightfieldNet

TORCH = InferenceSettings(backend="torch", device="cpu")


def make_model(scale=2.5, channels=3, seed=0, **card):
    torch.manual_seed(seed)
    network = BrightfieldNet(scale, channels, blocks=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.5)  # so that outputs have the size of images and a wrong border is seen
    return Model(
        network,
        ModelCard.of(None, name="small", config=network.config, scale=scale, channels=channels, **card),
    )


def noise(shape, dtype=np.float32, seed=1):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("scale", [2, 2.5, 4, 5, 1.5])
@pytest.mark.parametrize("shape", [(97, 64), (61, 115), (33, 34)])
def test_tiled_equals_whole(scale, shape):
    model = make_model(scale)
    image = noise((*shape, 3))
    whole = predict(model, image, tile="whole", settings=TORCH)
    assert whole.shape == (int(np.ceil(shape[0] * scale)), int(np.ceil(shape[1] * scale)), 3)
    assert np.ptp(whole) > 0.05
    for tile in (32, 41, 64):
        tiled = predict(model, image, tile=tile, backend="torch", device="cpu")
        assert np.abs(tiled - whole).max() <= 1e-5


def test_a_margin_too_small_would_be_seen():
    model = make_model()
    image = noise((97, 64, 3))
    whole = predict(model, image, tile="whole", settings=TORCH)

    class Careless(BrightfieldNet):
        receptive_radius = 1

    model.network.__class__ = Careless
    tiled = predict(model, image, tile=32, settings=None, backend="torch", device="cpu")
    assert np.abs(tiled - whole).max() > 1e-3


@pytest.mark.parametrize("length", [1, 13, 40, 41, 100, 257])
@pytest.mark.parametrize(("tile", "radius", "grid"), [(32, 13, 2), (64, 7, 1), (8, 3, 5), (100, 13, 16)])
def test_tiles_cover_every_pixel_once_and_start_on_the_grid(length, tile, radius, grid):
    seen = np.zeros((length, length), int)
    for t in plan_tiles((length, length), tile, radius, grid):
        rows, columns = (slice(*pair) for pair in t.inner)
        seen[rows, columns] += 1
        for (start, stop), (inner, end) in zip(t.window, t.inner, strict=True):
            assert start % grid == 0
            assert start == 0 or inner - start >= margin_on_grid(radius, grid)
            assert stop == length or stop - end >= radius
    assert (seen == 1).all()


def test_openvino_agrees_with_torch():
    pytest.importorskip("openvino")
    model, image, record = make_model(), noise((70, 91, 3)), {}
    ours = predict(model, image, tile=48, device="cpu", backend="openvino", record=record)
    theirs = predict(model, image, tile="whole", settings=TORCH)
    assert np.abs(ours - theirs).max() <= 1e-4
    assert record["backend"] == "openvino"
    assert record["model_sha256"] == model.sha256


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_type_comes_back_and_means_the_same(dtype):
    model = make_model()
    image = noise((40, 30, 3), np.uint8)
    factor = {np.uint8: 1, np.uint16: 257}.get(dtype, 1 / 255)
    scaled = (image * np.float64(factor)).astype(dtype)
    result = predict(model, scaled, settings=TORCH)
    assert result.dtype == dtype
    reference = predict(model, image / np.float32(255), settings=TORCH)
    full = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    expected = np.clip(reference, 0, 1) if full > 1 else reference
    assert np.abs(result / full - expected).max() <= (0.51 / full if full > 1 else 0) + 1e-5


def test_grey_is_the_mean_of_three_equal_channels():
    model, grey = make_model(), noise((35, 42))
    result = predict(model, grey, settings=TORCH)
    colour = predict(model, np.repeat(grey[..., None], 3, 2), settings=TORCH)
    assert result.shape == colour.shape[:2]
    np.testing.assert_allclose(result, colour.mean(-1), atol=1e-6)
    np.testing.assert_array_equal(predict(model, grey[..., None], settings=TORCH)[..., 0], result)


def test_channels_go_one_by_one_through_a_grey_model():
    model, image = make_model(channels=1), noise((35, 42, 2))
    result = predict(model, image, settings=TORCH)
    for c in range(2):
        np.testing.assert_allclose(result[..., c], predict(model, image[..., c], settings=TORCH), atol=1e-6)


def test_dataarray_keeps_axes_and_aligned_areas():
    model = make_model()
    values = noise((2, 3, 24, 30), np.uint8)
    image = xr.DataArray(
        values,
        dims=("t", "c", "y", "x"),
        coords={"c": ["red", "green", "blue"], "y": 1 + 0.5 * np.arange(24), "x": 0.5 * np.arange(30)},
        attrs={"pixel_um": (0.5, 0.5), "objective": "10x"},
    )
    result = predict(model, image, settings=TORCH)
    assert result.dims == image.dims
    assert result.shape == (2, 3, 60, 75)
    # both cover the same area: 24 pixels of 0.5 µm are 60 of 0.2 µm
    assert result.y.values[0] - 0.1 == pytest.approx(1 - 0.25)
    assert result.y.values[-1] + 0.1 == pytest.approx(1 + 23 * 0.5 + 0.25)
    assert result.attrs["pixel_um"] == pytest.approx((0.2, 0.2))
    assert result.attrs["objective"] == "10x"
    assert result.attrs["computationally_enhanced"]
    alone = predict(model, np.moveaxis(values[1], 0, -1), settings=TORCH)
    np.testing.assert_array_equal(np.moveaxis(result.values[1], 0, -1), alone)


def test_outside_the_trained_pixel_size_warns_and_resamples():
    model = make_model(pixel_um=(0.5, 0.7), na=(0.3, 0.5))
    fine = xr.DataArray(noise((60, 60)), dims=("y", "x"), coords={d: 0.25 * np.arange(60) for d in "yx"})
    with pytest.warns(DlmWarning, match="0.25 µm"):
        predict(model, fine, settings=TORCH)
    resampled = predict(model, fine, backend="torch", device="cpu", resample=True)
    assert resampled.shape == (75, 75)
    assert float(resampled.x[-1] - resampled.x[0]) + 0.2 == pytest.approx(15.0)


def test_passes_and_keep_scale():
    model, image = make_model(scale=2), noise((20, 25, 3))
    once = predict(model, image, settings=TORCH)
    twice = predict(model, image, passes=2, settings=TORCH)
    np.testing.assert_allclose(twice, predict(model, np.clip(once, 0, 1), settings=TORCH), atol=1e-5)
    both = InferenceSettings.of(TORCH, passes=2)
    np.testing.assert_array_equal(predict(model, image, tile="whole", settings=both), twice)
    kept = predict(model, image, passes=2, keep_scale=True, settings=TORCH)
    reduced = np.clip(once, 0, 1).reshape(20, 2, 25, 2, 3).mean((1, 3))
    np.testing.assert_allclose(kept, predict(model, reduced, settings=TORCH), atol=1e-5)


def test_fluorescence_comes_back_in_its_units():
    model = make_model(
        scale=2, channels=1, modality="fluorescence", normalisation="percentile", intensity_range=(0.0, 255.0)
    )
    with torch.no_grad():  # nearest-neighbour enlargement: what goes in must come out
        for parameter in model.network.parameters():
            parameter.zero_()
        model.network.first.weight[0, 0, 1, 1] = 1
        model.network.expand.weight[:, 0, 1, 1] = 1
        model.network.last.weight[0, 0, 1, 1] = 1
    image = (300 + 4000 * noise((30, 40))).astype(np.uint16)
    result = predict(model, image, settings=TORCH)
    # the ReLU of the first block stands before the skip only, so values below background pass too
    np.testing.assert_allclose(result.reshape(30, 2, 40, 2).mean((1, 3)), image, atol=1)


def test_a_series_is_scaled_once_a_channel():
    model = make_model(
        scale=2, channels=1, modality="fluorescence", normalisation="percentile", intensity_range=(0.0, 255.0)
    )
    image = 100 + 50 * noise((3, 2, 30, 40))
    image[1] *= 0.5  # bleached: frames scaled one by one would flicker
    image[:, 1] *= 20  # another stain: its brightness must not change the first channel
    series = predict(model, xr.DataArray(image, dims=("t", "c", "y", "x")), settings=TORCH)
    first = predict(model, xr.DataArray(image[:, :1], dims=("t", "c", "y", "x")), settings=TORCH)
    np.testing.assert_array_equal(series.values[:, :1], first.values)
    stack = image[:, 0]
    low, high = np.percentile(stack, (0.5, 99.8))
    with torch.no_grad():
        network = model.network(torch.from_numpy(((stack[1:2, None] - low) / (high - low) * 255).astype(np.float32)))
    expected = network.numpy()[0, 0] / 255 * (high - low) + low
    np.testing.assert_allclose(series.values[1, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_memory_running_out_halves_the_tile(memory_for_rows, device):
    model, image = make_model(), noise((150, 150, 3))
    whole = predict(model, image, tile="whole", settings=TORCH)
    memory_for_rows(80)
    record = {}
    with pytest.warns(DlmWarning, match="going on with tiles of 42 px"):
        result = predict(model, image, tile=140, backend="torch", device=device, record=record)
    assert record["tile"] == 42  # half of the 84 px that two windows of 150 need
    assert np.abs(result - whole).max() <= 1e-5


def test_several_devices_share_the_tiles(monkeypatch):
    from dlm_fiji.inference import backends

    model, image = make_model(), noise((150, 190, 3))
    whole = predict(model, image, tile="whole", settings=TORCH)
    original, seen = backends.TorchEngine.__call__, {}

    def slow(self, x):
        flags = torch.backends.cudnn
        seen.setdefault(id(self), []).append((flags.enabled, flags.allow_tf32))
        time.sleep(0.01)
        return original(self, x)

    monkeypatch.setattr(backends.TorchEngine, "__call__", slow)
    record = {}
    shared = predict(model, image, tile=48, backend="torch", device="cpu,cpu", record=record)
    assert np.abs(shared - whole).max() <= 1e-5
    assert record["devices"] == len(seen) == 2
    assert all(len(states) > 3 and set(states) == {(True, False)} for states in seen.values())

    def failing(self, x):
        raise ValueError("broken driver")

    monkeypatch.setattr(backends.TorchEngine, "__call__", failing)
    with pytest.raises(ValueError, match="broken driver"):
        predict(model, image, tile=48, backend="torch", device="cpu,cpu")


@pytest.mark.parametrize("half", [False, True])
def test_model_folder_round_trip(tmp_path, half):
    model, image = make_model(description="for tests"), noise((30, 30, 3))
    folder = save_model(tmp_path / "small", model.network, model.card, half=half)
    again = load_model(folder)
    assert again.card.description == "for tests"
    difference = predict(again, image, settings=TORCH) - predict(model, image, settings=TORCH)
    assert np.abs(difference).max() <= (2e-2 if half else 0)
    assert (np.abs(difference).max() > 0) == half


def test_damaged_and_unknown_models_are_refused(tmp_path):
    model = make_model()
    folder = save_model(tmp_path / "small", model.network, model.card)
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="are not the ones"):
        load_model(folder)
    content = json.loads((folder / "model.json").read_text())
    del content["sha256"]
    (folder / "model.json").write_text(json.dumps(content | {"config": {"scale": 2}}))
    with pytest.raises(InputError, match="do not fit"):
        load_model(folder)
    with pytest.raises(InputError, match="model"):
        load_model("no-such-model")


class Explosive:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_with_code_is_refused(tmp_path, capsys):
    torch.save({"weights": Explosive()}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="may run code"):
        load_model(tmp_path / "bad.pt")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((10, 10, 4), np.uint8), "takes 3 channels"),
        (np.full((10, 10), np.nan), "NaN"),
        (np.zeros((10, 10), bool), "type bool"),
        (np.zeros((0, 10)), "no pixels"),
        (np.zeros(10), "no image"),
    ],
)
def test_images_that_cannot_be_enhanced(image, message):
    with pytest.raises(InputError, match=message):
        predict(make_model(), image, settings=TORCH)


def test_settings_are_checked():
    with pytest.raises(ConfigurationError, match="passes"):
        predict(make_model(), noise((9, 9)), passes=9)
    with pytest.raises(ConfigurationError, match="did you mean"):
        predict(make_model(), noise((9, 9)), beckend="torch")
