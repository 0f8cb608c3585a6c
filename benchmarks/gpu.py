"""Everything that needs a GPU, in one command under eight minutes.

    python benchmarks/gpu.py [--device cuda] [--json FILE] [--smoke]

The rows of table S3 of the bright-field paper (GTX 1080): 2048², 818² and 160² pixels and a stream of 100
images of 2048², one and two passes; the generator at 1024²; training patches a second; each with the share of
the device's measured matrix product; and what bf16 costs in accuracy (PSNR against fp32). --smoke: tiny
sizes, on any device, to see that the script runs.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dlm_fiji.inference import Model, ModelCard, predict
from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator
from dlm_fiji.training import PatchPairs, TrainingSettings, train_regression

PAPER_SECONDS = {2048: (1.193, 8.343), 818: (0.209, 1.281), 160: (0.038, 0.081)}
"""One GPU, one pass and self-feeding (001 table S3)."""
TERAFLOP_2048 = 1.71


def timed(call: Callable[[], object], device: torch.device, budget: float = 6.0) -> float:
    """Median seconds of a call, after two that are not counted."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    call()
    call()
    wait()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 30):
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def matrix_peak(device: torch.device, dtype: torch.dtype, edge: int) -> float:
    """Operations a second of the matrix product."""
    a, b = (torch.rand(edge, edge, device=device).to(dtype) for _ in range(2))
    return 2 * edge**3 / timed(lambda: a @ b, device, 2.0)


def resident(network: torch.nn.Module, x: torch.Tensor, passes: int) -> Callable[[], torch.Tensor]:
    """The network on a tensor that is on the device already."""

    def run() -> torch.Tensor:
        with torch.inference_mode():
            y = x
            for _ in range(passes):
                y = network(y).clamp(0, 1)
            return y

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    found: dict[str, float] = {}

    def note(what: str, value: float, text: str) -> None:
        found[what] = value
        print(f"  {what:44s} {text}", flush=True)

    print(f"{name}, torch {torch.__version__}")
    torch.manual_seed(0)
    peaks = {}
    for key, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        peaks[key] = matrix_peak(device, dtype, 256 if arguments.smoke else 8192)
        note(f"matrix product {key}", peaks[key], f"{peaks[key] / 1e12:8.2f} TFLOP/s")

    base = BrightfieldNet().eval().requires_grad_(False)
    networks = {
        key: copy.deepcopy(base).to(device, dtype).to(memory_format=torch.channels_last)
        for key, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    sizes = (64, 48) if arguments.smoke else (2048, 818, 160)
    for size in sizes:
        x = torch.rand(1, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        outputs = {}
        for key, network in networks.items():
            given = x.to(next(network.parameters()).dtype)
            for passes in (1, 2):
                if passes == 2 and key == "fp32" and size > 1000:
                    continue  # 26 million pixels through fp32: minutes of the budget for no new knowledge
                try:
                    seconds = timed(resident(network, given, passes), device)
                except torch.OutOfMemoryError:
                    print(f"  {size}² {key}, {passes} passes: out of memory untiled")
                    continue
                paper = PAPER_SECONDS.get(size, (0, 0))[passes - 1]
                text = f"{1e3 * seconds:8.2f} ms"
                if paper:
                    text += f"  (paper {1e3 * paper:.0f} ms: {paper / seconds:.0f}×)"
                if passes == 1:
                    rate = TERAFLOP_2048 * 1e12 * (size / 2048) ** 2 / seconds
                    text += f"  {rate / peaks[key]:.0%} of the peak"
                note(f"{size}² {key}, {passes} pass{'es' if passes > 1 else ''}", seconds, text)
            outputs[key] = resident(network, given, 1)().float()
        error = float((outputs["bf16"] - outputs["fp32"]).square().mean())
        note(f"{size}² PSNR of bf16 against fp32", 10 * np.log10(1 / error), f"{10 * np.log10(1 / error):8.1f} dB")

    model = Model(base, ModelCard(name="benchmark"))
    count, size = (3, 64) if arguments.smoke else (100, 2048)
    images = [np.random.default_rng(k).integers(0, 255, (size, size, 3), np.uint8) for k in range(min(4, count))]
    precision = "bf16" if device.type == "cuda" else "fp32"
    predict(model, images[0], tile="whole", device=str(device), precision=precision, backend="torch")
    start = time.perf_counter()
    for k in range(count):
        predict(model, images[k % len(images)], tile="whole", device=str(device), precision=precision, backend="torch")
    seconds = time.perf_counter() - start
    paper = "" if arguments.smoke else f"  (paper 119.3 s: {119.3 / seconds:.0f}×)"
    note(f"{count} × {size}² arrays in and out, {precision}", seconds, f"{seconds:8.2f} s{paper}")

    edge = 64 if arguments.smoke else 1024
    generator = FluorescenceGenerator(1).eval().requires_grad_(False).to(device)
    x = 255 * torch.rand(1, 1, edge, edge, device=device)
    seconds = timed(resident(generator, x, 1), device)
    text = f"{1e3 * seconds:8.2f} ms" + ("" if arguments.smoke else f"  (paper 400 ms: {0.4 / seconds:.0f}×)")
    note(f"generator {edge}² fp32", seconds, text)

    rng = np.random.default_rng(0)
    batch, steps = (2, 3) if arguments.smoke else (64, 200)
    lr, hr = (rng.integers(0, 255, (256, n, n, 3), np.uint8) for n in (60, 150))
    for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
        settings = TrainingSettings(
            steps=steps,
            batch=batch,
            validate_every=10**6,
            validation_patches=1,
            device=device.type,
            precision=precision,
        )
        times: list[float] = []
        train_regression(
            PatchPairs(lr, hr, batch),
            [(lr[0], hr[0])],
            settings,
            progress=lambda s, t, m, times=times: times.append(time.perf_counter()),
        )
        skip = min(20, len(times) // 2)
        rate = batch * (len(times) - 1 - skip) / (times[-1] - times[skip])
        note(f"training {precision}, batch {batch}", rate, f"{rate:8.0f} patches/s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": name, "torch": torch.__version__} | found, indent=2))


if __name__ == "__main__":
    main()
