"""``dlm_fiji serve``: the local service for Fiji's scripts and the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    idle: Annotated[float, typer.Option(help="Stop after so many minutes without a request; 0 stays.")] = 0.0,
    allow: Annotated[list[Path] | None, typer.Option(help="Folder whose files requests may name; repeatable.")] = None,
    queue: Annotated[int, typer.Option(help="Jobs that may wait.")] = 16,
) -> None:
    """Serve Fiji's scripts and a browser page on this machine.

    Port and token are written to ~/.dlm_fiji/service.json, readable by its owner only.
    """
    from dlm_fiji.service import serve

    serve(port=port, idle_minutes=idle, allow=tuple(allow or ()), queue=queue)
