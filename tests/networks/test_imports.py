"""The networks need PyTorch and nothing of ours: GPU machines often lack the rest."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator, Discriminator, generator_loss
BrightfieldNet(blocks=1), FluorescenceGenerator(widths=(2, 2)), Discriminator(2)
found = {"imagej", "scyjava", "jpype", "openvino", "lightning", "xarray", "cv2"} & set(sys.modules)
sys.exit(", ".join(sorted(found)) or 0)
"""


def test_networks_import_nothing_heavy_but_torch():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
