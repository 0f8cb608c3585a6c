"""From a radial profile to pixels: at their centres, averaged over the camera pixel, or as PSF Generator.

A rotationally symmetric intensity h(r, z) is given as a function; this module lays it on a pixel grid whose
centre is at (N - 1) / 2, so that an odd size has its peak on a pixel and an even size between four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from dlm_fiji.errors import ConfigurationError

__all__ = ["Profile", "check_grid", "focus_planes", "sample_profile"]

#: ``profile(radii_um, heights_um)`` gives intensities of shape (len(heights), len(radii)).
Profile = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def check_grid(shape: tuple[int, ...], pixel_um: float, z_step_um: float | None) -> None:
    """Refuse a grid on which no point spread function can be laid."""
    if len(shape) not in (2, 3) or any(int(n) != n or n < 1 for n in shape):
        raise ConfigurationError(
            f"A point spread function has the shape (rows, columns) or (planes, rows, columns), not {shape}."
        )
    if not pixel_um > 0:
        raise ConfigurationError(f"The pixel size must be above 0 µm, not {pixel_um}.")
    if len(shape) == 3 and not (z_step_um is not None and z_step_um > 0):
        raise ConfigurationError(f"A point spread function of {shape[0]} planes needs z_step_um above 0.")


def focus_planes(shape: tuple[int, ...], z_step_um: float | None, defocus_um: float) -> NDArray[Any]:
    """Heights of the planes over the focus in µm, the middle plane at ``defocus_um``."""
    if len(shape) == 2:
        return np.array([float(defocus_um)])
    assert z_step_um is not None
    return (np.arange(shape[0]) - (shape[0] - 1) / 2) * z_step_um + defocus_um


def sample_profile(
    profile: Profile,
    shape: tuple[int, ...],
    pixel_um: float,
    heights_um: NDArray[Any],
    finest_um: float,
    *,
    camera_pixel_um: float = 0.0,
    table_step_um: float | None = None,
) -> NDArray[np.float64]:
    """Lay a radial profile on pixels.

    Parameters
    ----------
    profile
        h(r, z), see `Profile`.
    shape
        (rows, columns) or (planes, rows, columns).
    pixel_um
        Distance of the samples.
    heights_um
        One height for each plane, shape (planes,).
    finest_um
        Shortest period in the profile, λ / 2NA; it decides how finely a camera pixel is integrated.
    camera_pixel_um
        Edge of the square over which each sample is averaged; 0 samples at the centre. It may be larger than
        ``pixel_um``: on an image enlarged 2.5 times the camera pixel is 2.5 samples wide.
    table_step_um
        If given, the profile is taken at multiples of this radius only and interpolated linearly, as PSF
        Generator does.

    Returns
    -------
    float64 array of ``shape``, not normalised.
    """
    rows, columns = shape[-2:]
    half = camera_pixel_um / 2
    reach = np.hypot((rows - 1) / 2 * pixel_um + half, (columns - 1) / 2 * pixel_um + half)
    if table_step_um is not None:
        table = profile(np.arange(int(reach / table_step_um) + 2) * table_step_um, heights_um)

        def look_up(radii: NDArray[np.float64]) -> NDArray[np.float64]:
            place = radii / table_step_um
            below = np.floor(place).astype(int)
            return table[:, below] + (table[:, below + 1] - table[:, below]) * (place - below)

    elif camera_pixel_um > 0 or rows * columns > 10_000:
        # Even in r, so the slope at 0 vanishes; 48 samples a period leave an error below 1e-7 of the peak.
        grid: NDArray[Any] = np.linspace(0.0, reach * 1.001, 16 + int(48 * reach / finest_um))
        flat = (1, np.zeros(len(heights_um)))
        spline = CubicSpline(grid, profile(grid, heights_um), axis=1, bc_type=(flat, "not-a-knot"))

        def look_up(radii: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.maximum(spline(radii), 0.0)

    else:

        def look_up(radii: NDArray[np.float64]) -> NDArray[np.float64]:
            return profile(radii, heights_um)

    if camera_pixel_um > 0:
        order = 4 + int(np.ceil(4 * camera_pixel_um / finest_um))
        nodes, weights = np.polynomial.legendre.leggauss(order)
        nodes, weights = nodes * half, weights / 2
    else:
        nodes, weights = np.zeros(1), np.ones(1)

    # A quarter is enough: the grid and the square pixel are symmetric about the centre.
    y = np.abs(np.arange(rows) - (rows - 1) / 2)[: (rows + 1) // 2] * pixel_um
    x = np.abs(np.arange(columns) - (columns - 1) / 2)[: (columns + 1) // 2] * pixel_um
    quarter = np.zeros((len(heights_um), len(y), len(x)))
    for dy, wy in zip(nodes, weights, strict=True):
        for dx, wx in zip(nodes, weights, strict=True):
            squares = (y[:, None] + dy) ** 2 + (x[None, :] + dx) ** 2
            radii, inverse = np.unique(np.round(np.sqrt(squares), 12), return_inverse=True)
            quarter += wy * wx * look_up(radii)[:, inverse.reshape(squares.shape)]
    whole = np.concatenate([quarter, quarter[:, : rows // 2][:, ::-1]], axis=1)
    whole = np.concatenate([whole, whole[:, :, : columns // 2][:, :, ::-1]], axis=2)
    return whole.reshape(shape)
