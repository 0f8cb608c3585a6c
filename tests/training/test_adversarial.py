"""The adversarial loop: both networks move, shares as calibrated, resume after a kill bit for bit."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from dlm_fiji.errors import ConfigurationError, DlmWarning, InputError
from dlm_fiji.networks import Discriminator, FluorescenceGenerator
from dlm_fiji.training import TrainingSettings, scaled_pair, train_adversarial
from dlm_fiji.training.adversarial import starting_networks

TINY = TrainingSettings.of(
    TrainingSettings.widefield_gan(),
    steps=4,
    batch=2,
    patch=32,
    validate_every=2,
    min_contrast=0,
    device="cpu",
    learning_rate=1e-3,
    discriminator_rate=1e-3,
    seed=3,
)


def pair(seed=0, size=48):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    label = 100 + 900 * (np.sin(x / 3 + rng.random()) * np.cos(y / 5) > 0.3) + rng.normal(0, 5, (size, size))
    lr = label.reshape(size // 2, 2, size // 2, 2).mean((1, 3))
    return scaled_pair(lr + rng.normal(0, 20, lr.shape), 3 * label + 50)


def networks():
    torch.manual_seed(0)
    generator = FluorescenceGenerator(2, widths=(4, 6)).start_from_interpolation()
    return {"generator": generator, "discriminator": Discriminator(2, blocks=2)}


PAIRS, VALIDATION = [pair(1), pair(2)], [pair(3)]


def test_both_networks_are_trained_and_shares_logged(tmp_path):
    result = train_adversarial(PAIRS, VALIDATION, TINY, tmp_path, **networks(), steps=20, batch=4)
    assert result.history[-1]["step"] == 20
    assert result.history[-1]["d_loss"] != result.history[1]["d_loss"]
    first = result.history[1]
    shares = [first[f"share_{name}"] for name in ("adversarial", "mse", "ssim")]
    assert sum(shares) == pytest.approx(1)
    assert shares[1] == pytest.approx(0.01, rel=0.5)  # calibrated on the registered input, from which it starts
    assert shares[2] == pytest.approx(0.01, rel=0.5)
    start = networks()
    for name, parameter in result.network.named_parameters():
        if result.best_step:
            assert not torch.equal(parameter, start["generator"].get_parameter(name)), name


def test_twin_on_pixels_alone_has_no_adversary():
    result = train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), steps=40, mse_share=1, ssim_share=0)
    assert result.description["adversarial"] == 0
    assert result.history[-1]["share_mse"] == pytest.approx(1)
    assert result.best_loss < result.history[0]["val_loss"]


SCRIPT = """
import sys, os, signal
sys.path.insert(0, {tests!r})
from test_adversarial import PAIRS, VALIDATION, TINY, networks
from dlm_fiji.training import train_adversarial
def progress(step, total, metrics):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
train_adversarial(PAIRS, VALIDATION, TINY, sys.argv[1], **networks(), progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_in_mid_epoch_it_resumes_bit_for_bit(tmp_path):
    whole = train_adversarial(PAIRS, VALIDATION, TINY, tmp_path / "a", **networks())
    code = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent)))
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = train_adversarial(PAIRS, VALIDATION, TINY, tmp_path / "b", **networks(), resume=True)
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    saved = [torch.load(tmp_path / f / "checkpoint.pt", weights_only=True) for f in "ab"]
    for part in ("network", "discriminator"):
        for name, value in saved[0][part].items():
            assert torch.equal(value, saved[1][part][name]), name


def test_sentences_of_the_adversarial_loop(monkeypatch):
    with pytest.raises(ConfigurationError, match=r"generator's loss became .* at step 2"):
        train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), learning_rate=1e30)
    with pytest.raises(InputError, match="validation set is empty"):
        train_adversarial(PAIRS, [], TINY, None, **networks())
    plain = train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), steps=2, batch=4)
    for kind in (FluorescenceGenerator, Discriminator):
        original = kind.forward

        def small_memory(self, x, original=original, most=1 if kind is FluorescenceGenerator else 4):
            if self.training and len(x) > most:
                raise torch.OutOfMemoryError("out of memory")
            return original(self, x)

        monkeypatch.setattr(kind, "forward", small_memory)
    with pytest.warns(DlmWarning, match="going on with"):
        halved = train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), steps=2, batch=4)
    for a, b in zip(plain.network.parameters(), halved.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_bfloat16_trains_too():
    result = train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), steps=10, precision="bf16")
    assert result.description["precision"] == "bf16"
    assert np.isfinite(result.best_loss)
    assert next(result.network.parameters()).dtype == torch.float32


def test_scaled_pair_gives_the_label_the_inputs_units():
    lr, hr = pair(5)
    assert lr.shape == (24, 24, 1)
    assert hr.shape == (48, 48, 1)
    assert np.percentile(lr, 0.5) == pytest.approx(0, abs=1)
    assert np.percentile(lr, 99.8) == pytest.approx(255, abs=1)
    assert hr.mean() == pytest.approx(lr.mean(), rel=1e-3)
    with pytest.raises(InputError, match="whole multiple"):
        scaled_pair(np.zeros((5, 5)), np.zeros((11, 11)))


def test_shares_beyond_one_are_refused():
    with pytest.raises(ConfigurationError, match="shares of one loss"):
        train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), mse_share=0.9, ssim_share=0.5)


def test_compile_is_not_passed_over(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    train_adversarial(PAIRS, VALIDATION, TINY, None, **networks(), steps=1, compile=True)
    assert [type(network) for network in compiled] == [FluorescenceGenerator]


def test_a_new_generator_keeps_means_where_the_settings_ask_for_it():
    settings = TrainingSettings.content()
    generator, _ = starting_networks(None, None, settings)
    assert generator.keep_means == settings.keep_means == 9
