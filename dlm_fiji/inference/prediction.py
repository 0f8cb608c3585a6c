"""Enhance an image of any size with a model: exact tiles, any array type, DataArray in, DataArray out."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from dlm_fiji.errors import DlmWarning, InputError, SetupError
from dlm_fiji.inference.backends import Engine, choose_engine
from dlm_fiji.inference.card import ModelCard
from dlm_fiji.inference.intensities import Scaling, scaling_for
from dlm_fiji.inference.model_files import Model, load_model
from dlm_fiji.inference.tiling import Tile, plan_tiles
from dlm_fiji.settings import Settings, setting

__all__ = ["InferenceSettings", "enhance_windows", "predict", "prepare_model"]

ImageT = TypeVar("ImageT", np.ndarray, xr.DataArray)
Progress = Callable[[int, int], None]
Read = Callable[[slice, slice], NDArray]
Write = Callable[[slice, slice, NDArray[np.float32]], None]


class InferenceSettings(Settings):
    """How a model is run; nothing here changes the result by more than 1e-4 of the range, but passes do."""

    tile: int | Literal["auto", "whole"] = setting("auto", "pixels of a tile with its overlap", unit="px")
    passes: int = setting(1, "times the output is fed back in", source="000, self-feeding", ge=1, le=5)
    keep_scale: bool = setting(False, "reduce to the input's pixels before each further pass")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = setting(
        "auto", "what computes the network"
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "number type of the network")
    threads: int | None = setting(None, "CPU threads; empty for the library's choice", ge=1)
    full_scale: float | None = setting(None, "value of a full pixel, such as 4095 for 12 bits", gt=0)
    resample: bool = setting(False, "resample an image whose pixel size the model was not trained for")


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
        A dict that takes what was done: model and SHA-256, backend, threads, tile, seconds.
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
    Self-feeding: Rivenson et al. 2017, doi:10.1364/OPTICA.4.001437, figs. S5 and S6.
    """
    if settings is not None and tile == "auto" and passes == 1:
        tile, passes = settings.tile, settings.passes
    settings = InferenceSettings.of(
        settings, tile="whole" if tile is None else tile, passes=passes, **changes
    )
    model = prepare_model(model)
    started = time.perf_counter()
    result: Any
    if isinstance(image, xr.DataArray):
        result = _predict_dataarray(model, image, settings, record, progress)
    else:
        array = np.asarray(image)
        if array.ndim not in (2, 3):
            raise InputError(
                f"An array of shape {array.shape} is no image; give (H, W) or (H, W, C), or a DataArray."
            )
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
    pixel = _pixel_um(image)
    na = image.attrs.get("na")
    concerns = model.card.concerns(pixel, float(na) if isinstance(na, (int, float)) else None)
    if settings.resample and pixel is not None and model.card.pixel_um is not None:
        image, concerns = _resampled(image, pixel, model.card), []
    for sentence in concerns:
        warnings.warn(sentence, DlmWarning, stacklevel=4)

    dims = [dim for dim in ("t", "z", "y", "x", "c") if dim in image.dims]
    values = image.transpose(*dims).values
    leading = values.shape[: dims.index("y")]
    planes = values.reshape(-1, *values.shape[len(leading) :])
    enlarged = _enhance(model, planes, settings, record, progress)
    enlarged = enlarged.reshape(*leading, *enlarged.shape[1:])

    total = Fraction(model.scale).limit_denominator(16) ** (1 if settings.keep_scale else settings.passes)
    coords: dict[str, Any] = {k: v for k, v in image.coords.items() if not {"y", "x"} & set(v.dims)}
    for dim in ("y", "x"):
        if dim in image.coords and image.sizes[dim] > 1:
            old = image.coords[dim]
            size = enlarged.shape[dims.index(dim)]
            positions = np.asarray(old.values, float)
            step = (positions[-1] - positions[0]) / (positions.size - 1)
            new = positions[0] + ((np.arange(size) + 0.5) / float(total) - 0.5) * step
            coords[dim] = (dim, new, dict(old.attrs))
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
    engine = choose_engine(model, settings.backend, settings.device, settings.precision, settings.threads)
    values = planes.reshape(*planes.shape[:3], channels)
    # The channels of a colour image share one scaling; those of a fluorescence image, run one by one, do not.
    groups = [[c] for c in range(channels)] if model.card.channels == 1 else [list(range(channels))]
    out: NDArray | None = None
    done, used = 0, settings
    for group in groups:
        scaling = scaling_for(model.card, values[..., group], settings.full_scale)
        for n in range(values.shape[0]):
            plane = values[n][..., group]
            for p in range(settings.passes):
                last = p == settings.passes - 1
                dtype = planes.dtype if last else np.dtype(np.float32)
                step = Scaling(0.0, 1.0) if p else scaling
                final = scaling if last else Scaling(0.0, 1.0)
                plane, used = _one_pass(model, engine, plane, step, final, dtype, used, progress)
                if not last:
                    low, high = model.card.intensity_range
                    plane = np.clip(plane, low, high) if model.card.normalisation == "full scale" else plane
                    if settings.keep_scale:
                        plane = reduce_area(
                            plane, Fraction(model.scale).limit_denominator(16), values.shape[1:3]
                        )
            if out is None:
                out = np.empty((values.shape[0], *plane.shape[:2], channels), planes.dtype)
            out[n][..., group] = plane
            done += 1
    assert out is not None
    if record is not None:
        record.update(
            engine.description
            | {
                "model": model.name,
                "model_sha256": model.sha256,
                "tile": used.tile,
                "passes": settings.passes,
            }
        )
    return out.reshape(*out.shape[:3], *planes.shape[3:])


