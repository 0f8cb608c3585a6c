"""Validation: loss and structural similarity on patches of fields that the training does not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dlm_fiji.networks.losses import structural_similarity
from dlm_fiji.training.patches import Pair, extract_patches, to_tensor
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["luminance", "measure", "validation_batches"]


def validation_batches(
    pairs: Sequence[Pair], settings: TrainingSettings, scale: float, values: str = "unit", multiple: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """At most ``validation_patches`` pairs of patches, evenly from all over the fields, in batches of eight.

    Their edge is a multiple of ``multiple``, which the network may ask for.
    """
    edge = min(2 * settings.patch, *(min(lr.shape[:2]) for lr, _ in pairs)) // multiple * multiple
    cut = TrainingSettings.of(settings, patch=max(8, multiple, edge), overlap=0.0, min_contrast=0.0, augment=False)
    found = extract_patches(pairs, cut, scale, values=values)
    count = min(len(found), settings.validation_patches)
    chosen = [round(i * (len(found) - 1) / max(1, count - 1)) for i in range(count)]
    batches = (chosen[i : i + 8] for i in range(0, count, 8))
    return [
        (to_tensor(np.stack([found.lr[k] for k in batch])), to_tensor(np.stack([found.hr[k] for k in batch])))
        for batch in batches
    ]


@torch.inference_mode()
def measure(
    network: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
    data_range: float = 1.0,
) -> tuple[float, float]:
    """Mean loss and SSIM of the luminance over the validation patches."""
    training = network.training
    network.eval()
    loss = similarity = 0.0
    count = 0
    for lr, hr in batches:
        output, label = network(lr.to(device)), hr.to(device)
        loss += float(loss_of(output, label)) * len(lr)
        shown = output.clamp(0, data_range)
        similarity += float(structural_similarity(luminance(shown), luminance(label), data_range)) * len(lr)
        count += len(lr)
    network.train(training)
    return loss / count, similarity / count


def luminance(image: Tensor) -> Tensor:
    """(N, C, H, W) → (N, 1, H, W): 0.299 R + 0.587 G + 0.114 B; the mean where there are not three channels."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
