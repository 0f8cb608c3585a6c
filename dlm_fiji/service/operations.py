"""What the service can do: each operation with its settings and the step it calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.service.jobs import Job, Results
from dlm_fiji.settings import Settings, setting
from dlm_fiji.steps import alignment, contradiction, restoration
from dlm_fiji.steps.alignment import AlignSettings
from dlm_fiji.steps.contradiction import ErrorMapSettings
from dlm_fiji.steps.restoration import DeconvolveSettings, LucySettings

__all__ = ["OPERATIONS", "CompareSettings", "DeconvolveSettings", "EnhanceSettings", "Operation"]

if TYPE_CHECKING:
    import xarray as xr

Images = dict[str, "xr.DataArray"]


class EnhanceSettings(Settings):
    """Enhance: a network applied to the image."""

    model: str = setting("brightfield-x2.5", "Model: a shipped name, or a folder")
    passes: int = setting(1, "Times the output is fed back in", ge=1, le=5, source="000, self-feeding")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = setting("auto", "What computes the network")


class CompareSettings(LucySettings):
    """Compare with Richardson-Lucy: the network and the deconvolution of the same image, on the same pixels."""

    model: str = EnhanceSettings.model_fields["model"]  # type: ignore[assignment]


class StitchEnhanceSettings(Settings):
    """Stitch a folder of tiles, and enhance the mosaic."""

    folder: str = setting("", "Folder of the tiles, in acquisition order by name, or one file that holds them")
    rows: int = setting(
        0, "Rows of the grid; 0: as columns, stage positions in the files, or file names tell", ge=0, le=1000
    )
    columns: int = setting(0, "Columns of the grid; 0: as for the rows", ge=0, le=1000)
    overlap: float = setting(0.15, "Overlap as a part of the tile's side", gt=0, lt=1)
    order: Literal["row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"] = setting(
        "row-by-row", "Scan order"
    )
    channels: Literal["together", "each"] = setting(
        "together", "Channels are placed together, or each by its own content"
    )
    engine: Literal["native", "fiji"] = setting("native", "native, or Fiji's Grid/Collection stitching")
    model: str = setting("", "Model that enhances the mosaic; empty only stitches")


class TrainSettings(Settings):
    """Train: run the pipeline of a configuration file."""

    config: str = setting("", "Configuration file (TOML)")
    output: str = setting("", "Run folder")


@dataclass(frozen=True)
class Operation:
    """One thing the service can do."""

    settings: type[Settings]
    #: Names of the images it takes.
    images: tuple[str, ...]
    run: Callable[[Job, Images, Any], Results]
    #: Settings that are paths, which must lie in a folder that the user allowed.
    paths: tuple[str, ...] = ()


def enhance(job: Job, images: Images, s: EnhanceSettings) -> Results:
    from dlm_fiji.steps import enhance as step

    job.say(f"loading model {s.model}")
    model = _model(s.model)
    job.say(f"enhancing with {s.model}")
    options = {} if s.backend == "auto" else {"backend": s.backend}
    return {"enhanced": step(images["image"], model, passes=s.passes, progress=job.progress, **options)}


def preview(job: Job, images: Images, s: EnhanceSettings) -> Results:
    """Enhance for the browser page, which wants the input back as something a browser shows."""
    image = images["image"]
    if set(image.dims) & set("tz"):
        raise InputError("The page shows single images; use the command line or Fiji for stacks.")
    return {"input": image, **enhance(job, images, s)}


def deconvolve(job: Job, images: Images, s: DeconvolveSettings) -> Results:
    job.say(f"Richardson-Lucy, {s.iterations} iterations")
    return {"deconvolved": restoration.deconvolve(images["image"], s, progress=job.progress)}


def compare(job: Job, images: Images, s: CompareSettings) -> Results:
    image = images["image"]
    enhanced = enhance(job, images, EnhanceSettings.of(model=s.model))["enhanced"]
    scale = float(_model(s.model).scale)
    shared = {k: v for k, v in s.model_dump().items() if k != "model"}
    deconvolved = deconvolve(job, images, DeconvolveSettings.of(scale=scale, **shared))["deconvolved"]
    return {"network": enhanced, "richardson_lucy": deconvolved, "bicubic": restoration.enlarge(image, scale)}


def error_map(job: Job, images: Images, s: ErrorMapSettings) -> Results:
    job.say("comparing with the reference")
    where, figures = contradiction.contradictions(images["image"], images["reference"], s)
    return {"error_map": where, "figures": figures}


def register(job: Job, images: Images, s: AlignSettings) -> Results:
    job.say("registering")
    aligned, record = alignment.align(images["image"], images["reference"], s)
    return {"registered": aligned, "figures": record}


def stitch_and_enhance(job: Job, images: Images, s: StitchEnhanceSettings) -> Results:
    from dlm_fiji.micrograph import from_array, open_image, pixel_size_um
    from dlm_fiji.registration import StitchSettings
    from dlm_fiji.steps import stitch_tiles, tiles_in

    folder = Path(s.folder)
    if not s.folder or not folder.exists():
        raise InputError(f"The folder {s.folder!r} does not exist.")
    tiles = tiles_in(folder)
    job.say(f"stitching {len(tiles)} tiles")
    grid = None
    if s.rows or s.columns:
        grid = (s.rows or -(-len(tiles) // s.columns), s.columns or -(-len(tiles) // s.rows))
    options = StitchSettings.of(overlap=s.overlap, order=s.order, channels=s.channels)
    mosaic = stitch_tiles(tiles, grid, options, engine=s.engine)
    first = open_image(tiles[0].path, series=tiles[0].series)
    image = from_array(mosaic.image, pixel_um=pixel_size_um(first))
    image.attrs["provenance"] = {"step": "stitch", **mosaic.summary()}
    results: Results = {"mosaic": image, "figures": json.loads(json.dumps(mosaic.summary(), default=str))}
    if s.model:
        results["enhanced"] = enhance(job, {"image": image}, EnhanceSettings.of(model=s.model))["enhanced"]
    return results


def train(job: Job, images: Images, s: TrainSettings) -> Results:
    """The pipeline of a configuration file; cancelled between two steps, it goes on with the next call."""
    from dlm_fiji.pipeline import load_settings, run_pipeline
    from dlm_fiji.pipeline.console import Console

    if not s.config or not s.output:
        raise ConfigurationError("Training needs 'config', a TOML file, and 'output', the run folder.")

    class JobConsole(Console):
        """Stages and bars of a run as the job's message and progress."""

        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            job.say(name)
            with super().stage(name):
                yield

        def progress(self, done: int, total: int, text: object = "") -> None:
            job.progress(done, total)

    config = Path(s.config)
    job.say("reading the configuration")
    report = run_pipeline(load_settings(config), Path(s.output), name=config.stem, console=JobConsole(quiet=True))
    return {"figures": {"report": str(report)}}


OPERATIONS: dict[str, Operation] = {
    "enhance": Operation(EnhanceSettings, ("image",), enhance),
    "preview": Operation(EnhanceSettings, ("image",), preview),
    "deconvolve": Operation(DeconvolveSettings, ("image",), deconvolve),
    "compare": Operation(CompareSettings, ("image",), compare),
    "error_map": Operation(ErrorMapSettings, ("image", "reference"), error_map),
    "register": Operation(AlignSettings, ("image", "reference"), register),
    "stitch": Operation(StitchEnhanceSettings, (), stitch_and_enhance, ("folder",)),
    "train": Operation(TrainSettings, (), train, ("config", "output")),
}

_models: dict[str, Any] = {}


def _model(name: str) -> Any:
    """A model that stays loaded."""
    from dlm_fiji.inference import load_model

    if name not in _models:
        _models[name] = load_model(name)
    return _models[name]
