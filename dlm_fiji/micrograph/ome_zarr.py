"""OME-Zarr (NGFF 0.4, Zarr format 2): a folder of chunks and a pyramid, for images larger than memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import xarray as xr
import zarr

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph.calibrated import pixel_size_um
from dlm_fiji.micrograph.metadata import KEY, Facts, record, steps_of, unit_in_um

__all__ = ["attributes", "facts_of", "level_zero", "new_array", "read", "write"]

CHUNK = 512


def read(path: Path) -> xr.DataArray:
    """The full-resolution image of an OME-Zarr folder."""
    array, dims = level_zero(path)
    values = np.asarray(array[...])
    single = tuple(i for i, dim in enumerate(dims) if dim not in "yx" and values.shape[i] == 1)
    values = np.squeeze(values, axis=single)
    return facts_of(path).image(values, tuple(dim for i, dim in enumerate(dims) if i not in single))


def level_zero(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The full-resolution Zarr array, not read, and the names of its axes."""
    scales = _multiscales(path)
    try:
        array = zarr.open_array(str(path / scales["datasets"][0]["path"]), mode="r")
    except Exception as error:
        raise InputError(f"{path} is no complete OME-Zarr image: its level 0 cannot be opened.") from error
    dims = tuple(axis["name"] for axis in scales["axes"])
    if len(dims) != array.ndim or not set(dims) <= {"t", "z", "c", "y", "x"}:
        raise InputError(f"{path} has axes {dims}, which are not a subset of t, z, c, y, x.")
    return array, dims


def facts_of(path: Path) -> Facts:
    """Calibration and our record of an OME-Zarr folder."""
    facts = Facts()
    found = _attributes_of(path)
    scales = _multiscales(path)
    step: dict[str, float] = {}
    transforms = scales["datasets"][0].get("coordinateTransformations", [])
    for axis, size in zip(scales["axes"], next((t["scale"] for t in transforms if "scale" in t), []), strict=False):
        factor = unit_in_um(axis.get("unit"))
        if axis.get("type") == "space" and factor is not None:
            step[axis["name"]] = float(size) * factor
        elif axis.get("type") == "time" and axis.get("unit") == "second":
            step["t"] = float(size)
    if "y" in step and "x" in step:
        facts.pixel_um = (step["y"], step["x"])
    facts.z_step_um, facts.t_step_s = step.get("z"), step.get("t")
    channels = found.get("omero", {}).get("channels", [])
    if channels and all(channel.get("label") for channel in channels):
        facts.channels = [str(channel["label"]) for channel in channels]
    facts.read_record(found.get(KEY))
    return facts


def write(image: xr.DataArray, path: Path, provenance: dict[str, Any] | None) -> None:
    """Write ``image`` to the new folder ``path``; ``PyramidWriter`` is for images that need a pyramid."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    dims = [str(dim) for dim in image.dims]
    values = image.values.astype(np.uint8) * 255 if image.dtype == bool else image.values
    new_array(group, "0", values.shape, values.dtype)[...] = values
    group.attrs.update(attributes(image, provenance, dims, 1, path.name))


def new_array(group: Any, name: str, shape: tuple[int, ...], dtype: Any, chunk: int = CHUNK) -> Any:
    """An array of zeros (…, H, W) in chunks of one plane, in nested folders, as OME-Zarr readers expect."""
    chunks = (*([1] * (len(shape) - 2)), min(shape[-2], chunk), min(shape[-1], chunk))
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        # Zarr's own choice leaves an 8-bit micrograph as large as it was.
        compressors=numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def attributes(
    image: xr.DataArray, provenance: dict[str, Any] | None, dims: list[str], levels: int, name: str
) -> dict[str, Any]:
    """The attributes of the folder; ``image`` may be a small stand-in with calibration and names."""
    z_step, t_step = steps_of(image)
    pixel = pixel_size_um(image)
    known = {"z": z_step, "t": t_step} | ({"y": pixel[0], "x": pixel[1]} if pixel is not None else {})
    axes, scale = [], []
    for dim in dims:
        axis = {"name": dim, "type": {"t": "time", "c": "channel"}.get(dim, "space")}
        if known.get(dim) is not None:
            axis["unit"] = "second" if dim == "t" else "micrometer"
        axes.append(axis)
        scale.append(known.get(dim) or 1.0)
    datasets = []
    for level in range(levels):
        zoomed = [size * 2**level if dim in "yx" else size for dim, size in zip(dims, scale, strict=True)]
        transform = {"type": "scale", "scale": zoomed}
        datasets.append({"path": str(level), "coordinateTransformations": [transform]})
    content: dict[str, Any] = {
        "multiscales": [{"version": "0.4", "name": name, "axes": axes, "datasets": datasets, "type": "mean"}],
        KEY: record(image, provenance),
    }
    if "c" in image.coords:
        names = [str(c) for c in image.coords["c"].values]
        colours = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
        peak = float(np.iinfo(image.dtype).max) if image.dtype.kind in "iu" else 1.0
        content["omero"] = {
            "channels": [
                {"label": c, "color": colours.get(c, "FFFFFF"), "active": True,
                 "window": {"start": 0, "end": peak, "min": 0, "max": peak}}
                for c in names
            ]
        }  # fmt: skip
    return content


def _attributes_of(path: Path) -> dict[str, Any]:
    try:
        if (path / ".zattrs").is_file():
            return json.loads((path / ".zattrs").read_text(encoding="utf-8"))
        content = json.loads((path / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
        return content.get("ome", {}) | content
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no OME-Zarr image: its attributes cannot be read.") from error


def _multiscales(path: Path) -> dict[str, Any]:
    found = _attributes_of(path).get("multiscales")
    if not found or not found[0].get("datasets") or not found[0].get("axes"):
        raise InputError(f"{path} is no OME-Zarr image: it names no resolution levels and axes.")
    return found[0]
