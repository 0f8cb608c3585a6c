"""The image of a better lens: a network applied to a micrograph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray as xr

from dlm_fiji.fiji import takes_imageplus
from dlm_fiji.inference import Model, predict

__all__ = ["enhance"]


@takes_imageplus("enhanced")
def enhance(
    image: xr.DataArray,
    model: Model | str = "brightfield-x2.5",
    *,
    passes: int = 1,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> xr.DataArray:
    """The enhanced image; ``attrs["provenance"]`` says by which model, backend and version.

    In Fiji's Python mode ``image`` may be an ``ij.ImagePlus``; then the result is one too, titled ``NAME [enhanced]``.

    Raises
    ------
    InputError
        The image does not suit the model.
    SetupError
        The model is not there.
    """
    record: dict[str, Any] = {}
    enhanced = predict(model, image, passes=passes, record=record, progress=progress, **changes)
    enhanced.attrs["provenance"] = {"step": "enhance", "note": "computationally enhanced", **record}
    return enhanced
