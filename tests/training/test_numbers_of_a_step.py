"""What a step does, in numbers: rates, the running mean, the loss's terms, the clipped gradient, the shares."""

import copy
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dlm_fiji.networks import brightfield_loss, structural_similarity
from dlm_fiji.training import TrainingSettings, train_regression
from dlm_fiji.training.adversarial import Game, pixel_weights
from dlm_fiji.training.devices import SingleProcessor
from dlm_fiji.training.patches import extract_patches
from dlm_fiji.training.regression import Regression
from dlm_fiji.training.validation import luminance, measure, validation_batches

sys.path.insert(0, str(Path(__file__).parent))
import test_adversarial as gan
import test_regression as regression


def test_rates_at_the_ends_of_the_schedule():
    cycle = TrainingSettings(schedule="one-cycle", learning_rate=1e-3)
    assert cycle.rate_at(0) == pytest.approx(2e-5)
    assert cycle.rate_at(0.015) == pytest.approx(5e-4)
    assert cycle.rate_at(0.03) == pytest.approx(1e-3)
    assert cycle.rate_at(0.515) == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    assert cycle.rate_at(1) == pytest.approx(1e-5)
    rates = [cycle.rate_at(f) for f in np.linspace(0, 1, 500)]
    assert max(rates) <= 1e-3
    assert {TrainingSettings(learning_rate=2e-4).rate_at(f) for f in (0, 0.5, 1)} == {2e-4}


def test_epochs_become_steps():
    assert TrainingSettings.brightfield().total_steps(51_008) == 460 * 51_008 // 64  # 000 table S2, breast
    assert TrainingSettings(epochs=1, batch=4).total_steps(9) == 3
    assert TrainingSettings(epochs=0.01, batch=64).total_steps(9) == 1
    assert TrainingSettings(steps=7).total_steps(10**6) == 7


def test_presets_are_the_papers():
    numbers = {
        name: TrainingSettings.preset(name) for name in ("brightfield", "phone", "widefield-gan", "confocal-sted")
    }
    found = {k: (s.batch, s.learning_rate, s.patch, s.schedule) for k, s in numbers.items()}
    assert found == {
        "brightfield": (64, 1e-4, 60, "constant"),
        "phone": (32, 2e-4, 60, "constant"),
        "widefield-gan": (12, 1e-4, 64, "constant"),
        "confocal-sted": (12, 1e-4, 64, "constant"),
    }
    assert [numbers["confocal-sted"].ssim_share, numbers["widefield-gan"].ssim_share] == [0, 0.01]
    assert all(s.ema == s.clip_norm == s.ssim_weight == 0 and s.initial == "papers" for s in numbers.values())


def test_the_running_mean_is_the_formula():
    settings = TrainingSettings.of(regression.TINY, steps=3, ema=0.1, keep="last")
    kept = train_regression(regression.PAIRS, regression.VALIDATION, settings, None, regression.network())
    mean = regression.network().state_dict()
    for steps in range(1, 4):  # the weights after each step, by shorter trainings
        plain = TrainingSettings.of(settings, steps=steps, ema=0.0)
        now = train_regression(regression.PAIRS, regression.VALIDATION, plain, None, regression.network()).network
        decay = min(0.1, steps / (steps + 20))
        mean = {name: decay * mean[name] + (1 - decay) * value for name, value in now.state_dict().items()}
    for name, value in kept.network.state_dict().items():
        torch.testing.assert_close(value, mean[name], atol=1e-6, rtol=0)


def test_the_loss_of_a_regression_is_its_terms():
    rng = np.random.default_rng(0)
    output, label = (torch.from_numpy(rng.random((2, 3, 16, 16), np.float32)) for _ in range(2))
    settings = TrainingSettings.of(regression.TINY, gradient_weight=0.02, ssim_weight=0.3)
    found = Regression(regression.network(), [], settings, SingleProcessor()).loss(output, label)
    similarity = structural_similarity(luminance(output), luminance(label))
    assert float(found) == pytest.approx(float(brightfield_loss(output, label, 0.02) + 0.3 * (1 - similarity)))
    grey = luminance(output)[0, 0, 3, 4]
    assert float(grey) == pytest.approx(float(torch.tensor([0.299, 0.587, 0.114]) @ output[0, :, 3, 4]))


def test_a_clipped_gradient_has_the_norm():
    settings = TrainingSettings.of(regression.TINY, clip_norm=1e-3)
    method = Regression(regression.network(), [], settings, SingleProcessor())
    source = extract_patches(regression.PAIRS, settings, 2)
    method.step(1, *source.batch(0), 1e-3)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in method.network.parameters()))
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_a_turn_moves_each_network_once_at_its_rate():
    settings = TrainingSettings.of(gan.TINY, learning_rate=1e-3, discriminator_rate=1e-4)
    source = extract_patches(gan.PAIRS, TrainingSettings.of(settings, patch=16), 2, values="as is")
    weights = pixel_weights(source, settings, 2)
    networks = copy.deepcopy(gan.networks())
    before = {k: [p.detach().clone() for p in n.parameters()] for k, n in networks.items()}
    game = Game(networks["generator"], networks["discriminator"], weights, [], settings, SingleProcessor())
    game.step(1, *source.batch(0), 5e-4)  # half the rate of the settings, as a schedule may ask for
    for name, rate in (("generator", 5e-4), ("discriminator", 5e-5)):
        moved = max(
            float((p.detach() - q).abs().max()) for p, q in zip(networks[name].parameters(), before[name], strict=True)
        )
        assert moved == pytest.approx(rate, rel=0.02)  # Adam's first step is the rate, whatever the gradient
    assert all(p.requires_grad for p in game.discriminator.parameters())


def test_validation_is_evenly_from_all_fields_and_its_mean_over_patches():
    settings = TrainingSettings.of(regression.TINY, validation_patches=10)
    pairs = [regression.field((48, 96), seed=k) for k in range(3)]
    batches = validation_batches(pairs, settings, 2)
    assert [len(lr) for lr, _ in batches] == [8, 2]
    patches = torch.cat([lr for lr, _ in batches])
    assert patches.shape[-2:] == (24, 24)
    places = []
    for patch in patches:
        for number, (lr, _) in enumerate(pairs):
            image = torch.from_numpy(lr).permute(2, 0, 1) / 255
            windows = image.unfold(1, 24, 24).unfold(2, 24, 24)[0]
            if (windows == patch[0]).all(-1).all(-1).any():
                places.append(number)
    assert {number: places.count(number) for number in range(3)} in (
        {0: 4, 1: 3, 2: 3},
        {0: 3, 1: 4, 2: 3},
        {0: 3, 1: 3, 2: 4},
    )
    network = regression.network()
    loss, _ = measure(network, batches, lambda output, label: (output - label).abs().mean(), torch.device("cpu"))
    with torch.no_grad():
        each = [(network.eval()(lr) - hr).abs().mean((1, 2, 3)) for lr, hr in batches]
    assert loss == pytest.approx(float(torch.cat(each).mean()), rel=1e-5)
