"""``dlm_fiji export``: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]

FORMATS = {".pt": "torchscript", ".onnx": "onnx", ".zip": "bioimageio"}


def command(
    model: Annotated[str, typer.Argument(help="Shipped model or model folder.")],
    out: Annotated[Path, typer.Argument(help="File to write: .zip (BioImage.IO), .onnx or .pt (TorchScript).")],
    format: Annotated[str | None, typer.Option(help="bioimageio, onnx or torchscript; else by the ending.")] = None,
) -> None:
    """Write a model for deepImageJ and the BioImage Model Zoo, ONNX Runtime, or PyTorch.

    The file is tested against our own result before it is written.
    """
    from dlm_fiji.errors import ConfigurationError
    from dlm_fiji.inference import export_model

    chosen = format or FORMATS.get(out.suffix.lower())
    if chosen is None:
        raise ConfigurationError(f"{out.name} has no known ending (.zip, .onnx, .pt); give --format.")
    print(export_model(model, out, chosen))  # type: ignore[arg-type]
