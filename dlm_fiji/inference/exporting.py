"""A model for other programs: TorchScript, ONNX, and the BioImage.IO package of ``packaging.py``."""

from __future__ import annotations

import copy
import io
import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from dlm_fiji.errors import ConfigurationError, SetupError
from dlm_fiji.inference.model_files import Model, load_model
from dlm_fiji.micrograph.writing import atomic_write

__all__ = ["export_model", "onnx_bytes", "torchscript_bytes"]

Format = Literal["torchscript", "onnx", "bioimageio"]
SELF_TEST = 1e-4
"""Largest difference to our own result that an exported file may have, as a part of the value range."""


def export_model(
    model: Model | str | os.PathLike[str], target: str | os.PathLike[str], format: Format = "bioimageio"
) -> Path:
    """Write ``model`` in a format of other programs, after a test of the file's bytes against our own result.

    Parameters
    ----------
    target
        ``.pt`` (TorchScript), ``.onnx``, or ``.zip`` (BioImage.IO 0.5, which deepImageJ reads).

    Raises
    ------
    SetupError
        A package for the format is missing, or the exported model computes something else.
    """
    model = model if isinstance(model, Model) else load_model(model)
    target = Path(target)
    if format == "bioimageio":
        from dlm_fiji.inference.packaging import write_package

        return write_package(model, target)
    if format not in ("torchscript", "onnx"):
        raise ConfigurationError(f"{format!r} is no format; known are torchscript, onnx, bioimageio.")
    content = torchscript_bytes(model) if format == "torchscript" else onnx_bytes(model)
    with atomic_write(target) as part:
        part.write_bytes(content)
    return target


def torchscript_bytes(model: Model) -> bytes:
    """The traced network as a TorchScript file, for values as the network takes them."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks; the result is tested
        traced = torch.jit.trace(_copy(model), torch.zeros(_example(model)), check_trace=False)
        torch.jit.save(traced, buffer)
        buffer.seek(0)
        again = torch.jit.load(buffer, map_location="cpu")
    x = _test_values(model)
    with torch.inference_mode():
        _check(model, x, again(torch.from_numpy(x)).numpy(), "TorchScript")
    return buffer.getvalue()


def onnx_bytes(model: Model) -> bytes:
    """The network as ONNX with free height and width, for values as the network takes them."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise SetupError("ONNX export needs the onnx package: pip install 'dlm_fiji[export]'.") from None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter that keeps sizes free without constraints
        torch.onnx.export(
            _copy(model),
            (torch.zeros(_example(model)),),
            buffer,  # type: ignore[arg-type]
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {2: "height", 3: "width"}, "output": {2: "out_height", 3: "out_width"}},
            opset_version=17,
            dynamo=False,
        )
    try:
        import onnxruntime
    except ImportError:
        return buffer.getvalue()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    x = _test_values(model)
    _check(model, x, session.run(None, {"input": x})[0], "ONNX")
    return buffer.getvalue()


def _copy(model: Model) -> nn.Module:
    return copy.deepcopy(model.network).eval().requires_grad_(False)


def _example(model: Model) -> tuple[int, int, int, int]:
    edge = 4 * int(getattr(model.network, "size_multiple", 4))
    return 1, model.card.channels, edge, edge


def _test_values(model: Model) -> np.ndarray:
    # another size than the traced one, and not square: a size that became a constant is seen
    multiple = int(getattr(model.network, "size_multiple", 4))
    low, high = model.card.intensity_range
    values = np.random.default_rng(0).random((1, model.card.channels, 5 * multiple, 6 * multiple))
    return (low + (high - low) * values).astype(np.float32)


def _check(model: Model, x: np.ndarray, got: np.ndarray, what: str) -> None:
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(x)).numpy()
    low, high = model.card.intensity_range
    if got.shape != expected.shape or np.abs(got - expected).max() > SELF_TEST * (high - low):
        raise SetupError(f"The {what} file of model {model.name!r} computes something else; it was not written.")
