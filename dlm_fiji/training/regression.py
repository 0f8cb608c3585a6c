"""Training against labels by their pixels: the loop of the bright-field and phone papers.

Loss: MSE + λ·mean|∇G|² (000 eq. S4, 004 eq. 4), optionally + w·(1 - SSIM of the luminance).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlm_fiji.errors import InputError
from dlm_fiji.networks.brightfield import BrightfieldNet
from dlm_fiji.networks.losses import brightfield_loss, structural_similarity
from dlm_fiji.training.devices import accumulate, clip, make_fabric
from dlm_fiji.training.loop import Progress, TrainingResult, run_training
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
    fabric = make_fabric(settings)
    return run_training(
        Regression(network, validation, settings, fabric), source, fabric, settings, out_dir, progress, resume
    )


class Regression:
    """A step and a validation of the regression, for :func:`~dlm_fiji.training.loop.run_training`."""

    def __init__(
        self, network: nn.Module, validation: list[tuple[Tensor, Tensor]], settings: TrainingSettings, fabric: Any
    ) -> None:
        self.settings, self.fabric, self.validation = settings, fabric, validation
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        compiled = torch.compile(self.network) if settings.compile else self.network
        self.runner, self.optimiser = fabric.setup(compiled, optimiser)
        self.averaged = copy.deepcopy(self.network) if settings.ema > 0 else self.network
        self.parts = {"optimiser": self.optimiser}
        self.micro = -(-settings.batch // fabric.world_size)

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        """000 eq. S4, and the similarity of the luminance where it has a weight."""
        loss = brightfield_loss(output, label, self.settings.gradient_weight)
        if self.settings.ssim_weight > 0:
            similarity = structural_similarity(luminance(output), luminance(label))
            loss = loss + self.settings.ssim_weight * (1 - similarity)
        return loss

    def step(self, number: int, lr: Tensor, hr: Tensor, rate: float) -> float:
        """One step of Adam."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

        def loss_of(low: Tensor, label: Tensor) -> Tensor:
            return self.loss(self.runner(low), label)

        self.micro, loss = accumulate(self.fabric, self.runner, self.optimiser, loss_of, lr, hr, self.micro)
        clip(self.fabric, self.runner, self.optimiser, self.settings)
        self.optimiser.step()
        return loss

    def validate(self) -> dict[str, float]:
        """Loss and SSIM on the validation patches."""
        loss, similarity = measure(self.averaged, self.validation, self.loss, self.fabric.device)
        return {"val_loss": loss, "val_ssim": similarity}


def starting_network(network: nn.Module | None, settings: TrainingSettings, pairs: Sequence[Pair]) -> nn.Module:
    """A copy of the given network, or a new bright-field one for the channels of ``pairs``."""
    if network is not None:
        return copy.deepcopy(network).train().requires_grad_(True)
    channels = pairs[0][0].shape[2] if pairs[0][0].ndim == 3 else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        fresh = BrightfieldNet(channels=channels)
    return start_from_interpolation(fresh) if settings.initial == "interpolation" else fresh
