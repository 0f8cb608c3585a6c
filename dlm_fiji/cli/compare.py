"""``dlm_fiji compare``: a model against Richardson-Lucy on your own image and label."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    image: Annotated[Path, typer.Argument(help="Low-resolution bright-field image.")],
    label: Annotated[Path, typer.Option(help="The better lens' image of a part of it.")],
    out: Annotated[Path, typer.Option(help="Folder for images and report.")] = Path("comparison"),
    model: Annotated[str, typer.Option("--model", "-m", help="Name or folder of a model.")] = "brightfield-x2.5",
    na: Annotated[float | None, typer.Option(help="Numerical aperture of the objective.")] = None,
    condenser_na: Annotated[float | None, typer.Option(help="Numerical aperture of the condenser.")] = None,
    pixel: Annotated[float | None, typer.Option(help="Pixel of the image in µm, where the file does not say.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Richardson-Lucy iterations that are searched.")] = None,
) -> None:
    """Compare bicubic, Richardson-Lucy at its best and a model; writes images, figures and a report."""
    from dlm_fiji.pipeline.comparing import compare_image
    from dlm_fiji.pipeline.configuration import DeconvolveSettings

    given = {"na": na, "condenser_na": condenser_na, "iterations": iterations}
    optics = DeconvolveSettings.of(None, **{key: value for key, value in given.items() if value is not None})
    line = shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]])
    print(compare_image(image, label, out, model, optics, pixel, line))
