"""The generator's and the discriminator's loss of 002 eq. 1, and how its λ and ν are found.

L(G; D) = -log D(G(x)) + λ·MSE(G(x), y) - ν·log((1 + SSIM(G(x), y)) / 2)
L(D; G) = -log D(y) - log(1 - D(G(x)))
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dlm_fiji.networks.losses import structural_similarity

__all__ = ["PixelWeights", "calibrated_weights", "discriminator_loss", "generator_loss"]

DATA_RANGE = 255.0


@dataclass(frozen=True)
class PixelWeights:
    """λ and ν, and the weight of the adversarial term: 1, or 0 for a twin trained on pixels alone."""

    mse: float
    ssim: float
    adversarial: float = 1.0


def generator_loss(
    logits: Tensor | None, output: Tensor, label: Tensor, weights: PixelWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The generator's loss (mean over the batch) and its three terms.

    Parameters
    ----------
    logits
        (N,) of the discriminator for ``output``; None without an adversarial term.
    output, label
        (N, C, H, W) with values 0 … 255.
    weights
        λ and ν.
    """
    zero = output.new_zeros(())
    terms = {"adversarial": zero, "mse": zero, "ssim": zero}
    if weights.adversarial and logits is not None:
        terms["adversarial"] = weights.adversarial * functional.softplus(-logits).mean()
    if weights.mse:
        terms["mse"] = weights.mse * functional.mse_loss(output, label)
    if weights.ssim:
        terms["ssim"] = weights.ssim * ssim_term(output, label)
    return terms["adversarial"] + terms["mse"] + terms["ssim"], terms


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(y) - log(1 - D(G(x))) from logits (N,), mean over the batch."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def ssim_term(output: Tensor, label: Tensor) -> Tensor:
    """-log((1 + SSIM) / 2), SSIM being the mean over the batch."""
    return -torch.log((1 + structural_similarity(output, label, DATA_RANGE)) / 2)


def calibrated_weights(start: Tensor, label: Tensor, mse_share: float = 0.01, ssim_share: float = 0.01) -> PixelWeights:
    """λ and ν with which the two terms have these shares of the generator's loss.

    They are found for the *registered input against its label*, the discriminator undecided (-log D = log 2).
    A random generator's MSE of thousands would leave λ next to nothing and the network free to invent.

    Parameters
    ----------
    start
        (N, C, H, W) input interpolated to the label's size, values 0 … 255.
    label
        The same shape.
    mse_share, ssim_share
        Shares of the loss. Where they add up to 1 or more there is no adversarial term: the twin on pixels
        alone.
    """
    mse = float(functional.mse_loss(start, label))
    ssim = float(ssim_term(start, label))
    rest = 1 - mse_share - ssim_share
    adversarial = 1.0 if rest > 1e-9 else 0.0
    whole = math.log(2) / rest if adversarial else 1.0
    tiny = 1e-12
    return PixelWeights(mse_share * whole / max(mse, tiny), ssim_share * whole / max(ssim, tiny), adversarial)
