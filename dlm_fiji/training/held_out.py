"""One pair for both: a strip of it is held out for validation, by area and never by patch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from dlm_fiji.errors import InputError
from dlm_fiji.training.patches import Cutting, NoPatchError, Pair, check_sizes, extract_patches
from dlm_fiji.training.plan import TrainingSettings
from dlm_fiji.training.stored import Part

__all__ = ["HeldOut", "hold_out_area"]

SIDES = (("columns", "right", "left"), ("rows", "bottom", "top"))


@dataclass(frozen=True)
class HeldOut:
    """A pair in two parts.

    Attributes
    ----------
    training, validation
        Low resolution and label of each part; views, or parts of images on the disk.
    text
        What validates and what is left out, for the user and the model's card.
    """

    training: Pair
    validation: Pair
    text: str


def hold_out_area(pair: Pair, settings: TrainingSettings, network: nn.Module, values: str = "unit") -> HeldOut:
    """Hold out a strip at one side of a registered pair: a tenth of its longer edge, but at least a patch.

    It lies on the network's grid. Between it and the training there is a gap of the network's receptive radius,
    so nothing that the network sees of one part, around a patch too, is in the other. The first side is taken
    whose strip has content: right, left, bottom, top, the longer edge first.

    Parameters
    ----------
    pair
        (h, w[, C]) and (h·L, w·L[, C]) arrays or images on the disk, as for :func:`extract_patches`.
    settings
        Patch (low resolution) and smallest contrast.
    network
        With ``scale``, ``grid`` and ``receptive_radius``.
    values
        As for :func:`extract_patches`.

    Raises
    ------
    InputError
        The pair is too small for both, or no strip has content.
    """
    lr, hr = pair
    scale, grid, radius = (getattr(network, name) for name in ("scale", "grid", "receptive_radius"))
    cut = Cutting.of(settings, scale)
    check_sizes(lr.shape, hr.shape, cut.ratio, "The pair")
    grid = math.lcm(int(grid), cut.ratio.denominator)
    gap = math.ceil(radius / grid) * grid
    empty = 0
    for axis in (0, 1) if lr.shape[0] > lr.shape[1] else (1, 0):
        length, across = lr.shape[axis], lr.shape[1 - axis]
        size = math.ceil(max(length / 10, cut.patch) / grid) * grid
        name, far, near = SIDES[1 - axis]
        start = (length - size) // grid * grid
        for side, kept, rest in ((far, (start, length), (0, start - gap)), (near, (0, size), (size + gap, length))):
            if min(rest[1] - rest[0], across) < cut.patch:
                continue
            validation = tuple(part(image, axis, kept, ratio) for image, ratio in ((lr, 1), (hr, cut.ratio)))
            try:
                extract_patches([validation], TrainingSettings.of(settings, overlap=0.0), scale, values=values)
            except NoPatchError:
                empty += 1
                continue
            training = tuple(part(image, axis, rest, ratio) for image, ratio in ((lr, 1), (hr, cut.ratio)))
            text = f"its {kept[1] - kept[0]} {name} at the {side}, the {gap} beside them left out"
            return HeldOut(training, validation, text)  # type: ignore[arg-type]
    if empty:
        raise InputError("No side of the one pair has content to validate on; give --validation or more pairs.")
    raise InputError(
        f"One pair of {lr.shape[1]}×{lr.shape[0]} px is too small to validate on a part of it: two patches of "
        f"{cut.patch} px and {gap} px between them are wanted; give --validation, more pairs or a smaller patch."
    )


def part(image: Any, axis: int, span: tuple[int, int], ratio: Any) -> Any:
    """Rows or columns of an array or of an image on the disk; ``span`` in low-resolution pixels."""
    low, high = (min(round(end * ratio), image.shape[axis]) for end in span)
    ends = [(0, n) for n in image.shape[:2]]
    ends[axis] = low, high
    if hasattr(image, "read"):
        return Part(image, *ends)
    return image[slice(*ends[0]), slice(*ends[1])]
