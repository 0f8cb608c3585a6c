"""Where an enhanced micrograph contradicts the one it was made from: SQUIRREL's error map, by either engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.settings import Settings, setting

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ErrorMapSettings", "contradictions"]


class ErrorMapSettings(Settings):
    """Error map: where an enhanced image contradicts the image it was made from."""

    enlargement: int = setting(0, "Pixels of the enhanced image to one of the reference; 0 finds it", ge=0, le=16)
    engine: Literal["native", "fiji"] = setting("native", "native, or NanoJ-SQUIRREL itself (slow)")


def contradictions(
    image: xr.DataArray, reference: xr.DataArray, settings: ErrorMapSettings | None = None, **changes: Any
) -> tuple[xr.DataArray, dict[str, float]]:
    """The map of the error, on the enhanced image's pixels or nearly, and its figures.

    Parameters
    ----------
    image, reference
        The enhanced image and the one it was made from; colour counts as the mean of its channels.
    settings, **changes
        :class:`ErrorMapSettings` or its fields.

    Returns
    -------
    map, figures
        The map in the reference's counts, and ``rse``, ``rsp``, ``alpha``, ``beta``, ``sigma``.

    Raises
    ------
    InputError
        A stack, or images of different fields.
    SetupError
        The engine is not there.
    """
    from dlm_fiji.micrograph import from_array, pixel_size_um
    from dlm_fiji.registration import resample

    s = ErrorMapSettings.of(settings, **changes)
    a, b = _grey(image), _grey(reference)
    if abs(a.shape[0] / b.shape[0] - a.shape[1] / b.shape[1]) > 0.05:
        raise InputError(f"The images of {a.shape} and {b.shape} px do not show the same field.")
    factor = s.enlargement or max(1, round(a.shape[0] / b.shape[0]))
    target = (b.shape[0] * factor, b.shape[1] * factor)
    if a.shape != target:
        # The measure wants whole blocks; 2.5 times enlarged images are brought to the nearest whole factor.
        a = resample(a, target[0] / a.shape[0])[: target[0], : target[1]]
        if a.shape != target:
            a = np.pad(a, [(0, t - n) for t, n in zip(target, a.shape, strict=True)], mode="edge")
    if s.engine == "native":
        from dlm_fiji.measures import error_map

        found = error_map(a, b)
    else:
        from dlm_fiji.fiji import squirrel

        found = squirrel.error_map(a, b)
    pixel = pixel_size_um(reference)
    where = from_array(found.map, pixel_um=None if pixel is None else (pixel[0] / factor, pixel[1] / factor))
    figures = {"rse": found.rse, "rsp": found.rsp, "alpha": found.alpha, "beta": found.beta, "sigma": found.sigma}
    where.attrs["provenance"] = {"step": "error map", "engine": s.engine, **figures}
    return where, figures


def _grey(image: xr.DataArray) -> np.ndarray:
    from dlm_fiji.micrograph import to_array

    if set(image.dims) - set("cyx"):
        raise InputError("An error map is made of single images, not of stacks; duplicate one slice first.")
    values = to_array(image).astype(np.float32)
    return values if values.ndim == 2 else values.mean(axis=-1)
