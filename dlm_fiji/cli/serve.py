"""``dlm_fiji serve``: the local service for Fiji's scripts and the browser."""

from __future__ import annotations

from dlm_fiji.cli.from_settings import with_options
from dlm_fiji.service import ServiceSettings, serve

__all__ = ["command"]


@with_options(ServiceSettings, names={"idle_minutes": "--idle"})
def command(settings: ServiceSettings) -> None:
    """Serve Fiji's scripts and a browser page on this machine.

    Port and token are written to ~/.dlm_fiji/service.json, readable by its owner only.
    """
    serve(settings)
