"""Checkpoints: the whole state of a training in one file, written whole or not at all."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch

from dlm_fiji.errors import ConfigurationError, DlmWarning, InputError
from dlm_fiji.micrograph.writing import atomic_write
from dlm_fiji.training.devices import describe
from dlm_fiji.training.patches import BatchSource
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["check_same_training", "checksum", "read_checkpoint", "set_aside", "write_checkpoint"]

FILE = "checkpoint.pt"
OLD = "checkpoint-before.pt"
#: Settings that may differ between a training and its continuation.
FREE = {"steps", "epochs", "time_limit_s", "threads", "validate_every", "devices", "tensorboard"}


def write_checkpoint(folder: str | os.PathLike[str], state: dict[str, Any], settings: TrainingSettings) -> None:
    """Replace the checkpoint in ``folder``; a crash while writing leaves the older one."""
    content = io.BytesIO()  # torch.save to a full disk fails with a message about its containers
    torch.save(state | {"settings": settings.model_dump()}, content)
    with atomic_write(Path(folder) / FILE) as part:
        part.write_bytes(content.getbuffer())


def set_aside(folder: str | os.PathLike[str]) -> None:
    """Rename the checkpoint of an earlier training, which a new one is about to replace, and say so."""
    path = Path(folder) / FILE
    if path.exists():
        os.replace(path, path.with_name(OLD))
        text = f"{folder} had the checkpoint of an earlier training: now {OLD}; --resume would have gone on with it."
        warnings.warn(text, DlmWarning, stacklevel=3)


def read_checkpoint(folder: str | os.PathLike[str], settings: TrainingSettings) -> dict[str, Any] | None:
    """The checkpoint in ``folder``, or None where there is none.

    Raises
    ------
    ConfigurationError
        It was made with other settings (the first that differs is named).
    InputError
        The file is damaged.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader of pickles fails in any way on a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}); start the training anew.") from None
    was = state["settings"]
    for name, value in settings.model_dump().items():
        if name not in FREE and was.get(name) != value:
            raise ConfigurationError(
                f"{path} was made with {name} = {was.get(name)!r}, now it is {value!r}; "
                "use the same settings, or another folder."
            )
    return state


def checksum(source: BatchSource) -> int:
    """Of the first batch and the number of patches: other images, areas or instruments have another."""
    value = len(source)
    for tensor in source.batch(0):
        value = zlib.crc32(tensor.contiguous().numpy().tobytes(), value)
    return value


def check_same_training(found: dict[str, Any], record: dict[str, Any], fabric: Any, settings: TrainingSettings) -> None:
    """Refuse a checkpoint of another network; take its number of threads; warn of what is not bit for bit."""
    for name in ("architecture", "config"):
        if found.get(name) != record[name]:
            raise ConfigurationError(
                f"The checkpoint is of another network ({name} {found.get(name)}, now {record[name]}); "
                "resume with the same scale and start, or use another folder."
            )
    was = found.get("machine", {})
    if settings.threads is None and was.get("device") == "cpu":
        torch.set_num_threads(was["threads"])
    changed = [
        f"{name} {was[name]}, now {value}"
        for name, value in describe(fabric, settings).items()
        if was.get(name, value) != value
    ]
    if found.get("data", record["data"]) != record["data"]:
        changed.append("other images, areas or instruments")
    if changed:
        text = f"The training goes on otherwise than it began, so not bit for bit: {'; '.join(changed)}."
        warnings.warn(text, DlmWarning, stacklevel=4)
