"""``dlm_fiji predict``: images through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


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
    tile: Annotated[str, typer.Option(help="Pixels of a tile, auto or whole.")] = "auto",
    passes: Annotated[
        int, typer.Option(help="Times the network is applied (self-feeding); more than one may sharpen too far.")
    ] = 1,
    keep_scale: Annotated[bool, typer.Option("--keep-scale", help="Reduce before each further pass.")] = False,
    resample: Annotated[bool, typer.Option("--resample", help="Resample to the model's pixel size first.")] = False,
    full_scale: Annotated[float | None, typer.Option(help="Value of a full pixel, such as 4095.")] = None,
    backend: Annotated[str, typer.Option(help="auto, torch, openvino or onnxruntime.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps; several by commas, or cuda:all.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Enhance an image, or many.

    The output carries the model, its hash and the backend. For research use, not for diagnosis.
    """
    from rich.console import Console
    from rich.progress import Progress

    from dlm_fiji.errors import InputError
    from dlm_fiji.inference import InferenceSettings, load_model, predict_batch, predict_file

    settings = InferenceSettings.of(
        None,
        tile=int(tile) if tile.isdigit() else tile,
        passes=passes,
        keep_scale=keep_scale,
        resample=resample,
        full_scale=full_scale,
        backend=backend,
        device=device,
        precision=precision,
        threads=threads,
    )
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
        record = predict_file(
            loaded, source, out, settings, lambda n, total: bar.update(task, completed=n, total=total), stream
        )
    console.print(
        f"{out}: {loaded.name} ({loaded.sha256[:12]}), {record['backend']} on {record['device']}, "
        f"{record['seconds']:.1f} s. Computationally enhanced; for research use.",
        highlight=False,
    )
