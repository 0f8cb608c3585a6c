"""A BioImage.IO 0.5 model package, which deepImageJ and other members of the Model Zoo read.

https://github.com/bioimage-io/spec-bioimage-io, format 0.5. Only pre- and postprocessing that deepImageJ's
reader knows is used: scale_range, scale_linear, zero_mean_unit_variance, clip.

The format says that an output axis has input size × (input scale / output scale) pixels. deepImageJ's reader (JDLL)
takes the output scale alone for that factor. An input scale of L² and an output scale of L mean L to both; the pixel
size, which cannot stand there too, is under ``config``.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import math
import os
import tempfile
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from dlm_fiji import __version__
from dlm_fiji.errors import SetupError
from dlm_fiji.inference.exporting import onnx_bytes, torchscript_bytes
from dlm_fiji.inference.intensities import PERCENTILES
from dlm_fiji.inference.model_files import Model
from dlm_fiji.inference.tiling import margin_on_grid
from dlm_fiji.micrograph.writing import atomic_write

__all__ = ["package_description", "package_files", "write_package"]

ANIMALS = (("owl", "🦉"), ("lynx", "🐱"), ("eagle", "🦅"), ("hare", "🐇"), ("otter", "🦦"), ("fox", "🦊"))
WORDS = ("bright", "clear", "keen", "sharp", "patient", "honest")
FORMAT = "0.5.4"


def write_package(model: Model, target: str | os.PathLike[str]) -> Path:
    """Write the package as a zip, after a test by ``bioimageio.spec`` where that is installed."""
    files = package_files(model)
    validate(files)
    with atomic_write(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(name, content)
    return Path(target)


def package_files(model: Model) -> dict[str, bytes]:
    """All files of the package by name; ``bioimageio.yaml`` is the newer name of the same ``rdf.yaml``."""
    edge = 2 * (margin_on_grid(_radius(model), _step(model)) // _step(model) + 4) * _step(model)
    image = _test_image(model, edge)
    prepared = preprocessed(model, image)
    with torch.inference_mode():
        output = model.network(torch.from_numpy(prepared)).numpy()
    files = {
        "weights.pt": torchscript_bytes(model),
        "test_input.npy": _npy(image),
        "test_output.npy": _npy(postprocessed(model, output)),
        "documentation.md": documentation(model).encode(),
    }
    with suppress(SetupError):  # the package is complete with TorchScript alone
        files["weights.onnx"] = onnx_bytes(model)
    description = package_description(model, {name: hashlib.sha256(c).hexdigest() for name, c in files.items()})
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100).encode()
    return {"rdf.yaml": text, "bioimageio.yaml": text, **files}


def package_description(model: Model, sha256: dict[str, str]) -> dict[str, Any]:
    """The content of ``rdf.yaml``."""
    card, step = model.card, _step(model)
    ratio = model.scale
    halo = math.ceil(margin_on_grid(_radius(model), step) * ratio)
    smallest = 2 * (margin_on_grid(_radius(model), step) // step + 1) * step
    names = ["red", "green", "blue"] if card.channels == 3 else [f"channel{c}" for c in range(card.channels)]
    channel_axis = {"type": "channel", "channel_names": names}

    def space(axis: str) -> dict[str, Any]:
        size = {"min": smallest, "step": step}
        return {"type": "space", "id": axis, "size": size, "scale": ratio**2}

    def enlarged(axis: str) -> dict[str, Any]:
        size = {"tensor_id": "input", "axis_id": axis, "offset": 0}
        return {"type": "space", "id": axis, "size": size, "scale": ratio, "halo": halo}

    number = int(model.sha256[:8], 16)
    animal, emoji = ANIMALS[number % len(ANIMALS)]
    weights: dict[str, Any] = {
        "torchscript": {
            "source": "weights.pt",
            "sha256": sha256["weights.pt"],
            "pytorch_version": torch.__version__.split("+")[0],
        }
    }
    if "weights.onnx" in sha256:
        weights["onnx"] = {
            "source": "weights.onnx",
            "sha256": sha256["weights.onnx"],
            "opset_version": 17,
            "parent": "torchscript",
        }
    return {
        "type": "model",
        "format_version": FORMAT,
        "name": _plain_name(card.name),
        "description": card.description or f"Enhances {card.modality} micrographs {ratio:g} times.",
        "version": __version__,
        "authors": [{"name": "The dlm_fiji developers"}],
        "cite": [
            {
                "text": "Rivenson et al., Deep learning microscopy, Optica 4, 1437 (2017)",
                "doi": "10.1364/OPTICA.4.001437",
            }
        ]
        if card.modality == "bright field"
        else [
            {
                "text": "Wang et al., Deep learning enables cross-modality super-resolution in fluorescence "
                "microscopy, Nature Methods 16, 103 (2019)",
                "doi": "10.1038/s41592-018-0239-0",
            }
        ],
        "license": card.licence,
        "documentation": "documentation.md",
        "tags": ["super-resolution", card.modality.replace(" ", "-"), "2d", "deepimagej"],
        "timestamp": datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
        "inputs": [
            {
                "id": "input",
                "axes": [{"type": "batch"}, channel_axis, space("y"), space("x")],
                "data": {"type": "float32"},
                "preprocessing": preprocessing(model),
                "test_tensor": {"source": "test_input.npy", "sha256": sha256["test_input.npy"]},
            }
        ],
        "outputs": [
            {
                "id": "output",
                "axes": [{"type": "batch"}, channel_axis, enlarged("y"), enlarged("x")],
                "data": {"type": "float32"},
                "postprocessing": postprocessing(model),
                "test_tensor": {"source": "test_output.npy", "sha256": sha256["test_output.npy"]},
            }
        ],
        "weights": weights,
        "config": {
            "bioimageio": {"nickname": f"{WORDS[number // 7 % len(WORDS)]}-{animal}", "nickname_icon": emoji},
            "dlm_fiji": {
                "sha256": model.sha256,
                "scale": ratio,
                "modality": card.modality,
                "pixel_um": list(card.pixel_um) if card.pixel_um else None,
            },
        },
    }


def preprocessing(model: Model) -> list[dict[str, Any]]:
    """From pixel values (bright field: 0 … 255) to the network's."""
    if model.card.normalisation == "full scale":
        return [{"id": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}}]
    low, high = PERCENTILES
    percentiles = {"min_percentile": low, "max_percentile": high, "axes": ["y", "x"], "eps": 1e-6}
    return [
        {"id": "scale_range", "kwargs": percentiles},
        {"id": "scale_linear", "kwargs": {"gain": model.card.intensity_range[1], "offset": 0.0}},
    ]


