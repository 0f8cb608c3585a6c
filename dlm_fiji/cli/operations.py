"""``deconvolve``, ``error-map``, ``register``, ``stitch``: the service's operations on files, without the service."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dlm_fiji.cli.from_settings import with_options

__all__ = ["deconvolve", "error_map", "register", "stitch"]

_HELP = {
    "image": "Image.",
    "reference": "Image that it is compared with or laid on.",
    "out": "Image to write; further results go beside it, with their name appended.",
}


def _command(name: str, help: str) -> Callable[..., Any]:
    from dlm_fiji.service.operations import OPERATIONS

    operation = OPERATIONS[name]

    def command(*, settings: Any, out: Path, quiet: bool, **images: Path) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from dlm_fiji.micrograph import open_image
        from dlm_fiji.service.jobs import Job

        console = Console(quiet=quiet, stderr=True)
        with Progress(console=console, transient=True, disable=quiet) as bar:
            task = bar.add_task(name, total=None)

            class Shown(Job):
                """A job of this process: its progress is the bar."""

                def progress(self, done: int, total: int) -> None:
                    bar.update(task, completed=done, total=total)

                def say(self, message: str) -> None:
                    bar.update(task, description=message)

            job = Shown(name, lambda _: {})
            results = operation.run(job, {key: open_image(path) for key, path in images.items()}, settings)
        _write(results, out)

    kinds = {key: Annotated[Path, typer.Argument(help=_HELP[key])] for key in (*operation.images, "out")}
    kinds["quiet"] = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")]
    parameters = [
        inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=False if key == "quiet" else inspect.Parameter.empty,
        )
        for key, kind in [*kinds.items(), ("settings", Any)]
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made = with_options(operation.settings)(command)
    made.__doc__ = help
    return made


def _write(results: dict[str, Any], out: Path) -> None:
    """The last image to ``out``, those before it beside; figures are printed as JSON."""
    import xarray as xr

    from dlm_fiji.micrograph import save_image

    images = [name for name, result in results.items() if isinstance(result, xr.DataArray)]
    for name in images:
        ending = "".join(out.suffixes[-2:]) if out.name.endswith((".ome.tif", ".ome.zarr")) else out.suffix
        path = out if name == images[-1] else out.with_name(f"{out.name.removesuffix(ending)}_{name}{ending}")
        save_image(results[name], path, provenance=results[name].attrs.get("provenance"))
    for name, result in results.items():
        if name not in images:
            print(json.dumps(result, indent=2, default=str))


deconvolve = _command(
    "deconvolve", "Richardson-Lucy deconvolution with the point spread function of the objective.\n\nResearch use only."
)
error_map = _command("error_map", "Where an enhanced IMAGE contradicts the REFERENCE it was made from.")
register = _command("register", "Bend IMAGE so that it lies on REFERENCE.")
stitch = _command("stitch", "Stitch a folder of tiles to one image, and enhance it with --model.")
