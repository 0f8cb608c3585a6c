"""Files of microscope vendors: Zeiss CZI, Nikon ND2, Leica LIF; what MetaMorph STK and Zeiss LSM add to TIFF.

The readers (pylibCZIrw, nd2, readlif) come with the extra ``[formats]``. What they are not there for, or do not read
(a wavelength scan, an x-z scan), goes to Fiji's Bio-Formats where a Fiji is known. Pixel size, distances of planes and
frames, channels, objective and wavelengths come along, and ``attrs["stage_um"]``: (y, x) of the field on the stage.
"""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import xarray as xr

from dlm_fiji.errors import DlmError, InputError, SetupError
from dlm_fiji.micrograph.calibrated import RGB
from dlm_fiji.micrograph.metadata import Facts, unit_in_um

__all__ = ["ENDINGS", "MAGIC", "count", "lsm_facts", "read", "stk_facts"]

#: Ending → kind, for names of files; only Bio-Formats reads those of kind ``"other"``.
ENDINGS = {
    ".czi": "czi", ".nd2": "nd2", ".lif": "lif", ".stk": "tiff", ".lsm": "tiff",
    ".oib": "other", ".oir": "other", ".vsi": "other", ".zvi": "other", ".dv": "other", ".ims": "other",
}  # fmt: skip
MAGIC = {b"ZISR": "czi", b"\xda\xce\xbe\x0a": "nd2", b"\0\0\0\x0c": "nd2", b"\x70\0\0\0": "lif"}

#: Above this layer, because it is Java: found by its name when it is needed, never imported from here.
BIO_FORMATS = "dlm_fiji.fiji.bio_formats"

_NAMES = {"czi": "Zeiss CZI", "nd2": "Nikon ND2", "lif": "Leica LIF", "other": "vendor's"}
_PACKAGES = {"czi": "pylibCZIrw", "nd2": "nd2", "lif": "readlif"}


class _Unread(Exception):
    """The native reader does not read this kind of content; the message says which."""


def read(path: Path, kind: str, series: int = 0) -> xr.DataArray:
    """The image ``series`` of a vendor's file.

    Parameters
    ----------
    path
        The file.
    kind
        ``"czi"``, ``"nd2"``, ``"lif"``, or ``"other"`` for what only Bio-Formats reads.
    series
        Scene, stage position, or image of the file; tiles of a Leica mosaic count one by one.

    Raises
    ------
    SetupError
        Neither the package nor a Fiji is there; the sentence says what to install.
    InputError
        The file is damaged, has no such series, or holds what no reader takes apart.
    """
    why = f"{path} is a {_NAMES[kind]} file"
    missing = True
    if kind in _READERS:
        try:
            return _READERS[kind](path, series)
        except DlmError:
            raise
        except ImportError:
            pass
        except _Unread as unread:
            why, missing = f"{path} holds {unread}", False
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
            raise InputError(f"{path} is not a readable {_NAMES[kind]} file, or is damaged ({reason}).") from error
    if resolve_name(f"{BIO_FORMATS}:available")():
        return resolve_name(f"{BIO_FORMATS}:read")(path, series)
    fiji = "give a Fiji folder by DLM_FIJI_HOME, whose Bio-Formats reads it"
    if missing and kind in _PACKAGES:
        raise SetupError(f"{why}; 'python -m pip install {_PACKAGES[kind]}' brings its reader, or {fiji}.")
    raise (SetupError if missing else InputError)(f"{why}; {fiji}.")


def count(path: Path, kind: str) -> int:
    """How many images :func:`read` tells apart in a readable file: scenes, positions, images and their tiles."""
    if kind == "czi":
        from pylibCZIrw import czi

        with czi.open_czi(str(path)) as document:
            return max(1, len(document.scenes_bounding_rectangle))
    if kind == "nd2":
        import nd2

        with nd2.ND2File(path) as file:
            return int(file.sizes.get("P", 1))
    if kind == "lif":
        from readlif.reader import LifFile

        with open(path, "rb") as file:
            return sum(int(info["dims"].m) for info in LifFile(file).image_list)
    return 1


