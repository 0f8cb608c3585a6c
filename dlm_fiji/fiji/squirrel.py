"""NanoJ-SQUIRREL's error map (Culley et al. 2018, doi:10.1038/nmeth.4605) by the plugin's own classes, for comparison.

Its menu command does not load headless; the classes behind it do: NanoJ's registration and the swarm of particles that
looks for α, β and σ. What the command does between them is done here by the same ImageJ calls. On a processor the swarm
takes minutes where the native error map takes a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.fiji.convert import from_processor, to_processor
from dlm_fiji.fiji.macro import captured_output
from dlm_fiji.fiji.nanoj import correlation_shift
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class
from dlm_fiji.measures import ErrorMap
from dlm_fiji.measures.squirrel import checked_pair

__all__ = ["available", "error_map"]

#: The plugin's own: particles, iterations, and the improvement at which it stops.
SWARM, ITERATIONS, IMPROVEMENT = 10, 300, 1e-7


def available() -> Availability:
    """Whether this ImageJ has the plugin, its version, and how to install it."""
    return plugins_available()["squirrel"]


def error_map(
    sr: ArrayLike, reference: ArrayLike, *, max_magnification: int = 5, max_shift: float | None = None
) -> ErrorMap:
    """Where a super-resolved image contradicts the diffraction-limited one, by the plugin.

    Parameters
    ----------
    sr
        Super-resolved image, shape (m rows, m columns), m a whole number from 1.
    reference
        Diffraction-limited image of the same field, shape (rows, columns).
    max_magnification
        Finer images are reduced to so many pixels to one of the reference during the fit (the plugin's default 5).
    max_shift
        Largest shift that the registration looks for, fine pixels; None lets it decide.

    Returns
    -------
    ErrorMap
        As of the native engine. The plugin cuts off what its registration moved in: there, ``map`` and ``convolved``
        hold NaN.

    Raises
    ------
    SetupError
        The plugin is not there.
    InputError
        The sizes do not fit, an image is empty, or the plugin failed.
    """
    require("squirrel")
    require("nanoj")
    sharp, blurred, m = checked_pair(sr, reference)
    fine, coarse = sharp.astype(np.float32), blurred.astype(np.float32)
    with captured_output():
        try:
            return _error_map(fine, coarse, m, max_magnification, max_shift)
        except InputError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            raise InputError(f"NanoJ-SQUIRREL failed: {reason or type(error).__name__}.") from error


def _error_map(
    fine: NDArray[np.float32], coarse: NDArray[np.float32], m: int, max_magnification: int, max_shift: float | None
) -> ErrorMap:
    moved = correlation_shift(_enlarged(coarse, m), fine, max_shift)
    # Under half a pixel on both axes the plugin leaves the image where it is.
    moved = (0.0, 0.0) if max(map(abs, moved)) < 0.5 else moved
    window, used = fine, coarse
    rows, columns = ((0, n) for n in coarse.shape)
    if moved != (0.0, 0.0):
        processor = to_processor(fine)
        processor.setInterpolationMethod(java_class("ij.process.ImageProcessor").BICUBIC)
        processor.translate(float(moved[1]), float(moved[0]))
        rows, columns = (_kept(by if abs(by) >= 0.5 else 0.0, n, m) for by, n in zip(moved, coarse.shape, strict=True))
        window = from_processor(processor)[m * rows[0] : m * rows[1], m * columns[0] : m * columns[1]]
        used = coarse[rows[0] : rows[1], columns[0] : columns[1]]
    height, width = used.shape
    alpha, beta, sigma, objective = _swarm(window, used, max_magnification)
    scaled = to_processor(window * np.float32(alpha) + np.float32(beta))
    scaled.blurGaussian(sigma * m)
    convolved = from_processor(scaled).copy()
    # The plugin's figures are those of one fine pixel in each coarse one: resizing without interpolation.
    corner = from_processor(scaled.resize(width, height)).astype(np.float64)
    part = (slice(m * rows[0], m * rows[1]), slice(m * columns[0], m * columns[1]))
    whole = np.full((2, *fine.shape), np.nan, np.float32)
    whole[0][part], whole[1][part] = np.abs(_enlarged(used, m) - convolved), convolved
    return ErrorMap(
        alpha=alpha,
        beta=beta,
        sigma=sigma,
        rse=float(np.sqrt(np.mean((corner - used) ** 2))),
        rsp=float(np.corrcoef(corner.ravel(), used.ravel())[0, 1]),
        map=whole[0],
        convolved=whole[1],
        shift=moved,
        objective=objective,
    )


def _swarm(fine: NDArray[np.float32], coarse: NDArray[np.float32], max_magnification: int) -> tuple[float, ...]:
    """α, β, σ (reference px) and the objective, as the plugin's swarm finds them from its own first guess."""
    height, width = coarse.shape
    reduced = from_processor(to_processor(fine).resize(width, height)).astype(np.float64)
    gain, offset = np.polyfit(reduced.ravel(), coarse.astype(np.float64).ravel(), 1)
    swarm = java_class("nanoj.kernels.Kernel_SquirrelSwarmOptimizer")()
    swarm.maxMagnification = int(max_magnification)
    swarm.showMessages = False
    # Boundaries are 0 don't obey, 1 obey, 3 obey the low one; σ between 0.5 and 10, starting at 5.
    low, high, first = [0.001, offset * 0.1, 0.5], [gain * 10, offset * 10, 10.0], [gain, offset, 5.0]
    improvement = IMPROVEMENT
    if gain == 0 or offset == 0:
        low, high, first, improvement = [0.001, -1000.0, 0.5], [100.0, 1000.0, 10.0], [10.0, 0.0, 5.0], float("nan")
    found = swarm.calculate(
        to_processor(coarse), to_processor(fine), SWARM, ITERATIONS, low, high, first, [3, 0, 1], improvement
    )
    field = swarm.getClass().getSuperclass().getDeclaredField("globalBestError")
    field.setAccessible(True)
    return (*(float(value) for value in found), float(field.getDouble(swarm)))


def _kept(moved: float, size: int, m: int) -> tuple[int, int]:
    """First and last (excluded) reference pixel that the plugin keeps on an axis moved by so many fine pixels."""
    whole = int(np.ceil(abs(moved) / m))
    return (whole, size) if moved > 0 else (0, size - whole)


def _enlarged(image: NDArray[np.float32], m: int) -> Any:
    processor = to_processor(image)
    processor.setInterpolationMethod(java_class("ij.process.ImageProcessor").BICUBIC)
    return from_processor(processor.resize(m * image.shape[1], m * image.shape[0])).copy()
