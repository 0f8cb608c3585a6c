"""One micrograph bent so that it lies on another, by the native engine or NanoJ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dlm_fiji.settings import Settings, setting
from dlm_fiji.steps.engines import require_engine

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["AlignSettings", "align"]


class AlignSettings(Settings):
    """Register: bend the image so that it lies on the reference."""

    schedule: Literal["fit", "shrinking-blocks", "growing-count"] = setting(
        "fit", "How the field is refined: least squares, or the papers' blocks (002, 004)"
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
        Single images of one size.
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
    options = s.model_dump(exclude={"engine"})
    if s.engine == "native":
        from dlm_fiji.registration import register_elastic

        warp = register_elastic(to_array(image), to_array(reference), **options)
    else:
        require_engine("fiji", ("register",))
        from dlm_fiji.fiji import nanoj

        warp = nanoj.register_elastic(to_array(image), to_array(reference), **options)
    aligned = from_array(warp.apply(to_array(image)), like=image, pixel_um=pixel_size_um(reference))
    aligned.attrs["provenance"] = {"step": "register", "engine": warp.engine, **warp.record}
    return aligned, dict(warp.record)
