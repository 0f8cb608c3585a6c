"""Fluorescence pairs from sharp fluorescence images and a range of wide-field microscopes.

A label is blurred by the incoherent transfer function of a smaller aperture and by the camera's pixels,
reduced, and given photons. All values are 0 … 255 of the field's own range, as inference scales an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from dlm_fiji.errors import InputError
from dlm_fiji.microscope.virtual import optical_transfer
from dlm_fiji.settings import Settings, setting
from dlm_fiji.training.patches import Pair, to_tensor, turned
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["FluorescenceSimulation", "SimulatedFluorescence", "scaled_label"]

Range = tuple[float, float]
MARGIN = 16
"""Label pixels around a patch that the blur reaches into."""


class FluorescenceSimulation(Settings):
    """The range of wide-field instruments; drawn from uniformly unless another law is named."""

    label_pixel_um: float = setting(0.108, "pixel of the labels", unit="µm", gt=0)
    scale: int = setting(2, "camera pixel in label pixels", ge=1, le=4)
    na: Range = setting((0.45, 1.0), "numerical aperture; at 0.6 µm a blur of sigma 2.6 to 1.2 label pixels")
    wavelength_um: Range = setting((0.5, 0.65), "emission", unit="µm")
    photons: Range = setting((60.0, 3000.0), "photons at 255, logarithmic", unit="photons")
    read_noise: Range = setting((0.5, 4.0), "camera noise (sigma)", unit="photons")
    background: Range = setting((0.0, 0.15), "even background, part of 255; taken off again")
    gain: Range = setting((0.6, 1.3), "factor on the values of a field")


class SimulatedFluorescence:
    """A source of batches for :func:`~dlm_fiji.training.train_adversarial`.

    Parameters
    ----------
    fields
        (label (H, W) from :func:`scaled_label`, weight) pairs.
    settings
        Patch (of the label), batch and seed.
    simulation
        The range of instruments.
    """

    def __init__(
        self,
        fields: Sequence[tuple[NDArray, float]],
        settings: TrainingSettings,
        simulation: FluorescenceSimulation | None = None,
    ) -> None:
        self.settings, self.simulation = settings, FluorescenceSimulation.of(simulation)
        edge = settings.patch + 2 * MARGIN
        self.fields = [(np.asarray(f, np.float32), w) for f, w in fields if min(f.shape) >= edge]
        if not self.fields:
            raise InputError(f"No label has {edge} pixels on a side; give larger ones, or a smaller patch.")
        weights = np.array([weight for _, weight in self.fields])
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        """Patches that the labels hold at a time."""
        return max(1, round(sum(field.size for field, _ in self.fields) / self.settings.patch**2))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Patches of random places, each through a microscope of its own."""
        rng = np.random.default_rng([self.settings.seed, 4, step])
        pairs = [self.pair(rng) for _ in range(self.settings.batch)]
        turns = rng.integers(8, size=len(pairs)) if self.settings.augment else np.zeros(len(pairs), int)
        lows, highs = (
            np.stack([turned(pair[which], int(k)) for pair, k in zip(pairs, turns, strict=True)]) for which in (0, 1)
        )
        return to_tensor(lows), to_tensor(highs)

    def pair(self, rng: np.random.Generator) -> Pair:
        """One patch and its label; nine of ten have content."""
        patch, edge = self.settings.patch, self.settings.patch + 2 * MARGIN
        for _ in range(20):
            field = self.fields[rng.choice(len(self.fields), p=self.shares)][0]
            y, x = (int(rng.integers(n - edge + 1)) for n in field.shape)
            label = field[y : y + edge, x : x + edge]
            if label.std() > 255 * self.settings.min_contrast or rng.random() < 0.1:
                break
        label = label * np.float32(rng.uniform(*self.simulation.gain))
        low = seen(label, self.simulation, rng)
        inner, small = slice(MARGIN, MARGIN + patch), slice(MARGIN // self.simulation.scale, None)
        low = low[small, small][: patch // self.simulation.scale, : patch // self.simulation.scale]
        return low[..., None], label[inner, inner, None]


def seen(
    label: NDArray[np.float32], simulation: FluorescenceSimulation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """What a microscope drawn from the range records of ``label`` (values 0 … 255), background taken off."""
    na, wavelength = rng.uniform(*simulation.na), rng.uniform(*simulation.wavelength_um)
    padded = np.pad(label, MARGIN, mode="reflect")
    transfer = optical_transfer(padded.shape, simulation.label_pixel_um, float(na), float(wavelength))
    blurred = fft.irfft2(fft.rfft2(padded) * transfer, padded.shape)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    scale = simulation.scale
    h, w = (n // scale * scale for n in blurred.shape)
    # the mean over the camera's pixel is its integration and the reduction in one
    camera = blurred[:h, :w].reshape(h // scale, scale, w // scale, scale).mean((1, 3)) / 255
    background = rng.uniform(*simulation.background)
    low, high = np.log(simulation.photons)
    photons = np.exp(rng.uniform(low, high))
    counts = rng.poisson(np.clip(camera + background, 0, None) * photons)
    counts = counts + rng.normal(0, rng.uniform(*simulation.read_noise), counts.shape)
    return ((counts / photons - background) * 255).astype(np.float32)


def scaled_label(image: NDArray, reduce: int = 1) -> NDArray[np.float32]:
    """A sharp fluorescence image, reduced by area means, with background 0 and 99.8th percentile 255."""
    h, w = (n // reduce * reduce for n in image.shape)
    small = np.asarray(image[:h, :w], np.float32)
    small = small.reshape(h // reduce, reduce, w // reduce, reduce).mean((1, 3))
    low, high = np.percentile(small, (0.5, 99.8))
    return ((small - low) * (255 / max(float(high - low), 1e-6))).astype(np.float32)
