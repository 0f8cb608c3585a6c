"""Enhance an image of any size with a model: exact tiles, any array type, DataArray in, DataArray out."""

from __future__ import annotations

import math
import os
import time
import warnings
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dlm_fiji.errors import DlmWarning, InputError
from dlm_fiji.inference.backends import Engine, choose_engines
from dlm_fiji.inference.choosing import choose
from dlm_fiji.inference.inference_settings import InferenceSettings
from dlm_fiji.inference.intensities import Scaling, scaling_for
from dlm_fiji.inference.model_files import Model, load_model
from dlm_fiji.inference.resampling import enlarged_coordinates, pixel_um_of, reduce_area, resampled_for
from dlm_fiji.inference.windows import Progress, enhance_windows, ratio_of

__all__ = ["predict", "prepare_model"]

ImageT = TypeVar("ImageT", np.ndarray, xr.DataArray)


def predict(
    model: Model | str | os.PathLike[str],
    image: ImageT,
    tile: int | str | None = "auto",
    passes: int = 1,
    *,
    settings: InferenceSettings | None = None,
    record: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> ImageT:
    """The image as the model enlarges it.

    Tiles overlap by the network's receptive radius and start on its grid, so the result does not depend on
    the tile: it differs from the untiled one by rounding only (1e-5 of the range and less).

    Parameters
    ----------
    model
        From :func:`load_model`, or a name or folder for it.
    image
        (H, W) or (H, W, C) array, or a DataArray with any of ``t z c y x``; 8 or 16 bits or float.
        Bright-field values are 8-bit sRGB over 255 to the network: other types are divided by their full
        scale (``full_scale``). A fluorescence image is scaled by its own background and 99.8th percentile,
        each channel once over the whole series, and comes back in its own units.
        A grey image goes through an RGB model as three equal channels, whose mean is returned; the channels
        of a colour image go through a one-channel model one by one.
    tile
        Edge of a tile with its overlap in input pixels, ``"auto"``, or ``"whole"``.
    passes
        Times the network is applied; each pass enlarges again unless ``keep_scale``.
    settings, **changes
        :class:`InferenceSettings`, or its fields as keywords.
    record
        A dict that takes what was done: model and SHA-256, backend, threads, tile, who chose them
        (``"chosen_by"``: settings, default, measured now, remembered), seconds.
    progress
        Called with (tiles done, tiles in all).

    Returns
    -------
    The same kind, type and axes, H → ⌈H·L⌉ and W → ⌈W·L⌉ for each pass. The coordinates of a DataArray keep
    the areas aligned: output pixel i has its centre at ((i + 0.5) / L - 0.5) input pixels.

    Raises
    ------
    InputError
        The image has another number of channels than the model, NaN, or no pixels.

    Notes
    -----
    Self-feeding: Rivenson et al. 2017, doi:10.1364/OPTICA.4.001437, figs. S5 and S6; the times of its Table S3
    say that the second pass enlarges again. The benefit shown there is not reproduced by the shipped
    brightfield-x2.5: one pass is closest to the label, further ones sharpen too far
    (``benchmarks/self_feeding.py``).
    """
    if settings is not None:  # an argument left at its default does not overrule the settings
        tile = settings.tile if tile == "auto" else tile
        passes = settings.passes if passes == 1 else passes
    settings = InferenceSettings.of(settings, tile="whole" if tile is None else tile, passes=passes, **changes)
    model = prepare_model(model)
    started = time.perf_counter()
    result: Any
    if isinstance(image, xr.DataArray):
        result = _predict_dataarray(model, image, settings, record, progress)
    else:
        array = np.asarray(image)
        if array.ndim not in (2, 3):
            raise InputError(f"An array of shape {array.shape} is no image; give (H, W) or (H, W, C), or a DataArray.")
        planes = array[None]
        result = _enhance(model, planes, settings, record, progress)[0]
    if record is not None:
        record["seconds"] = round(time.perf_counter() - started, 3)
    return result


def prepare_model(model: Model | str | os.PathLike[str]) -> Model:
    """``model`` itself, or the one of that name or folder."""
    return model if isinstance(model, Model) else load_model(model)


def _predict_dataarray(
    model: Model, image: xr.DataArray, settings: InferenceSettings, record: Any, progress: Progress | None
) -> xr.DataArray:
    if not {"y", "x"} <= set(image.dims) or set(image.dims) - set("tzcyx"):
        raise InputError(f"The image has dimensions {image.dims}; expected y, x and any of t, z, c.")
    pixel = pixel_um_of(image)
    na = image.attrs.get("na")
    concerns = model.card.concerns(pixel, float(na) if isinstance(na, (int, float)) else None)
    if settings.resample and pixel is not None and model.card.pixel_um is not None:
        image, concerns = resampled_for(image, pixel, model.card), []
    for sentence in concerns:
        warnings.warn(sentence, DlmWarning, stacklevel=4)

    dims: list[str] = [dim for dim in ("t", "z", "y", "x", "c") if dim in image.dims]
    values = image.transpose(*dims).values
    leading = values.shape[: dims.index("y")]
    planes = values.reshape(-1, *values.shape[len(leading) :])
    enlarged = _enhance(model, planes, settings, record, progress)
    enlarged = enlarged.reshape(*leading, *enlarged.shape[1:])

    total = ratio_of(model) ** (1 if settings.keep_scale else settings.passes)
    sizes = {dim: enlarged.shape[dims.index(dim)] for dim in "yx"}
    coords = enlarged_coordinates(image, sizes, float(total))
    attrs = dict(image.attrs)
    if "pixel_um" in attrs:
        attrs["pixel_um"] = tuple(float(v) / float(total) for v in np.broadcast_to(attrs["pixel_um"], 2))
    attrs |= {
        "computationally_enhanced": True,
        "model": model.name,
        "model_sha256": model.sha256,
        "enlargement": float(total),
        "passes": settings.passes,
    }
    result = xr.DataArray(enlarged, dims=dims, coords=coords, attrs=attrs, name=image.name)
    return result.transpose(*image.dims)


def _enhance(
    model: Model, planes: NDArray, settings: InferenceSettings, record: Any, progress: Progress | None
) -> NDArray:
    """Planes (N, H, W) or (N, H, W, C) → the same, enlarged; each channel has one scaling over all planes."""
    if planes.size == 0:
        raise InputError(f"The image has no pixels (shape {planes.shape[1:]}).")
    channels = planes.shape[3] if planes.ndim == 4 else 1
    if model.card.channels not in (1, channels) and channels != 1:
        raise InputError(
            f"Model {model.name!r} takes {model.card.channels} channels, the image has {channels}; "
            "choose the channels, or a model for one channel."
        )
    # The channels of a colour image share one scaling; those of a fluorescence image, run one by one, do not.
    groups = [[c] for c in range(channels)] if model.card.channels == 1 else [list(range(channels))]
    choice = choose(model, settings, math.prod(planes.shape[:3]) * len(groups))
    engines = choose_engines(model, choice.backend, settings.device, settings.precision, settings.threads)
    values = planes.reshape(*planes.shape[:3], channels)
    out: NDArray | None = None
    used = InferenceSettings.of(settings, tile=choice.tile)
    for group in groups:
        scaling = scaling_for(model.card, values[..., group], settings.full_scale)
        for n in range(values.shape[0]):
            plane = values[n][..., group]
            for p in range(settings.passes):
                last = p == settings.passes - 1
                dtype = planes.dtype if last else np.dtype(np.float32)
                step = Scaling(0.0, 1.0) if p else scaling
                final = scaling if last else Scaling(0.0, 1.0)
                plane, used = _one_pass(model, engines, plane, step, final, dtype, used, progress)
                if not last:
                    low, high = model.card.intensity_range
                    plane = np.clip(plane, low, high) if model.card.normalisation == "full scale" else plane
                    if settings.keep_scale:
                        plane = reduce_area(plane, ratio_of(model), values.shape[1:3])
            if out is None:
                out = np.empty((values.shape[0], *plane.shape[:2], channels), planes.dtype)
            out[n][..., group] = plane
    assert out is not None
    if record is not None:
        record.update(
            engines[0].description
            | {
                "devices": len(engines),
                "chosen_by": choice.source,
                "model": model.name,
                "model_sha256": model.sha256,
                "tile": used.tile,
                "passes": settings.passes,
            }
        )
    return out.reshape(*out.shape[:3], *planes.shape[3:])


def _one_pass(
    model: Model,
    engines: list[Engine],
    plane: NDArray,
    before: Scaling,
    after: Scaling,
    dtype: np.dtype,
    settings: InferenceSettings,
    progress: Progress | None,
) -> tuple[NDArray, InferenceSettings]:
    """One application of the network to a plane (H, W, C), halving the tile when memory runs out."""
    scale = ratio_of(model)
    shape = tuple(-(-n * scale.numerator // scale.denominator) for n in plane.shape[:2])
    out = np.empty((*shape, plane.shape[2]), dtype)

    def read(rows: slice, columns: slice) -> NDArray:
        return before.forward(plane[rows, columns])

    def write(rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
        out[rows, columns] = after.backward(block, dtype)

    tile = enhance_windows(model, engines, plane.shape[:2], read, write, settings.tile, progress)
    return out, InferenceSettings.of(settings, tile=tile if tile is not None else "whole")
