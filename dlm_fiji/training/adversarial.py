"""Adversarial training of the fluorescence generator: one step of each network a turn (002, methods).

The shares of the loss's terms are written into the history; with shares that add up to 1 (``mse_share=1``,
``ssim_share=0``) there is no discriminator, which is the twin that a GAN has to be compared with.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
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
from dlm_fiji.training.devices import accumulate, clip, make_fabric
from dlm_fiji.training.loop import Progress, TrainingResult, finite, run_training
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
        :func:`~dlm_fiji.training.scaled_pair` makes them, or a source of such batches, such as
        :class:`~dlm_fiji.training.SimulatedFluorescence`. The patch of the settings is the label's, as in 002
        (64 pixels).
    settings, **changes
        :class:`TrainingSettings`; start from ``widefield_gan()``, ``confocal_sted()`` or ``content()``.
    generator, discriminator
        Networks to start from; None: new ones of the papers' widths (the discriminator as the settings say).
        Both are copied.
    out_dir, progress, resume
        As for :func:`~dlm_fiji.training.train_regression`.

    Returns
    -------
    TrainingResult
        With the generator that ``settings.keep`` names. The validation loss is the pixel part of eq. 1 (λ·MSE
        and SSIM term), as the adversarial part has no fixed scale; so ``keep="best"`` favours what resembles
        the pixels most, and a warm-started GAN wants ``"last"``. History rows have the shares and the
        discriminator's loss too.
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
    multiple = int(getattr(generator, "size_multiple", 1))
    if settings.patch % (multiple * scale):
        raise ConfigurationError(
            f"patch is the label's edge and must be a multiple of {multiple * scale:g} px for this generator "
            f"(given: {settings.patch} px)."
        )
    cut = settings.for_input(scale)
    source: BatchSource
    if isinstance(train_pairs, Sequence):
        source = extract_patches(train_pairs, cut, scale, values="as is")
    else:
        source = train_pairs
    validation = validation_batches(val_pairs, cut, scale, "as is", multiple)
    weights = pixel_weights(source, settings, scale)
    fabric = make_fabric(settings)
    game = Game(generator, discriminator, weights, validation, settings, fabric)
    result = run_training(game, source, fabric, settings, out_dir, progress, resume)
    result.description |= {"lambda": game.weights.mse, "nu": game.weights.ssim, "adversarial": game.weights.adversarial}
    return result


class Game:
    """A turn of both networks and a validation, for :func:`~dlm_fiji.training.loop.run_training`."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        weights: PixelWeights,
        validation: list[tuple[Tensor, Tensor]],
        settings: TrainingSettings,
        fabric: Any,
    ) -> None:
        self.settings, self.fabric, self.validation = settings, fabric, validation
        self.network = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(generator.parameters(), lr=settings.learning_rate)
        judging = torch.optim.Adam(discriminator.parameters(), lr=settings.discriminator_rate)
        compiled = torch.compile(self.network) if settings.compile else self.network
        self.runner, self.optimiser = fabric.setup(compiled, optimiser)
        self.judge, self.d_optimiser = fabric.setup(self.discriminator, judging)
        self.averaged = copy.deepcopy(self.network) if settings.ema > 0 else self.network
        self.weights = weights
        self.parts = {
            "discriminator": self.discriminator,
            "optimiser": self.optimiser,
            "d_optimiser": self.d_optimiser,
            "pixel_weights": self,
        }
        self.micro = self.d_micro = -(-settings.batch // fabric.world_size)
        self.sums: dict[str, float] = {}
        self.d_losses: list[float] = []

    def state_dict(self) -> list[float]:
        """λ, ν and the weight of the adversary: kept, as a resumed training must not calibrate anew."""
        return [self.weights.mse, self.weights.ssim, self.weights.adversarial]

    def load_state_dict(self, state: list[float]) -> None:
        """From a checkpoint."""
        self.weights = PixelWeights(*state)

    def step(self, number: int, lr: Tensor, hr: Tensor, rate: float) -> float:
        """One step of the generator, then one of the discriminator on what the generator made."""
        slower = rate / self.settings.learning_rate * self.settings.discriminator_rate
        for optimiser, value in ((self.optimiser, rate), (self.d_optimiser, slower)):
            for group in optimiser.param_groups:
                group["lr"] = value
        fakes: list[Tensor] = []

        def g_loss(low: Tensor, label: Tensor) -> Tensor:
            output = self.runner(low)
            fakes.append(output.detach())
            logits = None
            if self.weights.adversarial:
                # not through the runner, which awaits gradients of the discriminator
                with self.fabric.autocast():
                    logits = self.discriminator(output)
            loss, terms = generator_loss(logits, output, label, self.weights)
            for name, term in terms.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(term.detach())
            return loss

        def d_loss(judged: Tensor, label: Tensor) -> Tensor:
            return discriminator_loss(*self.judge(torch.cat([label, judged])).chunk(2))

        self.discriminator.requires_grad_(False)
        self.micro, loss = accumulate(self.fabric, self.runner, self.optimiser, g_loss, lr, hr, self.micro)
        finite(loss, "generator's loss", number, rate)
        clip(self.fabric, self.runner, self.optimiser, self.settings)
        self.optimiser.step()
        self.discriminator.requires_grad_(True)
        if self.weights.adversarial:
            fake = torch.cat(fakes[-math.ceil(len(lr) / self.micro) :])
            self.d_micro, value = accumulate(self.fabric, self.judge, self.d_optimiser, d_loss, fake, hr, self.d_micro)
            self.d_optimiser.step()
            self.d_losses.append(finite(value, "discriminator's loss", number, rate))
        return loss

    def validate(self) -> dict[str, float]:
        """The pixel terms and the SSIM on the validation patches, and the shares of the terms since the last time."""
        pixels_only = PixelWeights(self.weights.mse, self.weights.ssim, 0.0)

        def pixel_loss(output: Tensor, label: Tensor) -> Tensor:
            return generator_loss(None, output, label, pixels_only)[0]

        loss, similarity = measure(self.averaged, self.validation, pixel_loss, self.fabric.device, DATA_RANGE)
        whole = sum(self.sums.values()) or 1.0
        d_loss = math.fsum(self.d_losses) / len(self.d_losses) if self.d_losses else 0.0
        row = {"val_loss": loss, "val_ssim": similarity, "d_loss": d_loss}
        row |= {f"share_{name}": self.sums.get(name, 0.0) / whole for name in ("adversarial", "mse", "ssim")}
        self.sums.clear()
        self.d_losses.clear()
        return row


def starting_networks(
    generator: nn.Module | None, discriminator: nn.Module | None, settings: TrainingSettings
) -> tuple[nn.Module, nn.Module]:
    """Copies of the given networks, or new ones from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if generator is None:
            generator = FluorescenceGenerator(keep_means=settings.keep_means)
            if settings.initial == "interpolation":
                generator.start_from_interpolation()
        if discriminator is None:
            fast = settings.discriminator == "fast"
            discriminator = Discriminator(16, blocks=4, stride=2) if fast else Discriminator()
    copies = [copy.deepcopy(network).train().requires_grad_(True) for network in (generator, discriminator)]
    return copies[0], copies[1]


def pixel_weights(source: BatchSource, settings: TrainingSettings, scale: float) -> PixelWeights:
    """λ and ν from the first batches: the interpolated input against its label."""
    batches = [source.batch(step) for step in range(int(np.clip(len(source) // settings.batch, 1, 8)))]
    lr = torch.cat([batch[0] for batch in batches])
    hr = torch.cat([batch[1] for batch in batches])
    start = functional.interpolate(lr, scale_factor=scale, mode="bilinear", align_corners=False)
    return calibrated_weights(start, hr, settings.mse_share, settings.ssim_share)
