"""What the two training loops share: their state, their batches, their result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlm_fiji.training.patches import BatchSource

__all__ = ["Progress", "TrainingResult", "TrainingState", "average", "prefetched"]

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass
class TrainingResult:
    """What a training made.

    Attributes
    ----------
    network
        With the weights of the smallest validation loss, in evaluation mode, on the CPU.
    history
        One row a validation: step, loss, val_loss, val_ssim, lr, seconds.
    best_step, best_loss
        Where that was.
    steps, patches, seconds, patches_per_second
        What was done (this call's time only, where the training was continued).
    stopped_by
        ``"steps"`` or ``"time limit"``.
    """

    network: nn.Module
    history: list[dict[str, Any]]
    best_step: int
    best_loss: float
    steps: int
    patches: int
    seconds: float
    patches_per_second: float
    stopped_by: str
    description: dict[str, Any] = field(default_factory=dict)


class TrainingState:
    """What a checkpoint holds beside weights and optimiser."""

    def __init__(self, network: nn.Module) -> None:
        self.step = 0
        self.losses: list[float] = []
        self.history: list[dict[str, Any]] = []
        self.best_step, self.best_loss = 0, math.inf
        self.best_weights = copied_weights(network)

    @property
    def seconds(self) -> float:
        """Seconds up to the last validation, earlier calls included."""
        return float(self.history[-1]["seconds"]) if self.history else 0.0

    def mean_loss(self) -> float:
        """Mean of the losses since the last call."""
        mean = math.fsum(self.losses) / len(self.losses)
        self.losses = []
        return mean

    def add(self, row: dict[str, Any], network: nn.Module) -> None:
        """Take a row of the history, and the weights where it is the best one."""
        self.history.append(row)
        if row["val_loss"] < self.best_loss:
            self.best_step, self.best_loss = self.step, row["val_loss"]
            self.best_weights = copied_weights(network)

    def content(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "step": self.step,
            "history": self.history,
            "best_step": self.best_step,
            "best_loss": self.best_loss,
        }

    def restore(self, found: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.step, self.history = found["step"], found["history"]
        self.best_step, self.best_loss = found["best_step"], found["best_loss"]
        self.best_weights = found["weights"]


def copied_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def prefetched(source: BatchSource, first: int, total: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of steps ``first`` … ``total`` - 1, each made while the one before is computed."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.batch, first) if first < total else None
        for step in range(first, total):
            assert waiting is not None
            ready = waiting.result()
            waiting = pool.submit(source.batch, step + 1) if step + 1 < total else None
            yield ready


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Running mean of the weights: m ← decay · m + (1 - decay) · w."""
    for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
