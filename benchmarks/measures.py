"""SSIM and CIE-94 of a large image: ours and scikit-image's, in one run.

python benchmarks/measures.py [--size 5120] [--repeats 2]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from skimage import color, metrics

from dlm_fiji.measures import cie94, ssim


def best(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times, value = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - start)
    return min(times), value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5120)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    side = -(-options.size // 256)
    base = np.kron(rng.integers(0, 256, (side, side, 3)), np.ones((256, 256, 1)))[: options.size, : options.size]
    a, b = (np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8) for _ in range(2))
    grey = [np.ascontiguousarray(x[..., 1]) for x in (a, b)]
    print(f"{options.size} × {options.size}, {os.cpu_count()} processors")

    def scikit_ssim(x: np.ndarray, y: np.ndarray) -> float:
        return metrics.structural_similarity(
            x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )

    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "SSIM, 8 bit": (lambda: ssim(*grey), lambda: scikit_ssim(*grey)),
        "SSIM, float32": (
            lambda: ssim(*floats, 255),
            lambda: scikit_ssim(*floats),
        ),
        "CIE-94": (
            lambda: cie94(a, b).mean,
            lambda: float(color.deltaE_ciede94(color.rgb2lab(a), color.rgb2lab(b)).mean()),
        ),
    }
    floats = [x.astype(np.float32) for x in grey]
    for name, (ours, peer) in cases.items():
        fast, value = best(ours, options.repeats)
        slow, truth = best(peer, 1)
        print(
            f"{name}: ours {fast:.2f} s, scikit-image {slow:.2f} s, ratio {slow / fast:.1f}, values "
            f"{value:.7f} {truth:.7f}"
        )


if __name__ == "__main__":
    main()
