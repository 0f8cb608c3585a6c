"""Sharp micrographs as labels for simulated pairs: which part, how much reduced, how often drawn."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.micrograph import is_image_file, open_image, to_array
from dlm_fiji.settings import Settings, setting
from dlm_fiji.training.simulated_fluorescence import scaled_label

__all__ = ["LabelField", "read_fluorescence_fields", "read_label_fields", "read_test_fields", "sharpness"]

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
    return _fields(Path(source), data, lambda file: read_label(file, channels), reduced)


def read_fluorescence_fields(
    source: str | os.PathLike[str], data: str | os.PathLike[str] | None = None
) -> tuple[list[tuple[NDArray[np.float32], float]], list[NDArray[np.float32]]]:
    """Sharp fluorescence images as labels, (H, W) with values 0 … 255 as ``scaled_label`` makes them.

    Arguments, rules and errors as :func:`read_label_fields`; 8, 16 bits or float, reductions by whole numbers.
    """
    return _fields(Path(source), data, read_fluorescence, reduced_fluorescence)


def _fields(
    path: Path,
    data: str | os.PathLike[str] | None,
    read: Callable[[Path], NDArray],
    reduce: Callable[[NDArray, float], NDArray],
) -> tuple[list[tuple[NDArray, float]], list[NDArray]]:
    """Labels with their weights and labels for validation, of either kind."""
    training, validation = [], []
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and is_image_file(p)):
            image = read(file)
            image = reduce(image, 2.0 if sharpness(image) < SHARP else 1.0)
            border = int(image.shape[1] * 0.8)
            training.append((image[:, :border], float(np.sqrt(image.size))))
            validation.append(image[:, border:])
    else:
        base = Path(data) if data is not None else path.parent
        for entry in _entries(path):
            if entry.test:
                continue
            image = _cut(entry, base, read, reduce)
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
    return {
        Path(entry.file).name: _cut(entry, base, lambda file: read_label(file, channels), reduced)
        for entry in _entries(path)
        if entry.test
    }


def _cut(
    entry: LabelField, base: Path, read: Callable[[Path], NDArray], reduce: Callable[[NDArray, float], NDArray]
) -> NDArray:
    image = read(base / entry.file)
    image = image[slice(*(entry.rows or (None,))), slice(*(entry.columns or (None,)))]
    return reduce(image, entry.reduce)


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


def read_fluorescence(path: Path) -> NDArray:
    """A fluorescence image as (H, W), the mean of the colours of a coloured picture."""
    array = to_array(open_image(path))
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[..., :3].mean(2, dtype=np.float32)
    if array.ndim != 2:
        raise InputError(f"{path} has the shape {array.shape}; a fluorescence label is one plane of one channel.")
    return array


def reduced_fluorescence(image: NDArray, factor: float) -> NDArray[np.float32]:
    """The label that :func:`scaled_label` makes, reduced by a whole number."""
    if not float(factor).is_integer():
        raise ConfigurationError(f"Fluorescence labels are reduced by whole numbers, not by {factor:g}.")
    return scaled_label(image, int(factor))


def sharpness(image: NDArray) -> float:
    """Share of the energy of the spectrum (grey or green, mean removed) above 0.4 of the sampling limit."""
    plane = (image if image.ndim == 2 else image[..., min(1, image.shape[2] - 1)]).astype(np.float32)
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
