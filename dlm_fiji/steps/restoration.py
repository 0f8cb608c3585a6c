"""Richardson-Lucy deconvolution of a micrograph with the point spread function of its objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.fiji import takes_imageplus
from dlm_fiji.settings import Settings, setting

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["COLOURS_UM", "DeconvolveSettings", "LucySettings", "deconvolve", "enlarge"]

#: Centres of the colour channels of bright-field images, µm, as in the demo's virtual microscope.
COLOURS_UM = (0.630, 0.532, 0.450)

Progress = Callable[[int, int], Any]


class LucySettings(Settings):
    """The optics and the number of iterations, for every door to Richardson-Lucy."""

    na: float = setting(0.4, "Numerical aperture of the objective", gt=0, le=1.7)
    condenser_na: float = setting(0.3, "Aperture of the condenser (bright field only)", ge=0, le=1.7)
    wavelength_um: float = setting(0.52, "Wavelength of a fluorescence channel", unit="µm", gt=0.2, lt=2)
    pixel_um: float = setting(0.0, "Pixel size, where the image has none", unit="µm", ge=0, le=20)
    iterations: int = setting(10, "Iterations of Richardson-Lucy", ge=1, le=500, source="Wang et al. 2019")


class DeconvolveSettings(LucySettings):
    """Deconvolve: Richardson-Lucy with a Born & Wolf point spread function."""

    scale: float = setting(1.0, "Enlargement before the first iteration", ge=1, le=5)
    damping: float = setting(0.0, "Damping, as a part of the maximum (fluorescence only)", ge=0, le=1)


@takes_imageplus("deconvolved")
def deconvolve(
    image: xr.DataArray,
    settings: DeconvolveSettings | None = None,
    *,
    progress: Progress | None = None,
    **changes: Any,
) -> xr.DataArray:
    """Richardson-Lucy deconvolution, plane by plane; RGB of 8 bits in linear light, channels as they are.

    Parameters
    ----------
    image
        Any micrograph; with a pixel size, unless ``pixel_um`` is given.
    settings, **changes
        :class:`DeconvolveSettings` or its fields.
    progress
        Called with iterations done and all of them.

    Returns
    -------
    xarray.DataArray
        Of the type of ``image``, enlarged by ``scale``; ``attrs["provenance"]`` says how it was made.

    Raises
    ------
    InputError
        The pixel size is not known, or the image is too small.
    """
    from dlm_fiji.micrograph import from_array, is_rgb

    s = DeconvolveSettings.of(settings, **changes)
    pixel = _pixel_um(image, s.pixel_um)
    rgb8 = is_rgb(image) and image.dtype == np.uint8
    planes = _planes(image)
    done: list[np.ndarray] = []
    for number, plane in enumerate(planes):

        def told(iteration: int, number: int = number) -> None:
            if progress is not None:
                progress(number * s.iterations + iteration, len(planes) * s.iterations)

        done.append((_brightfield if rgb8 else _channels)(plane, pixel, s, told))
    full = np.stack(done).reshape(*[image.sizes[d] for d in "tz" if d in image.dims], *done[0].shape)
    result = from_array(full, pixel_um=pixel / s.scale, like=image, dims=_plane_dims(image))
    result.attrs["provenance"] = {
        "step": "deconvolve",
        "engine": "native",
        "note": "computationally enhanced",
        **s.model_dump(),
        "pixel_um": pixel,
    }
    return result


def enlarge(image: xr.DataArray, scale: float) -> xr.DataArray:
    """Bicubic enlargement by ``scale``, of the same type: what the other results are compared with."""
    from dlm_fiji.micrograph import from_array, pixel_size_um
    from dlm_fiji.registration import resample

    planes = []
    for plane in _planes(image):
        large = resample(plane.astype(np.float32), scale)
        if np.issubdtype(image.dtype, np.integer):
            large = np.clip(np.rint(large), 0, np.iinfo(image.dtype).max)
        planes.append(large.astype(image.dtype))
    full = np.stack(planes).reshape(*[image.sizes[d] for d in "tz" if d in image.dims], *planes[0].shape)
    pixel = pixel_size_um(image)
    if pixel is None:
        names = [str(name) for name in image.coords["c"].values] if "c" in image.coords else None
        return from_array(full, dims=_plane_dims(image), channels=names)
    size = (pixel[0] / scale, pixel[1] / scale)
    return from_array(full, pixel_um=size, like=image, dims=_plane_dims(image))


def _pixel_um(image: xr.DataArray, given: float) -> float:
    from dlm_fiji.micrograph import pixel_size_um

    pixel = pixel_size_um(image)
    if pixel is None and not given:
        raise InputError(
            "The image has no pixel size, which the point spread function needs: set it (in Fiji: Image > "
            "Properties...) or give pixel_um."
        )
    return float(np.mean(pixel)) if pixel is not None else given


def _plane_dims(image: xr.DataArray) -> list[str]:
    return [d for d in ("t", "z", "y", "x", "c") if d in image.dims]


def _planes(image: xr.DataArray) -> list[np.ndarray]:
    """The (H, W[, C]) planes of an image over t and z."""
    from dlm_fiji.micrograph import to_array

    values = to_array(image)
    tail = 3 if "c" in image.dims else 2
    return list(values.reshape(-1, *values.shape[values.ndim - tail :]))


def _brightfield(plane: np.ndarray, pixel: float, s: DeconvolveSettings, told: Callable[[int], None]) -> np.ndarray:
    from dlm_fiji.steps.brightfield_lucy import brightfield_psf, deconvolve_brightfield

    fine = pixel / s.scale
    psfs = [brightfield_psf(s.na, s.condenser_na, wave, fine, pixel) for wave in COLOURS_UM]
    result = plane
    for number, estimate in enumerate(deconvolve_brightfield(plane, psfs, s.scale, s.iterations), start=1):
        told(number)
        result = estimate
    return result


def _channels(plane: np.ndarray, pixel: float, s: DeconvolveSettings, told: Callable[[int], None]) -> np.ndarray:
    from dlm_fiji.deconvolution import richardson_lucy
    from dlm_fiji.microscope import born_wolf
    from dlm_fiji.registration import resample
    from dlm_fiji.steps.brightfield_lucy import psf_radius

    fine = pixel / s.scale
    radius = min(psf_radius(s.na, s.wavelength_um, fine, pixel), (min(plane.shape[:2]) - 1) // 2)
    psf = born_wolf(s.na, s.wavelength_um, fine, (2 * radius + 1,) * 2, max(1.0, s.na), camera_pixel_um=pixel)
    channels = plane[..., None] if plane.ndim == 2 else plane
    done = []
    for c in range(channels.shape[-1]):
        values = channels[..., c].astype(np.float32)
        if s.scale != 1:
            values = np.maximum(resample(values, s.scale), 0)
        done.append(
            richardson_lucy(
                np.ascontiguousarray(values),
                psf,
                s.iterations,
                damping=s.damping,
                callback=lambda number, _: told(number),
            )
        )
    result = np.stack(done, axis=-1) if plane.ndim == 3 else done[0]
    if np.issubdtype(plane.dtype, np.integer):
        result = np.clip(np.rint(result), 0, np.iinfo(plane.dtype).max)
    return result.astype(plane.dtype)
