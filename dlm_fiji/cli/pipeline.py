"""``dlm_fiji pipeline``: the main job."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    config: Annotated[
        str | None, typer.Argument(help="A TOML file or a preset (demo, paper); without it: demo.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; ./dlm_demo for the demo.")] = None,
    engine: Annotated[str | None, typer.Option(help="native, or fiji for the plugins the papers used.")] = None,
    fiji: Annotated[Path | None, typer.Option(help="Fiji folder to use, offline (or DLM_FIJI_HOME).")] = None,
    endpoint: Annotated[str | None, typer.Option(help="PyImageJ endpoint (or DLM_FIJI_ENDPOINT).")] = None,
    plugins: Annotated[Path | None, typer.Option(help="Folder of plugin jars (or DLM_FIJI_PLUGINS).")] = None,
    memory: Annotated[float | None, typer.Option(help="Java's largest heap, GiB (or DLM_FIJI_MEMORY).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    log: Annotated[Path | None, typer.Option(help="Append every line to this file.")] = None,
) -> None:
    """From tiles and label images to a comparison report.

    Without an argument the built-in demo runs: a real micrograph seen through a simulated microscope. Ctrl-C
    leaves a run that the same command continues. --debug shows tracebacks.
    """
    from dlm_fiji.pipeline import load_settings, preset, run_pipeline
    from dlm_fiji.pipeline.configuration import PRESETS, PipelineSettings
    from dlm_fiji.pipeline.console import Console

    given = {
        "DLM_FIJI_HOME": fiji,
        "DLM_FIJI_ENDPOINT": endpoint,
        "DLM_FIJI_PLUGINS": plugins,
        "DLM_FIJI_MEMORY": memory,
    }
    os.environ.update({variable: str(value) for variable, value in given.items() if value is not None})
    name = config or "demo"
    if name in PRESETS:
        settings, target = preset(name), out or Path(f"dlm_{name}")
    else:
        path = Path(name)
        settings, target = load_settings(path), out or Path(f"{path.stem}_run")
    if engine is not None:
        settings = PipelineSettings.of(settings, engine=engine)
    console = Console(quiet=quiet, log=log)
    if config is None:
        console.note(f"No configuration was given: the built-in demo runs into {target}.")
    run_pipeline(
        settings,
        target,
        name=Path(name).stem,
        command=shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]]),
        console=console,
    )