def _one_pass(
    model: Model,
    engine: Engine,
    plane: NDArray,
    before: Scaling,
    after: Scaling,
    dtype: np.dtype,
    settings: InferenceSettings,
    progress: Progress | None,
) -> tuple[NDArray, InferenceSettings]:
    """One application of the network to a plane (H, W, C), halving the tile when memory runs out."""
    scale = Fraction(model.scale).limit_denominator(16)
    shape = tuple(-(-n * scale.numerator // scale.denominator) for n in plane.shape[:2])
    out = np.empty((*shape, plane.shape[2]), dtype)

    def read(rows: slice, columns: slice) -> NDArray:
        return before.forward(plane[rows, columns])

    def write(rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
        out[rows, columns] = after.backward(block, dtype)

    tile = enhance_windows(model, engine, plane.shape[:2], read, write, settings.tile, progress)
    return out, InferenceSettings.of(settings, tile=tile if tile is not None else "whole")


def enhance_windows(
    model: Model,
    engine: Engine,
    shape: tuple[int, ...],
    read: Read,
    write: Write,
    tile: int | str = "auto",
    progress: Progress | None = None,
) -> int | None:
    """The network over an image that is read and written in windows.

    Parameters
    ----------
    shape
        Rows and columns of the input.
    read
        (rows, columns) slices of the input → (h, w, C) float32 in the network's values.
    write
        Takes (rows, columns) slices of the output and an (h', w', C) float32 block; called once an output
        pixel, in rows of tiles from the top (again from the top after memory ran out).
    tile
        As in :func:`predict`.

    Returns
    -------
    The tile that was used; None for the whole image at once.
    """
    edge = tile_edge(tile, engine, shape)
    grid, radius = int(model.network.grid), int(model.network.receptive_radius)  # type: ignore[arg-type]
    scale = Fraction(model.scale).limit_denominator(16)
    while True:
        tiles = plan_tiles((shape[0], shape[1]), edge, radius, grid)
        try:
            for index, window in enumerate(tiles):
                block = _run(engine, model, read(*window.source()))
                write(*window.target(scale), block[window.kept(scale)])
                if progress is not None:
                    progress(index + 1, len(tiles))
            return edge
        except (MemoryError, RuntimeError) as error:
            smaller = _smaller_tile(error, edge, tiles, radius, grid)
            was = edge or "the whole image"
            text = f"Memory ran out with tiles of {was}; going on with tiles of {smaller} px."
            warnings.warn(text, DlmWarning, stacklevel=3)
            edge = smaller
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def tile_edge(tile: int | str, engine: Engine, shape: tuple[int, ...]) -> int | None:
    """Pixels of a tile's edge for a setting; None for the whole image."""
    if tile == "whole":
        return None
    if tile == "auto":
        # Measured: larger tiles do not pay on a CPU, and 512 px keep a worker below 0.7 GB.
        on_cpu = engine.description["device"] == "cpu"
        edge = 512 if on_cpu else 2048
        return None if max(shape[:2]) <= edge else edge
    return int(tile)


def _run(engine: Engine, model: Model, window: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = window.shape[2] == 1 and model.card.channels > 1
    if grey:
        window = np.repeat(window, model.card.channels, axis=2)
    block = engine(np.ascontiguousarray(window.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
    return block.mean(axis=2, keepdims=True, dtype=np.float32) if grey else block


def _smaller_tile(error: Exception, edge: int | None, tiles: list[Tile], radius: int, grid: int) -> int:
    text = str(error).lower()
    is_memory = (
        isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in text or "alloc" in text
    )
    if not is_memory:
        raise error
    largest = max(stop - start for t in tiles for start, stop in t.window)
    smaller = min(edge or largest, largest) // 2
    if smaller < 2 * (radius + grid) + grid:
        raise SetupError(
            f"Not even a tile of {largest} pixels fits into memory; close other programs or choose another "
            "device."
        ) from error
    return smaller


def reduce_area(image: NDArray, scale: Fraction, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``image`` (H', W', C) averaged over areas of ``scale`` pixels back to ``shape`` (H, W): exact pixel "
    "areas."""
    rows, columns = (_area_weights(n, m, float(scale)) for n, m in zip(shape, image.shape, strict=False))
    return np.einsum("ip,pqc,jq->ijc", rows, image, columns, optimize=True).astype(np.float32)


def _area_weights(out: int, inn: int, scale: float) -> NDArray[np.float32]:
    edges = np.arange(out + 1) * scale
    lower = np.maximum(edges[:-1, None], np.arange(inn)[None])
    upper = np.minimum(edges[1:, None], np.arange(1, inn + 1)[None])
    weights = np.clip(upper - lower, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _pixel_um(image: xr.DataArray) -> float | None:
    if "x" in image.coords and image.sizes["x"] > 1:
        x = np.asarray(image.coords["x"].values, float)
        return float(x[-1] - x[0]) / (x.size - 1)
    return None


def _resampled(image: xr.DataArray, pixel: float, card: ModelCard) -> xr.DataArray:
    """The image with the nearest pixel size that ``card`` allows; cubic, after a blur where it shrinks."""
    from skimage.transform import resize

    assert card.pixel_um is not None
    wanted = float(np.clip(pixel, *card.pixel_um))
    if abs(wanted / pixel - 1) < 0.02:
        return image
    ratio = pixel / wanted
    dims = [*(d for d in image.dims if d not in "yx"), "y", "x"]
    values = image.transpose(*dims).values
    shape = [max(1, round(n * ratio)) for n in values.shape[-2:]]
    flat = values.reshape(-1, *values.shape[-2:]).astype(np.float32)
    flat = np.stack(
        [resize(plane, shape, order=3, mode="reflect", anti_aliasing=ratio < 1) for plane in flat]
    )
    if values.dtype.kind in "ui":
        limits = np.iinfo(values.dtype)
        flat = np.clip(np.rint(flat), limits.min, limits.max)
    coords: dict[str, Any] = {k: v for k, v in image.coords.items() if not {"y", "x"} & set(v.dims)}
    for dim, size in zip("yx", shape, strict=True):
        old = np.asarray(image.coords[dim].values, float) if dim in image.coords else None
        if old is not None and old.size > 1:
            step = (old[-1] - old[0]) / (old.size - 1)
            new = old[0] + ((np.arange(size) + 0.5) * old.size / size - 0.5) * step
            coords[dim] = (dim, new, dict(image.coords[dim].attrs))
    attrs = dict(image.attrs) | {"resampled_from_um": pixel}
    if "pixel_um" in attrs:
        attrs["pixel_um"] = (wanted, wanted)
    out = xr.DataArray(
        flat.reshape(*values.shape[:-2], *shape).astype(values.dtype), dims=dims, coords=coords, attrs=attrs
    )
    return out.transpose(*image.dims)
