"""What a model does on a simulated instrument: depth of field, bead widths, a USAF target, other specimens, time.

The instrument is the virtual microscope of the demo with a better lens beside it (the label). Both see the same
specimen through Born-Wolf point spread functions, in linear light; only the low-resolution image is noisy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.inference import Model
from dlm_fiji.measures import (
    BeadWidths,
    CrossMatrix,
    DepthOfField,
    bead_fwhm,
    cross_matrix,
    depth_of_field,
    luminance,
    usaf_mtf,
    usaf_target,
)
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.micrograph import from_array, to_array
from dlm_fiji.microscope import born_wolf
from dlm_fiji.microscope.linear_light import linear_to_srgb, srgb_to_linear
from dlm_fiji.microscope.virtual import VirtualMicroscope, effective_na, expose
from dlm_fiji.steps.brightfield_lucy import brightfield_psf, search_brightfield
from dlm_fiji.steps.comparison import area_measures, enlarged_bicubic
from dlm_fiji.steps.enhancement import enhance

__all__ = ["Instrument", "bead_widths", "contrasts", "depth", "matrix", "runtimes"]

ELEMENTS = ((8, 1), (8, 3), (8, 5), (9, 1), (9, 2), (9, 3), (9, 4), (9, 5), (9, 6), (10, 1), (10, 2), (10, 3))
"""Of the USAF-1951 target: 256 to 1290 cycles/mm."""
_STEP = 20
"""Labels are cut to a whole number of these, so that ratios such as 2.5 give even pixels."""


@dataclass(frozen=True)
class Instrument:
    """The virtual microscope and, for the label, a lens of ``label_na`` with its condenser opened as wide."""

    microscope: VirtualMicroscope = field(default_factory=VirtualMicroscope)
    label_na: float = 0.75
    seed: int = 0

    def label(self, specimen: NDArray[np.float32], defocus_um: float = 0.0) -> NDArray[np.uint8]:
        """The specimen, (H, W, 3) linear light 0 … 1, through the better lens."""
        fine = self.microscope.label_pixel_um
        planes = self._seen(specimen, self.label_na, fine, 1.0, defocus_um)
        return np.rint(255 * linear_to_srgb(planes)).astype(np.uint8)

    def low(self, specimen: NDArray[np.float32], defocus_um: float = 0.0) -> NDArray[np.uint8]:
        """The specimen on the low-resolution camera, with its noise."""
        m = self.microscope
        na = effective_na(m.na, m.condenser_na)
        planes = self._seen(specimen, na, m.pixel_um, m.scale, defocus_um)
        return expose(planes, m, np.random.default_rng(self.seed))

    def _seen(
        self, specimen: NDArray[np.float32], na: float, camera_um: float, scale: float, defocus_um: float
    ) -> NDArray[np.float64]:
        fine = self.microscope.label_pixel_um
        coarse = (round(specimen.shape[0] / scale), round(specimen.shape[1] / scale))
        planes = []
        for channel, wavelength in enumerate(self.microscope.wavelengths_um):
            # Four Airy radii, and the cone of light of a plane out of focus.
            reach = 4 * 0.61 * wavelength / na + abs(defocus_um) * np.tan(np.arcsin(min(na, 0.95))) + camera_um
            side = min(2 * int(np.ceil(reach / fine)) + 1, (min(specimen.shape[:2]) - 1) // 2 * 2 + 1)
            psf = born_wolf(na, wavelength, fine, (side, side), defocus_um=defocus_um, camera_pixel_um=camera_um)
            planes.append(ForwardModel(psf, specimen.shape[:2], coarse, scale)(specimen[..., channel]))
        return np.clip(np.stack(planes, -1), 0, None)

    def specimen(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A sharp micrograph (H, W, 3) as linear light, cut to whole camera pixels."""
        rows, columns = (n // _STEP * _STEP for n in image.shape[:2])
        if min(rows, columns) < 5 * _STEP:
            raise InputError(
                f"A specimen needs at least {5 * _STEP} px a side, not {image.shape[1]} × {image.shape[0]}."
            )
        return srgb_to_linear(image[:rows, :columns] / np.float32(255))


def depth(model: Model, instrument: Instrument, image: NDArray[np.uint8], defocus_um: Sequence[float]) -> DepthOfField:
    """Similarity to the label in focus (luminance) as the specimen leaves the focus."""
    specimen = instrument.specimen(image)
    stacks: dict[str, list[NDArray[Any]]] = {"input": [], "network": [], "label": []}
    for z in defocus_um:
        low = instrument.low(specimen, z)
        for name, picture in {
            "input": enlarged_bicubic(low, model.scale),
            "network": _enhanced(model, low, instrument),
            "label": instrument.label(specimen, z),
        }.items():
            stacks[name].append(luminance(picture))
    return depth_of_field(stacks, defocus_um, luminance(instrument.label(specimen)), data_range=255.0)


def bead_widths(model: Model, instrument: Instrument, side: int = 500, iterations: int = 40) -> BeadWidths:
    """Full width at half maximum of absorbing points, 3 label pixels wide, in every image."""
    rng = np.random.default_rng(instrument.seed)
    dots = np.full((side, side), 0.9, np.float32)
    for y in range(25, side - 25, 36):
        for x in range(25, side - 25, 36):
            row, column = (int(v + rng.integers(-3, 4)) for v in (y, x))
            dots[row - 1 : row + 2, column - 1 : column + 2] = 0.35
    images = _all(model, instrument, np.repeat(dots[..., None], 3, axis=2), iterations)
    # A spot that absorbs is a dip; the fit wants peaks.
    dark = {name: 255 - luminance(image) for name, image in images.items()}
    label = dark.pop("label")
    return bead_fwhm(label, dark, pixel_um=instrument.microscope.label_pixel_um)


def contrasts(model: Model, instrument: Instrument, iterations: int = 40) -> list[dict[str, float]]:
    """Michelson contrast of the USAF elements in every image, mean of both directions, coarse ones first."""
    pixel = instrument.microscope.label_pixel_um
    target, triplets = usaf_target(list(ELEMENTS), pixel, bright=0.9, dark=0.1)
    rows, columns = (-(-n // _STEP) * _STEP - n for n in target.shape)
    padded = np.pad(target, ((0, rows), (0, columns)), constant_values=0.9)
    images = _all(model, instrument, np.repeat(padded[..., None], 3, axis=2), iterations)
    found: dict[float, dict[str, list[float]]] = {}
    for name, image in images.items():
        linear = srgb_to_linear(image / np.float32(255)).mean(-1)
        for row in usaf_mtf(linear, pixel, triplets=triplets):
            found.setdefault(round(row.frequency, 3), {}).setdefault(name, []).append(row.contrast)
    return [
        {"cycles_per_mm": frequency, **{name: float(np.mean(values)) for name, values in found[frequency].items()}}
        for frequency in sorted(found)
    ]


def matrix(
    models: Mapping[str, Model], instrument: Instrument, specimens: Mapping[str, NDArray[np.uint8]]
) -> CrossMatrix:
    """SSIM of every model on every specimen (simulated acquisition of each); bicubic enlargement as it is."""
    pairs = {}
    for name, image in specimens.items():
        specimen = instrument.specimen(image)
        pairs[name] = (instrument.low(specimen), np.rint(255 * linear_to_srgb(specimen)).astype(np.uint8))

    def run(model: Model) -> Any:
        return lambda low: _enhanced(model, low, instrument)

    return cross_matrix(
        {name: run(model) for name, model in models.items()},
        pairs,
        lambda output, label: area_measures(output, label)["ssim"],
        baseline=lambda low: enlarged_bicubic(low, instrument.microscope.scale),
    )


def runtimes(model: Model, sides: Iterable[int]) -> list[dict[str, float]]:
    """Seconds for square inputs, the better of two runs."""
    rows = []
    for side in sides:
        image = from_array(np.full((side, side, 3), 128, np.uint8))
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            enhance(image, model)
            seconds.append(time.perf_counter() - started)
        rows.append({"pixels": side, "seconds": min(seconds)})
    return rows


def _all(
    model: Model, instrument: Instrument, specimen: NDArray[np.float32], iterations: int
) -> dict[str, NDArray[np.uint8]]:
    """Bicubic input, Richardson-Lucy at its best, network and label of one specimen, all on the label's pixels."""
    m = instrument.microscope
    low, label = instrument.low(specimen), instrument.label(specimen)
    psfs = [brightfield_psf(m.na, m.condenser_na, w, m.label_pixel_um, m.pixel_um) for w in m.wavelengths_um]
    # By PSNR: on points in an empty field SSIM judges the ground, and would stop before they are sharp.
    rival = search_brightfield(low, psfs, m.scale, iterations, lambda e: area_measures(e, label)["psnr_db"])
    return {
        "input": enlarged_bicubic(low, m.scale),
        "richardson_lucy": rival.image,
        "network": _enhanced(model, low, instrument),
        "label": label,
    }


def _enhanced(model: Model, low: NDArray[np.uint8], instrument: Instrument) -> NDArray[np.uint8]:
    if abs(model.scale - instrument.microscope.scale) > 1e-6:
        raise InputError(
            f"{model.name} enlarges {model.scale:g} times, the simulated instrument asks for "
            f"{instrument.microscope.scale:g}; choose another model."
        )
    return to_array(enhance(from_array(low, instrument.microscope.pixel_um), model))
