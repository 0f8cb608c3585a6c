"""A fluorescence prediction judged without a label: blurred by the microscope, it must give the camera's image back.

Where numerical aperture and wavelength (or the width of the point spread function) are known, that is the blur. Where
they are not, a Gaussian is fitted, as SQUIRREL does: then a prediction that is too sharp or too smooth everywhere is
not noticed. A wide-field image also holds light from out of focus, which a prediction rightly lacks; it is fitted as
a share of the same image, blurred widely. That is a coarse model of it, so a tolerance belongs to the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from dlm_fiji.errors import InputError
from dlm_fiji.measures import Roc, Trust, tiles_roc, trust_tiles
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.microscope import born_wolf, gaussian_psf
from dlm_fiji.settings import Settings, setting
from dlm_fiji.steps.brightfield_lucy import psf_radius

__all__ = ["FluorescenceCamera", "FluorescenceTrustSettings", "Lens", "gaussian_lens", "optical_psf"]

_FWHM = 2.3548
_LARGEST = 600
"""Camera pixels a side, in the middle of the image, on which a lens is fitted."""
_LEAST_HAZE = 0.01
"""Share of the light below which none is called out of focus."""
_TRIM = 10
"""Label pixels at the edge that are not judged."""


class FluorescenceTrustSettings(Settings):
    """How a fluorescence prediction is judged."""

    tolerance: float = setting(
        0.2,
        "deviations lower than this share of the brightness there, above the background, are not flagged",
        ge=0,
        le=5,
        source="SIM and wide field of one BioSR field: 0.7 % of the regions differ by more",
    )
    false_alarm: float = setting(0.008, "share of regions that noise alone may flag", gt=0, lt=0.5)


@dataclass(frozen=True)
class Lens:
    """A point spread function on the prediction's pixels, haze and camera pixel included, and where it comes from."""

    psf: NDArray[np.float64]
    sentence: str


def optical_psf(na: float, wavelength_um: float, pixel_um: float, camera_um: float) -> NDArray[np.float64]:
    """In-focus Born-Wolf point spread function on pixels of ``pixel_um``, the camera pixel in it; four Airy radii."""
    side = 2 * psf_radius(na, wavelength_um, pixel_um, camera_um, airy_radii=4) + 1
    # In focus only λ / NA counts; the index has to allow the aperture.
    index = 1.0 if na < 1 else 1.518
    return born_wolf(na, wavelength_um, pixel_um, (side, side), refractive_index=index, camera_pixel_um=camera_um)


def gaussian_lens(sigma: float, scale: int) -> NDArray[np.float64]:
    """A Gaussian of ``sigma`` prediction pixels; where ``scale`` of these make a camera pixel, that pixel is in it."""
    side = 2 * int(np.ceil(4 * sigma + scale / 2)) + 1
    return gaussian_psf(_FWHM * sigma, 1.0, (side, side), camera_pixel_um=float(scale) if scale > 1 else None)


