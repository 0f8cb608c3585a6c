"""What a file says about its image besides the pixels, in one form for all formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from dlm_fiji.micrograph.calibrated import from_array, pixel_size_um
from dlm_fiji.micrograph.writing import plain

__all__ = ["Facts", "record", "unit_in_um"]

#: Marks our own block of JSON in a file's free text.
KEY = "dlm_fiji"

#: Pixels larger than this, known only from a resolution tag, are a print resolution (72, 300, 600 dpi), not a
#: microscope's: 20 µm is 1,270 dpi.
LARGEST_PIXEL_UM = 20.0

_UNITS_UM = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "m": 1e6, "meter": 1e6,
    "inch": 25400.0, "in": 25400.0, "å": 1e-4, "angstrom": 1e-4,
}  # fmt: skip


def unit_in_um(unit: str | None) -> float | None:
    """How many µm one ``unit`` is; None for pixels and what is not a length."""
    name = (unit or "").strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").lower()
    return _UNITS_UM.get(name)


@dataclass
class Facts:
    """Calibration, names and optics as a file gives them, and what made the file.

    Attributes
    ----------
    pixel_um
        (dy, dx) in µm or None.
    z_step_um, t_step_s
        Distance of planes in µm and of frames in s, or None.
    channels
        Channel names or None.
    attrs
        Optics and other attributes of the image.
    provenance
        What made the file, where we wrote it; None otherwise.
    ours
        The file was written by this package, so every size in it is meant.
    """

    pixel_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    t_step_s: float | None = None
    channels: list[str] | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None
    ours: bool = False

    def read_record(self, text: str | None) -> bool:
        """Take over our own JSON block from ``text``; whether there was one."""
        block = _find_block(text)
        if block is None:
            return False
        self.ours = True
        self.attrs.update(block.get("attrs") or {})
        self.provenance = block.get("provenance")
        if block.get("channels"):
            self.channels = list(block["channels"])
        if block.get("pixel_um"):
            dy, dx = block["pixel_um"]
            self.pixel_um = (float(dy), float(dx))
        for name in ("z_step_um", "t_step_s"):
            if block.get(name) is not None:
                setattr(self, name, float(block[name]))
        return True

    def trust_resolution(self, dy: float, dx: float) -> None:
        """Take a pixel size from a resolution tag unless it is a print resolution."""
        if np.isfinite([dy, dx]).all() and min(dy, dx) > 0 and max(dy, dx) <= LARGEST_PIXEL_UM:
            self.pixel_um = (float(f"{dy:.9g}"), float(f"{dx:.9g}"))

    def image(self, array: np.ndarray, dims: tuple[str, ...]) -> xr.DataArray:
        """``array`` with these facts; ``dims`` names its axes."""
        sizes = dict(zip(dims, array.shape, strict=True))
        channels = self.channels if self.channels and len(self.channels) == sizes.get("c") else None
        image = from_array(
            array,
            self.pixel_um,
            dims=dims,
            channels=channels,
            z_step_um=self.z_step_um if "z" in sizes else None,
            **{name: value for name, value in self.attrs.items() if name not in _OWN_ATTRS},
        )
        if channels is None and "c" in image.coords:
            image = image.drop_vars("c")
        if "t" in sizes and self.t_step_s:
            image = image.assign_coords(t=("t", np.arange(sizes["t"]) * self.t_step_s, {"units": "s"}))
        return image


# These attributes are derived from coordinates and never stored twice.
_OWN_ATTRS = ("pixel_um", "z_step_um")


def steps_of(image: xr.DataArray) -> tuple[float | None, float | None]:
    """(z step in µm, t step in s) from the coordinates, None where unknown."""
    found: list[float | None] = []
    for dim in ("z", "t"):
        values = image.coords[dim].values if dim in image.dims and dim in image.coords else np.zeros(0)
        known = values.size > 1 and values.dtype.kind in "fiu"
        found.append(float((values[-1] - values[0]) / (values.size - 1)) if known else None)
    return found[0], found[1]


def record(image: xr.DataArray, provenance: dict[str, Any] | None) -> str:
    """The JSON block that carries everything a format has no field of its own for."""
    z_step, t_step = steps_of(image)
    content = {
        "provenance": provenance,
        "attrs": {str(k): v for k, v in image.attrs.items() if k not in _OWN_ATTRS},
        "channels": [str(name) for name in image.coords["c"].values] if "c" in image.coords else None,
        "pixel_um": pixel_size_um(image),
        "z_step_um": z_step,
        "t_step_s": t_step,
    }
    return json.dumps({KEY: plain(content)}, ensure_ascii=True)


def _find_block(text: str | None) -> dict[str, Any] | None:
    """Our block: alone in ``text``, in a larger JSON object (a plain TIFF's description), or after text."""
    for start in (0, (text or "").find('{"' + KEY + '"')):
        if not text or start < 0:
            continue
        try:
            content, _ = json.JSONDecoder().raw_decode(text[start:].strip())
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get(KEY), dict):
            return content[KEY]
    return None
