"""TIFF in its dialects: ImageJ hyperstack, OME-TIFF, plain, Aperio SVS; either byte order.

``.tif`` is written as ImageJ writes it where ImageJ can hold the type (8 and 16 bit, 32-bit float, below 4
GB), so that Fiji shows calibration and channels; other types and larger images become a plain (Big)TIFF.
``.ome.tif`` is OME-TIFF.
"""

from __future__ import annotations

import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import xarray as xr

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph.calibrated import is_rgb, pixel_size_um
from dlm_fiji.micrograph.metadata import KEY, Facts, record, steps_of, unit_in_um
from dlm_fiji.micrograph.vendor_formats import lsm_facts, stk_facts

__all__ = ["facts_of", "ome_facts", "opened", "ordered_dims", "read", "software", "write"]

_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_IMAGEJ_LIMIT = 4_000_000_000


@contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """``path`` as an open ``TiffFile``; every way a damaged file shows itself becomes one sentence."""
    # tifffile logs damage and goes on with what is left; here it is an error.
    log, damage = logging.getLogger("tifffile"), _Damage(path)
    propagate, log.propagate = log.propagate, False
    log.addHandler(damage)
    try:
        with tifffile.TiffFile(path) as tif:
            if not tif.series:
                raise InputError(f"{path} is a TIFF file without an image.")
            damage.check()
            yield tif
            damage.check()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise InputError(f"{path} is not a readable TIFF file, or is damaged ({reason}); write it again.") from error
    finally:
        log.propagate = propagate
        log.removeHandler(damage)


class _Damage(logging.Handler):
    """Remembers what tifffile logs about a broken chain of pages; stray metadata tags do not matter."""

    signs = (
        "invalid page offset",
        "corrupted",
        "failed to reshape",
        "TiffTag 270 ",
        "TiffTag 324 ",
        "TiffTag 273 ",
    )

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self.path, self.found = path, False

    def emit(self, entry: logging.LogRecord) -> None:
        self.found = self.found or any(sign in entry.getMessage() for sign in self.signs)

    def check(self) -> None:
        if self.found:
            raise InputError(f"{self.path} is truncated or damaged; copy or write it again.")


def read(path: Path, series: int = 0) -> xr.DataArray:
    """The whole image ``series`` of a TIFF file."""
    with opened(path) as tif:
        if not 0 <= series < len(tif.series):
            raise InputError(f"{path} holds {len(tif.series)} images; there is no number {series}.")
        chosen = tif.series[series]
        check_complete(tif, chosen, path)
        facts = facts_of(tif, series)
        array = chosen.asarray()
        dims, array = _arranged(array, chosen, path)
        colour = "S" in chosen.axes and dims.count("c") and array.shape[dims.index("c")] == 3
        if colour and len(facts.channels or ()) != 3:
            facts.channels = ["red", "green", "blue"]
    return facts.image(array, dims)


def ordered_dims(axes: str, path: Path) -> tuple[str, ...]:
    """Our names of tifffile's axis letters; pages without a meaning count as planes."""
    dims: list[str] = []
    for letter in axes:
        name = {"S": "c"}.get(letter, letter.lower())
        if name not in ("t", "z", "c", "y", "x"):
            name = next((free for free in ("z", "t") if free not in dims and free.upper() not in axes), name)
        if name in dims or name not in ("t", "z", "c", "y", "x"):
            raise InputError(f"{path} has axes {axes}, which are not a subset of t, z, c, y, x.")
        dims.append(name)
    return tuple(dims)


