"""Training pairs from sharp micrographs and a range of virtual microscopes.

Each pair is a piece of a label, turned, enlarged or reduced, its stains varied, seen by a microscope whose
numerical aperture, condenser, blur, light and noise are drawn anew. A batch depends on the seed and the step
only, so that a training resumes on the same pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.microscope.linear_light import srgb_to_linear
from dlm_fiji.microscope.virtual import VirtualMicroscope, blur, expose, record, sample
from dlm_fiji.settings import Settings, setting
from dlm_fiji.training.patches import Cutting, Pair, to_tensor, turned
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["SimulatedPairs", "SimulationSettings", "recorded_pairs"]

WAVELENGTHS_UM = np.array([0.630, 0.532, 0.450])
GREY_UM = 0.55
Field = tuple[NDArray[np.uint8], float]
Range = tuple[float, float]


class SimulationSettings(Settings):
    """The range of instruments and specimens; ranges are drawn from uniformly unless another law is named."""

    label_pixel_um: float = setting(0.25, "pixel of the labels", unit="µm", gt=0)
    scale: float = setting(2.5, "camera pixel in label pixels", gt=1)
    na: Range = setting((0.3, 0.5), "numerical aperture of the objective")
    condenser_share: Range = setting((0.5, 1.0), "condenser's aperture over the objective's")
    wavelength_shift_um: float = setting(0.015, "largest shift of the colours' wavelengths", unit="µm", ge=0)
    blur_um: Range = setting((-0.08, 0.16), "further Gaussian blur (sigma); below 0 counts as none", unit="µm")
    electrons: Range = setting((2500.0, 40000.0), "photo-electrons at full scale, logarithmic", unit="electrons")
    read_noise: Range = setting((1.0, 8.0), "camera noise (sigma)", unit="electrons")
    zooms: tuple[float, ...] = setting((1.0, 1.0, 0.8, 0.65), "reductions of the label that are drawn from")
    stain_share: float = setting(0.6, "share of pieces whose stains are varied", ge=0, le=1)
    stain_gain: Range = setting((0.6, 1.4), "factor on the optical density of each colour")
    stain_mixing: float = setting(0.12, "standard deviation of the mixing of colours", ge=0)
    colour_swap_share: float = setting(0.3, "share of the varied pieces whose colours are exchanged", ge=0, le=1)
    white: Range = setting((0.88, 1.0), "white level of the varied pieces, each colour")
    piece: int = setting(250, "edge of a simulated piece in label pixels", unit="px", ge=32)
    pool: int = setting(160, "pieces that patches are cut from at a time", ge=1)
    renewed: int = setting(2, "pieces simulated anew a step", ge=0)
    min_deviation: float = setting(8.0, "smallest standard deviation of a piece's grey levels", ge=0)


class SimulatedPairs:
    """A source of batches for :func:`~dlm_fiji.training.train_regression`.

    Parameters
    ----------
    fields
        (label (H, W, C) uint8, weight) pairs; a piece comes from a field in proportion to its weight.
    settings
        Patch, batch and seed.
    simulation
        The range of instruments.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        settings: TrainingSettings,
        simulation: SimulationSettings | None = None,
    ) -> None:
        self.simulation = SimulationSettings.of(simulation)
        self.settings = settings
        self.cut = Cutting.of(settings, self.simulation.scale)
        if self.cut.edge > self.simulation.piece:
            raise ConfigurationError(
                f"A patch of {self.cut.patch} px is {self.cut.edge} label pixels, a simulated piece has "
                f"{self.simulation.piece}; choose a smaller patch or a larger piece."
            )
        smallest = self.simulation.piece / max(self.simulation.zooms)
        self.fields = [field for field in fields if min(field[0].shape[:2]) >= smallest]
        if not self.fields:
            raise InputError(
                f"No label has {smallest:.0f} pixels on a side; give larger ones, or a smaller piece or fewer zooms."
            )
        weights = np.array([weight for _, weight in self.fields])
        self.shares = weights / weights.sum()
        self._pool: dict[int, tuple[int, Pair]] = {}

    def __len__(self) -> int:
        """Patches that the labels hold at a time, for epochs."""
        area = self.settings.patch * self.simulation.scale
        return max(1, round(sum(label.shape[0] * label.shape[1] for label, _ in self.fields) / area**2))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Patches of random pieces of the pool, on the grid on which the pixels of both coincide."""
        rng = np.random.default_rng([self.settings.seed, 3, step])
        patch, edge, grid = self.cut.patch, self.cut.edge, self.cut.ratio.denominator
        lows, highs = [], []
        for _ in range(self.settings.batch):
            lr, hr = self.piece(int(rng.integers(self.simulation.pool)), step)
            y, x = (grid * int(rng.integers((n - patch) // grid + 1)) for n in lr.shape[:2])
            top, left = self.cut.label(y), self.cut.label(x)
            k = int(rng.integers(8)) if self.settings.augment else 0
            lows.append(turned(lr[y : y + patch, x : x + patch], k))
            highs.append(turned(hr[top : top + edge, left : left + edge], k))
        return to_tensor(np.stack(lows)), to_tensor(np.stack(highs))

    def piece(self, slot: int, step: int) -> Pair:
        """The pair in ``slot`` of the pool at ``step``: the slots are renewed in turn."""
        simulation = self.simulation
        generation = (step * simulation.renewed - slot + simulation.pool - 1) // simulation.pool
        kept = self._pool.get(slot)
        if kept is None or kept[0] != generation:
            rng = np.random.default_rng([self.settings.seed, 2, slot, generation + 1])
            kept = generation, simulated_pair(self.fields, self.shares, simulation, rng)
            self._pool[slot] = kept
        return kept[1]


def simulated_pair(
    fields: Sequence[Field], shares: NDArray, simulation: SimulationSettings, rng: np.random.Generator
) -> Pair:
    """One piece of a label and what a microscope drawn from the range records of it, both uint8."""
    import cv2

    size = simulation.piece
    for _ in range(50):
        label = fields[rng.choice(len(fields), p=shares)][0]
        zoom = float(rng.choice(simulation.zooms))
        edge = int(np.ceil(size / zoom))
        if edge > min(label.shape[:2]):
            continue  # a reduction that a small field cannot give
        y, x = (int(rng.integers(n - edge + 1)) for n in label.shape[:2])
        piece = label[y : y + edge, x : x + edge]
        if piece.astype(np.float32).std() >= simulation.min_deviation:
            break
    else:
        raise InputError("The labels are almost empty: 50 pieces in a row had no content.")
    if zoom < 1:
        small = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
        piece = np.asarray(small.reshape(size, size, -1), np.uint8)
    piece = varied_stains(piece, simulation, rng)
    microscope = drawn_microscope(simulation, piece.shape[2], rng)
    pixels = int(size // simulation.scale)
    light = blur(srgb_to_linear(piece / np.float32(255)), microscope)
    lr = expose(sample(light, microscope, (pixels, pixels), (0.0, 0.0)), microscope, rng)
    return lr, piece


def varied_stains(
    piece: NDArray[np.uint8], simulation: SimulationSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The piece with its optical densities scaled, mixed and sometimes exchanged between the colours."""
    if rng.random() >= simulation.stain_share:
        return np.ascontiguousarray(piece)
    channels = piece.shape[2]
    density = -np.log(np.maximum(piece.astype(np.float32), 1) / 255)
    low, high = simulation.stain_gain
    mixing = np.diag(rng.uniform(low, high, channels))
    if channels > 1:
        mixing = mixing + rng.normal(0, simulation.stain_mixing, mixing.shape)
        if rng.random() < simulation.colour_swap_share:
            density = density[..., rng.permutation(channels)]
    light = 255 * np.exp(-np.clip(density @ mixing.T.astype(np.float32), 0, None))
    light = np.clip(light * rng.uniform(*simulation.white, channels), 0, 255)
    return np.ascontiguousarray(np.rint(light).astype(np.uint8))


