"""Model folders: ``model.json`` (the card and the weights' SHA-256) and ``weights.safetensors``.

Loading trusts nothing: weights are safetensors, or a checkpoint that ``torch.load(weights_only=True)``
accepts.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as dump_safetensors
from torch import nn

import dlm_fiji
from dlm_fiji import networks
from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.inference.card import ModelCard
from dlm_fiji.micrograph.writing import atomic_write
from dlm_fiji.settings import unknown_name

__all__ = ["Model", "find_model", "list_models", "load_model", "save_model"]

ARCHITECTURES = ("BrightfieldNet", "FluorescenceGenerator")
CARD, WEIGHTS = "model.json", "weights.safetensors"


@dataclass
class Model:
    """A network with its card.

    Attributes
    ----------
    network
        In evaluation mode, fp32, on the CPU; the backends make their own copies.
    card
        What it was made for.
    sha256
        Of the weights as they lie on disk (of the fp32 state where there is no file).
    path
        The folder it came from, or None.
    """

    network: nn.Module
    card: ModelCard
    sha256: str = ""
    path: Path | None = None
    engines: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.network.eval()
        if not self.sha256:
            self.sha256 = hashlib.sha256(_weights_bytes(self.network, half=False)).hexdigest()

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def scale(self) -> float:
        """Enlargement L of one pass."""
        return self.card.scale


def save_model(folder: str | os.PathLike[str], network: nn.Module, card: ModelCard, half: bool = False) -> Path:
    """Write ``network`` and ``card`` as a model folder, whole or not at all.

    Parameters
    ----------
    folder
        The folder to write; an older one is replaced.
    network
        One of ``dlm_fiji.networks`` with a ``config``.
    card
        Its architecture, config, scale and channels are taken from the network.
    half
        Weights in half precision on disk (fp32 again when loaded).
    """
    folder = Path(folder)
    config = dict(network.config)  # type: ignore[arg-type]
    card = ModelCard.of(
        card,
        architecture=type(network).__name__,
        config=config,
        scale=float(config.get("scale", 1)),
        channels=int(config.get("channels", 1)),
    )
    weights = _weights_bytes(network, half)
    content = card.model_dump() | {
        "format": "dlm_fiji model 1",
        "weights": WEIGHTS,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    with atomic_write(folder) as part:
        part.mkdir()
        (part / WEIGHTS).write_bytes(weights)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (part / CARD).write_text(text, encoding="utf-8")
    return folder


def load_model(name_or_path: str | os.PathLike[str]) -> Model:
    """The model in a folder, or a shipped one by its name.

    Parameters
    ----------
    name_or_path
        ``"brightfield-x2.5"``, a folder that :func:`save_model` wrote, or a checkpoint of the training.

    Raises
    ------
    InputError
        No such model (the nearest name is suggested), damaged weights, or a pickle with code in it.
    """
    path = find_model(name_or_path)
    if path.is_file():
        return _from_checkpoint(path)
    try:
        content = json.loads((path / CARD).read_text(encoding="utf-8"))
        fields = {key: value for key, value in content.items() if key in ModelCard.model_fields}
        card = ModelCard.of(None, **fields)
        weights = (path / str(content.get("weights", WEIGHTS))).read_bytes()
    except (OSError, json.JSONDecodeError, AttributeError, ConfigurationError) as error:
        raise InputError(f"{path} is not a readable model folder ({error}); download or train it again.") from None
    digest = hashlib.sha256(weights).hexdigest()
    if content.get("sha256") not in (None, digest):
        raise InputError(f"The weights in {path} are not the ones its {CARD} describes; copy the folder again.")
    try:
        state = load_safetensors(weights)
    except SafetensorError as error:
        raise InputError(f"The weights in {path} are damaged ({error}); copy the folder again.") from None
    return Model(_build(card, state, path), card, digest, path)


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder (or checkpoint file) that ``name_or_path`` means: a path, or the name of a shipped model."""
    path = Path(name_or_path)
    if path.is_file() or (path / CARD).is_file():
        return path
    for place in _shipped_places():
        if (place / str(name_or_path) / CARD).is_file():
            return place / str(name_or_path)
    if path.exists():
        raise InputError(f"{path} is no model folder: it has no {CARD}.")
    names = list_models()
    if not names:
        raise InputError(f"There is no model {str(name_or_path)!r}, and no shipped models are installed.")
    raise InputError(unknown_name(str(name_or_path), names, "model"))


def list_models() -> list[str]:
    """Names of the shipped models, in a checkout's ``models/`` or in an installed package."""
    names = {card.parent.name for place in _shipped_places() for card in place.glob(f"*/{CARD}")}
    return sorted(names)


def _shipped_places() -> list[Path]:
    package = Path(dlm_fiji.__file__).parent
    return [package.parent / "models", package / "_shipped" / "models"]


def _weights_bytes(network: nn.Module, half: bool) -> bytes:
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    return dump_safetensors(state)


def _from_checkpoint(path: Path) -> Model:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is a pickle that may run code when it is opened, so it is refused; use a model folder."
        ) from None
    except Exception as error:  # the reader of pickles fails in any way on a damaged file
        raise InputError(f"{path} cannot be read as a checkpoint ({error}).") from None
    if not (isinstance(content, dict) and {"architecture", "config", "weights"} <= content.keys()):
        raise InputError(f"{path} is no checkpoint of dlm_fiji: architecture, config and weights are missing.")
    config = dict(content["config"])
    card = ModelCard.of(
        None,
        name=path.stem,
        architecture=content["architecture"],
        config=config,
        scale=float(config.get("scale", 1)),
        channels=int(config.get("channels", 1)),
        **content.get("card", {}),
    )
    return Model(_build(card, content["weights"], path), card, "", path)


def _build(card: ModelCard, state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    if card.architecture not in ARCHITECTURES:
        raise InputError(f"{path} asks for {card.architecture!r}, known are {', '.join(ARCHITECTURES)}.")
    try:
        network = getattr(networks, card.architecture)(**card.config)
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"The weights in {path} do not fit {card.architecture}({card.config}): {first}") from None
    return network
