"""A folder of registered pairs: images of the same names in ``lr/`` and ``hr/``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import is_image_file, open_image, open_region_reader, pixel_size_um, to_array
from dlm_fiji.training.fluorescence_pairs import scaled_pair, scaled_stored_pair
from dlm_fiji.training.patches import Pair, check_sizes

__all__ = ["RegisteredPairs", "read_registered_pairs"]

Range = tuple[float, float]


@dataclass
class RegisteredPairs(Sequence[Pair]):
    """Pairs and what their files say.

    Attributes
    ----------
    pairs
        Low resolution and label, arrays or images on the disk, as they are in the files.
    names
        Of the files.
    pixel_um, na
        Smallest and largest pixel size and numerical aperture of the low resolution, where all files say it.
    """

    pairs: list[Pair]
    names: list[str]
    pixel_um: Range | None = None
    na: Range | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        return self.pairs[index]

    @property
    def channels(self) -> int:
        """Of the first low-resolution image."""
        shape = self.pairs[0][0].shape
        return shape[2] if len(shape) == 3 else 1

    def in_values(self, scale: float, fluorescence: bool) -> list[Pair]:
        """The pairs for a network that enlarges by ``scale``, checked against it, in the values of its training.

        Fluorescence pairs are scaled as :func:`scaled_pair` says; a complaint names the file.
        """
        made = []
        for name, (lr, hr) in zip(self.names, self.pairs, strict=True):
            check_sizes(lr.shape, hr.shape, Fraction(scale).limit_denominator(16), name)
            try:
                scaled = scaled_stored_pair if hasattr(lr, "read") else scaled_pair
                made.append(scaled(lr, hr) if fluorescence else (lr, hr))
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        return made


def read_registered_pairs(folder: str | os.PathLike[str]) -> RegisteredPairs:
    """All pairs of a folder, in the order of their names.

    Where an image is Zarr, all stay on the disk, to be read patch by patch; else they are read whole.

    Raises
    ------
    InputError
        There is no image in ``lr/``, one has no partner of its name, or one is a stack.
    """
    folder = Path(folder)
    low, high = ({p.name for p in (folder / kind).glob("*") if is_image_file(p)} for kind in ("lr", "hr"))
    if not low:
        raise InputError(f"{folder} has no images in lr/; expected are lr/NAME and hr/NAME.")
    for here, there, what in (("lr", "hr", "label"), ("hr", "lr", "low-resolution image")):
        alone = sorted(low - high if here == "lr" else high - low)
        if alone:
            raise InputError(f"{folder / there} has no {what} for {alone[0]} ({len(alone)} in all).")
    names = sorted(low)
    stored = any(name.lower().endswith(".zarr") for name in names)
    pairs: list[Pair] = []
    facts: list[tuple[Any, Any]] = []
    for name in names:
        paths = folder / "lr" / name, folder / "hr" / name
        if stored:  # open until the end of the training, which reads its patches from them
            lr, hr = (open_region_reader(path) for path in paths)
            facts.append((lr.pixel_um, lr.attrs.get("na")))
            pairs.append((lr, hr))
        else:
            images = [open_image(path) for path in paths]
            for path, image in zip(paths, images, strict=True):
                if {"t", "z"} & set(image.dims):
                    raise InputError(f"{path} is a stack {dict(image.sizes)}; pairs are single planes.")
            facts.append((pixel_size_um(images[0]), images[0].attrs.get("na")))
            pairs.append((to_array(images[0]), to_array(images[1])))
    return RegisteredPairs(
        pairs, names, _range([pixel and pixel[1] for pixel, _ in facts]), _range([na for _, na in facts])
    )


def _range(values: list[Any]) -> Range | None:
    """Smallest and largest, where every value is known."""
    known = [float(value) for value in values if isinstance(value, (int, float))]
    return (min(known), max(known)) if len(known) == len(values) else None
