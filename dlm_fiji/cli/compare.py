"""``dlm_fiji compare``: a model against Richardson-Lucy on your own image and label."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from dlm_fiji.cli.optics_options import CondenserNa, Na, PixelUm, Tolerance, Wavelength

__all__ = ["command"]


def command(
    image: Annotated[Path, typer.Argument(help="Low-resolution image.")],
    label: Annotated[
        Path, typer.Option(help="The better lens' image: of a part (bright field), or the same field (fluorescence).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for images and report.")] = Path("comparison"),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Model name or folder; brightfield-x2.5 in bright field, else none."),
    ] = None,
    kind: Annotated[
        Literal["auto", "brightfield", "fluorescence"], typer.Option(help="Auto: a colour image is bright field.")
    ] = "auto",
    na: Na = None,
    condenser_na: CondenserNa = None,
    wavelength: Wavelength = None,
    sigma: Annotated[
        float | None, typer.Option(help="Width of the point spread function in label pixels (fluorescence).")
    ] = None,
    pixel: PixelUm = None,
    other: Annotated[
        list[str] | None, typer.Option(help="Another model for the matrix of models; may be repeated.")
    ] = None,
    tolerance: Tolerance = None,
    iterations: Annotated[int | None, typer.Option(help="Richardson-Lucy iterations that are searched.")] = None,
) -> None:
    """Compare Richardson-Lucy at its best and a model with a label; writes images, figures and a report."""
    line = shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]])
    if (_kind(image, model) if kind == "auto" else kind) == "fluorescence":
        from dlm_fiji.pipeline.comparing_fluorescence import compare_fluorescence_image

        print(
            compare_fluorescence_image(
                image,
                label,
                out,
                model,
                iterations or 300,
                sigma=sigma,
                pixel_um=pixel,
                na=na,
                wavelength_um=wavelength,
                tolerance=tolerance,
                others=other or (),
                command=line,
            )
        )
        return
    from dlm_fiji.pipeline.comparing import compare_image
    from dlm_fiji.pipeline.configuration import DeconvolveSettings

    optics = DeconvolveSettings.given(na=na, condenser_na=condenser_na, iterations=iterations)
    print(compare_image(image, label, out, model or "brightfield-x2.5", optics, pixel, line, tolerance, other or ()))


def _kind(image: Path, model: str | None) -> str:
    """What the model was made for, or, without one, what the image looks like."""
    from dlm_fiji.inference import load_model
    from dlm_fiji.micrograph import open_image

    if model is not None:
        return "fluorescence" if load_model(model).card.normalisation == "percentile" else "brightfield"
    return "brightfield" if open_image(image).sizes.get("c", 1) == 3 else "fluorescence"
