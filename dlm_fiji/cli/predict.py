"""``dlm_fiji predict``: images through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlm_fiji.cli.from_settings import with_options
from dlm_fiji.inference import InferenceSettings

__all__ = ["command"]


@with_options(InferenceSettings)
def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Image; with --batch a folder or a quoted glob.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Image to write; with --batch a folder.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Shipped model or model folder.")] = "brightfield-x2.5",
    batch: Annotated[bool, typer.Option("--batch", help="Many files; finished ones are skipped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --batch: also files that are there.")] = False,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--whole", help="From and to the disk in windows; by size if not given."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    *,
    settings: InferenceSettings,
) -> None:
    """Enhance an image, or many.

    The output carries the model, its hash and the backend. For research use, not for diagnosis.
    """
    from rich.console import Console
    from rich.progress import Progress

    from dlm_fiji.errors import InputError
    from dlm_fiji.inference import load_model, predict_batch, predict_file

    console = Console(quiet=quiet, stderr=True)
    loaded = load_model(model)
    if batch:

        def report(item, number: int, total: int) -> None:  # type: ignore[no-untyped-def]
            why = f": {item.reason}" if item.reason else f" in {item.seconds:.1f} s" if item.seconds else ""
            console.print(f"{number}/{total} {item.state} {item.source}{why}", highlight=False)

        items = predict_batch(loaded, [source], out, settings, overwrite, report)
        states = [item.state for item in items]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "skipped", "failed") if s in states)
        console.print(f"{len(items)} files: {counts}.")
        if "failed" in states:
            raise InputError(f"{states.count('failed')} of {len(items)} files failed; the lines above say why.")
        return
    if source.is_dir() and source.suffix != ".zarr":
        raise InputError(f"{source} is a folder; --batch enhances all images in it.")
    with Progress(console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(source.name, total=None)

        def finishing(n: int, total: int) -> None:
            bar.update(task, description=f"levels of {out.name}", completed=n, total=total)

        record = predict_file(
            loaded,
            source,
            out,
            settings,
            lambda n, total: bar.update(task, completed=n, total=total),
            stream,
            finishing,
        )
    console.print(
        f"{out}: {loaded.name} ({loaded.sha256[:12]}), {record['backend']} on {record['device']}, "
        f"{record['seconds']:.1f} s. Computationally enhanced; for research use.",
        highlight=False,
    )
