"""Simulated fluorescence pairs: reproducible, aligned, in the values that inference uses."""

import numpy as np
import pytest
import torch

from dlm_fiji.errors import InputError
from dlm_fiji.training import FluorescenceSimulation, SimulatedFluorescence, TrainingSettings, scaled_label

SETTINGS = TrainingSettings.of(TrainingSettings.widefield_gan(), batch=4, patch=32)


def specimen(shape=(120, 140)):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 200 + 3000 * (np.sin(x / 6 + np.sin(y / 9)) > 0.8) + rng.normal(0, 10, shape)


def test_values_are_those_of_inference():
    label = scaled_label(specimen(), reduce=2)
    assert label.shape == (60, 70)
    assert np.percentile(label, 0.5) == pytest.approx(0, abs=0.5)
    assert np.percentile(label, 99.8) == pytest.approx(255, abs=0.5)


def test_batches_depend_on_the_step_and_keep_place_and_intensity():
    fields = [(scaled_label(specimen()), 1.0)]
    bright = FluorescenceSimulation(photons=(1e6, 1e6), read_noise=(0, 0), gain=(1, 1))
    source = SimulatedFluorescence(fields, SETTINGS, bright)
    lr, hr = source.batch(7)
    assert lr.shape == (4, 1, 16, 16)
    assert hr.shape == (4, 1, 32, 32)
    again = SimulatedFluorescence(fields, SETTINGS, bright).batch(7)
    assert torch.equal(lr, again[0])
    assert torch.equal(hr, again[1])
    assert not torch.equal(hr, source.batch(8)[1])
    area = torch.nn.functional.avg_pool2d(hr, 2)
    inner = (..., slice(2, -2), slice(2, -2))
    right = (lr - area)[inner].abs().mean()
    for shift, axis in [(1, -1), (-1, -1), (1, -2), (-1, -2)]:
        assert right < (lr - torch.roll(area, shift, axis))[inner].abs().mean()
    means = torch.stack([source.batch(k)[0].mean() / source.batch(k)[1].mean() for k in range(10)])
    assert float(means.mean()) == pytest.approx(1, abs=0.05)  # a blur moves light over a patch's edge, both ways


def test_small_fields_are_refused():
    with pytest.raises(InputError, match="64 pixels on a side"):
        SimulatedFluorescence([(np.zeros((60, 200), np.float32), 1.0)], SETTINGS)
