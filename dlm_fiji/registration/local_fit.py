"""Dense sub-pixel fit: around every pixel the shift, gain and offset that explain the fixed image best.

In a Gaussian window w around p, minimise Σ w (fixed - gain·moving(· + e) - offset)² over e, gain and offset
(Lucas & Kanade 1981, with the brightness free in every window). All windows are solved at once: the sums of products
are Gaussian blurs. Because gain may have any sign and offset any size, an inverted or gamma-changed pair needs nothing
special.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["local_step"]


def local_step(
    moving: np.ndarray,
    fixed: np.ndarray,
    window: float,
    *,
    valid: np.ndarray | None = None,
    ridge: float = 0.02,
    limit: float = 1.0,
    cell: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """One Gauss-Newton step everywhere.

    Parameters
    ----------
    moving, fixed
        (H, W) float32, already aligned to about a pixel, smoothed so that gradients mean something.
    window
        Standard deviation of the Gaussian window, px.
    valid
        (H, W) float32 weights 0 … 1; 0 where moving was read outside its image.
    ridge
        Strength of "no shift" where there is no content, as a share of the image's mean gradient energy.
    limit
        Longest step, px.
    cell
        Sums are taken over cell × cell px first.

    Returns
    -------
    step : (2, H, W) float32
        e, to be added: fixed(p) ≈ gain·moving(p + e) + offset.
    agreement : (h, w) float32
        Local squared correlation, 0 … 1, one value a cell.
    """
    height, width = fixed.shape
    cell = max(1, min(cell, int(window / 2) or 1))
    gy = cv2.Sobel(moving, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    gx = cv2.Sobel(moving, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    weight = np.ones_like(fixed) if valid is None else valid
    size = (-(-width // cell), -(-height // cell))

    def mean(product: np.ndarray) -> np.ndarray:
        small = cv2.resize(product, size, interpolation=cv2.INTER_AREA) if cell > 1 else product
        return cv2.GaussianBlur(small, (0, 0), window / cell, borderType=cv2.BORDER_CONSTANT)

    m, f = moving, fixed
    wy, wx, wm, wf = weight * gy, weight * gx, weight * m, weight * f
    total = np.maximum(mean(weight), 1e-6)
    sums = {
        name: mean(product) / total
        for name, product in {
            "y": wy, "x": wx, "m": wm, "f": wf,
            "yy": wy * gy, "yx": wy * gx, "xx": wx * gx, "ym": wy * m, "xm": wx * m, "mm": wm * m,
            "yf": wy * f, "xf": wx * f, "mf": wm * f, "ff": wf * f,
        }.items()
    }  # fmt: skip

    def covariance(a: str, b: str) -> np.ndarray:
        return sums[a + b] - sums[a] * sums[b]

    mm, ff, mf = covariance("m", "m"), covariance("f", "f"), covariance("m", "f")
    scale_m, scale_f = float(mm.mean()) + 1e-20, float(ff.mean()) + 1e-20
    gain = mf / (mm + 1e-3 * scale_m)
    agreement = np.clip(mf**2 / ((mm + 1e-3 * scale_m) * (ff + 1e-3 * scale_f)), 0, 1)
    # the brightness is eliminated: gradients are replaced by what of them is not explained by moving itself
    ratio_y, ratio_x = (covariance(g, "m") / (mm + 1e-3 * scale_m) for g in "yx")
    a_yy = covariance("y", "y") - ratio_y * covariance("y", "m")
    a_yx = covariance("y", "x") - ratio_y * covariance("x", "m")
    a_xx = covariance("x", "x") - ratio_x * covariance("x", "m")
    r_y = covariance("y", "f") - ratio_y * mf
    r_x = covariance("x", "f") - ratio_x * mf
    # (gain e) solves A (gain e) = r; weighting by gain² keeps windows that do not agree from shouting
    energy = gain**2
    prior = ridge * float((energy * (a_yy + a_xx)).mean()) + 1e-20
    n_yy, n_xx, n_yx = energy * a_yy + prior, energy * a_xx + prior, energy * a_yx
    b_y, b_x = gain * r_y, gain * r_x
    determinant = np.maximum(n_yy * n_xx - n_yx**2, 1e-30)
    step = np.stack([(n_xx * b_y - n_yx * b_x) / determinant, (n_yy * b_x - n_yx * b_y) / determinant])
    length = np.sqrt((step**2).sum(axis=0))
    step *= np.minimum(1, limit / np.maximum(length, 1e-9))
    if cell > 1:
        full = (size[0] * cell, size[1] * cell)
        step = np.stack(
            [cv2.resize(s, full, interpolation=cv2.INTER_LINEAR)[:height, :width] for s in step.astype(np.float32)]
        )
    return step.astype(np.float32), agreement.astype(np.float32)
