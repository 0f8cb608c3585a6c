"""All numbers of a training, with the papers' values as named presets."""

from __future__ import annotations

import math
from typing import Literal, Self

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.settings import Settings, setting, unknown_name

__all__ = ["TrainingSettings"]


class TrainingSettings(Settings):
    """How a network is trained. The defaults are those of the bright-field paper (000)."""

    steps: int | None = setting(None, "batches in all; empty: from epochs", ge=1)
    epochs: float = setting(460, "times each patch is seen", source="000 table S2, breast", gt=0)
    time_limit_s: float | None = setting(None, "stop after this time, the schedule fitted to it", unit="s", gt=0)
    batch: int = setting(64, "patches of a step", source="000 methods", ge=1)
    patch: int = setting(60, "edge of a low-resolution patch", unit="px", source="000 methods", ge=8)
    overlap: float = setting(
        0.4, "share of its edge that a patch has in common with the next", source="000 methods", ge=0, lt=1
    )
    min_contrast: float = setting(
        0.02,
        "patches whose label has a smaller standard deviation of luminance "
        "(full scale 1) have no content and are left out",
        ge=0,
        le=1,
    )
    augment: bool = setting(True, "random flips and quarter turns")
    learning_rate: float = setting(1e-4, "of Adam", source="000 methods", gt=0)
    schedule: Literal["constant", "one-cycle"] = setting("constant", "one-cycle: 3 % warm-up, then a cosine to 1 %")
    gradient_weight: float = setting(0.001, "λ of the gradient term", source="000 eq. S4", ge=0)
    ssim_weight: float = setting(0.0, "weight of 1 - SSIM of the luminance", source="ours; the papers have 0", ge=0)
    clip_norm: float = setting(0.0, "largest norm of the gradient; 0: no limit", ge=0)
    ema: float = setting(
        0.0, "decay of the running mean of the weights, smaller in the first steps; 0: off", ge=0, lt=1
    )
    keep: Literal["best", "last"] = setting(
        "best",
        "weights of the smallest validation loss, or the last: that loss is of pixels, so a warm-started GAN would "
        "return the weights it started from",
    )
    initial: Literal["papers", "interpolation"] = setting(
        "papers",
        "truncated normal weights (000), or weights that interpolate at once",
        source="000 supplement 3",
    )
    keep_means: int = setting(
        0,
        "window in which a new fluorescence generator gives the input's mean back, odd; 0: off, as in 002",
        unit="px",
        ge=0,
    )
    validate_every: int = setting(200, "steps between validations and checkpoints", ge=1)
    validation_patches: int = setting(64, "patches that a validation looks at, at most", ge=1)
    tensorboard: bool = setting(False, "also write the curves for TensorBoard, which must be installed")
    seed: int = setting(1, "of weights, order and augmentation", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "what computes; auto: the fastest there is")
    devices: int = setting(1, "number of them", ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "number type of the network; weights stay fp32")
    compile: bool = setting(False, "torch.compile; pays on a GPU and for long runs")
    threads: int | None = setting(None, "CPU threads; empty: PyTorch's choice", ge=1)

    discriminator_rate: float = setting(1e-5, "learning rate of the discriminator", source="002 methods", gt=0)
    discriminator: Literal["papers", "fast"] = setting(
        "papers",
        "that of 002, or one with half the width, four blocks and stride 2: about 20 times faster, for a processor",
        source="002 methods",
    )
    mse_share: float = setting(0.01, "share of the MSE term in the generator's loss", source="002: ~1 %", ge=0, le=1)
    ssim_share: float = setting(0.01, "share of the SSIM term; 0 for confocal to STED", source="002", ge=0, le=1)

    @classmethod
    def brightfield(cls) -> Self:
        """000: breast tissue, 460 epochs of 64 patches, Adam 1e-4."""
        return cls()

    @classmethod
    def phone(cls) -> Self:
        """004: 134 epochs (lung) of 32 patches, Adam 2e-4."""
        return cls(epochs=134, batch=32, learning_rate=2e-4)

    @classmethod
    def fast(cls) -> Self:
        """Ours, for a processor: one-cycle to 1e-3, running mean of the weights, start from interpolation."""
        return cls(
            steps=5000,
            batch=16,
            learning_rate=1e-3,
            schedule="one-cycle",
            clip_norm=1.0,
            ema=0.998,
            initial="interpolation",
            ssim_weight=0.01,
            validate_every=100,
        )

    @classmethod
    def fine_tune(cls) -> Self:
        """Ours: a minute on a few patches of the user's instrument, from a trained model."""
        return cls(
            steps=100_000,
            time_limit_s=60,
            batch=8,
            learning_rate=2e-4,
            schedule="one-cycle",
            clip_norm=1.0,
            ema=0.9,
            ssim_weight=0.01,
            validate_every=10,
            validation_patches=8,
        )

    @classmethod
    def widefield_gan(cls) -> Self:
        """002, wide-field: 50,000 turns of 12 patches of 64 px, Adam 1e-4 and 1e-5, shares of 1 %."""
        return cls(steps=50_000, batch=12, patch=64, gradient_weight=0, validate_every=500)

    @classmethod
    def confocal_sted(cls) -> Self:
        """002, confocal to STED: 500,000 turns, ν = 0."""
        return cls(steps=500_000, batch=12, patch=64, gradient_weight=0, ssim_share=0, validate_every=1000)

    @classmethod
    def content(cls) -> Self:
        """Ours: the GAN with the pixel terms at 45 % each, so that it invents less; local means are kept."""
        return cls.of(cls.widefield_gan(), mse_share=0.45, ssim_share=0.45, keep_means=9)

    @classmethod
    def preset(cls, name: str) -> Self:
        """A preset by the name that the command line uses: ``brightfield``, ``phone``, ``widefield-gan`` …"""
        if name not in PRESETS:
            raise ConfigurationError(unknown_name(name, PRESETS, "training preset"))
        return getattr(cls, name.replace("-", "_"))()

    def for_input(self, scale: float) -> Self:
        """The same with ``patch``, which in 002 is the label's edge, as that of the low-resolution input."""
        return type(self).of(self, patch=max(8, int(self.patch / scale)))

    def total_steps(self, patches: int) -> int:
        """Steps of the whole training on that many patches."""
        return self.steps or max(1, math.ceil(self.epochs * patches / self.batch))

    def rate_at(self, fraction: float) -> float:
        """Learning rate when ``fraction`` (0 … 1) of the training is done."""
        if self.schedule == "constant":
            return self.learning_rate
        warm = 0.03
        if fraction < warm:
            return self.learning_rate * max(0.02, fraction / warm)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (fraction - warm) / (1 - warm))))


PRESETS = ("brightfield", "phone", "fast", "fine-tune", "widefield-gan", "confocal-sted", "content")
