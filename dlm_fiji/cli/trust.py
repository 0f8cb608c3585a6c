"""``dlm_fiji trust``: an enhanced image judged by the image it was made from."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dlm_fiji.cli.optics_options import CondenserNa, Na, PixelUm, Tolerance, Wavelength

__all__ = ["command"]


def command(
    image: Annotated[Path, typer.Argument(help="The image as the camera gave it.")],
    enhanced: Annotated[Path, typer.Argument(help="What was made of it.")],
    out: Annotated[Path, typer.Option(help="Folder for trust.json, maps and report.")] = Path("trust"),
    na: Na = None,
    condenser_na: CondenserNa = None,
    wavelength: Wavelength = None,
    sigma: Annotated[
        float | None, typer.Option(help="Width of the point spread function in enhanced pixels (fluorescence).")
    ] = None,
    pixel: PixelUm = None,
    tolerance: Tolerance = None,
) -> None:
    """Judge an enhanced image without a label: blurred by the microscope, it must give the image back."""
    from dlm_fiji.pipeline.judging import judge_image

    print(
        judge_image(
            image,
            enhanced,
            out,
            na=na,
            condenser_na=condenser_na,
            wavelength_um=wavelength,
            sigma=sigma,
            pixel_um=pixel,
            tolerance=tolerance,
            command=shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]]),
        )
    )
