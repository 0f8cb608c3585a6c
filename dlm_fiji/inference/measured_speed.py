"""What was measured about speed on this machine, kept for the next run.

It lies in ``speed.json`` in ``~/.dlm_fiji`` (``DLM_FIJI_STATE`` names another folder). A file that cannot be read or
written, is damaged or of another format counts as none.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field

from dlm_fiji.errors import DlmError
from dlm_fiji.inference.backends import available_backends
from dlm_fiji.inference.model_files import Model
from dlm_fiji.micrograph.writing import write_json
from dlm_fiji.user_state import state_folder

__all__ = ["Measurement", "conditions", "measurements", "recall", "remember", "speed_file"]

KEPT = 100
"""Measurements that the file holds, the latest ones."""


class Measurement(BaseModel):
    """The fastest backend and tile under ``conditions``."""

    conditions: dict[str, str]
    backend: Literal["torch", "openvino", "onnxruntime"]
    tile: Annotated[int, Field(ge=32)]
    #: By backend and tile ("openvino 512"): seconds a megapixel, overlap left out; the best of its turns.
    seconds: dict[str, float]
    date: str


class _File(BaseModel):
    format: Literal[1] = 1
    measurements: list[Measurement] = []


def conditions(model: Model, threads: int | None) -> dict[str, str]:
    """What a measurement depends on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "architecture": model.card.architecture,
        "config": json.dumps(model.network.config, sort_keys=True),
        "threads": f"{threads or torch.get_num_threads()} of {cores}",
    } | _machine()


def measurements() -> list[Measurement]:
    """All that are remembered, the latest last."""
    try:
        return _File.model_validate_json(speed_file().read_bytes()).measurements
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home
        return []


def recall(model: Model, threads: int | None) -> Measurement | None:
    """What was measured under the conditions of now."""
    wanted = conditions(model, threads)
    known = [*model.engines.get("measured", []), *measurements()]
    return next((found for found in reversed(known) if found.conditions == wanted), None)


def remember(model: Model, result: Measurement) -> None:
    """Put ``result`` into the file, in the place of an older one under the same conditions."""
    # With the model too: where the file cannot be written, the next image must not be measured again.
    model.engines["measured"] = [result]
    others = [known for known in measurements() if known.conditions != result.conditions]
    with suppress(OSError, DlmError, RuntimeError):
        write_json(speed_file(), _File(measurements=[*others, result][-KEPT:]).model_dump())


def speed_file() -> Path:
    """Where measurements are remembered."""
    return state_folder() / "speed.json"


@cache
def _machine() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in available_backends()}
    return {"processor": _processor(), **versions}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
