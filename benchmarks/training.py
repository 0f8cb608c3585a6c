"""Training: patches a second of our loop against a plain PyTorch loop on the same network, batch and patches.

    python benchmarks/training.py [--batch 16] [--steps 6] [--rounds 3] [--threads N] [--device cpu] [--precision fp32]

The plain loop is what a tutorial shows: DataLoader without workers, tensors as they come, loss, backward,
step. The two take turns, and the median of the rounds' ratios counts: by the clock, and on a CPU by processor time
too, which a busy machine troubles less. The peak of the matrix product says what is left to gain. Loading is
measured too, from patches in memory, from a memory-mapped file and out of a Zarr: the processor time that making
the batches takes, and the share of the time for which the loop waits for one.

Measured on an AMD EPYC (AVX2), ours over plain by the clock and by processor time: batch 64 (the papers') on one
thread of a busy machine 1.78 and 1.65, on two idle threads 1.20 and 1.27; batch 16 on two threads 0.99 and 1.12. What
there is to gain is page faults (dlm_fiji.allocation): the plain loop's blocks of 57 MB at batch 64 are given back to
the kernel and zeroed again each time. Channels last makes the forward convolutions faster and the backward ones of
the wide layers slower there. Batches take 0.6 ms of a processor a patch from memory or a memory map and 2 ms out of a
Zarr, a patch's training 110 ms: the loop does not wait for them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import torch
from inference import matrix_peak, operations
from torch.utils.data import DataLoader, Dataset

from dlm_fiji.micrograph import PyramidWriter, open_region_reader
from dlm_fiji.networks import BrightfieldNet, brightfield_loss
from dlm_fiji.training import PatchPairs, TrainingSettings, extract_patches, loop, train_regression


def now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


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


def plain_loop(data: PlainPatches, batch: int, steps: int, device: str) -> np.ndarray:
    """Seconds of ``steps`` steps, by the clock and of the processor."""
    network = BrightfieldNet().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    start, done = now(), 0
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
    return now() - start


def stored(folder: str, settings: TrainingSettings, count: int) -> PatchPairs:
    """About ``count`` patches of one pair of Zarr images."""
    rng = np.random.default_rng(1)
    edge = 36 * int(np.sqrt(count)) // 2 * 2 + 60
    readers = []
    for name, size in (("lr", edge), ("hr", edge * 5 // 2)):
        image = rng.integers(0, 255, (size, size, 3), np.uint8)
        with PyramidWriter(f"{folder}/{name}.ome.zarr", image.shape, image.dtype) as writer:
            writer.write(0, 0, image)
        readers.append(open_region_reader(f"{folder}/{name}.ome.zarr"))
    return extract_patches([tuple(readers)], settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
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

    def ours(source: Timed) -> tuple[np.ndarray, float]:
        """Seconds of ``steps`` steps, and the share of them spent waiting."""
        times: list[np.ndarray] = []

        def progress(step: int, total: int, metrics: dict[str, float]) -> None:
            times.append(now())
            if step == 1:  # start, first batch and last validation are no part of a long training
                waited["seconds"] = 0.0

        train_regression(source, validation, settings, progress=progress)
        taken = times[-1] - times[0]
        return taken / (len(times) - 1) * arguments.steps, waited["seconds"] / taken[0]

    plain_loop(PlainPatches(lr, hr), arguments.batch, 1, arguments.device)
    peak = matrix_peak(clock=time.process_time) if arguments.device == "cpu" else None
    with tempfile.TemporaryDirectory() as folder:
        PatchPairs(lr, hr).save(folder)
        mapped, in_zarr = PatchPairs.open(folder, settings), stored(folder, settings, count)
        sources = {
            "ours": Timed(lr, hr, arguments.batch),
            "ours, memory-mapped": Timed(mapped.lr, mapped.hr, arguments.batch),
            "ours, Zarr": Timed(in_zarr.lr, in_zarr.hr, arguments.batch),
        }
        seconds: dict[str, list[np.ndarray]] = {name: [] for name in ("plain", *sources)}
        shares: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(arguments.rounds):
            plain = plain_loop(PlainPatches(lr, hr), arguments.batch, arguments.steps, arguments.device)
            seconds["plain"].append(plain)
            for name, source in sources.items():
                taken, share = ours(source)
                seconds[name].append(taken)
                shares[name].append(share)
    patches = arguments.batch * arguments.steps
    print(f"{arguments.device}, {torch.get_num_threads()} threads, batch {arguments.batch}, {arguments.precision}")
    for name, values in seconds.items():
        wall, busy = np.median(values, axis=0)
        text = f"  {name:20s} {patches / wall:7.1f} patches/s, {busy / patches:.3f} s of a processor a patch"
        if name in shares:
            making = sources[name].making / (arguments.rounds * patches)
            text += f" ({making:.4f} s for the batches), waits {statistics.median(shares[name]):.2%} of the time"
        print(text)
    ratios = np.array(seconds["plain"]) / np.array(seconds["ours"])
    for k, what in enumerate(("by the clock", "by processor time")):
        low, middle, high = np.quantile(ratios[:, k], (0, 0.5, 1))
        print(f"  ours over plain {what} (to reach on a CPU: 1.5): {middle:.2f} ({low:.2f} to {high:.2f})")
    if peak is not None:
        rate = 3 * operations(60) * patches / np.median(seconds["plain"], axis=0)[1]
        print(f"  a thread of the plain loop: {rate / 1e9:.0f} of the matrix product's {peak / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
