"""Fluorescence pairs from sharp fluorescence images and a range of wide-field microscopes.

A label is blurred by the incoherent transfer function of a smaller aperture and by the camera's pixels,
reduced, and given photons. Then the input is scaled by its own percentiles, as inference scales an image, and
the label by the same gain and offset: the network keeps intensities.
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
from dlm_fiji.training.fluorescence_pairs import PERCENTILES, area_means
from dlm_fiji.training.patches import Pair, to_tensor, turned
from dlm_fiji.training.plan import TrainingSettings
from dlm_fiji.training.synthetic_filaments import synthetic_filaments

__all__ = ["FluorescenceSimulation", "SimulatedFluorescence", "scaled_label"]

Range = tuple[float, float]
MARGIN = 16
"""Mirrored label pixels around a crop that the blur reaches into."""


class FluorescenceSimulation(Settings):
    """The range of wide-field instruments; drawn from uniformly unless another law is named."""

    label_pixel_um: float = setting(0.108, "pixel of the labels", unit="µm", gt=0)
    scale: int = setting(2, "camera pixel in label pixels", ge=1, le=4)
    na: Range = setting((0.5, 0.85), "numerical aperture; at 0.6 µm a blur of sigma 2.3 to 1.4 label pixels")
    wavelength_um: Range = setting((0.5, 0.65), "emission", unit="µm")
    halo: Range = setting(
        (-0.2, 0.5), "share of the light in a wide Gaussian: haze of thick specimens; below 0 counts as none"
    )
    halo_um: Range = setting((0.5, 3.5), "its sigma, logarithmic", unit="µm")
    photons: Range = setting((300.0, 200_000.0), "photons at full scale, logarithmic", unit="photons")
    read_noise: Range = setting((0.5, 4.0), "camera noise (sigma)", unit="photons")
    background: Range = setting((0.0, 0.3), "even background, part of full scale")
    crop: int = setting(160, "part of a label that one microscope sees, and is scaled by", unit="px", ge=32)
    filaments: float = setting(0.0, "share of labels that are filaments made by chance", ge=0, le=1)


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
        edge = self.edge = max(self.simulation.crop, settings.patch)
        self.fields = [(np.asarray(f, np.float32), w) for f, w in fields if min(f.shape) >= edge]
        if not self.fields and self.simulation.filaments < 1:
            raise InputError(f"No label has {edge} pixels on a side; give larger ones, or a smaller crop.")
        weights = np.array([weight for _, weight in self.fields])
        self.shares = weights / weights.sum() if len(weights) else weights

    def __len__(self) -> int:
        """Patches that the labels hold at a time; filaments count as one more field."""
        pixels = sum(field.size for field, _ in self.fields) + self.edge**2
        return max(1, round(pixels / self.settings.patch**2))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Patches of random places: each label gives up to four, through a microscope of its own."""
        rng = np.random.default_rng([self.settings.seed, 4, step])
        pairs: list[Pair] = []
        while len(pairs) < self.settings.batch:
            low, high = simulated_pair(self.label(rng), self.simulation, rng)
            for _ in range(min(4, self.settings.batch - len(pairs))):
                pairs.append(self.cut(low, high, rng))
        lows, highs = (np.stack([pair[which] for pair in pairs]) for which in (0, 1))
        return to_tensor(lows), to_tensor(highs)

    def label(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A part of a field, or filaments, of ``edge`` pixels on a side; nine of ten parts have content."""
        edge = self.edge
        if rng.random() < self.simulation.filaments:
            return scaled_label(synthetic_filaments((edge, edge), rng))
        for _ in range(20):
            field = self.fields[rng.choice(len(self.fields), p=self.shares)][0]
            y, x = (int(rng.integers(n - edge + 1)) for n in field.shape)
            label = field[y : y + edge, x : x + edge]
            if label.std() > 255 * self.settings.min_contrast or rng.random() < 0.1:
                break
        return label

    def cut(self, low: NDArray[np.float32], high: NDArray[np.float32], rng: np.random.Generator) -> Pair:
        """One patch of a pair, turned at random."""
        scale = self.simulation.scale
        size = self.settings.patch // scale
        y, x = (int(rng.integers(n - size + 1)) for n in low.shape)
        turn = int(rng.integers(8)) if self.settings.augment else 0
        label = high[y * scale : (y + size) * scale, x * scale : (x + size) * scale]
        return turned(low[y : y + size, x : x + size, None], turn), turned(label[..., None], turn)


def simulated_pair(label: NDArray, simulation: FluorescenceSimulation, rng: np.random.Generator) -> Pair:
    """What a microscope drawn from the range records of ``label``, and the label, both in the network's values.

    Returns
    -------
    (h, w) and (h·scale, w·scale) float32. The input's background is 0 and its 99.8th percentile 255; the
    label has the same gain and offset.
    """
    low = recorded(label, simulation, rng)
    h, w = (n * simulation.scale for n in low.shape)
    floor, top = (float(v) for v in np.percentile(low, PERCENTILES))
    gain = 255 / max(top - floor, 1e-6)
    return (low - floor) * np.float32(gain), (label[:h, :w] - floor) * np.float32(gain)


def recorded(label: NDArray, simulation: FluorescenceSimulation, rng: np.random.Generator) -> NDArray[np.float32]:
    """The camera's image of ``label`` (values 0 … 255), its even background taken off, in the label's values."""
    na, wavelength = rng.uniform(*simulation.na), rng.uniform(*simulation.wavelength_um)
    padded = np.pad(label, MARGIN, mode="reflect")
    pixel = simulation.label_pixel_um
    transfer = optical_transfer(padded.shape, pixel, float(na), float(wavelength))
    share, width = max(0.0, rng.uniform(*simulation.halo)), np.exp(rng.uniform(*np.log(simulation.halo_um)))
    square = fft.fftfreq(padded.shape[0], pixel)[:, None] ** 2 + fft.rfftfreq(padded.shape[1], pixel)[None] ** 2
    transfer = (1 - share) * transfer + share * np.exp(-2 * np.pi**2 * width**2 * square)
    blurred = fft.irfft2(fft.rfft2(padded) * transfer, padded.shape)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    # the mean over the camera's pixel is its integration and the reduction in one
    camera = area_means(blurred, simulation.scale)
    full = max(float(np.percentile(camera, PERCENTILES[1])), 1e-6)
    background = rng.uniform(*simulation.background)
    low, high = np.log(simulation.photons)
    photons = np.exp(rng.uniform(low, high))
    counts = rng.poisson(np.clip(camera / full + background, 0, None) * photons)
    counts = counts + rng.normal(0, rng.uniform(*simulation.read_noise), counts.shape)
    return ((counts / photons - background) * full).astype(np.float32)


def scaled_label(image: NDArray, reduce: int = 1) -> NDArray[np.float32]:
    """A sharp fluorescence image, reduced by area means, with background 0 and 99.8th percentile 255."""
    small = area_means(np.asarray(image, np.float32), reduce)
    low, high = np.percentile(small, PERCENTILES)
    return ((small - low) * (255 / max(float(high - low), 1e-6))).astype(np.float32)
