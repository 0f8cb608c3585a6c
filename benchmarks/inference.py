"""Inference on the CPU: ours end to end against the raw engines on the same network, and the machine's peak.

    python benchmarks/inference.py [--size 512] [--rounds 5] [--threads N] [--json FILE]

The rivals take turns, round by round, so that a busy machine troubles all alike; the median of the rounds
counts. Ours is an 8-bit array in and an 8-bit array out, scaling and tiling included. The raw engines get a
float tensor of the right layout and give one back.

Measured on an idle AMD EPYC (AVX2), 512² in, one thread: ours 1.67 s, OpenVINO raw 1.67 s, ONNX Runtime 1.98 s,
PyTorch channels last 3.13 s, eager 4.17 s; two threads: 1.01, 0.98, 1.11, 1.80, 2.71 s. So ours is level with the
fastest raw engine and 2.5 to 2.7 times PyTorch eager. Half of PyTorch's time are page faults: where freed memory is
kept (dlm_fiji.allocation, as ours does around the torch backend) eager takes 1.97 s and channels last 1.68 s of one
thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dlm_fiji.inference import Model, ModelCard, predict
from dlm_fiji.inference.backends import choose_engine
from dlm_fiji.networks import BrightfieldNet


def operations(size: int) -> float:
    """Floating-point operations (two a multiply-add) of the default network on size² pixels."""
    network = BrightfieldNet()
    total = 0.0
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            pixels = (2.5 * size) ** 2 if name == "last" else size**2
            total += 2 * 9 * module.in_channels * module.out_channels * pixels
    return total


def matrix_peak(seconds: float = 1.0, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations a second of PyTorch's matrix product, the best of many, each of some milliseconds.

    With ``clock=time.process_time`` those of one thread.
    """
    edge = 768
    a, b = torch.rand(edge, edge), torch.rand(edge, edge)
    best, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = clock()
        a @ b
        best = min(best, clock() - start)
    return 2 * edge**3 / best


def rivals(size: int, threads: int, tiled: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    torch.manual_seed(0)
    model = Model(BrightfieldNet(), ModelCard(name="benchmark"))
    image = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    large = np.random.default_rng(0).integers(0, 255, (tiled, tiled, 3), np.uint8)
    x = np.ascontiguousarray((image / np.float32(255)).transpose(2, 0, 1)[None], np.float32)
    eager, tensor = BrightfieldNet().eval(), torch.from_numpy(x)
    last = BrightfieldNet().eval().to(memory_format=torch.channels_last)
    tensor_last = tensor.contiguous(memory_format=torch.channels_last)

    def run(network: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network(values)

    found: dict[str, Callable[[], object]] = {
        "ours": lambda: predict(model, image, device="cpu", threads=threads),
        f"ours, {tiled}² in tiles of 512": lambda: predict(model, large, tile=512, device="cpu", threads=threads),
        "torch eager": lambda: run(eager, tensor),
        "torch channels last": lambda: run(last, tensor_last),
    }
    for backend in ("onnxruntime", "openvino"):
        try:
            engine = choose_engine(model, backend, "cpu", "fp32", threads)
        except Exception as error:
            print(f"{backend}: not measured ({error})")
            continue
        found[f"{backend} raw"] = lambda engine=engine: engine(x)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--tiled", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    measured = rivals(arguments.size, arguments.threads, arguments.tiled)
    for call in measured.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in measured}
    peaks = []
    for _ in range(arguments.rounds):
        peaks.append(matrix_peak())
        for name, call in measured.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    peak = max(peaks)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{arguments.size}² RGB in, {arguments.threads} threads, matrix product {peak / 1e9:.0f} GFLOP/s")
    for name, seconds in medians.items():
        size = arguments.tiled if "tiles" in name else arguments.size
        rate = operations(size) / seconds
        print(f"  {name:32s} {seconds:7.3f} s  {rate / 1e9:6.1f} GFLOP/s  {rate / peak:6.1%} of the peak")
    raw = min(seconds for name, seconds in medians.items() if not name.startswith("ours"))
    ratios = {
        "ours over torch eager (to reach: 3)": medians["torch eager"] / medians["ours"],
        "ours over the fastest raw engine (to reach: 0.87)": raw / medians["ours"],
        "tiles: work a pixel against one tile": medians["ours"]
        / medians[list(measured)[1]]
        * (arguments.tiled / arguments.size) ** 2,
    }
    for name, ratio in ratios.items():
        print(f"  {name}: {ratio:.2f}")
    if arguments.json:
        content = {"seconds": times, "medians": medians, "ratios": ratios, "peak": peak}
        arguments.json.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
