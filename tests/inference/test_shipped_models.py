"""What lies in models/: small, whole, described, and exact in tiles."""

from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.inference import list_models, load_model, predict

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
    # intensities are kept: the mean of an evenly grey field within 2 %
    mean = whole[20:-20, 20:-20].mean() / image[8:-8, 8:-8].mean()
    assert mean == pytest.approx(1, abs=0.05)
