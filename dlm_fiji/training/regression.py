"""Training against labels by their pixels: the loop of the bright-field and phone papers.

Loss: MSE + λ·mean|∇G|² (000 eq. S4, 004 eq. 4), optionally + w·(1 - SSIM of the luminance).
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.networks.brightfield import BrightfieldNet
from dlm_fiji.networks.losses import brightfield_loss, structural_similarity
from dlm_fiji.training.checkpoints import read_checkpoint, write_checkpoint
from dlm_fiji.training.devices import accumulate, describe, make_fabric
from dlm_fiji.training.history import write_history
from dlm_fiji.training.loop import Progress, TrainingResult, TrainingState, average, prefetched
from dlm_fiji.training.patches import BatchSource, Pair, extract_patches
from dlm_fiji.training.plan import TrainingSettings
from dlm_fiji.training.validation import luminance, measure, validation_batches
from dlm_fiji.training.warm_start import start_from_interpolation

__all__ = ["TrainingResult", "train_regression"]


def train_regression(
    train_pairs: Sequence[Pair] | BatchSource,
    val_pairs: Sequence[Pair],
    settings: TrainingSettings | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    network: nn.Module | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    **changes: Any,
) -> TrainingResult:
    """Train a network on pairs of a low-resolution image and its label.

    Parameters
    ----------
    train_pairs
        (low resolution (h, w, C), label (h·L, w·L, C)) arrays, uint8 or float, or a source of batches such as
        :class:`dlm_fiji.training.simulated.SimulatedPairs`.
    val_pairs
        The same, from other areas or slides.
    settings, **changes
        :class:`TrainingSettings`, or its fields as keywords.
    out_dir
        Folder for ``history.csv`` and the checkpoint; None writes nothing.
    network
        Where the training starts, such as a loaded model's network (it is copied); None: a new
        :class:`~dlm_fiji.networks.BrightfieldNet` for the pairs' channels and scale 2.5.
    progress
        Called with (step, steps in all, metrics) after each step; metrics hold loss, lr, seconds,
        patches_per_second, seconds_left, and after the first validation val_loss and val_ssim.
    resume
        Continue from the checkpoint in ``out_dir``. On a CPU with the same number of threads the result is
        bit for bit that of an uninterrupted training (a ``time_limit_s`` excepted: it depends on the clock).

    Raises
    ------
    InputError
        Unequal sizes, no patches, an empty validation set.
    ConfigurationError
        The loss became NaN or infinite, or the checkpoint was made with other settings.
    SetupError
        Out of memory even with a sixteenth of the batch at a time.
    """
    settings = TrainingSettings.of(settings, **changes)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if len(val_pairs) == 0:
        raise InputError("The validation set is empty; keep at least one field out of the training for it.")
    network = starting_network(network, settings, val_pairs)
    scale = float(network.scale)  # type: ignore[arg-type]
    source: BatchSource
    source = extract_patches(train_pairs, settings, scale) if isinstance(train_pairs, Sequence) else train_pairs
    validation = validation_batches(val_pairs, settings, scale)

    def loss_of(output: Tensor, label: Tensor) -> Tensor:
        loss = brightfield_loss(output, label, settings.gradient_weight)
        if settings.ssim_weight > 0:
            similarity = structural_similarity(luminance(output), luminance(label))
            loss = loss + settings.ssim_weight * (1 - similarity)
        return loss

    fabric = make_fabric(settings)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    runner, optimiser = fabric.setup(torch.compile(network) if settings.compile else network, optimiser)
    averaged = copy.deepcopy(network) if settings.ema > 0 else network
    state = TrainingState(averaged)
    total = settings.total_steps(len(source))
    if resume and out_dir is not None and (found := read_checkpoint(out_dir, settings)) is not None:
        network.load_state_dict(found["network"])
        averaged.load_state_dict(found["averaged"])
        optimiser.load_state_dict(found["optimiser"])
        state.restore(found)
    if out_dir is not None:
        Path(out_dir).mkdir(parents=True, exist_ok=True)

    started, before, first = time.perf_counter(), state.seconds, state.step
    stopped_by = "steps"
    metrics: dict[str, float] = {}
    micro = -(-settings.batch // fabric.world_size)

    def validate(rate: float) -> None:
        val_loss, val_ssim = measure(averaged, validation, loss_of, fabric.device)
        seconds = before + time.perf_counter() - started
        loss = state.mean_loss() if state.losses else val_loss
        row = {"step": state.step, "loss": loss, "val_loss": val_loss, "val_ssim": val_ssim, "lr": rate}
        state.add(row | {"seconds": round(seconds, 2)}, averaged)
        metrics.update(val_loss=val_loss, val_ssim=val_ssim)
        if out_dir is not None and fabric.is_global_zero:
            write_history(out_dir, state.history)
            content = state.content() | {
                "architecture": type(network).__name__,
                "config": dict(network.config),  # type: ignore[arg-type]
                "network": network.state_dict(),
                "averaged": averaged.state_dict(),
                "weights": state.best_weights,
                "optimiser": optimiser.state_dict(),
            }
            write_checkpoint(out_dir, content, settings)

    if state.step == 0:
        validate(settings.rate_at(0))
    for lr, hr in prefetched(source, state.step, total):
        spent = before + time.perf_counter() - started
        fraction = state.step / total
        if settings.time_limit_s is not None:
            fraction = max(fraction, spent / settings.time_limit_s)
            if fraction >= 1:
                stopped_by = "time limit"
                break
        rate = settings.rate_at(fraction)
        for group in optimiser.param_groups:
            group["lr"] = rate
        mine = slice(fabric.global_rank, None, fabric.world_size)
        lr, hr = fabric.to_device((lr[mine], hr[mine]))
        micro, loss = accumulate(fabric, runner, optimiser, loss_of, lr, hr, micro)
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"The loss became {loss} at step {state.step + 1}; lower learning_rate (now {rate:.1e}) "
                "or set clip_norm, and look for damaged images."
            )
        if settings.clip_norm > 0:
            fabric.clip_gradients(runner, optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False)
        optimiser.step()
        state.step += 1
        state.losses.append(loss)
        if settings.ema > 0:
            average(averaged, network, min(settings.ema, state.step / (state.step + 20)))
        if state.step % settings.validate_every == 0 or state.step == total:
            validate(rate)
        if progress is not None:
            now = time.perf_counter() - started
            left = now / (state.step - first) * (total - state.step)
            if settings.time_limit_s is not None:
                left = min(left, settings.time_limit_s - before - now)
            metrics |= {
                "loss": loss,
                "lr": rate,
                "seconds": before + now,
                "seconds_left": max(0.0, left),
                "patches_per_second": (state.step - first) * settings.batch / now,
            }
            progress(state.step, total, dict(metrics))
    if state.history[-1]["step"] != state.step:
        validate(settings.rate_at(1.0))
    seconds = time.perf_counter() - started
    best = copy.deepcopy(network).cpu()
    best.load_state_dict(state.best_weights)
    return TrainingResult(
        network=best.eval(),
        history=state.history,
        best_step=state.best_step,
        best_loss=state.best_loss,
        steps=state.step,
        patches=len(source),
        seconds=seconds,
        patches_per_second=(state.step - first) * settings.batch / seconds,
        stopped_by=stopped_by,
        description=describe(fabric, settings),
    )


def starting_network(network: nn.Module | None, settings: TrainingSettings, pairs: Sequence[Pair]) -> nn.Module:
    """A copy of the given network, or a new bright-field one for the channels of ``pairs``."""
    if network is not None:
        return copy.deepcopy(network).train().requires_grad_(True)
    channels = pairs[0][0].shape[2] if pairs[0][0].ndim == 3 else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        fresh = BrightfieldNet(channels=channels)
    return start_from_interpolation(fresh) if settings.initial == "interpolation" else fresh