@dataclass(frozen=True)
class FluorescenceCamera:
    """One image as the camera gave it, and the microscope that took it.

    Attributes
    ----------
    image
        (rows, columns), any offset; its 0.1st percentile is taken for the background.
    scale
        Pixels of the prediction in a camera pixel.
    psf
        On the prediction's pixels, the camera pixel in it; None fits a Gaussian to each prediction.
    given
        What the point spread function is, in words.
    haze
        Fit light from out of focus.
    """

    image: NDArray[Any]
    scale: int = 1
    psf: NDArray[np.float64] | None = None
    given: str = "the point spread function that was given"
    haze: bool = True
    _lenses: dict[int, Lens] = field(default_factory=dict, repr=False, compare=False)

    @property
    def trim(self) -> int:
        """Camera pixels at the edge that are not judged."""
        return int(np.ceil(_TRIM / self.scale))

    def describe(self, prediction: NDArray[Any]) -> str:
        """What a prediction is judged by, for the report."""
        return f"the image as the camera gave it; {self.lens(prediction).sentence}"

    def judge(
        self,
        prediction: NDArray[Any],
        corner: tuple[int, int] = (0, 0),
        settings: FluorescenceTrustSettings | None = None,
    ) -> Trust:
        """Judge a prediction, (H, W) of any scale of values, whose first camera pixel is the image's ``corner``.

        Raises
        ------
        InputError
            The prediction does not show the image's field, or is too small to be judged.
        """
        s = settings or FluorescenceTrustSettings()
        return trust_tiles(
            **self._seen(prediction, corner),
            illumination=0,
            false_alarm=s.false_alarm,
            tolerance=s.tolerance,
        )

    def roc(self, prediction: NDArray[Any], corner: tuple[int, int] = (0, 0), seed: int = 0) -> Roc:
        """How well this image's noise lets structures be found that were put into such a prediction, or left out."""
        return tiles_roc(**self._seen(prediction, corner), seed=seed)

    def lens(self, prediction: NDArray[Any]) -> Lens:
        """The blur between a prediction of the whole image and the image; fitted once for each prediction."""
        key = hash(np.ascontiguousarray(prediction).tobytes())
        if key not in self._lenses:
            self._lenses[key] = self._fitted(np.asarray(prediction, float))
        return self._lenses[key]

    def _seen(self, prediction: NDArray[Any], corner: tuple[int, int]) -> dict[str, Any]:
        return {
            "prediction": prediction,
            "tiles": [self._above],
            "positions": -np.array([corner], float),
            "psfs": [self.lens(prediction).psf],
            "scale": self.scale,
            "trim": self.trim,
        }

    @property
    def _above(self) -> NDArray[Any]:
        """The image above its background, so that a share of its mean is a share of light."""
        return np.asarray(self.image, float) - np.percentile(self.image, 0.1)

    def _fitted(self, prediction: NDArray[Any]) -> Lens:
        size = tuple(n * self.scale for n in self.image.shape)
        if prediction.shape != size:
            raise InputError(
                f"The prediction is {prediction.shape}, not {size} px: it shows another field than the image."
            )
        middle = tuple(slice((n - min(n, _LARGEST)) // 2, (n + min(n, _LARGEST)) // 2) for n in self.image.shape)
        image = self._above[middle]
        rows, columns = self.image.shape
        gathered = prediction.reshape(rows, self.scale, columns, self.scale).mean((1, 3))[middle]
        if self.psf is None:

            def seen(sigma: float) -> NDArray[Any]:
                return gaussian_filter(gathered, sigma)

            start = [np.log(1.5)]
        else:
            known = ForwardModel(self.psf, prediction.shape, self.image.shape, self.scale)(prediction)[middle]

            def seen(sigma: float) -> NDArray[Any]:
                return known

            start = []
        widths, share = _best_widths(seen, start, image, self.haze)
        # Camera pixels to the prediction's.
        wide = widths.pop() * self.scale if self.haze else 0.0
        if self.psf is None:
            narrow = widths[0] * self.scale
            core = gaussian_lens(narrow, self.scale)
            words = f"a Gaussian of σ {narrow:.2f} px was fitted, so an error of the blur everywhere cannot be seen"
        else:
            core, words = self.psf, self.given
        if share > 0:
            words += f"; {share:.0%} of the light fitted as out of focus (σ {wide:.0f} px)"
        return Lens(_with_haze(core, wide, share, min(prediction.shape)), words)


def _best_widths(
    seen: Callable[[float], NDArray[Any]], start: list[Any], image: NDArray[Any], haze: bool
) -> tuple[list[float], float]:
    """Widths in camera pixels, the haze's last, and the haze's share of the light."""
    if not start and not haze:
        return [], 0.0

    def fit(widths: NDArray[Any]) -> tuple[float, float]:
        narrow = seen(float(widths[0]) if start else 0.0)
        wide = gaussian_filter(narrow, float(widths[-1]), truncate=3) if haze else None
        return _fit_haze(narrow, wide, image)

    def cost(logarithms: NDArray[Any]) -> float:
        widths = np.exp(logarithms)
        # Beyond these the haze is an even ground, or the core another haze.
        if widths[-1] > (40 if haze else 20) or widths[0] < 0.3 or (haze and start and widths[-1] < 2 * widths[0]):
            return float(np.mean(image**2)) * 10
        return fit(widths)[0]

    guess = np.array(start + ([np.log(8.0)] if haze else []))
    found = minimize(
        cost, guess, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-4 * image.var(), "maxiter": 80}
    )
    widths = np.exp(found.x)
    return widths.tolist(), fit(widths)[1]


def _fit_haze(narrow: NDArray[Any], wide: NDArray[Any] | None, image: NDArray[Any]) -> tuple[float, float]:
    """Mean squared residual of the best sum of both and a constant, and the wide one's share; none is negative."""
    for parts in ([narrow, wide], [narrow]) if wide is not None else ([narrow],):
        columns = np.stack([*(part.ravel() for part in parts), np.ones(image.size)], 1)  # type: ignore[union-attr]
        weights = np.linalg.lstsq(columns.T @ columns, columns.T @ image.ravel(), rcond=None)[0]
        if (weights[:-1] >= 0).all():
            break
    left = float(np.mean((image.ravel() - columns @ weights) ** 2))
    light = weights[:-1].sum()
    share = float(weights[1] / light) if len(parts) == 2 and light > 0 else 0.0
    # Less than that is no haze, but an uneven ground.
    return left, share if share >= _LEAST_HAZE else 0.0


def _with_haze(core: NDArray[Any], wide: float, share: float, largest: int) -> NDArray[np.float64]:
    core = core / core.sum()
    if share <= 0:
        return core
    reach = min(int(np.ceil(3 * wide)), (largest - max(core.shape)) // 2 - 1)
    frame = np.pad(core, max(reach, 0))
    haze = gaussian_filter(frame, wide, mode="constant", truncate=3)
    return (1 - share) * frame + share * haze / haze.sum()
