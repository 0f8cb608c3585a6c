"""EPFL's PSF Generator (Kirshner, Aguet, Sage & Unser 2013, doi:10.1111/j.1365-2818.2012.03675.x) called directly.

Its classes work without their window, but take refractive indices and accuracy from private fields of the dialog:
``setParameters`` has no effect and would silently leave n = 1.5, accuracy Good.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from dlm_fiji.errors import ConfigurationError, SetupError
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class
from dlm_fiji.microscope.point_spread import check_optics

__all__ = ["available", "born_wolf", "gibson_lanni", "richards_wolf"]

Accuracy = Literal["good", "better", "best"]
_ACCURACIES = ("good", "better", "best")


def available() -> Availability:
    """Whether this ImageJ has the plugin, its version, and how to install it."""
    return plugins_available()["psf_generator"]


def born_wolf(
    na: float,
    wavelength_um: float,
    pixel_um: float,
    shape: tuple[int, ...],
    refractive_index: float = 1.0,
    z_step_um: float | None = None,
    accuracy: Accuracy = "best",
) -> np.ndarray:
    """The plugin's Born & Wolf model.

    Parameters
    ----------
    na, wavelength_um, pixel_um, refractive_index, z_step_um
        As for :func:`dlm_fiji.microscope.born_wolf`.
    shape
        (rows, columns) for the plane in focus, (planes, rows, columns) for a stack; the centre is at (N - 1) / 2, so
        an even number of planes has none in focus.
    accuracy
        The plugin's choice: how finely its integral is sampled.

    Returns
    -------
    float64 array of ``shape``, sum 1. The plugin computes the profile at whole-pixel radii and interpolates
    linearly: off the axis it differs from the integral by up to 0.1 of the peak.

    Raises
    ------
    SetupError
        The plugin is not there.
    ConfigurationError
        The lens is impossible, or the grid too small for the plugin (4 × 4 × 3).
    """
    check_optics(na, wavelength_um, refractive_index)
    fields = {"spnNI": refractive_index}
    return _stack("psf.bornwolf.BornWolfPSF", na, wavelength_um, pixel_um, shape, z_step_um, accuracy, fields)


def gibson_lanni(
    na: float,
    wavelength_um: float,
    pixel_um: float,
    shape: tuple[int, int, int],
    z_step_um: float,
    *,
    immersion_index: float = 1.5,
    sample_index: float = 1.33,
    working_distance_um: float = 150.0,
    depth_um: float = 2.0,
    accuracy: Accuracy = "best",
) -> np.ndarray:
    """The plugin's Gibson & Lanni model: a particle ``depth_um`` deep in a sample of another refractive index.

    Returns
    -------
    float64 array (planes, rows, columns), sum 1.

    Raises
    ------
    SetupError, ConfigurationError
        As for :func:`born_wolf`.
    """
    check_optics(na, wavelength_um, immersion_index)
    fields = {
        "spnNI": immersion_index,
        "spnNS": sample_index,
        "spnTI": working_distance_um,
        "spnZPos": 1000 * depth_um,
    }
    return _stack("psf.gibsonlanni.GibsonLanniPSF", na, wavelength_um, pixel_um, shape, z_step_um, accuracy, fields)


def richards_wolf(
    na: float,
    wavelength_um: float,
    pixel_um: float,
    shape: tuple[int, ...],
    refractive_index: float = 1.5,
    z_step_um: float | None = None,
    accuracy: Accuracy = "best",
) -> np.ndarray:
    """The plugin's vectorial Richards & Wolf model; parameters and result as :func:`born_wolf`."""
    check_optics(na, wavelength_um, refractive_index)
    fields = {"spnNI": refractive_index}
    return _stack("psf.richardswolf.RichardsWolfPSF", na, wavelength_um, pixel_um, shape, z_step_um, accuracy, fields)


def _stack(
    name: str,
    na: float,
    wavelength_um: float,
    pixel_um: float,
    shape: tuple[int, ...],
    z_step_um: float | None,
    accuracy: str,
    fields: dict[str, float],
) -> np.ndarray:
    require("psf_generator")
    if accuracy not in _ACCURACIES:
        raise ConfigurationError(f"accuracy is one of {', '.join(_ACCURACIES)}, not {accuracy!r}.")
    if len(shape) not in (2, 3) or min(shape[-2:]) < 4 or (len(shape) == 3 and shape[0] < 3):
        raise ConfigurationError(
            f"PSF Generator makes at least 4 × 4 pixels and 3 planes, not {' × '.join(map(str, shape))}."
        )
    if len(shape) == 3 and z_step_um is None:
        raise ConfigurationError("A stack needs z_step_um, the distance of its planes.")
    planes = shape[0] if len(shape) == 3 else 3  # the plugin has no two-dimensional result
    rows, columns = shape[-2:]
    psf = java_class(name)()
    psf.setOpticsParameters(float(na), 1000.0 * wavelength_um)
    psf.setResolutionParameters(1000.0 * pixel_um, 1000.0 * (z_step_um or pixel_um))
    psf.setOutputParameters(columns, rows, planes, 0, 0)
    for field, value in fields.items():
        _private(psf, field).set(float(value))
    _private(psf, "cmbAccuracy").setSelectedIndex(_ACCURACIES.index(accuracy))
    psf.process()
    data = psf.getData()
    if data is None:
        raise SetupError(f"PSF Generator refused {shape} without a reason.")
    stack = np.stack([np.array(data.createAsDouble(z)).reshape(rows, columns) for z in range(planes)])
    result = stack if len(shape) == 3 else stack[1]
    return result / result.sum()


def _private(psf: Any, name: str) -> Any:
    field = psf.getClass().getDeclaredField(name)
    field.setAccessible(True)
    return field.get(psf)