def drawn_microscope(simulation: SimulationSettings, channels: int, rng: np.random.Generator) -> VirtualMicroscope:
    """A microscope from the range."""
    na = float(rng.uniform(*simulation.na))
    shift = simulation.wavelength_shift_um
    colours = WAVELENGTHS_UM if channels == 3 else np.full(channels, GREY_UM)
    low, high = np.log(simulation.electrons)
    return VirtualMicroscope(
        label_pixel_um=simulation.label_pixel_um,
        scale=simulation.scale,
        na=na,
        condenser_na=na * float(rng.uniform(*simulation.condenser_share)),
        wavelengths_um=tuple(float(w) for w in colours + rng.uniform(-shift, shift, channels)),
        blur_um=max(0.0, float(rng.uniform(*simulation.blur_um))),
        electrons=float(np.exp(rng.uniform(low, high))),
        read_noise=float(rng.uniform(*simulation.read_noise)),
    )


def recorded_pairs(
    labels: Sequence[NDArray[np.uint8]], microscope: VirtualMicroscope, seed: int = 5, largest: int = 600
) -> list[Pair]:
    """Validation pairs: each label (its first ``largest`` pixels) as one fixed microscope sees it."""
    pairs = []
    for number, label in enumerate(labels):
        step = Fraction(microscope.scale).limit_denominator(16).numerator
        h, w = (min(n, largest) // step * step for n in label.shape[:2])
        cut = np.ascontiguousarray(label[:h, :w])
        pairs.append((record(cut, microscope, np.random.default_rng([seed, number])), cut))
    return pairs
