"""``dlm_fiji trust``: an enhanced image judged by the image it was made from."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    image: Annotated[Path, typer.Argument(help="The image as the camera gave it.")],
    enhanced: Annotated[Path, typer.Argument(help="What was made of it.")],
    out: Annotated[Path, typer.Option(help="Folder for trust.json, maps and report.")] = Path("trust"),
    na: Annotated[float | None, typer.Option(help="Numerical aperture of the objective.")] = None,
    condenser_na: Annotated[
        float | None, typer.Option(help="Numerical aperture of the condenser (bright field).")
    ] = None,
    wavelength: Annotated[float | None, typer.Option(help="Emission wavelength in µm (fluorescence).")] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Width of the point spread function in enhanced pixels (fluorescence).")
    ] = None,
    pixel: Annotated[float | None, typer.Option(help="Pixel of the image in µm, where the file does not say.")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Deviations below this share of the brightness are not flagged; 0.05, fluorescence 0.2."),
    ] = None,
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
