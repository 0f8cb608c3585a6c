"""Richardson-Lucy by DeconvolutionLab2 (Sage et al. 2017, doi:10.1016/j.ymeth.2016.12.015) and by imagej-ops."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from dlm_fiji.errors import ConfigurationError, InputError, SetupError
from dlm_fiji.fiji.macro import captured_output, session
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class, start

__all__ = ["available", "richardson_lucy"]

Plugin = Literal["deconvolutionlab2", "ops"]


def available(plugin: Plugin = "deconvolutionlab2") -> Availability:
    """Whether this ImageJ has the plugin, its version, and how to install it."""
    return plugins_available()[plugin]


def richardson_lucy(
    image: np.ndarray,
    psf: np.ndarray,
    iterations: int = 10,
    *,
    plugin: Plugin = "deconvolutionlab2",
    tv: float = 0.0,
    accelerate: bool = False,
    boundary: Literal["circular", "mirror", "weights"] | None = None,
    damping: float = 0.0,
    background: float = 0.0,
) -> np.ndarray:
    """Deconvolve an image with a plugin.

    Parameters
    ----------
    image
        (rows, columns) or (planes, rows, columns), counts, not negative.
    psf
        As many axes, not larger; normalised to sum 1 here. An odd one is centred for the plugin
        (DeconvolutionLab2 displaces an odd PSF in an even image by one pixel).
    iterations
        Number of updates.
    plugin
        ``"deconvolutionlab2"`` or ``"ops"`` (imagej-ops, part of Fiji).
    tv
        Weight of the total variation; only imagej-ops.
    accelerate
        Biggs & Andrews' vector extrapolation; only imagej-ops.
    boundary
        DeconvolutionLab2: ``"circular"``, its default. imagej-ops: ``"mirror"``, its default (the edge is not
        repeated), or ``"weights"`` (non-circulant, Bertero & Boccacci).
    damping, background
        No plugin has them: anything but 0 is refused.

    Returns
    -------
    float32 array of the image's shape.

    Raises
    ------
    SetupError
        The plugin is not there.
    ConfigurationError
        The plugin does not have what was asked for.
    InputError
        The PSF is larger than the image, or a value is negative or not finite.
    """
    image = np.asarray(image)
    psf = np.asarray(psf, dtype=np.float32)
    for name, value in (("damping", damping), ("background", background)):
        if value != 0:
            raise ConfigurationError(f"No ImageJ plugin has {name}; leave it out or use engine='native'.")
    if image.ndim not in (2, 3) or psf.ndim != image.ndim:
        raise InputError(f"Image {image.shape} and PSF {psf.shape} must both have 2 or 3 axes.")
    if any(p > n for p, n in zip(psf.shape, image.shape, strict=True)):
        raise InputError(f"The PSF {psf.shape} is larger than the image {image.shape}.")
    if not np.isfinite(image).all() or image.min() < 0:
        raise InputError("Richardson-Lucy needs counts: no negative or infinite pixels, no NaN.")
    if iterations < 1:
        raise ConfigurationError(f"Richardson-Lucy needs at least 1 iteration, not {iterations}.")
    total = float(psf.sum())
    if not np.isfinite(total) or total <= 0:
        raise InputError("The PSF must be finite and have a sum above zero.")
    psf = psf / np.float32(total)  # imagej-ops takes it as it is, and loses the image's brightness otherwise
    if plugin == "deconvolutionlab2":
        return _deconvolutionlab2(image, psf, iterations, tv, accelerate, boundary)
    if plugin == "ops":
        return _ops(image, psf, iterations, tv, accelerate, boundary)
    raise ConfigurationError(f"plugin is 'deconvolutionlab2' or 'ops', not {plugin!r}.")


def centred_even(psf: np.ndarray) -> np.ndarray:
    """The PSF with even sides and its centre at n/2, where DeconvolutionLab2 takes it to be."""
    return np.pad(psf, [(n % 2, 0) for n in psf.shape])


def _deconvolutionlab2(
    image: np.ndarray, psf: np.ndarray, iterations: int, tv: float, accelerate: bool, boundary: str | None
) -> np.ndarray:
    if tv:
        dims = "in 2-D its intensity collapses" if image.ndim == 2 else "its weight is scaled by the intensity"
        raise ConfigurationError(
            f"DeconvolutionLab2's total variation is not used ({dims}); "
            "use plugin='ops', engine='native', or leave tv out."
        )
    if accelerate:
        raise ConfigurationError("DeconvolutionLab2 has no acceleration; use plugin='ops' or engine='native'.")
    if boundary not in (None, "circular"):
        raise ConfigurationError(f"DeconvolutionLab2 has no boundary {boundary!r}; it has 'circular'.")
    require("deconvolutionlab2")
    command = (
        f"-algorithm RL {iterations} -pad NO NO 0 0 -apo NO NO -norm 1 -constraint no -monitor 0 -verbose mute "
        # Its multithreading returns before it has a result; without an output it would open a window.
        "-multithreading no -out stack result noshow nosave"
    )
    with session(), captured_output() as log:
        job = java_class("deconvolution.Deconvolution")("run", command)
        result = job.deconvolve(_signal("image", image), _signal("psf", centred_even(psf)))
        if result is None:
            raise SetupError(f"DeconvolutionLab2 returned nothing: {log().strip()[-200:]}")
        planes = [np.array(result.getXY(z)) for z in range(int(result.nz))]
    return np.stack(planes).reshape(image.shape).astype(np.float32, copy=False)


def _signal(name: str, array: np.ndarray) -> Any:
    import jpype

    stack = array.astype(np.float32, copy=False).reshape(-1, *array.shape[-2:])
    planes, rows, columns = stack.shape
    signal = java_class("signal.RealSignal")(name, columns, rows, planes)
    for z, plane in enumerate(stack):
        signal.setXY(z, jpype.JArray(jpype.JFloat)(np.ascontiguousarray(plane).ravel()))
    return signal


def _ops(
    image: np.ndarray, psf: np.ndarray, iterations: int, tv: float, accelerate: bool, boundary: str | None
) -> np.ndarray:
    import jpype

    if boundary not in (None, "mirror", "weights"):
        raise ConfigurationError(f"imagej-ops has no boundary {boundary!r}; it has 'mirror' and 'weights'.")
    require("ops")
    gateway = start().gateway
    if gateway is None:
        raise SetupError("imagej-ops needs a Fiji folder: give one with --fiji or DLM_FIJI_HOME.")
    ops = gateway.op().deconvolve()
    data, kernel = _img(image), _img(psf)
    non_circulant = boundary == "weights"
    count = jpype.JInt(iterations)
    if not (tv or accelerate or non_circulant):
        result = ops.richardsonLucy(data, kernel, count)
    else:
        real = java_class("net.imglib2.type.numeric.real.FloatType")()
        spectrum = java_class("net.imglib2.type.numeric.complex.ComplexFloatType")()
        flags = (jpype.JBoolean(non_circulant), jpype.JBoolean(accelerate))
        if tv:
            weight = jpype.JFloat(tv)
            result = ops.richardsonLucyTV(data, kernel, None, None, None, real, spectrum, count, *flags, weight)
        else:
            result = ops.richardsonLucy(data, kernel, None, None, None, real, spectrum, count, *flags)
    return _array(result, image.shape)


def _img(array: np.ndarray) -> Any:
    import jpype

    pixels = jpype.JArray(jpype.JFloat)(np.ascontiguousarray(array, dtype=np.float32).ravel())
    sides = jpype.JArray(jpype.JLong)([int(n) for n in reversed(array.shape)])
    return java_class("net.imglib2.img.array.ArrayImgs").floats(pixels, sides)


def _array(img: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values of an ImgLib2 image, by ImageJ's own wrapper: one plane at a time."""
    imp = java_class("net.imglib2.img.display.imagej.ImageJFunctions").wrapFloat(img, "result")
    stack = imp.getStack()
    planes = [np.array(stack.getProcessor(z + 1).getPixels()) for z in range(int(stack.getSize()))]
    return np.stack(planes).reshape(shape).astype(np.float32, copy=False)