def check_complete(tif: tifffile.TiffFile, series: Any, path: Path) -> None:
    """Refuse a file that ends before its last strip; tifffile would fill the gap with zeros."""
    size = tif.filehandle.size
    ends = [0]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    pages = list(series.pages)
    if any(page is None for page in pages) and series.dataoffset is None:
        raise InputError(f"{path} is truncated: planes are missing; copy or write it again.")
    for page in pages:
        if page is not None:
            ends += [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max(ends) > size:
        raise InputError(f"{path} is truncated: {size:,} bytes of {max(ends):,}; copy or write it again.")


def facts_of(tif: tifffile.TiffFile, series: int = 0) -> Facts:
    """Calibration, names and optics of an open TIFF file; those of its image ``series`` where it tells them apart."""
    facts = Facts()
    page = tif.pages.first
    description = page.description or ""
    if tif.is_imagej:
        _imagej_facts(tif, page, facts)
    elif tif.is_ome:
        ome_facts(tif.ome_metadata or "", facts, series)
    elif tif.is_svs:
        _svs_facts(description, facts)
    elif tif.is_stk:
        stk_facts(tif.stk_metadata or {}, facts)
    elif tif.is_lsm:
        lsm_facts(tif.lsm_metadata or {}, facts)
    else:
        facts.read_record(description)
    if facts.pixel_um is None and not tif.is_imagej:
        unit = {2: 25400.0, 3: 10000.0}.get(int(page.resolutionunit or 1))
        per_unit = page.resolution
        if unit is not None and per_unit[0] > 0 and per_unit[1] > 0 and not facts.ours:
            facts.trust_resolution(unit / per_unit[1], unit / per_unit[0])
    return facts


def write(image: xr.DataArray, path: Path, provenance: dict[str, Any] | None, compression: Any, ome: bool) -> None:
    """Write ``image`` to ``path`` (a temporary name: see ``atomic_write``)."""
    rgb = is_rgb(image)
    pixel = pixel_size_um(image)
    text = record(image, provenance)
    array = image.values
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    array = np.ascontiguousarray(array)
    axes = "".join(str(dim).upper() for dim in image.dims)
    common: dict[str, Any] = {"software": software(), "compression": compression}

    if ome:
        array, axes = _samples_last(array, axes, rgb)
        tifffile.imwrite(
            path, array, ome=True, bigtiff=array.nbytes > _IMAGEJ_LIMIT,
            photometric="rgb" if rgb else "minisblack",
            metadata={"axes": axes} | ome_metadata(image, text, "S" in axes),
            **common, **_resolution(pixel),
        )  # fmt: skip
    elif array.dtype.name in _IMAGEJ_TYPES and array.nbytes < _IMAGEJ_LIMIT:
        array, axes = _samples_last(array, axes, rgb and array.dtype == np.uint8)
        z_step, t_step = steps_of(image)
        metadata: dict[str, Any] = {"axes": axes, "Info": text}
        if pixel is not None:
            metadata["unit"] = "micron"
        if z_step is not None:
            metadata["spacing"] = z_step
        if t_step is not None:
            metadata["finterval"] = t_step
        if "C" in axes:
            metadata["mode"] = "composite"
        resolution: dict[str, Any] = {} if pixel is None else {"resolution": (1 / pixel[1], 1 / pixel[0])}
        photometric = "rgb" if "S" in axes else "minisblack"
        tifffile.imwrite(path, array, imagej=True, photometric=photometric, metadata=metadata, **common, **resolution)
    else:
        array, axes = _samples_last(array, axes, rgb)
        tifffile.imwrite(
            path, array, bigtiff=array.nbytes > _IMAGEJ_LIMIT,
            photometric="rgb" if "S" in axes else "minisblack",
            metadata={"axes": axes, **_as_metadata(text)}, **common, **_resolution(pixel),
        )  # fmt: skip


def ome_metadata(image: xr.DataArray, text: str, samples: bool) -> dict[str, Any]:
    """The fields of OME-XML for ``image``; ``text`` is our record, ``samples``: RGB is one channel."""
    pixel = pixel_size_um(image)
    z_step, t_step = steps_of(image)
    metadata: dict[str, Any] = {"MapAnnotation": {"Namespace": KEY, "record": text}}
    if pixel is not None:
        metadata |= {"PhysicalSizeX": pixel[1], "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": pixel[0], "PhysicalSizeYUnit": "µm"}
    if z_step is not None:
        metadata |= {"PhysicalSizeZ": z_step, "PhysicalSizeZUnit": "µm"}
    if t_step is not None:
        metadata |= {"TimeIncrement": t_step, "TimeIncrementUnit": "s"}
    if "c" in image.coords and not samples:
        metadata["Channel"] = {"Name": [str(name) for name in image.coords["c"].values]}
    return metadata


def software() -> str:
    """The ``Software`` tag of every file."""
    from dlm_fiji import __version__

    return f"dlm_fiji {__version__}"


def _arranged(array: np.ndarray, series: Any, path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """``array`` in native byte order without singleton axes and alpha, with the names of its axes."""
    axes = series.axes
    if "S" in axes and array.shape[axes.index("S")] in (2, 4) and _has_alpha(series):
        array = np.delete(array, -1, axis=axes.index("S"))
    if "S" in axes and "C" in axes:
        # Several colour images side by side: one list of channels.
        c, s = axes.index("C"), axes.index("S")
        array = np.moveaxis(array, (c, s), (-2, -1))
        array = array.reshape(*array.shape[:-2], -1)
        axes = "".join(letter for letter in axes if letter not in "CS") + "C"
    single = tuple(i for i, letter in enumerate(axes) if letter not in "YX" and array.shape[i] == 1)
    array = np.squeeze(array, axis=single)
    axes = "".join(letter for i, letter in enumerate(axes) if i not in single)
    if not {"Y", "X"} <= set(axes):
        raise InputError(f"{path} holds no image with rows and columns (axes {axes}).")
    return ordered_dims(axes, path), array.astype(array.dtype.newbyteorder("="), copy=False)


def _has_alpha(series: Any) -> bool:
    extra = series.keyframe.extrasamples
    return len(extra) > 0 and int(extra[-1]) in (1, 2)


def _samples_last(array: np.ndarray, axes: str, wanted: bool) -> tuple[np.ndarray, str]:
    if not wanted:
        return array, axes
    return np.ascontiguousarray(np.moveaxis(array, axes.index("C"), -1)), axes.replace("C", "") + "S"


def _resolution(pixel: tuple[float, float] | None) -> dict[str, Any]:
    if pixel is None:
        return {}
    return {"resolution": (10000 / pixel[1], 10000 / pixel[0]), "resolutionunit": "CENTIMETER"}


def _as_metadata(text: str) -> dict[str, Any]:
    import json

    return json.loads(text)


def _imagej_facts(tif: tifffile.TiffFile, page: Any, facts: Facts) -> None:
    found = tif.imagej_metadata or {}
    ours = facts.read_record(found.get("Info"))
    unit = unit_in_um(found.get("unit"))
    per_unit = page.resolution
    # ImageJ itself may have re-scaled a file that we wrote, so its own fields win over our record.
    facts.pixel_um = None
    if unit is not None and per_unit[0] > 0 and per_unit[1] > 0:
        y_unit = unit_in_um(found.get("yunit")) or unit
        dy, dx = y_unit / per_unit[1], unit / per_unit[0]
        facts.pixel_um = (float(f"{dy:.9g}"), float(f"{dx:.9g}"))
    facts.z_step_um = found["spacing"] * unit if unit is not None and found.get("spacing") else None
    if found.get("finterval"):
        facts.t_step_s = float(found["finterval"])
    labels = found.get("Labels")
    if not ours and labels and len(labels) == found.get("channels", 0):
        facts.channels = [str(label) for label in labels]


def _svs_facts(description: str, facts: Facts) -> None:
    mpp = re.search(r"\bMPP\s*=\s*([0-9.]+)", description)
    if mpp:
        facts.pixel_um = (float(mpp[1]), float(mpp[1]))
    power = re.search(r"\bAppMag\s*=\s*([0-9.]+)", description)
    if power:
        facts.attrs["magnification"] = float(power[1])


def ome_facts(text: str, facts: Facts, series: int = 0) -> None:
    """Take over what OME-XML says of its image ``series``."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    images = root.findall("Image")
    image = images[series] if series < len(images) else None
    pixels = None if image is None else image.find("Pixels")
    if image is None or pixels is None:
        return

    def size(axis: str) -> float | None:
        value = _length(pixels, f"PhysicalSize{axis}")
        return value if value is not None and value > 0 else None

    dx, dy = size("X"), size("Y")
    if dx is not None:
        facts.pixel_um = (dy or dx, dx)
    facts.z_step_um = size("Z")
    if pixels.get("TimeIncrement") and pixels.get("TimeIncrementUnit", "s") in ("s", "ms"):
        factor = 1.0 if pixels.get("TimeIncrementUnit", "s") == "s" else 1e-3
        facts.t_step_s = float(pixels.get("TimeIncrement", 0)) * factor
    channels = pixels.findall("Channel")
    names = [channel.get("Name") for channel in channels]
    if channels and all(names):
        facts.channels = [str(name) for name in names]
    waves = [c.get("EmissionWavelength") for c in channels]
    if channels and all(waves):
        factor = unit_in_um(channels[0].get("EmissionWavelengthUnit", "nm")) or 1e-3
        values = [round(float(str(wave)) * factor, 9) for wave in waves]
        facts.attrs["wavelength_um"] = values[0] if len(values) == 1 else values
    used = image.find("ObjectiveSettings")
    objectives = root.findall("Instrument/Objective")
    if used is not None:
        objectives = [o for o in objectives if o.get("ID") == used.get("ID")] or objectives
    objective = objectives[0] if objectives else None
    if objective is not None:
        for name, key in (
            ("LensNA", "na"),
            ("NominalMagnification", "magnification"),
            ("Model", "objective"),
        ):
            value = objective.get(name)
            if value:
                facts.attrs[key] = value if key == "objective" else float(value)
    plane = pixels.find("Plane")
    if plane is not None:
        places = [_length(plane, f"Position{axis}") for axis in "YX"]
        if None not in places:
            facts.attrs["stage_um"] = tuple(places)
    for annotation in root.iter("MapAnnotation"):
        for entry in annotation.iter("M"):
            if entry.get("K") == "record" and facts.read_record(entry.text):
                return


def _length(element: ET.Element, name: str) -> float | None:
    """A length in µm; None where it is missing or its unit is no length ("reference frame")."""
    value, unit = element.get(name), unit_in_um(element.get(f"{name}Unit", "µm"))
    return float(value) * unit if value is not None and unit is not None else None
