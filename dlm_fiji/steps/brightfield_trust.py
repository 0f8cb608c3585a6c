"""A bright-field prediction judged without a label: by the camera's own tiles, in linear light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.measures import Roc, Trust, tiles_roc, trust_tiles
from dlm_fiji.microscope.linear_light import srgb_to_linear
from dlm_fiji.microscope.virtual import effective_na
from dlm_fiji.settings import Settings, setting
from dlm_fiji.steps.brightfield_lucy import brightfield_psf, psf_radius

__all__ = ["BrightfieldTiles", "TrustSettings"]

#: Airy radii that the point spread function reaches: 2 % of the light of a perfect lens lies beyond.
AIRY_RADII = 8


class TrustSettings(Settings):
    """How a prediction is judged."""

    tolerance: float = setting(
        0.05, "deviations lower than this share of the brightness there are not flagged", ge=0, le=1, source="the demo"
    )
    false_alarm: float = setting(0.008, "share of regions that noise alone may flag", gt=0, lt=0.5)
    illumination: int = setting(4, "order of the polynomial left to each tile's illumination", ge=0, le=6)
    largest: int = setting(
        1_000_000, "mosaics of more pixels are judged round the test area only", unit="pixels", ge=10_000
    )


@dataclass(frozen=True)
class BrightfieldTiles:
    """The tiles of one mosaic and the microscope that took them.

    Attributes
    ----------
    tiles
        As the camera gave them, (h, w, 3) uint8 sRGB.
    positions
        (n, 2) y, x of their first pixels in the mosaic's.
    na, condenser_na, wavelengths_um
        The optics; one wavelength a channel.
    camera_um
        Camera pixel in the specimen.
    scale
        Pixels of the prediction in a camera pixel.
    flat_field
        By which the tiles' encoded values are to be divided, (h, w, 3); None leaves them.
    """

    tiles: Sequence[NDArray[np.uint8]]
    positions: NDArray[np.float64]
    na: float
    condenser_na: float
    wavelengths_um: Sequence[float]
    camera_um: float
    scale: float
    flat_field: NDArray[np.float32] | None = None

    @property
    def trim(self) -> int:
        """Pixels at the edge of a field into which light from beyond it shines."""
        return int(np.ceil(self._radius / self.scale))

    def describe(self, prediction: NDArray[np.uint8]) -> str:
        """What a prediction is judged by, for the report."""
        images = "the image" if len(self.tiles) == 1 else f"{len(self.tiles)} images"
        return f"{images} as taken by the camera, in linear light"

    def judge(
        self, prediction: NDArray[np.uint8], corner: tuple[int, int] = (0, 0), settings: TrustSettings | None = None
    ) -> Trust:
        """Judge a prediction, (H, W, 3) uint8 sRGB, whose first camera pixel is the mosaic's pixel ``corner``.

        Raises
        ------
        InputError
            The prediction is too small to be judged, or no tile lies on it.
        """
        settings = settings or TrustSettings()
        inner = min(prediction.shape[:2]) / self.scale - 2 * self.trim
        if inner < 24:
            raise InputError(
                f"Of {prediction.shape[1]} × {prediction.shape[0]} px, {max(inner, 0):.0f} camera pixels are left "
                f"inside the {self.trim} into which light from beyond the edge shines; 24 are needed to judge."
            )
        return trust_tiles(
            **self._seen(prediction, corner),
            illumination=settings.illumination,
            false_alarm=settings.false_alarm,
            tolerance=settings.tolerance,
        )

    def roc(self, prediction: NDArray[np.uint8], corner: tuple[int, int] = (0, 0), seed: int = 0) -> Roc:
        """How well such tiles find structures that were put into such a prediction, or left out."""
        return tiles_roc(**self._seen(prediction, corner), seed=seed)

    def _seen(self, prediction: NDArray[np.uint8], corner: tuple[int, int]) -> dict[str, Any]:
        """The prediction, the tiles on it and the microscope between them, in linear light."""
        return {
            "prediction": srgb_to_linear(prediction / np.float32(255)),
            "tiles": self._linear,
            "positions": self.positions - np.array(corner),
            "psfs": self._psfs,
            "scale": self.scale,
            "trim": self.trim,
        }

    @property
    def _fine_um(self) -> float:
        """Pixel of the prediction."""
        return self.camera_um / self.scale

    @property
    def _radius(self) -> int:
        """Of the point spread functions, in the prediction's pixels."""
        na = effective_na(self.na, self.condenser_na)
        return psf_radius(na, max(self.wavelengths_um), self._fine_um, self.camera_um, AIRY_RADII)

    # Every prediction is judged with the same tiles and optics, so both are made once.
    @cached_property
    def _psfs(self) -> list[NDArray[np.float64]]:
        return [
            brightfield_psf(self.na, self.condenser_na, w, self._fine_um, self.camera_um, self._radius)
            for w in self.wavelengths_um
        ]

    @cached_property
    def _linear(self) -> list[NDArray[np.float32]]:
        linear = [srgb_to_linear(tile / np.float32(255)) for tile in self.tiles]
        if self.flat_field is None:
            return linear
        # Illumination multiplies light, not encoded values: the flat field of the tiles' median grey, made linear.
        grey = np.median(np.stack([np.median(tile, axis=(0, 1)) for tile in self.tiles]), axis=0) / 255
        flat = srgb_to_linear(np.clip(self.flat_field * grey, 0, 1)) / srgb_to_linear(grey)
        return [image / flat for image in linear]
