"""Files in, files out: small images whole, large ones in windows from and to the disk."""

from __future__ import annotations

import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import ConfigurationError, DlmWarning, InputError
from dlm_fiji.inference.backends import choose_engines
from dlm_fiji.inference.choosing import choose
from dlm_fiji.inference.inference_settings import InferenceSettings
from dlm_fiji.inference.intensities import PERCENTILES, SAMPLES, Scaling, full_scale_of
from dlm_fiji.inference.model_files import Model
from dlm_fiji.inference.prediction import predict, prepare_model
from dlm_fiji.inference.recommendation import warn_of_modality
from dlm_fiji.inference.windows import Progress, enhance_windows, ratio_of
from dlm_fiji.micrograph import PyramidWriter, RegionReader, open_image, open_region_reader, save_image

__all__ = ["is_large", "predict_file", "stream_file"]

LARGE = 64_000_000
"""Pixels (rows by columns) from which a file is streamed."""
BLOCK = 2048


def predict_file(
    model: Model | str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: InferenceSettings | None = None,
    progress: Progress | None = None,
    stream: bool | None = None,
    finishing: Progress | None = None,
) -> dict[str, Any]:
    """Enhance the image in ``source`` into ``target`` (written whole or not at all); what was done is
    returned.

    Parameters
    ----------
    stream
        Read and write in windows; by default where the image has more than 64 million pixels and is no stack.
    finishing
        As for :func:`stream_file`.
    """
    model = prepare_model(model)
    settings = InferenceSettings.of(settings)
    if stream is None:
        stream = is_large(source)
    if stream:
        return stream_file(model, source, target, settings, progress, finishing)
    record: dict[str, Any] = {}
    image = open_image(source)
    warn_of_modality(model, image)
    enhanced = predict(model, image, settings=settings, record=record, progress=progress)
    save_image(enhanced, target, provenance=record | {"source": Path(source).name, "step": "enhance"})
    return record


def stream_file(
    model: Model | str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: InferenceSettings | None = None,
    progress: Progress | None = None,
    finishing: Progress | None = None,
) -> dict[str, Any]:
    """Enhance an image that need not fit into memory.

    Memory holds a tile and its output, and some 0.2 GB for the formats. Values are scaled
    once an image: an image whose scale has to be measured (fluorescence, float) is read once more for that.

    Parameters
    ----------
    source
        Tiled TIFF, OME-TIFF, SVS or OME-Zarr of two dimensions, with or without channels.
    target
        ``.ome.tif`` or ``.ome.zarr``; both become pyramids. While it is written the uncompressed pixels lie
        beside it.
    progress, finishing
        Called with (done, in all): tiles enhanced, and then blocks of the levels made and compressed.

    Raises
    ------
    ConfigurationError
        ``passes`` above 1 or ``resample``: run the command again on its output instead.
    """
    model = prepare_model(model)
    settings = InferenceSettings.of(settings)
    if settings.passes > 1 or settings.resample:
        raise ConfigurationError(
            "A streamed image gets one pass and no resampling; run the command again on its output for a second pass."
        )
    started = time.perf_counter()
    with open_region_reader(source) as reader:
        channels = reader.shape[2] if len(reader.shape) == 3 else 1
        if channels not in (1, model.card.channels):
            raise InputError(
                f"Model {model.name!r} takes {model.card.channels} channels, {source} has {channels}; "
                "split the channels into files of their own."
            )
        pixel = reader.pixel_um
        for sentence in model.card.concerns(None if pixel is None else pixel[1], reader.attrs.get("na")):
            warnings.warn(sentence, DlmWarning, stacklevel=2)
        choice = choose(model, settings, math.prod(reader.shape[:2]))
        engines = choose_engines(model, choice.backend, settings.device, settings.precision, settings.threads)
        scaling = measured_scaling(model, reader, settings.full_scale)
        ratio = ratio_of(model)
        shape = tuple(-(-n * ratio.numerator // ratio.denominator) for n in reader.shape[:2])
        record: dict[str, Any] = engines[0].description | {
            "devices": len(engines),
            "chosen_by": choice.source,
            "step": "enhance",
            "source": Path(source).name,
            "model": model.name,
            "model_sha256": model.sha256,
            "passes": 1,
        }
        attrs = {key: value for key, value in reader.attrs.items() if key != "pixel_um"}
        attrs |= {"computationally_enhanced": True}
        with PyramidWriter(
            target,
            (*shape, *reader.shape[2:]),
            reader.dtype,
            pixel_um=None if pixel is None else (pixel[0] / float(ratio), pixel[1] / float(ratio)),
            channels=reader.channels,
            provenance=record,
            progress=finishing,
            **attrs,
        ) as writer:

            def read(rows: slice, columns: slice) -> NDArray:
                values = reader.read(rows.start, rows.stop, columns.start, columns.stop)
                return scaling.forward(values if values.ndim == 3 else values[..., None])

            def write(rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
                values = scaling.backward(block, reader.dtype)
                writer.write(rows.start, columns.start, values if len(reader.shape) == 3 else values[..., 0])

            tile = enhance_windows(model, engines, reader.shape[:2], read, write, choice.tile, progress)
            record["tile"] = tile or "whole"  # the file takes the record when it is closed
    record["seconds"] = round(time.perf_counter() - started, 3)
    return record


def measured_scaling(model: Model, reader: RegionReader, full_scale: float | None) -> Scaling:
    """The scaling that :func:`~dlm_fiji.inference.intensities.scaling_for` finds, from one pass over the
    file.

    Percentiles are those of every k-th pixel of every k-th row, k chosen to give about four million; for an
    image of up to that many it is the same sample.
    """
    full = model.card.normalisation == "full scale"
    if full and full_scale is not None:
        return Scaling(0.0, 1.0 / full_scale)
    if full and reader.dtype in (np.uint8, np.uint16):
        return Scaling(0.0, 1.0 / full_scale_of(np.empty(0, reader.dtype)))
    height, width = reader.shape[:2]
    step = max(1, int(np.sqrt(height * width / SAMPLES)))
    samples, extremes = [], []
    for y in range(0, height, BLOCK):
        for x in range(0, width, BLOCK):
            block = reader.read(y, min(y + BLOCK, height), x, min(x + BLOCK, width))
            if block.dtype.kind == "f" and not np.isfinite(block).all():
                raise InputError(f"{reader.path} has pixels that are NaN or infinite; export it without masks.")
            extremes += [block.min(), block.max()]
            samples.append(block[-y % step :: step, -x % step :: step].ravel())
    if full:
        return Scaling(0.0, 1.0 / full_scale_of(np.array(extremes)))
    low, high = (float(v) for v in np.percentile(np.concatenate(samples), PERCENTILES))
    if high <= low:
        low, high = float(min(extremes)), float(max(extremes))
    return Scaling(low, (model.card.intensity_range[1] / (high - low)) if high > low else 1.0)


def is_large(source: str | os.PathLike[str]) -> bool:
    """Whether a file is streamed by default: more than 64 million pixels, readable in parts."""
    # A file of so few bytes holds no such image, whatever its compression; do not open it twice for that.
    path = Path(source)
    if path.is_file() and path.stat().st_size < LARGE / 50:
        return False
    try:
        with open_region_reader(source) as reader:
            return not reader.in_memory and reader.shape[0] * reader.shape[1] > LARGE
    except InputError:
        return False  # a stack, or no image; open_image says which
