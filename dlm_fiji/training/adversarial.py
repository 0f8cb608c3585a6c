"""Adversarial training of the fluorescence generator: one step of each network a turn (002, methods).

The shares of the loss's terms are written into the history; with shares that add up to 1 (``mse_share=1``,
``ssim_share=0``) there is no discriminator, which is the twin that a GAN has to be compared with.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.networks.adversarial_losses import (
    PixelWeights,
    calibrated_weights,
    discriminator_loss,
    generator_loss,
)
from dlm_fiji.networks.fluorescence import Discriminator, FluorescenceGenerator
from dlm_fiji.training.checkpoints import read_checkpoint, write_checkpoint
from dlm_fiji.training.devices import accumulate, describe, make_fabric
from dlm_fiji.training.history import write_history
from dlm_fiji.training.loop import Progress, TrainingResult, TrainingState, average, prefetched
from dlm_fiji.training.patches import BatchSource, Pair, extract_patches
from dlm_fiji.training.plan import TrainingSettings
from dlm_fiji.training.validation import measure, validation_batches

__all__ = ["train_adversarial"]

DATA_RANGE = 255.0


def train_adversarial(
    train_pairs: Sequence[Pair] | BatchSource,
    val_pairs: Sequence[Pair],
    settings: TrainingSettings | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    **changes: Any,
) -> TrainingResult:
    """Train a generator against a discriminator and the label's pixels.

    Parameters
    ----------
    train_pairs, val_pairs
        (low resolution (h, w[, 1]), label (h·L, w·L[, 1])) float arrays with values 0 … 255, as
        :func:`~dlm_fiji.training.scaled_pair` makes them, or a source of such batches. The patch of the
        settings is the label's, as in 002 (64 pixels).
    settings, **changes
        :class:`TrainingSettings`; start from ``widefield_gan()``, ``confocal_sted()`` or ``content()``.
    generator, discriminator
        Networks to start from; None: new ones of the papers' widths. Both are copied.
    out_dir, progress, resume
        As for :func:`~dlm_fiji.training.train_regression`.

    Returns
    -------
    TrainingResult
        The generator of the smallest validation loss, which is the pixel part of eq. 1 (λ·MSE and SSIM term):
        the adversarial part has no fixed scale. History rows have the shares and the discriminator's loss
        too.
    """
    settings = TrainingSettings.of(settings or TrainingSettings.widefield_gan(), **changes)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if len(val_pairs) == 0:
        raise InputError("The validation set is empty; keep at least one field out of the training for it.")
    if settings.mse_share + settings.ssim_share > 1:
        raise ConfigurationError("mse_share and ssim_share are shares of one loss; together at most 1.")
    generator, discriminator = starting_networks(generator, discriminator, settings)
    scale = float(generator.scale)  # type: ignore[arg-type]
    cut = TrainingSettings.of(settings, patch=max(8, int(settings.patch / scale)))
    source: BatchSource
    if isinstance(train_pairs, Sequence):
        source = extract_patches(train_pairs, cut, scale, values="as is")
    else:
        source = train_pairs
    validation = validation_batches(val_pairs, cut, scale, values="as is")
    weights = pixel_weights(source, settings, scale)

    fabric = make_fabric(settings)
    generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    g_optimiser = torch.optim.Adam(generator.parameters(), lr=settings.learning_rate)
    d_optimiser = torch.optim.Adam(discriminator.parameters(), lr=settings.discriminator_rate)
    g_runner, g_optimiser = fabric.setup(generator, g_optimiser)
    d_runner, d_optimiser = fabric.setup(discriminator, d_optimiser)
    averaged = copy.deepcopy(generator) if settings.ema > 0 else generator
    state = TrainingState(averaged)
    total = settings.total_steps(len(source))
    if resume and out_dir is not None and (found := read_checkpoint(out_dir, settings)) is not None:
        generator.load_state_dict(found["network"])
        averaged.load_state_dict(found["averaged"])
        discriminator.load_state_dict(found["discriminator"])
        g_optimiser.load_state_dict(found["optimiser"])
        d_optimiser.load_state_dict(found["d_optimiser"])
        weights = PixelWeights(*found["pixel_weights"])
        state.restore(found)
    if out_dir is not None:
        Path(out_dir).mkdir(parents=True, exist_ok=True)

    pixels_only = PixelWeights(weights.mse, weights.ssim, 0.0)
    fakes: list[Tensor] = []
    sums: dict[str, float] = {}

    def g_loss(output: Tensor, label: Tensor) -> Tensor:
        logits = d_runner(output) if weights.adversarial else None
        loss, terms = generator_loss(logits, output, label, weights)
        fakes.append(output.detach())
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        return loss

    def d_loss(judged: Tensor, label: Tensor) -> Tensor:
        return discriminator_loss(d_runner(label), judged)

    def pixel_loss(output: Tensor, label: Tensor) -> Tensor:
        return generator_loss(None, output, label, pixels_only)[0]

    started, before, first = time.perf_counter(), state.seconds, state.step
    stopped_by = "steps"
    metrics: dict[str, float] = {}
    d_losses: list[float] = []
    micro = d_micro = -(-settings.batch // fabric.world_size)

    def validate(rate: float) -> None:
        val_loss, val_ssim = measure(averaged, validation, pixel_loss, fabric.device, DATA_RANGE)
        whole = sum(sums.values()) or 1.0
        row = {
            "step": state.step,
            "loss": state.mean_loss() if state.losses else val_loss,
            "val_loss": val_loss,
            "val_ssim": val_ssim,
            "lr": rate,
            "seconds": round(before + time.perf_counter() - started, 2),
            "d_loss": math.fsum(d_losses) / len(d_losses) if d_losses else 0.0,
        }
        row |= {f"share_{name}": sums.get(name, 0.0) / whole for name in ("adversarial", "mse", "ssim")}
        sums.clear()
        d_losses.clear()
        state.add(row, averaged)
        metrics.update(row)
        if out_dir is not None and fabric.is_global_zero:
            write_history(out_dir, state.history)
            content = state.content() | {
                "architecture": type(generator).__name__,
                "config": dict(generator.config),  # type: ignore[arg-type]
                "network": generator.state_dict(),
                "averaged": averaged.state_dict(),
                "weights": state.best_weights,
                "discriminator": discriminator.state_dict(),
                "optimiser": g_optimiser.state_dict(),
                "d_optimiser": d_optimiser.state_dict(),
                "pixel_weights": [weights.mse, weights.ssim, weights.adversarial],
            }
            write_checkpoint(out_dir, content, settings)

    if state.step == 0:
        validate(settings.rate_at(0))
    for lr, hr in prefetched(source, state.step, total):
        fraction = state.step / total
        if settings.time_limit_s is not None:
            fraction = max(fraction, (before + time.perf_counter() - started) / settings.time_limit_s)
            if fraction >= 1:
                stopped_by = "time limit"
                break
        rate = settings.rate_at(fraction)
        for optimiser, factor in ((g_optimiser, 1.0), (d_optimiser, settings.discriminator_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor if factor == 1.0 else rate / settings.learning_rate * factor
        mine = slice(fabric.global_rank, None, fabric.world_size)
        lr, hr = fabric.to_device((lr[mine], hr[mine]))

        fakes.clear()
        discriminator.requires_grad_(False)
        micro, loss = accumulate(fabric, g_runner, g_optimiser, g_loss, lr, hr, micro)
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"The generator's loss became {loss} at step {state.step + 1}; lower learning_rate "
                f"(now {rate:.1e}) or set clip_norm, and look for damaged images."
            )
        if settings.clip_norm > 0:
            fabric.clip_gradients(g_runner, g_optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False)
        g_optimiser.step()
        discriminator.requires_grad_(True)
        if weights.adversarial:
            fake = torch.cat(fakes[-math.ceil(len(lr) / micro) :])
            d_micro, value = accumulate(fabric, d_runner, d_optimiser, d_loss, fake, hr, d_micro)
            d_optimiser.step()
            d_losses.append(value)
        state.step += 1
        state.losses.append(loss)
        if settings.ema > 0:
            average(averaged, generator, min(settings.ema, state.step / (state.step + 20)))
        if state.step % settings.validate_every == 0 or state.step == total:
            validate(rate)
        if progress is not None:
            now = time.perf_counter() - started
            done = state.step - first
            metrics |= {"loss": loss, "lr": rate, "seconds": before + now}
            metrics["patches_per_second"] = done * settings.batch / now
            left = now / done * (total - state.step)
            if settings.time_limit_s is not None:
                left = min(left, settings.time_limit_s - before - now)
            metrics["seconds_left"] = max(0.0, left)
            progress(state.step, total, dict(metrics))
    if state.history[-1]["step"] != state.step:
        validate(settings.rate_at(1.0))
    seconds = time.perf_counter() - started
    best = copy.deepcopy(generator).cpu()
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
        description=describe(fabric, settings)
        | {"lambda": weights.mse, "nu": weights.ssim, "adversarial": weights.adversarial},
    )


def starting_networks(
    generator: nn.Module | None, discriminator: nn.Module | None, settings: TrainingSettings
) -> tuple[nn.Module, nn.Module]:
    """Copies of the given networks, or new ones from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if generator is None:
            generator = FluorescenceGenerator()
            if settings.initial == "interpolation":
                generator.start_from_interpolation()
        if discriminator is None:
            discriminator = Discriminator()
    copies = [copy.deepcopy(network).train().requires_grad_(True) for network in (generator, discriminator)]
    return copies[0], copies[1]


def pixel_weights(source: BatchSource, settings: TrainingSettings, scale: float) -> PixelWeights:
    """λ and ν from the first batches: the interpolated input against its label."""
    batches = [source.batch(step) for step in range(int(np.clip(len(source) // settings.batch, 1, 8)))]
    lr = torch.cat([batch[0] for batch in batches])
    hr = torch.cat([batch[1] for batch in batches])
    start = functional.interpolate(lr, scale_factor=scale, mode="bilinear", align_corners=False)
    return calibrated_weights(start, hr, settings.mse_share, settings.ssim_share)
