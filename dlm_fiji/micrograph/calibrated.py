"""A calibrated image in memory: from and to plain arrays, pixel size, colour, sanity of the content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from dlm_fiji.errors import InputError

__all__ = ["check_content", "from_array", "is_rgb", "pixel_size_um", "to_array"]

#: Order of the dimensions of every image in this package.
DIMS = ("t", "z", "c", "y", "x")
RGB = ("red", "green", "blue")


def from_array(
    array: np.ndarray,
    pixel_um: float | tuple[float, float] | None = None,
    like: xr.DataArray | None = None,
    *,
    dims: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    z_step_um: float | None = None,
    **attrs: Any,
) -> xr.DataArray:
    """An image from a plain array.

    Parameters
    ----------
    array
        (H, W), (H, W, C) or, with leading axes, (T, Z, H, W[, C]) when ``dims`` or ``like`` names them.
        Three channels are red, green, blue unless ``channels`` or ``like`` says otherwise.
    pixel_um
        Pixel size in µm, one number or (dy, dx); by default that of ``like``, otherwise unknown.
    like
        An image whose pixel size, channel names, leading axes and attributes are taken over.
    dims
        Names of the axes of ``array``, a subset of ``t z c y x`` with ``c`` anywhere, e.g. ``("z", "y",
        "x")``.
    channels
        Names of the channels.
    z_step_um
        Distance of the planes in µm, where there is a ``z`` axis.
    **attrs
        More attributes: ``objective``, ``na``, ``wavelength_um`` …

    Returns
    -------
    xarray.DataArray
        With dimensions in the order ``t z c y x`` and the values of ``array`` (moved, not copied).

    Raises
    ------
    InputError
        The axes do not fit, or ``like`` has a pixel size but another number of pixels and ``pixel_um`` is
        missing.
    """
    array = np.asarray(array)
    if dims is None:
        dims = _guess_dims(array, like)
    if len(dims) != array.ndim or len(set(dims)) != len(dims) or not set(dims) <= set(DIMS):
        raise InputError(f"Axes {tuple(dims)} do not describe an array of shape {array.shape}.")
    order = [dim for dim in DIMS if dim in dims]
    array = np.transpose(array, [list(dims).index(dim) for dim in order])
    sizes = dict(zip(order, array.shape, strict=True))

    known: dict[str, Any] = dict(like.attrs) if like is not None else {}
    known.update(attrs)
    if pixel_um is None and like is not None:
        pixel_um = pixel_size_um(like)
        if pixel_um is not None and any(sizes[d] != like.sizes[d] for d in "yx"):
            raise InputError("The image has another size than the one it is made from; give its pixel size in µm.")

    coords: dict[str, Any] = {}
    if pixel_um is not None:
        dy, dx = (float(size) for size in np.broadcast_to(np.asarray(pixel_um, dtype=float), 2))
        if not (np.isfinite([dy, dx]).all() and min(dy, dx) > 0):
            raise InputError(f"A pixel size must be a positive number of µm (given: {pixel_um}).")
        coords["y"] = ("y", np.arange(sizes["y"]) * float(dy), {"units": "µm"})
        coords["x"] = ("x", np.arange(sizes["x"]) * float(dx), {"units": "µm"})
        known["pixel_um"] = (float(dy), float(dx))
    else:
        known.pop("pixel_um", None)
    if "z" in sizes:
        if z_step_um is not None:
            coords["z"] = ("z", np.arange(sizes["z"]) * float(z_step_um), {"units": "µm"})
            known["z_step_um"] = float(z_step_um)
        elif like is not None and "z" in like.coords and like.sizes["z"] == sizes["z"]:
            coords["z"] = like.coords["z"]
    if "c" in sizes:
        names = _channel_names(sizes["c"], channels, like)
        if names is not None:
            coords["c"] = ("c", names)
    return xr.DataArray(array, dims=order, coords=coords, attrs=known)


def to_array(image: xr.DataArray) -> np.ndarray:
    """The values of ``image`` as (H, W) or (H, W, C), contiguous; ``t`` and ``z`` axes stay in front.

    This is the layout of the layers below: registration, networks, measures.
    """
    values = image.transpose(*[dim for dim in ("t", "z", "y", "x", "c") if dim in image.dims]).values
    return np.ascontiguousarray(values)


def pixel_size_um(image: xr.DataArray) -> tuple[float, float] | None:
    """Pixel size (dy, dx) in µm, or None where it is not known.

    It is read off the coordinates, so a slice with a step answers right; an axis of one pixel asks ``attrs``.
    """
    sizes = []
    for axis, dim in enumerate(("y", "x")):
        if dim not in image.coords:
            return None
        coordinate = np.asarray(image.coords[dim].values, dtype=float)
        if coordinate.size > 1:
            sizes.append(float((coordinate[-1] - coordinate[0]) / (coordinate.size - 1)))
        elif "pixel_um" in image.attrs:
            sizes.append(float(np.atleast_1d(image.attrs["pixel_um"])[axis]))
        else:
            return None
    dy, dx = (float(f"{size:.12g}") for size in sizes)
    return dy, dx


def is_rgb(image: xr.DataArray) -> bool:
    """Whether the channels of ``image`` are red, green and blue."""
    return "c" in image.dims and "c" in image.coords and tuple(str(name) for name in image.coords["c"].values) == RGB


def check_content(image: xr.DataArray | np.ndarray, name: str = "The image") -> None:
    """Refuse an image with NaN or infinite pixels, or with nothing but zeros.

    Parameters
    ----------
    image
        Values of any shape.
    name
        What the sentence calls it: a file name.

    Raises
    ------
    InputError
        One sentence that names the image and the fault.
    """
    values = np.asarray(image)
    if values.size == 0:
        raise InputError(f"{name} has no pixels (shape {values.shape}).")
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise InputError(f"{name} has {count} pixels that are NaN or infinite; export it again without masked pixels.")
    if not values.any():
        raise InputError(f"{name} is zero everywhere; check the exposure, or whether the file was written completely.")


def _guess_dims(array: np.ndarray, like: xr.DataArray | None) -> tuple[str, ...]:
    if array.ndim == 2:
        return ("y", "x")
    if like is not None:
        with_c = tuple(dim for dim in ("t", "z", "y", "x", "c") if dim in like.dims)
        without_c = tuple(dim for dim in with_c if dim != "c")
        for dims in (with_c, without_c):
            if len(dims) == array.ndim:
                return dims
    if array.ndim == 3:
        return ("y", "x", "c")
    raise InputError(f"An array of shape {array.shape} needs the names of its axes.")


def _channel_names(count: int, channels: Sequence[str] | None, like: xr.DataArray | None) -> list[str] | None:
    if channels is not None:
        if len(channels) != count:
            raise InputError(f"{len(channels)} channel names were given for {count} channels.")
        return [str(name) for name in channels]
    if like is not None and "c" in like.coords and like.sizes.get("c") == count:
        return [str(name) for name in like.coords["c"].values]
    if like is not None and like.sizes.get("c") == count:
        return None
    return list(RGB) if count == 3 else None
