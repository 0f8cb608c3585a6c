"""What lies in models/: small, whole, described, and exact in tiles."""

from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.inference import list_models, load_model, predict
from dlm_fiji.measures import ssim
from dlm_fiji.training import FluorescenceSimulation, scaled_label
from dlm_fiji.training.simulated_fluorescence import recorded, simulated_pair
from dlm_fiji.training.synthetic_filaments import synthetic_filaments

MODELS = Path(__file__).parents[2] / "models"
NAMES = list_models()


@pytest.mark.skipif(not MODELS.is_dir(), reason="not a checkout")
def test_the_pretrained_bright_field_model_is_there():
    assert "brightfield-x2.5" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model(name):
    model = load_model(name)
    assert model.name == name
    size = sum(p.stat().st_size for p in model.path.iterdir())
    assert size <= 16e6
    channels = model.card.channels
    y, x = np.mgrid[:70, :93]
    planes = [128 + 90 * np.sin(x / (4 + c)) * np.cos(y / 6) for c in range(channels)]
    image = np.stack(planes, -1).astype(np.uint8)
    image = image if channels > 1 else image[..., 0]
    whole = predict(model, image.astype(np.float32), tile="whole", backend="torch", device="cpu", full_scale=255)
    tiled = predict(model, image.astype(np.float32), tile=64, backend="torch", device="cpu", full_scale=255)
    assert np.abs(tiled - whole).max() <= 1e-5 * 255
    # intensities are kept: the mean of an evenly grey field within 5 %
    mean = whole[20:-20, 20:-20].mean() / image[8:-8, 8:-8].mean()
    assert mean == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("fluorescence")])
def test_fluorescence_keeps_regional_means_and_units(name):
    """Regions of 32 camera pixels keep their mean within 2 %; the type and the background come back too."""
    simulation = FluorescenceSimulation(na=(0.65, 0.65), photons=(3000, 3000), crop=256)
    label = scaled_label(synthetic_filaments((256, 256), np.random.default_rng(8)))
    camera = recorded(label, simulation, np.random.default_rng(9))
    image = (100 + 10 * np.clip(camera, 0, None)).astype(np.uint16)
    enhanced = predict(load_model(name), image, backend="torch", device="cpu")
    assert enhanced.dtype == np.uint16
    assert enhanced.shape == (256, 256)
    regions = image.reshape(4, 32, 4, 32).mean((1, 3))
    ratio = enhanced.reshape(4, 64, 4, 64).mean((1, 3)) / regions
    assert np.abs(ratio - 1).max() < 0.02, ratio


def test_fluorescence_model_is_nearer_to_the_label_than_its_input():
    simulation = FluorescenceSimulation(na=(0.65, 0.65), photons=(3000, 3000), halo=(0.1, 0.1), crop=256)
    label = scaled_label(synthetic_filaments((256, 256), np.random.default_rng(21)))
    camera, label = simulated_pair(label, simulation, np.random.default_rng(22))
    enlarged = np.kron(camera, np.ones((2, 2), np.float32))
    model = load_model("fluorescence-x2")
    enhanced = predict(model, camera, backend="torch", device="cpu")
    assert ssim(enhanced, label, data_range=255) > ssim(enlarged, label, data_range=255) + 0.1
