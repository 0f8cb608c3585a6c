"""Point spread functions of an ideal lens: Born & Wolf's scalar integral and the Gaussian nearest to it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, j0

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.microscope.sampling import check_grid, focus_planes, sample_profile

__all__ = ["born_wolf", "check_optics", "gaussian_psf"]


def check_optics(na: float, wavelength_um: float, refractive_index: float) -> None:
    """Refuse a lens that cannot exist."""
    if not wavelength_um > 0:
        raise ConfigurationError(f"The wavelength must be above 0 µm, not {wavelength_um}.")
    if wavelength_um > 20:
        raise ConfigurationError(f"A wavelength of {wavelength_um} µm is no light of a microscope; give µm, not nm.")
    if not refractive_index >= 1:
        raise ConfigurationError(f"The refractive index must be 1 or more, not {refractive_index}.")
    if not 0 < na <= refractive_index:
        raise ConfigurationError(
            f"The numerical aperture must lie above 0 and not over the refractive index {refractive_index}, "
            f"not at {na}."
        )


def born_wolf(
    na: float,
    wavelength_um: float,
    pixel_um: float,
    shape: tuple[int, ...],
    refractive_index: float = 1.0,
    z_step_um: float | None = None,
    defocus_um: float = 0.0,
    radial: Literal["exact", "plugin"] = "exact",
    pixel_integrated: bool = False,
    camera_pixel_um: float | None = None,
) -> NDArray[np.float64]:
    """Scalar diffraction PSF of an aberration-free lens.

    With k = 2π / λ::

        h(r, z) = | ∫₀¹ J₀(k NA r ρ) exp(-i k NA² z ρ² / 2n) ρ dρ |²

    by Gauss-Legendre quadrature, as many nodes as the integrand's oscillations need.

    Parameters
    ----------
    na
        Numerical aperture; for bright field the mean of objective and condenser.
    wavelength_um, pixel_um
        Wavelength in vacuum and distance of the samples, µm.
    shape
        (rows, columns) for one plane, (planes, rows, columns) for a stack. The centre is at (N - 1) / 2.
    refractive_index
        Of the immersion medium.
    z_step_um
        Distance of the planes, µm; needed with three axes.
    defocus_um
        Height of the middle plane over the focus, µm.
    radial
        ``"exact"``: the integral at each pixel's own radius. ``"plugin"``: as the ImageJ plugin PSF Generator
        (Kirshner et al. 2013), at whole-pixel radii with straight lines between; wrong by up to 0.1 of the
        peak for coarse pixels, here to compare with work that used it.
    pixel_integrated
        Average over the camera pixel instead of sampling at its centre.
    camera_pixel_um
        Edge of the camera pixel, µm, when it is not ``pixel_um`` (an enlarged image); implies
        ``pixel_integrated``.

    Returns
    -------
    float64 array of ``shape``, not negative, sum 1.

    Raises
    ------
    ConfigurationError
        The lens or the grid is impossible, or the plugin's radial table is asked for with pixel integration.

    References
    ----------
    .. [1] M. Born, E. Wolf, Principles of Optics, 7th ed., §8.8. :DOI:`10.1017/CBO9781139644181`
    .. [2] H. Kirshner et al., J. Microscopy 249, 13 (2013). :DOI:`10.1111/j.1365-2818.2012.03675.x`
    """
    check_optics(na, wavelength_um, refractive_index)
    check_grid(shape, pixel_um, z_step_um)
    if radial not in ("exact", "plugin"):
        raise ConfigurationError(f"radial is 'exact' or 'plugin', not {radial!r}.")
    width = camera_width(pixel_um, pixel_integrated, camera_pixel_um)
    if radial == "plugin" and width > 0:
        raise ConfigurationError("PSF Generator does not integrate over the pixel: use radial='exact'.")
    heights = focus_planes(shape, z_step_um, defocus_um)
    k = 2 * np.pi / wavelength_um

    def profile(radii: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
        # Half the phase range is the number of oscillations' radians to resolve; 40 nodes more reach 1e-14.
        phases = k * na * radii.max() + k * na**2 * np.abs(z).max() / (2 * refractive_index)
        nodes, weights = np.polynomial.legendre.leggauss(40 + int(phases))
        rho, weights = (nodes + 1) / 2, weights / 2
        waves = j0(k * na * np.outer(radii, rho)) * (rho * weights)
        pupil = np.exp(-0.5j * k * na**2 / refractive_index * np.outer(z, rho**2))
        return np.abs(pupil @ waves.T) ** 2

    psf = sample_profile(
        profile,
        shape,
        pixel_um,
        heights,
        wavelength_um / (2 * na),
        camera_pixel_um=width,
        table_step_um=pixel_um if radial == "plugin" else None,
    )
    return psf / psf.sum()


def gaussian_psf(
    fwhm_um: float,
    pixel_um: float,
    shape: tuple[int, ...],
    fwhm_z_um: float | None = None,
    z_step_um: float | None = None,
    pixel_integrated: bool = False,
    camera_pixel_um: float | None = None,
) -> NDArray[np.float64]:
    """Gaussian PSF; a good model of a confocal or light-sheet spot, a poor one of a wide-field lens.

    Parameters
    ----------
    fwhm_um, fwhm_z_um
        Full width at half maximum across and, for a stack, along the axis, µm. An in-focus Airy spot is
        nearest to ``0.51 * wavelength_um / na``.
    pixel_um, shape, z_step_um, pixel_integrated, camera_pixel_um
        As in `born_wolf`.

    Returns
    -------
    float64 array of ``shape``, sum 1.
    """
    check_grid(shape, pixel_um, z_step_um)
    if not fwhm_um > 0:
        raise ConfigurationError(f"The width of a Gaussian must be above 0 µm, not {fwhm_um}.")
    if len(shape) == 3 and not (fwhm_z_um is not None and fwhm_z_um > 0):
        raise ConfigurationError("A Gaussian of several planes needs fwhm_z_um above 0.")
    width = camera_width(pixel_um, pixel_integrated, camera_pixel_um)

    def along(n: int, step: float, fwhm: float, window: float) -> NDArray[np.float64]:
        sigma = fwhm / (2 * np.sqrt(2 * np.log(2)))
        x = (np.arange(n) - (n - 1) / 2) * step
        if window == 0:
            return np.exp(-(x**2) / (2 * sigma**2))
        scale = sigma * np.sqrt(2)
        return erf((x + window / 2) / scale) - erf((x - window / 2) / scale)

    psf = np.outer(along(shape[-2], pixel_um, fwhm_um, width), along(shape[-1], pixel_um, fwhm_um, width))
    if len(shape) == 3:
        assert z_step_um is not None
        assert fwhm_z_um is not None
        psf = along(shape[0], z_step_um, fwhm_z_um, 0.0)[:, None, None] * psf
    return psf / psf.sum()


def camera_width(pixel_um: float, pixel_integrated: bool, camera_pixel_um: float | None) -> float:
    """Edge of the square to average over in µm; 0 when the samples are points."""
    if camera_pixel_um is None:
        return pixel_um if pixel_integrated else 0.0
    if not camera_pixel_um > 0:
        raise ConfigurationError(f"The camera pixel must be above 0 µm, not {camera_pixel_um}.")
    return camera_pixel_um