def stk_facts(found: dict[str, Any], facts: Facts) -> None:
    """Take over what MetaMorph says of an STK file (tifffile's ``stk_metadata``)."""
    unit = unit_in_um(str(found.get("CalibrationUnits", "")))
    dx, dy = found.get("XCalibration"), found.get("YCalibration")
    if unit is not None and dx and dy and found.get("SpatialCalibration", 1):
        facts.pixel_um = (float(dy) * unit, float(dx) * unit)
    steps = np.atleast_1d(found.get("ZDistance", 0.0)).astype(float)
    if steps.size and steps.all():
        facts.z_step_um = float(np.abs(steps).mean())
    # MetaMorph writes nanometres here, or the number of a filter.
    _wavelengths(facts, sorted({float(wave) for wave in np.atleast_1d(found.get("Wavelengths", 0.0))}))
    stage = np.asarray(found.get("StagePosition", ()), dtype=float).reshape(-1, 2)
    if stage.any():
        facts.attrs["stage_um"] = (float(stage[0, 1]), float(stage[0, 0]))


def lsm_facts(found: dict[str, Any], facts: Facts) -> None:
    """Take over what Zeiss says of an LSM file (tifffile's ``lsm_metadata``); its lengths are metres."""
    dx, dy, dz = (1e6 * float(found.get(f"VoxelSize{axis}") or 0) for axis in "XYZ")
    if dx > 0 and dy > 0:
        facts.pixel_um = (dy, dx)
    facts.z_step_um = dz if dz > 0 else None
    facts.t_step_s = float(found.get("TimeIntervall") or 0) or None
    names = (found.get("ChannelColors") or {}).get("ColorNames")
    facts.channels = [str(name) for name in names] if names else None


def _czi(path: Path, series: int) -> xr.DataArray:
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as document:
        scenes = document.scenes_bounding_rectangle
        _check_series(path, series, max(1, len(scenes)))
        box = document.total_bounding_box
        for axis, name in (("H", "phases"), ("R", "rotations"), ("I", "illuminations"), ("V", "views")):
            if axis in box and box[axis][1] - box[axis][0] > 1:
                raise _Unread(f"{name} (axis {axis} of a CZI file), which are none of t, z, c")
        ranges = [range(*box.get(axis, (0, 1))) for axis in "TZC"]
        scene = sorted(scenes)[series] if scenes else None
        planes = [document.read(plane=dict(zip("TZC", index, strict=True)), scene=scene) for index in product(*ranges)]
        facts = _czi_facts(document.raw_metadata, series)
    if planes[0].shape[-1] == 3:
        planes = [plane[..., ::-1] for plane in planes]  # libCZI gives blue, green, red
        if len(ranges[2]) > 1:
            raise _Unread("several colour images side by side")
        facts.channels = list(RGB)
        return _arranged(np.stack(planes), [len(r) for r in ranges[:2]], facts, "tz", "yxc")
    return _arranged(np.stack(planes)[..., 0], [len(r) for r in ranges], facts, "tzc", "yx")


