"""Two processes on the CPU, as torchrun starts them: one training, the same weights everywhere."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from dlm_fiji.training import train_regression

sys.path.insert(0, str(Path(__file__).parent))
import test_regression as regression

SCRIPT = """
import os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {tests!r})
import torch
from dlm_fiji.training import train_adversarial, train_regression
import test_adversarial as gan, test_regression as regression
out, rank = sys.argv[1], os.environ["RANK"]
found = train_regression(regression.PAIRS, regression.VALIDATION, regression.TINY, out, regression.network(), batch=4)
torch.save(found.network.state_dict(), f"{{out}}/regression{{rank}}.pt")
found = train_regression(regression.PAIRS, regression.VALIDATION, regression.TINY, None, regression.network(),
                         batch=4, steps=10_000, time_limit_s=1)
torch.save(found.network.state_dict(), f"{{out}}/timed{{rank}}.pt")
found = train_adversarial(gan.PAIRS, gan.VALIDATION, gan.TINY, None, **gan.networks())
torch.save(found.network.state_dict(), f"{{out}}/gan{{rank}}.pt")
print(found.description["devices"], "devices")
"""


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 devices" in done.stdout
    for name in ("regression", "timed", "gan"):
        first, second = (torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True) for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name
    alone = train_regression(
        regression.PAIRS, regression.VALIDATION, regression.TINY, None, regression.network(), batch=4
    )
    together = torch.load(tmp_path / "regression0.pt", weights_only=True)
    for key, value in alone.network.state_dict().items():
        torch.testing.assert_close(together[key], value, atol=1e-5, rtol=0)
    assert (tmp_path / "history.csv").exists()
