"""The loop of both trainings: batches, validations, checkpoints, progress; what a step does is theirs."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dlm_fiji.allocation import kept_memory
from dlm_fiji.errors import ConfigurationError
from dlm_fiji.training.checkpoints import (
    check_same_training,
    checksum,
    read_checkpoint,
    set_aside,
    write_checkpoint,
)
from dlm_fiji.training.devices import describe
from dlm_fiji.training.history import tensorboard_writer, write_history
from dlm_fiji.training.patches import BatchSource
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["Method", "Progress", "TrainingResult", "run_training"]

Progress = Callable[[int, int, dict[str, float]], None]


class Method(Protocol):
    """What is particular to a training.

    Attributes
    ----------
    network, averaged
        What is trained, and the running mean of its weights (the same object where there is none).
    parts
        Everything that a checkpoint keeps beside the network, by name: optimisers, a second network.
    """

    network: nn.Module
    averaged: nn.Module
    parts: dict[str, Any]

    def step(self, number: int, lr: Tensor, hr: Tensor, rate: float) -> float:
        """The update of that number, from 1; the loss."""
        ...

    def validate(self) -> dict[str, float]:
        """``val_loss``, ``val_ssim`` and further columns of the history."""
        ...


@dataclass
class TrainingResult:
    """What a training made.

    Attributes
    ----------
    network
        With the weights that ``settings.keep`` names, in evaluation mode, on the CPU.
    history
        One row a validation: step, loss, val_loss, val_ssim, lr, seconds.
    best_step, best_loss
        Where the validation loss was smallest, and its value there.
    steps, patches, seconds, patches_per_second
        What was done (this call's time only, where the training was continued).
    stopped_by
        ``"steps"`` or ``"time limit"``.
    left_out
        Patches without content that the training did not look at.
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
    left_out: int = 0
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
            "weights": self.best_weights,
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


def finite(loss: float, name: str, step: int, rate: float) -> float:
    """``loss``, or a sentence where it is none."""
    if math.isfinite(loss):
        return loss
    raise ConfigurationError(
        f"The {name} became {loss} at step {step}; lower learning_rate (now {rate:.1e}) "
        "or set clip_norm, and look for damaged images."
    )


@kept_memory()
def run_training(
    method: Method,
    source: BatchSource,
    fabric: Any,
    settings: TrainingSettings,
    out_dir: str | os.PathLike[str] | None,
    progress: Progress | None,
    resume: bool,
) -> TrainingResult:
    """Steps until the end or the time limit; arguments as for ``train_regression``."""
    network, averaged = method.network, method.averaged
    kept = {"network": network, "averaged": averaged, **method.parts}
    state = TrainingState(averaged)
    total = settings.total_steps(len(source))
    record = {
        "architecture": type(network).__name__,
        "config": dict(network.config),  # type: ignore[arg-type]
        "data": None if out_dir is None else checksum(source),
    }
    if resume and out_dir is not None and (found := read_checkpoint(out_dir, settings)) is not None:
        check_same_training(found, record, fabric, settings)
        for name, part in kept.items():
            part.load_state_dict(found[name])
        state.restore(found)
    writes = out_dir is not None and fabric.is_global_zero
    board = None
    if writes:
        Path(out_dir).mkdir(parents=True, exist_ok=True)  # type: ignore[arg-type]
        if state.step == 0 and not state.history:
            set_aside(out_dir)  # type: ignore[arg-type]
        if settings.tensorboard:
            board = tensorboard_writer(out_dir, state.step)  # type: ignore[arg-type]
    started, before, first = time.perf_counter(), state.seconds, state.step
    stopped_by = "steps"
    metrics: dict[str, float] = {}

    def spent() -> float:
        return before + time.perf_counter() - started

    def validate(rate: float) -> None:
        measured = method.validate()
        loss = state.mean_loss() if state.losses else measured["val_loss"]
        row = {"step": state.step, "loss": loss, "lr": rate, "seconds": round(spent(), 2)} | measured
        state.add(row, averaged)
        metrics.update(measured)
        if writes:
            write_history(out_dir, state.history)  # type: ignore[arg-type]
            content = state.content() | {name: part.state_dict() for name, part in kept.items()}
            content |= record | {"machine": describe(fabric, settings)}
            write_checkpoint(out_dir, content, settings)  # type: ignore[arg-type]
        if board is not None:
            for name in row.keys() - {"step", "seconds"}:
                board.add_scalar(name, row[name], state.step)
            board.flush()

    if not state.history:
        validate(settings.rate_at(0))
    for lr, hr in prefetched(source, state.step, total):
        fraction = state.step / total
        if settings.time_limit_s is not None:
            # the clock of one decides for all devices, or they would part
            fraction = max(fraction, fabric.broadcast(spent()) / settings.time_limit_s)
            if fraction >= 1:
                stopped_by = "time limit"
                break
        rate = settings.rate_at(fraction)
        mine = slice(fabric.global_rank, None, fabric.world_size)
        lr, hr = fabric.to_device((lr[mine], hr[mine]))
        loss = finite(method.step(state.step + 1, lr, hr, rate), "loss", state.step + 1, rate)
        state.step += 1
        state.losses.append(loss)
        if averaged is not network:
            average(averaged, network, min(settings.ema, state.step / (state.step + 20)))
        if state.step % settings.validate_every == 0 or state.step == total:
            validate(rate)
        if progress is not None:
            now = spent()
            left = (now - before) / (state.step - first) * (total - state.step)
            if settings.time_limit_s is not None:
                left = min(left, settings.time_limit_s - now)
            metrics |= {
                "loss": loss,
                "lr": rate,
                "seconds": now,
                "seconds_left": max(0.0, left),
                "patches_per_second": (state.step - first) * settings.batch / (now - before),
            }
            progress(state.step, total, dict(metrics))
    if state.history[-1]["step"] != state.step:
        validate(settings.rate_at(1.0))
    if board is not None:
        board.close()
    seconds = spent() - before
    chosen = copy.deepcopy(averaged).cpu()
    if settings.keep == "best":
        chosen.load_state_dict(state.best_weights)
    return TrainingResult(
        network=chosen.eval(),
        history=state.history,
        best_step=state.best_step,
        best_loss=state.best_loss,
        steps=state.step,
        patches=len(source),
        seconds=seconds,
        patches_per_second=(state.step - first) * settings.batch / seconds,
        stopped_by=stopped_by,
        left_out=getattr(source, "left_out", 0),
        description=describe(fabric, settings),
    )
