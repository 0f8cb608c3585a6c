"""Training: patches a second of our loop against a plain PyTorch loop on the same network, batch and patches.

    python benchmarks/training.py [--batch 16] [--steps 6] [--rounds 3] [--device cpu] [--precision fp32]

The plain loop is what a tutorial shows: DataLoader without workers, tensors as they come, loss, backward,
step. The two take turns. Loading is measured too, from patches in memory and from a memory-mapped file: the
processor time that making the batches takes, and the share of the time for which the loop waits for one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dlm_fiji.networks import BrightfieldNet, brightfield_loss
from dlm_fiji.training import PatchPairs, TrainingSettings, loop, train_regression


class PlainPatches(Dataset):
    """Patches as a tutorial's data set."""

    def __init__(self, lr: np.ndarray, hr: np.ndarray) -> None:
        self.lr, self.hr = lr, hr

    def __len__(self) -> int:
        return len(self.lr)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pair = (self.lr[index], self.hr[index])
        k, flip = np.random.randint(4), np.random.rand() < 0.5
        turned = [np.rot90(image, k) for image in pair]
        turned = [image[:, ::-1] if flip else image for image in turned]
        a, b = (torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255 for image in turned)
        return a, b


def plain_loop(data: PlainPatches, batch: int, steps: int, device: str) -> float:
    """Seconds of ``steps`` steps."""
    network = BrightfieldNet().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    start, done = time.perf_counter(), 0
    while done < steps:
        for lr, hr in loader:
            optimiser.zero_grad()
            loss = brightfield_loss(network(lr.to(device)), hr.to(device))
            loss.backward()
            optimiser.step()
            loss.item()
            done += 1
            if done == steps:
                break
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    count = max(64, arguments.batch)
    lr, hr = (rng.integers(0, 255, (count, n, n, 3), np.uint8) for n in (60, 150))
    settings = TrainingSettings(
        steps=arguments.steps,
        batch=arguments.batch,
        validate_every=10**6,
        validation_patches=1,
        device=arguments.device,
        precision=arguments.precision,
        compile=arguments.compile,
    )
    validation = [(lr[0], hr[0])]
    waited = {"seconds": 0.0}
    prefetched = loop.prefetched

    def clocked(*given: object) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = prefetched(*given)  # type: ignore[arg-type]
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            waited["seconds"] += time.perf_counter() - start
            yield batch

    loop.prefetched = clocked  # the loop's own batches, with a clock

    class Timed(PatchPairs):
        """Patches, and the processor time that batches of them took."""

        making = 0.0

        def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            start = time.thread_time()
            made = super().batch(step)
            self.making += time.thread_time() - start
            return made

    def ours(source: Timed) -> tuple[float, float]:
        """Seconds of ``steps`` steps, and the share of them spent waiting."""
        times: list[float] = []

        def progress(step: int, total: int, metrics: dict[str, float]) -> None:
            times.append(time.perf_counter())
            if step == 1:  # start, first batch and last validation are no part of a long training
                waited["seconds"] = 0.0

        train_regression(source, validation, settings, progress=progress)
        taken = times[-1] - times[0]
        return taken / (len(times) - 1) * arguments.steps, waited["seconds"] / taken

    plain_loop(PlainPatches(lr, hr), arguments.batch, 1, arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        PatchPairs(lr, hr).save(folder)
        mapped = PatchPairs.open(folder, settings)
        sources = {
            "ours": Timed(lr, hr, arguments.batch),
            "ours, memory-mapped": Timed(mapped.lr, mapped.hr, arguments.batch),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ("plain", *sources)}
        shares: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(arguments.rounds):
            plain = plain_loop(PlainPatches(lr, hr), arguments.batch, arguments.steps, arguments.device)
            seconds["plain"].append(plain)
            for name, source in sources.items():
                taken, share = ours(source)
                seconds[name].append(taken)
                shares[name].append(share)
    patches = arguments.batch * arguments.steps
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{arguments.device}, {torch.get_num_threads()} threads, batch {arguments.batch}, {arguments.precision}")
    for name, value in medians.items():
        text = f"  {name:20s} {patches / value:7.1f} patches/s"
        if name in shares:
            making = sources[name].making / (arguments.rounds * medians[name])
            text += f", waits {statistics.median(shares[name]):.2%} of the time"
            text += f", batches take {making:.1%} of a processor"
        print(text)
    print(f"  ours over plain (to reach on a CPU: 1.5): {medians['plain'] / medians['ours']:.2f}")


if __name__ == "__main__":
    main()