def _czi_facts(text: str, series: int) -> Facts:
    root = ET.fromstring(text)
    facts = Facts()

    def distance(axis: str) -> float | None:
        value = root.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value")
        return 1e6 * float(value) if value and float(value) > 0 else None

    dx, dy = distance("X"), distance("Y")
    facts.pixel_um = None if dx is None else (float(f"{dy or dx:.9g}"), float(f"{dx:.9g}"))
    facts.z_step_um = distance("Z")
    step = root.findtext(".//Information/Image/Dimensions/T/Positions/Interval/Increment")
    facts.t_step_s = float(step) if step and float(step) > 0 else None
    channels = root.findall(".//Information/Image/Dimensions/Channels/Channel")
    if channels:
        facts.channels = [str(c.get("Name") or c.get("Id")) for c in channels]
        _wavelengths(facts, [float(c.findtext("EmissionWavelength") or 0) for c in channels])
    objective = root.find(".//Information/Instrument/Objectives/Objective")
    if objective is not None:
        name = objective.get("Name") or objective.findtext("Manufacturer/Model")
        _optics(facts, name, objective.findtext("LensNA"), objective.findtext("NominalMagnification"))
    scenes = root.findall(".//Information/Image/Dimensions/S/Scenes/Scene")
    centre = next((s.findtext("CenterPosition") for s in scenes if s.get("Index") == str(series)), None)
    if centre:
        x, y = (float(value) for value in centre.split(","))
        facts.attrs["stage_um"] = (y, x)
    return facts


def _nd2(path: Path, series: int) -> xr.DataArray:
    import nd2

    with nd2.ND2File(path) as file:
        axes = "".join(file.sizes)
        _check_series(path, series, file.sizes.get("P", 1))
        for axis, size in file.sizes.items():
            if axis not in "PTZCYXS" and size > 1:
                raise _Unread(f"an axis {axis} of {size}, which is none of t, z, c")
        values = file.asarray(series)  # the axis of positions stays, with length one
        voxel = file.voxel_size()
        facts = Facts()
        channels = file.metadata.channels or []
        if channels:
            calibrated = channels[0].volume.axesCalibrated
            if calibrated[0]:
                facts.pixel_um = (float(voxel.y), float(voxel.x))
            if "Z" in axes and voxel.z:
                facts.z_step_um = float(voxel.z)
            facts.channels = [c.channel.name for c in channels]
            _wavelengths(facts, [float(c.channel.emissionLambdaNm or 0) for c in channels])
            scope = channels[0].microscope
            _optics(facts, scope.objectiveName, scope.objectiveNumericalAperture, scope.objectiveMagnification)
        facts.t_step_s = _nd2_interval(file)
        place = _nd2_stage(file, series)
        if place is not None:
            facts.attrs["stage_um"] = (float(place.y), float(place.x))
    if "S" in axes:
        facts.channels = list(RGB)
        if "C" in axes and values.shape[axes.index("C")] > 1:
            raise _Unread("several colour images side by side")
    dims = {"S": "c", **{a: a.lower() for a in "TZCYX"}}
    kept = [i for i, axis in enumerate(axes) if axis in "YX" or values.shape[i] > 1]
    values = values.reshape([values.shape[i] for i in kept])
    return facts.image(values, tuple(dims[axes[i]] for i in kept))


def _nd2_interval(file: Any) -> float | None:
    for loop in file.experiment:
        period = getattr(loop.parameters, "periodMs", None)
        if period is not None:
            measured = getattr(loop.parameters.periodDiff, "avg", 0.0)
            return float(period or measured) / 1000 or None
    return None


def _nd2_stage(file: Any, series: int) -> Any:
    """Stage position (x, y) of the field; old files have none."""
    for loop in file.experiment:
        points = getattr(loop.parameters, "points", None)
        if points:
            return points[series].stagePositionUm
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frame times, which are not asked for
            return file.frame_metadata(0).channels[0].position.stagePositionUm
    except (AttributeError, IndexError, KeyError):
        return None


