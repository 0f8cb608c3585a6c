"""A file larger than the memory that its stream may take, from end to end."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dlm_fiji.inference import ModelCard, load_model, predict, save_model
from dlm_fiji.micrograph import PyramidWriter, open_region_reader
from dlm_fiji.networks import BrightfieldNet

pytest.importorskip("resource")

# In a process of its own, as the peak of this one has been set by other tests. The small image comes first: what
# libraries and a tile take is then no part of the growth.
CHILD = """
import json, resource, sys
from dlm_fiji.inference import InferenceSettings, stream_file
model, *files = sys.argv[1:]
peaks = []
for source, target in zip(files[::2], files[1::2]):
    stream_file(model, source, target, InferenceSettings(backend="torch", device="cpu", tile=256))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
print(json.dumps(peaks))
"""


def mosaic(path, side):
    """(side, side, 3) of 16 bits, no two places alike; written in bands."""
    with PyramidWriter(path, (side, side, 3), np.uint16, pixel_um=0.5) as writer:
        for top in range(0, side, 250):
            rng = np.random.default_rng(top)
            writer.write(top, 0, rng.integers(0, 2**16, (min(250, side - top), side, 3), np.uint16))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_a_stream_takes_less_memory_than_its_image(tmp_path, ending):
    torch.manual_seed(0)
    network = BrightfieldNet(2.5, 3, blocks=1, alpha=1)
    torch.nn.init.constant_(network.last.bias, 0.5)
    model = save_model(tmp_path / "model", network, ModelCard(name="small", config=network.config))
    files = [tmp_path / f"{name}.{ending}" for name in ("small", "small_out", "large", "large_out")]
    mosaic(files[0], 700)
    mosaic(files[2], 2500)
    child = subprocess.run([sys.executable, "-c", CHILD, model, *files], check=True, capture_output=True, text=True)
    small, large = json.loads(child.stdout.splitlines()[-1])
    pixels = 6250 * 6250 * 3 * 2
    assert large - small < 0.5 * pixels, f"{(large - small) / 1e6:.0f} MB for an image of {pixels / 1e6:.0f} MB"
    with open_region_reader(files[2]) as source, open_region_reader(files[3]) as result:
        assert result.shape == (6250, 6250, 3)
        assert result.pixel_um == (0.2, 0.2)
        for y, x in ((600, 1500), (2400, 2400)):
            expected = predict(load_model(model), source.read(y, y + 100, x, x + 100), tile="whole", backend="torch")
            inner = slice(20, -20)
            found = result.read(y * 5 // 2, y * 5 // 2 + 250, x * 5 // 2, x * 5 // 2 + 250)
            assert np.abs(found[inner, inner].astype(int) - expected[inner, inner].astype(int)).max() <= 2
            assert np.ptp(found) > 1000
