"""Which engine does a step: native (the default, the same everywhere) or the Fiji plugin that the papers used."""

from __future__ import annotations

from dlm_fiji.errors import SetupError

__all__ = ["require_engine"]

#: Plugins that the pipeline's steps need with ``engine = "fiji"``.
NEEDS = {"stitch": "stitching", "register": "nanoj", "deconvolve": "deconvolutionlab2"}


def require_engine(engine: str, steps: tuple[str, ...] = tuple(NEEDS)) -> None:
    """Check, before a long run, that the engine can do the steps.

    Raises
    ------
    SetupError
        ``engine`` is ``"fiji"`` and plugins are missing: each is named with the step that wants it and how to
        get it.
    """
    if engine != "fiji":
        return
    from dlm_fiji.fiji.plugins import plugins_available

    available = plugins_available()
    missing = [
        f"{step} needs {available[NEEDS[step]].name} ({available[NEEDS[step]].how_to_install})"
        for step in steps
        if NEEDS[step] in available and not available[NEEDS[step]]
    ]
    if missing:
        raise SetupError(
            f"--engine fiji cannot run here: {'; '.join(missing)}. Without it, --engine native does the same steps."
        )