def _lif(path: Path, series: int) -> xr.DataArray:
    from readlif.reader import LifFile

    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a truncated file, whose images would be black
        document = LifFile(file)
        images = document.image_list
        tiles = [(number, m) for number, info in enumerate(images) for m in range(info["dims"].m)]
        _check_series(path, series, len(tiles))
        number, m = tiles[series]
        image = document.get_image(number)
        if image.display_dims != (1, 2):
            raise _Unread("a scan that is not of x and y")
        if any(size > 1 for axis, size in image.dims_n.items() if axis not in (1, 2, 3, 4, 10)):
            raise _Unread("a wavelength scan")
        element = _lif_elements(document.xml_root)[number]
        colour = [c.get("ChannelTag") for c in element.iter("ChannelDescription")]
        if colour == ["1", "2", "3"]:
            raise _Unread("colour of a camera in Leica's order")
        ranges = [range(image.dims.t), range(image.dims.z), range(image.channels)]
        planes = [np.array(image.get_frame(z=z, t=t, c=c, m=m)) for t, z, c in product(*ranges)]
    facts = Facts()
    dx, dy, dz, dt = ((None if not per else 1 / per) for per in image.scale)
    facts.pixel_um = None if dx is None else (float(f"{dy or dx:.9g}"), float(f"{dx:.9g}"))
    facts.z_step_um = None if dz is None else abs(dz)
    facts.t_step_s = dt
    channels = list(element.iter("ChannelDescription"))
    names = [str(c.get("LUTName") or k) for k, c in enumerate(channels)]
    facts.channels = names if len(set(names)) == len(names) else [str(k) for k in range(len(names))]
    _wavelengths(facts, _lif_bands(element, len(channels)))
    settings = image.settings
    objective = " ".join(str(settings.get("ObjectiveName") or "").split())
    _optics(facts, objective, settings.get("NumericalAperture"), settings.get("Magnification"))
    place = image.mosaic_position[m][2:] if image.mosaic_position else None
    if place is None and "StagePosX" in settings:
        place = (settings["StagePosX"], settings["StagePosY"])
    if place is not None:
        facts.attrs["stage_um"] = (1e6 * float(place[1]), 1e6 * float(place[0]))
    return _arranged(np.stack(planes), [len(r) for r in ranges], facts, "tzc", "yx")


def _lif_elements(root: ET.Element) -> list[ET.Element]:
    """The elements that are images, in the reader's order."""
    return [element for element in root.iter("Element") if element.find("./Data/Image") is not None]


def _lif_bands(element: ET.Element, channels: int) -> list[float]:
    """Middle of each active detector's band, nm; nothing where the detectors are not the channels."""
    definition = element.find(".//ATLConfocalSettingDefinition")
    if definition is None:
        return []
    bands = {band.get("Channel"): band for band in definition.iter("MultiBand")}
    active = [d.get("Channel") for d in definition.iter("Detector") if d.get("IsActive") == "1"]
    if len(active) != channels or not set(active) <= set(bands):
        return []
    return [0.5 * sum(float(bands[c].get(side) or 0) for side in ("LeftWorld", "RightWorld")) for c in active]


def _arranged(planes: np.ndarray, counts: list[int], facts: Facts, outer: str, inner: str) -> xr.DataArray:
    """``planes`` (N, …) as an image; outer axes of length one are left out."""
    kept = [axis for axis, count in zip(outer, counts, strict=True) if count > 1]
    shape = [count for count in counts if count > 1]
    return facts.image(planes.reshape(*shape, *planes.shape[1:]), (*kept, *inner))


def _check_series(path: Path, series: int, count: int) -> None:
    if not 0 <= series < count:
        raise InputError(f"{path} holds {count} images; there is no number {series}.")


def _optics(facts: Facts, name: Any, na: Any, magnification: Any) -> None:
    if name and str(name).strip():
        facts.attrs["objective"] = str(name).strip()
    for key, value in (("na", na), ("magnification", magnification)):
        if value and float(value) > 0:
            facts.attrs[key] = float(value)


def _wavelengths(facts: Facts, nanometres: Iterable[float]) -> None:
    """Emission wavelengths; None for a channel without one that light can have, such as bright field."""
    values = [round(wave / 1000, 9) if 200 < wave < 2000 else None for wave in nanometres]
    if any(values):
        facts.attrs["wavelength_um"] = values[0] if len(values) == 1 else values


_READERS: dict[str, Callable[[Path, int], xr.DataArray]] = {"czi": _czi, "nd2": _nd2, "lif": _lif}
