"""Sharp micrographs as labels for simulated pairs: which part, how much reduced, how often drawn."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.micrograph import is_image_file, open_image, to_array
from dlm_fiji.settings import Settings, setting

__all__ = ["LabelField", "read_label_fields", "read_test_fields", "sharpness"]

SHARP = 0.02
"""A label with a smaller share of its spectral energy above 0.4 of the sampling limit is soft."""


class LabelField(Settings):
    """One entry of a list of labels (``[[field]]`` in a TOML file)."""

    file: str = setting("", "image file, relative to the list or to the data folder")
    rows: tuple[int, int] | None = setting(None, "first row and the one after the last, before reduction")
    columns: tuple[int, int] | None = setting(None, "the same for the columns")
    reduce: float = setting(1.0, "reduction before use; soft images need 2 or more", ge=1, le=8)
    weight: float = setting(1.0, "how often the field is drawn, relative to the others", gt=0)
    validation: bool = setting(False, "kept out of the training, for the choice of the best weights")
    test: bool = setting(False, "kept out of training and choice, for the numbers on the model's card")


def read_label_fields(
    source: str | os.PathLike[str], data: str | os.PathLike[str] | None = None, channels: int = 3
) -> tuple[list[tuple[NDArray[np.uint8], float]], list[NDArray[np.uint8]]]:
    """Labels for training with their weights, and labels for validation.

    Parameters
    ----------
    source
        A TOML list of :class:`LabelField`, or a folder: then every image in it, reduced twofold where it is
        soft, its right fifth kept for validation, drawn in proportion to the square root of its pixels.
    data
        Folder that the list's file names are relative to.
    channels
        3: grey images become colour; 1: colour images become grey.

    Raises
    ------
    InputError
        There is no image, or one is too small or of another type than 8 bits.
    """
    path = Path(source)
    training, validation = [], []
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and is_image_file(p)):
            image = read_label(file, channels)
            if sharpness(image) < SHARP:
                image = reduced(image, 2.0)
            border = int(image.shape[1] * 0.8)
            training.append((image[:, :border], float(np.sqrt(image.size))))
            validation.append(image[:, border:])
    else:
        base = Path(data) if data is not None else path.parent
        for entry in _entries(path):
            if entry.test:
                continue
            image = _cut(entry, base, channels)
            if entry.validation:
                validation.append(image)
            else:
                training.append((image, entry.weight))
    if not training:
        raise InputError(f"There is no image to train on in {path}.")
    return training, validation


def read_test_fields(
    source: str | os.PathLike[str], data: str | os.PathLike[str] | None = None, channels: int = 3
) -> dict[str, NDArray[np.uint8]]:
    """The fields of a TOML list that are marked ``test``, by file name; arguments as `read_label_fields`."""
    path = Path(source)
    base = Path(data) if data is not None else path.parent
    return {Path(entry.file).name: _cut(entry, base, channels) for entry in _entries(path) if entry.test}


def _cut(entry: LabelField, base: Path, channels: int) -> NDArray[np.uint8]:
    image = read_label(base / entry.file, channels)
    image = image[slice(*(entry.rows or (None,))), slice(*(entry.columns or (None,)))]
    return reduced(image, entry.reduce)


def _entries(path: Path) -> list[LabelField]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} is no list of labels: {error}.") from None
    return [LabelField.of(None, **entry) for entry in content.get("field", [])]


def read_label(path: Path, channels: int) -> NDArray[np.uint8]:
    """An 8-bit image as (H, W, ``channels``)."""
    array = to_array(open_image(path))
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(f"{path} is no 8-bit picture ({array.dtype}, shape {array.shape}).")
    array = array[..., None] if array.ndim == 2 else array[..., :3]
    if array.shape[2] == channels:
        return array
    if channels == 1:
        return np.rint(array @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
    return np.repeat(array[..., :1], channels, 2)


def sharpness(image: NDArray) -> float:
    """Share of the energy of the spectrum (green channel, mean removed) above 0.4 of the sampling limit."""
    plane = image[..., min(1, image.shape[2] - 1)].astype(np.float32)
    plane = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2]
    window = np.hanning(plane.shape[0])[:, None] * np.hanning(plane.shape[1])
    energy = np.abs(np.fft.rfft2((plane - plane.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(plane.shape[0])[:, None], np.fft.rfftfreq(plane.shape[1])[None])
    return float(energy[radius > 0.2].sum() / max(energy.sum(), 1e-12))


def reduced(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The image with pixels ``factor`` times as large, by the mean over their areas."""
    if factor == 1:
        return image
    if float(factor).is_integer():
        block = int(factor)
        shape = [n // block * block for n in image.shape[:2]]
        return np.rint(block_reduce(image[: shape[0], : shape[1]], (block, block, 1), np.mean)).astype(np.uint8)
    import cv2

    size = int(image.shape[1] / factor), int(image.shape[0] / factor)
    out = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(out.reshape(size[1], size[0], image.shape[2]), np.uint8)
