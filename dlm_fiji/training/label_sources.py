"""Training from sharp images alone: a source of simulated batches, and validation pairs of one fixed instrument.

The instrument of the validation is the middle of the range that the training draws from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.microscope.virtual import VirtualMicroscope
from dlm_fiji.training.label_fields import read_fluorescence_fields, read_label_fields
from dlm_fiji.training.patches import Pair
from dlm_fiji.training.plan import TrainingSettings
from dlm_fiji.training.simulated import GREY_UM, SimulatedPairs, SimulationSettings, recorded_pairs
from dlm_fiji.training.simulated_fluorescence import FluorescenceSimulation, SimulatedFluorescence, simulated_pair

__all__ = ["brightfield_source", "fluorescence_source"]

LOGARITHMIC = {"halo_um", "photons"}


def brightfield_source(
    labels: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    settings: TrainingSettings,
    simulation: SimulationSettings | None = None,
    channels: int = 3,
) -> tuple[SimulatedPairs, list[Pair]]:
    """For :func:`~dlm_fiji.training.train_regression`; labels, data and channels as for ``read_label_fields``."""
    simulation = SimulationSettings.of(simulation)
    fields, held_out = read_label_fields(labels, data, channels)
    na, share = float(np.mean(simulation.na)), float(np.mean(simulation.condenser_share))
    colours = {} if channels == 3 else {"wavelengths_um": (GREY_UM,) * channels}
    microscope = VirtualMicroscope.of(
        None,
        label_pixel_um=simulation.label_pixel_um,
        scale=simulation.scale,
        na=na,
        condenser_na=round(na * share, 4),
        **colours,
    )
    return SimulatedPairs(fields, settings, simulation), recorded_pairs(held_out, microscope)


def fluorescence_source(
    labels: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    settings: TrainingSettings,
    simulation: FluorescenceSimulation | None = None,
) -> tuple[SimulatedFluorescence, list[Pair]]:
    """For :func:`~dlm_fiji.training.train_adversarial`; labels and data as for ``read_label_fields``."""
    simulation = FluorescenceSimulation.of(simulation)
    fields, held_out = read_fluorescence_fields(labels, data)
    return SimulatedFluorescence(fields, settings, simulation), fixed_pairs(held_out, simulation)


def fixed_pairs(labels: Sequence[NDArray], simulation: FluorescenceSimulation, seed: int = 5) -> list[Pair]:
    """(h, w, 1) and (h·L, w·L, 1) pairs: each label as the instrument in the middle of the range records it."""
    middle = {}
    for name, value in simulation.model_dump().items():
        if isinstance(value, tuple):
            mean = np.exp(np.mean(np.log(value))) if name in LOGARITHMIC else np.mean(value)
            middle[name] = (float(mean), float(mean))
    fixed = FluorescenceSimulation.of(simulation, **middle)
    pairs = []
    for number, label in enumerate(labels):
        h, w = (n // fixed.scale * fixed.scale for n in label.shape)
        low, high = simulated_pair(label[:h, :w], fixed, np.random.default_rng([seed, number]))
        pairs.append((low[..., None], high[..., None]))
    return pairs
