"""Options about the microscope and the verdict that several commands have alike."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["CondenserNa", "Na", "PixelUm", "Tolerance", "Wavelength"]

Na = Annotated[float | None, typer.Option(help="Numerical aperture of the objective.")]
CondenserNa = Annotated[float | None, typer.Option(help="Numerical aperture of the condenser (bright field).")]
Wavelength = Annotated[float | None, typer.Option(help="Emission wavelength in µm (fluorescence).")]
PixelUm = Annotated[float | None, typer.Option(help="Pixel of the image in µm, where the file does not say.")]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Trust: deviations below this share of the brightness are not flagged; 0.05, fluorescence 0.2."),
]