def postprocessing(model: Model) -> list[dict[str, Any]]:
    """From the network's values to 0 … 255."""
    gain = 255.0 / model.card.intensity_range[1]
    steps: list[dict[str, Any]] = []
    if gain != 1:
        steps.append({"id": "scale_linear", "kwargs": {"gain": gain, "offset": 0.0}})
    if model.card.normalisation == "full scale":
        steps.append({"id": "clip", "kwargs": {"min": 0.0, "max": 255.0}})
    return steps


def preprocessed(model: Model, image: np.ndarray) -> np.ndarray:
    """What :func:`preprocessing` says, on a (1, C, H, W) array."""
    if model.card.normalisation == "full scale":
        return (image * np.float32(1 / 255)).astype(np.float32)
    low, high = np.percentile(image, PERCENTILES, axis=(2, 3), keepdims=True)
    scaled = (image - low) / (high - low + 1e-6)
    return (scaled * model.card.intensity_range[1]).astype(np.float32)


def postprocessed(model: Model, output: np.ndarray) -> np.ndarray:
    """What :func:`postprocessing` says."""
    output = output * np.float32(255.0 / model.card.intensity_range[1])
    return np.clip(output, 0, 255) if model.card.normalisation == "full scale" else output


def validate(files: dict[str, bytes]) -> None:
    """Refuse a package that ``bioimageio.spec`` does; without that package nothing is checked here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from bioimageio.spec import load_description
            from bioimageio.spec._internal.validation_context import ValidationContext
            from bioimageio.spec.model.v0_5 import ModelDescr
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        with ValidationContext(perform_io_checks=True, known_files={}):
            found = load_description(Path(folder) / "rdf.yaml")
    if not isinstance(found, ModelDescr) or found.validation_summary.status != "valid-format":
        errors = "; ".join(
            f"{'.'.join(str(p) for p in error.loc)}: {error.msg}"
            for detail in found.validation_summary.details
            for error in detail.errors
        )
        raise SetupError(f"The package is not what bioimageio.spec accepts ({errors}); it was not written.")


def documentation(model: Model) -> str:
    """The model card as text."""
    card = model.card
    lines = [f"# {card.name}", "", card.description, ""]
    rows = {
        "Modality": card.modality,
        "Enlargement": f"{model.scale:g}",
        "Pixel size of the input": f"{card.pixel_um[0]:g}-{card.pixel_um[1]:g} µm" if card.pixel_um else "any",
        "Numerical aperture": f"{card.na[0]:g}-{card.na[1]:g}" if card.na else "any",
        "Training data": card.training_data,
        "Origin and licence of the data": card.data_licence,
        "Made by": f"`{card.training_command}`" if card.training_command else "",
        "Limits": card.limits,
    }
    lines += [f"- {name}: {value}" for name, value in rows.items() if value]
    lines += ["", "# Validation", ""]
    lines += [f"- {name}: {value}" for name, value in card.measured.items()] or ["Not measured."]
    lines += [
        "",
        "For research use, not for diagnosis. The output is computationally enhanced: compare it with a",
        "deconvolution and look at error maps before you trust details.",
        "",
    ]
    return "\n".join(lines)


def _plain_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_ ()+" else "_" for c in name).ljust(5, "_")


def _radius(model: Model) -> int:
    return int(model.network.receptive_radius)  # type: ignore[arg-type]


def _step(model: Model) -> int:
    grid = int(model.network.grid)  # type: ignore[arg-type]
    return math.lcm(grid, int(getattr(model.network, "size_multiple", 1)))


def _test_image(model: Model, edge: int) -> np.ndarray:
    y, x = np.mgrid[:edge, :edge].astype(np.float32)
    planes = [127 + 100 * np.sin(x / (3 + c)) * np.cos(y / 5) for c in range(model.card.channels)]
    return np.rint(np.stack(planes))[None].astype(np.float32)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
