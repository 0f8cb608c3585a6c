"""``dlm_fiji characterise``: what a model does, on the simulated instrument."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Bright-field model, name or folder.")
    ] = "brightfield-x2.5",
    out: Annotated[Path, typer.Option(help="Folder for tables and report.")] = Path("characterisation"),
    only: Annotated[
        list[str] | None, typer.Option(help="Of depth, beads, usaf, matrix, runtime; all if not given.")
    ] = None,
    other: Annotated[list[str] | None, typer.Option(help="Another model for the matrix; may be repeated.")] = None,
    specimen: Annotated[
        list[Path] | None, typer.Option(help="A sharp RGB micrograph for the matrix; may be repeated.")
    ] = None,
    depth_um: Annotated[float, typer.Option(help="Largest defocus in µm.", min=0.5)] = 6.0,
    side: Annotated[
        list[int] | None, typer.Option(help="Side of a square input whose runtime is taken; may be repeated.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Add the papers' tables, their figures beside ours.")] = False,
) -> None:
    """Depth of field, bead widths, USAF contrast, models against specimens, runtime, on a simulated instrument."""
    from dlm_fiji.errors import ConfigurationError
    from dlm_fiji.pipeline.characterising import MEASURES, characterise
    from dlm_fiji.settings import unknown_name

    for name in only or ():
        if name not in MEASURES:
            raise ConfigurationError(unknown_name(name, MEASURES, "measure"))
    print(
        characterise(
            model,
            out,
            measures=only or MEASURES,
            others=other or (),
            specimens=specimen or (),
            depth_um=depth_um,
            sides=side or (160, 400, 818),
            paper=paper,
            command=shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]]),
        )
    )
