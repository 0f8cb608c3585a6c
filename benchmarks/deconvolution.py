"""Richardson-Lucy: ours, the peers that are installed, and the limit of four real FFTs an iteration, in one run.

    python benchmarks/deconvolution.py [--sizes 1024 2048] [--iterations 20] [--repeats 3] [--search] [--fiji FOLDER]

Times are the best of the repeats, taken in turns, everything warm. The limit runs on the padded size that
our reflecting border uses, with the same FFT and, like ours, keeping freed memory. Peers: scikit-image, RedLionfish
(pip install RedLionfish), flowdec (pip install flowdec); with a Fiji folder also imagej-ops and DeconvolutionLab2, as
far as it has them, in this process and with the way of the image to Java and back.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import richardson_lucy as scikit

from dlm_fiji.allocation import kept_memory
from dlm_fiji.deconvolution import richardson_lucy, search
from dlm_fiji.deconvolution.borders import Grid
from dlm_fiji.measures import ssim
from dlm_fiji.microscope import born_wolf


def race(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best time of each, in turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def scene(size: int, psf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scene of structure at all scales and its noisy image, float32."""
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) / (f + 0.01) ** 1.2, (size, size))
    truth = (np.maximum(field / field.std(), 0) * 400 + 20).astype(np.float32)
    grid = np.zeros((size, size))
    grid[: psf.shape[0], : psf.shape[1]] = psf
    grid = np.roll(grid, [-(n // 2) for n in psf.shape], (0, 1))
    seen = np.fft.irfft2(np.fft.rfft2(truth) * np.fft.rfft2(grid), (size, size))
    return truth, rng.poisson(np.maximum(seen, 0)).astype(np.float32)


@kept_memory()
def limit(shape: tuple[int, ...], iterations: int) -> None:
    image = torch.rand(shape)
    for _ in range(2 * iterations):
        torch.fft.irfftn(torch.fft.rfftn(image), s=shape, dim=(0, 1))


def plugins(image: np.ndarray, psf: np.ndarray, iterations: int) -> dict[str, Callable[[], object]]:
    """Richardson-Lucy of the Fiji that runs."""
    from dlm_fiji.fiji import deconvolution

    names: tuple[deconvolution.Plugin, ...] = ("ops", "deconvolutionlab2")
    return {
        f"{name}_s": lambda name=name: deconvolution.richardson_lucy(image, psf, iterations, plugin=name)  # type: ignore[misc]
        for name in names
        if deconvolution.available(name).present
    }


def measure(size: int, iterations: int, repeats: int, fiji: bool = False) -> dict[str, float]:
    psf = born_wolf(0.4, 0.63, 0.325, (33, 33)).astype(np.float32)
    truth, image = scene(size, psf)
    padded = Grid((size, size), psf.shape, "reflect").padded
    span = float(truth.max() - truth.min())

    def similar(result: np.ndarray) -> float:
        return ssim(result, truth, span, border=20)

    functions: dict[str, Callable[[], object]] = {
        "limit_s": lambda: limit(padded, iterations),
        "ours_s": lambda: richardson_lucy(image, psf, iterations),
        "ours_damped_s": lambda: richardson_lucy(image, psf, iterations, damping=0.001),
        "scikit_image_s": lambda: scikit(image, psf, iterations, clip=False),
    }
    if importlib.util.find_spec("RedLionfishDeconv") is not None:
        import RedLionfishDeconv as redlionfish

        stack, spot = image[None], psf[None]
        functions["redlionfish_s"] = lambda: redlionfish.doRLDeconvolutionFromNpArrays(
            stack, spot, niter=iterations, method="cpu"
        )
    if importlib.util.find_spec("flowdec") is not None:
        from flowdec import data as flowdata
        from flowdec import restoration

        algorithm = restoration.RichardsonLucyDeconvolver(2).initialize()
        acquisition = flowdata.Acquisition(data=image, kernel=psf)
        functions["flowdec_s"] = lambda: algorithm.run(acquisition, niter=iterations)
    if fiji:
        functions |= plugins(image, psf, iterations)
    results: dict[str, float] = {"size": size, "padded": padded[0], **race(functions, repeats)}
    peers = [results[k] for k in ("redlionfish_s", "flowdec_s", "ops_s", "deconvolutionlab2_s") if k in results]
    results["ours_over_limit"] = results["ours_s"] / results["limit_s"]
    results["scikit_image_over_ours"] = results["scikit_image_s"] / results["ours_s"]
    if peers:
        results["fastest_peer_over_ours"] = min(peers) / results["ours_s"]
    results["ssim_50_plain"] = similar(richardson_lucy(image, psf, 50))
    results["ssim_12_biggs_andrews"] = similar(richardson_lucy(image, psf, 12, acceleration="biggs-andrews"))
    results["ssim_12_wiener"] = similar(richardson_lucy(image, psf, 12, acceleration="wiener"))
    results["ssim_12_plain"] = similar(richardson_lucy(image, psf, 12))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--search", action="store_true", help="also the search of 8 dampings × 100 iterations")
    parser.add_argument("--fiji", type=Path, help="Fiji folder whose plugins take part")
    options = parser.parse_args()
    if options.fiji is not None:
        from dlm_fiji.fiji import start

        start(fiji=options.fiji)
    print(f"{os.cpu_count()} processors, torch {torch.__version__} on {torch.get_num_threads()} threads")
    for size in options.sizes:
        results = measure(size, options.iterations, options.repeats, options.fiji is not None)
        if options.search:
            psf = born_wolf(0.4, 0.63, 0.325, (33, 33)).astype(np.float32)
            truth, image = scene(size, psf)
            start = time.perf_counter()
            found = search(image, psf, reference=truth)
            results["search_s"] = time.perf_counter() - start
            results |= {"search_best_iterations": found.iterations, "search_best_damping": found.damping}
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in results.items()}, indent=1))


if __name__ == "__main__":
    main()
