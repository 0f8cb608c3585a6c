"""``dlm_fiji report``: the page of a finished run, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    runs: Annotated[list[Path], typer.Argument(help="One or more run folders.")],
    summary: Annotated[Path | None, typer.Option(help="Also write a page over all runs into this folder.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Add the papers' tables, their figures beside ours.")] = False,
) -> None:
    """Write the report of each run, and with --summary one page over all of them."""
    from dlm_fiji.errors import InputError
    from dlm_fiji.report import write_report, write_summary

    for run in runs:
        if not (run / "run.json").is_file():
            raise InputError(f"{run} is no run folder (it has no run.json); name one that the pipeline made.")
    if summary is not None:
        print(write_summary(runs, summary, paper=paper))
        return
    for run in runs:
        print(write_report(run, paper=paper))
