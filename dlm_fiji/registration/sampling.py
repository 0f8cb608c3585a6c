"""Reading an image between its pixels, and changing its pixel size: each once, never twice in a row.

Pixel centres lie at whole coordinates. When an image is enlarged or reduced by a factor, its outer edges
stay where they are: pixel i of the result covers (i + 0.5)/factor - 0.5 of the source.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage, sparse

from dlm_fiji.errors import InputError

__all__ = ["reduce_bicubic", "resample", "sample"]


def _cubic(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    near = (1.5 * t - 2.5) * t**2 + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _linear(t: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(t), 0, None)


def _matrix(length: int, out: int, factor: float, kind: str) -> sparse.csr_matrix:
    """Weights (out, length); when reducing, the kernel widens by 1/factor, so that nothing aliases."""
    kernel, support = (_cubic, 2.0) if kind == "cubic" else (_linear, 1.0)
    widen = max(1.0, 1 / factor)
    centre = (np.arange(out) + 0.5) / factor - 0.5
    reach = int(np.ceil(support * widen)) + 1
    at = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weight = kernel((at - centre[:, None]) / widen)
    weight /= weight.sum(axis=1, keepdims=True)
    # mirror at the edges, the edge pixel repeated
    at = np.mod(at, 2 * length)
    at = np.where(at >= length, 2 * length - 1 - at, at)
    row = np.repeat(np.arange(out), at.shape[1])
    keep = weight.ravel() != 0
    return sparse.csr_matrix(
        (weight.ravel()[keep].astype(np.float32), (row[keep], at.ravel()[keep])), shape=(out, length)
    )


def resample(image: np.ndarray, factor: float | tuple[float, float], kind: str = "cubic") -> np.ndarray:
    """Enlarge (factor > 1) or reduce (factor < 1) an image, as MATLAB's ``imresize`` does.

    Parameters
    ----------
    image
        (H, W) or (H, W, C), any range.
    factor
        Pixels of the result per pixel of the source, one number or (y, x).
    kind
        ``"cubic"`` (Keys, a = -1/2) or ``"linear"``; anti-aliased when reducing.

    Returns
    -------
    float32, floor(H·factor) × floor(W·factor)
        Pixel i lies at (i + 0.5)/factor - 0.5 of the source.
    """
    fy, fx = (float(f) for f in np.broadcast_to(np.asarray(factor, dtype=float), (2,)))
    height, width = (int(np.floor(n * f + 1e-9)) for n, f in zip(image.shape[:2], (fy, fx), strict=True))
    if min(fy, fx) <= 0 or min(height, width) < 1:
        raise InputError(f"An image of {image.shape[0]} x {image.shape[1]} px cannot be resampled by {factor}.")
    down = _matrix(image.shape[0], height, fy, kind)
    across = _matrix(image.shape[1], width, fx, kind)
    planes = np.asarray(image, dtype=np.float32).reshape(*image.shape[:2], -1)
    out = np.empty((height, width, planes.shape[2]), dtype=np.float32)
    for c in range(planes.shape[2]):
        out[..., c] = (across @ (down @ np.ascontiguousarray(planes[..., c])).T).T
    return out.reshape(height, width, *image.shape[2:])


def reduce_bicubic(image: np.ndarray, scale: float) -> np.ndarray:
    """The image reduced by ``scale`` (2.5 in 000 and 004), bicubic and anti-aliased; float32."""
    return resample(image, 1 / scale, "cubic")


def sample(image: np.ndarray, rows: np.ndarray, cols: np.ndarray, order: int = 3) -> np.ndarray:
    """The image at (rows, cols), each (h, w) float, by B-spline interpolation of the given order; edges
    repeated.

    Returns
    -------
    float32, (h, w) or (h, w, C)
    """
    planes = np.asarray(image, dtype=np.float32).reshape(*image.shape[:2], -1)
    out = np.empty((*rows.shape, planes.shape[2]), dtype=np.float32)
    workers = min(os.cpu_count() or 1, 8)
    stripes = np.array_split(np.arange(rows.shape[0]), max(1, min(workers, rows.shape[0] // 64)))
    with ThreadPoolExecutor(workers) as pool:
        for c in range(planes.shape[2]):
            plane = np.ascontiguousarray(planes[..., c])
            if order > 1:
                plane = ndimage.spline_filter(plane, order, output=np.float32, mode="mirror")

            def fill(stripe: np.ndarray, plane: np.ndarray = plane, c: int = c) -> None:
                part = slice(stripe[0], stripe[-1] + 1)
                # coordinates are clipped, so that what lies outside repeats the edge
                at = [np.clip(rows[part], 0, plane.shape[0] - 1), np.clip(cols[part], 0, plane.shape[1] - 1)]
                out[part, :, c] = ndimage.map_coordinates(
                    plane, at, order=order, prefilter=False, mode="mirror", output=np.float32
                )

            list(pool.map(fill, [stripe for stripe in stripes if stripe.size]))
    return out.reshape(*rows.shape, *image.shape[2:])
