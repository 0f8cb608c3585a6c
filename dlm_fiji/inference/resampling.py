"""Pixel grids: coordinates of an enlarged image, reduction by areas, resampling to a model's pixel size."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dlm_fiji.inference.card import ModelCard

__all__ = ["enlarged_coordinates", "pixel_um_of", "reduce_area", "resampled_for"]


def enlarged_coordinates(image: xr.DataArray, sizes: dict[str, int], scale: float) -> dict[str, Any]:
    """Coordinates for ``image`` enlarged ``scale`` times to ``sizes`` pixels: areas aligned, other axes kept.

    Pixel i of the result has its centre at ((i + 0.5) / scale - 0.5) pixels of ``image``.
    """
    coords: dict[str, Any] = {str(k): v for k, v in image.coords.items() if not {"y", "x"} & set(v.dims)}
    for dim, size in sizes.items():
        if dim in image.coords and image.sizes[dim] > 1:
            old = image.coords[dim]
            positions = np.asarray(old.values, float)
            step = (positions[-1] - positions[0]) / (positions.size - 1)
            new = positions[0] + ((np.arange(size) + 0.5) / scale - 0.5) * step
            coords[dim] = (dim, new, dict(old.attrs))
    return coords


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


def pixel_um_of(image: xr.DataArray) -> float | None:
    if "x" in image.coords and image.sizes["x"] > 1:
        x = np.asarray(image.coords["x"].values, float)
        return float(x[-1] - x[0]) / (x.size - 1)
    return None


def resampled_for(image: xr.DataArray, pixel: float, card: ModelCard) -> xr.DataArray:
    """The image with the nearest pixel size that ``card`` allows; cubic, after a blur where it shrinks."""
    from skimage.transform import resize

    assert card.pixel_um is not None
    wanted = float(np.clip(pixel, *card.pixel_um))
    if abs(wanted / pixel - 1) < 0.02:
        return image
    ratio = pixel / wanted
    dims = [*(d for d in image.dims if d not in ("y", "x")), "y", "x"]
    values = image.transpose(*dims).values
    shape = [max(1, round(n * ratio)) for n in values.shape[-2:]]
    flat = values.reshape(-1, *values.shape[-2:]).astype(np.float32)
    flat = np.stack([resize(plane, shape, order=3, mode="reflect", anti_aliasing=ratio < 1) for plane in flat])
    if values.dtype.kind in "ui":
        limits = np.iinfo(values.dtype)
        flat = np.clip(np.rint(flat), limits.min, limits.max)
    coords: dict[str, Any] = {str(k): v for k, v in image.coords.items() if not {"y", "x"} & set(v.dims)}
    for dim, size in zip("yx", shape, strict=True):
        if dim in image.coords:
            # the same area, so the scale is that of this axis after rounding to whole pixels
            coords |= enlarged_coordinates(image, {dim: size}, size / image.sizes[dim])
    attrs = dict(image.attrs) | {"resampled_from_um": pixel}
    if "pixel_um" in attrs:
        attrs["pixel_um"] = (wanted, wanted)
    out = xr.DataArray(
        flat.reshape(*values.shape[:-2], *shape).astype(values.dtype), dims=dims, coords=coords, attrs=attrs
    )
    return out.transpose(*image.dims)
