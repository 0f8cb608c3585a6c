"""Simulated fluorescence pairs: reproducible, aligned, in the values that inference uses."""

import numpy as np
import pytest
import torch

from dlm_fiji.errors import InputError
from dlm_fiji.inference import ModelCard
from dlm_fiji.inference.intensities import scaling_for
from dlm_fiji.training import FluorescenceSimulation, SimulatedFluorescence, TrainingSettings, scaled_label
from dlm_fiji.training.simulated_fluorescence import recorded, simulated_pair

SETTINGS = TrainingSettings.of(TrainingSettings.widefield_gan(), batch=6, patch=32)
QUIET = FluorescenceSimulation(halo=(0, 0), photons=(1e6, 1e6), read_noise=(0, 0), crop=96)


def specimen(shape=(140, 160)):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 200 + 3000 * (np.sin(x / 6 + np.sin(y / 9)) > 0.8) + rng.normal(0, 10, shape)


def test_a_label_has_background_0_and_full_scale_255():
    label = scaled_label(specimen(), reduce=2)
    assert label.shape == (70, 80)
    assert np.percentile(label, 0.5) == pytest.approx(0, abs=0.5)
    assert np.percentile(label, 99.8) == pytest.approx(255, abs=0.5)


def test_a_pair_is_scaled_as_inference_scales_the_input():
    label = scaled_label(specimen())
    camera = recorded(label, QUIET, np.random.default_rng(5))
    low, high = simulated_pair(label, QUIET, np.random.default_rng(5))
    card = ModelCard(name="x", modality="fluorescence", normalisation="percentile", intensity_range=(0, 255))
    scaling = scaling_for(card, camera)
    np.testing.assert_allclose(low, scaling.forward(camera), atol=1e-3)
    np.testing.assert_allclose(high, scaling.forward(label), atol=1e-3)
    assert high.mean() == pytest.approx(low.mean(), rel=0.03)  # light is kept


@pytest.mark.parametrize("filaments", [0.0, 1.0])
def test_batches_depend_on_the_step_and_keep_place(filaments):
    fields = [(scaled_label(specimen()), 1.0)]
    simulation = FluorescenceSimulation.of(QUIET, filaments=filaments)
    source = SimulatedFluorescence(fields, SETTINGS, simulation)
    lr, hr = source.batch(7)
    assert lr.shape == (6, 1, 16, 16)
    assert hr.shape == (6, 1, 32, 32)
    again = SimulatedFluorescence(fields, SETTINGS, simulation).batch(7)
    assert torch.equal(lr, again[0])
    assert torch.equal(hr, again[1])
    assert not torch.equal(hr, source.batch(8)[1])
    area = torch.nn.functional.avg_pool2d(hr, 2)
    inner = (..., slice(2, -2), slice(2, -2))
    right = (lr - area)[inner].abs().mean()
    for shift, axis in [(1, -1), (-1, -1), (1, -2), (-1, -2)]:
        assert right < (lr - torch.roll(area, shift, axis))[inner].abs().mean()


def test_filaments_alone_need_no_field():
    source = SimulatedFluorescence([], SETTINGS, FluorescenceSimulation(filaments=1))
    assert source.batch(0)[1].shape == (6, 1, 32, 32)


def test_small_fields_are_refused():
    with pytest.raises(InputError, match="160 pixels on a side"):
        SimulatedFluorescence([(np.zeros((60, 200), np.float32), 1.0)], SETTINGS)
