"""One micrograph bent so that it lies on another, by the native engine or NanoJ."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.settings import Settings, setting
from dlm_fiji.steps.engines import require_engine

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from dlm_fiji.registration import Warp

__all__ = ["AlignSettings", "align"]


class AlignSettings(Settings):
    """Register: bend the image so that it lies on the reference."""

    schedule: Literal["fit", "shrinking-blocks", "growing-count", "sections"] = setting(
        "fit",
        "How the field is found: least squares, the papers' blocks (002, 004), or for serial sections in other stains "
        "a global alignment and a search for where tissue is",
    )
    min_similarity: float = setting(0.5, "Regions that correlate less have no vote", ge=0, le=1)
    engine: Literal["native", "fiji"] = setting("native", "native, or NanoJ-Core (the papers' schedules only)")


def align(
    image: xr.DataArray, reference: xr.DataArray, settings: AlignSettings | None = None, **changes: Any
) -> tuple[xr.DataArray, dict[str, Any]]:
    """``image`` on the pixels of ``reference``, and what the registration found.

    Parameters
    ----------
    image, reference
        Single images of one size; of any size with ``schedule="sections"``.
    settings, **changes
        :class:`AlignSettings` or its fields.

    Raises
    ------
    InputError
        The sizes differ, or no region agrees.
    ConfigurationError
        The engine does not have the schedule.
    SetupError
        The engine is not there.
    """
    from dlm_fiji.micrograph import from_array, pixel_size_um, to_array

    s = AlignSettings.of(settings, **changes)
    moving, fixed = to_array(image), to_array(reference)
    options = s.model_dump(exclude={"engine"})
    if s.schedule == "sections":
        if s.engine != "native":
            raise ConfigurationError("NanoJ-Core does not register sections; leave engine = 'native' for that.")
        warp = _sections(moving, fixed)
    elif s.engine == "native":
        from dlm_fiji.registration import register_elastic

        warp = register_elastic(moving, fixed, **options)
    else:
        require_engine("fiji", ("register",))
        from dlm_fiji.fiji import nanoj

        warp = nanoj.register_elastic(moving, fixed, **options)
    laid = warp.apply(moving, same_size=s.schedule != "sections")
    aligned = from_array(laid, like=image, pixel_um=pixel_size_um(reference))
    aligned.attrs["provenance"] = {"step": "register", "engine": warp.engine, **warp.record}
    return aligned, dict(warp.record)


def _sections(moving: np.ndarray, fixed: np.ndarray) -> Warp:
    """An affine map by optical density, then an elastic search, composed to one interpolation."""
    from dlm_fiji.registration import ElasticSettings, align_global, register_elastic

    rough = align_global(moving, fixed)
    elastic = register_elastic(rough.apply(moving), fixed, ElasticSettings.sections())
    record = {**elastic.record, "rotation_deg": rough.rotation, "scale": rough.scale}
    return replace(rough.warp().compose(elastic), engine=elastic.engine, record=record)
