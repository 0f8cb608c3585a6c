"""The stages in order: each is skipped when nothing it depends on has changed, and may be killed at any time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_fiji import __version__
from dlm_fiji.errors import InputError
from dlm_fiji.pipeline import assemble, judge, learn
from dlm_fiji.pipeline.configuration import PipelineSettings
from dlm_fiji.pipeline.console import Console
from dlm_fiji.pipeline.context import Context
from dlm_fiji.pipeline.demo import acquire
from dlm_fiji.pipeline.run_folder import RunFolder, fingerprint
from dlm_fiji.steps.engines import require_engine

__all__ = ["STAGES", "Stage", "run_pipeline"]


@dataclass(frozen=True)
class Stage:
    """One stage: what it does, what it builds on, and which settings change its result."""

    name: str
    run: Callable[[Context], dict[str, Any]]
    needs: tuple[str, ...]
    settings: tuple[str, ...]


def _acquire(context: Context) -> dict[str, Any]:
    assert context.settings.acquire is not None, "left out of the stages without it"
    return acquire(context.settings.acquire, context.settings.seed, context.run.folder("acquire"))


STAGES = (
    Stage("acquire", _acquire, (), ("acquire", "seed")),
    Stage("illumination", assemble.illumination, ("acquire",), ("illumination", "input")),
    Stage("stitch", assemble.stitch, ("illumination",), ("stitch", "engine", "input")),
    Stage("match", assemble.match, ("stitch",), ("match", "scale")),
    Stage("register", assemble.register, ("match",), ("registration", "scale", "engine")),
    Stage("patches", learn.patches, ("register",), ("train", "scale")),
    Stage("train", learn.train, ("patches",), ("train", "init_from", "seed", "scale")),
    Stage("predict", learn.predict, ("train", "stitch"), ("init_from",)),
    Stage("deconvolve", judge.deconvolve, ("register",), ("deconvolve", "engine", "scale")),
    Stage("evaluate", judge.evaluate, ("register", "predict", "deconvolve"), ("simulated",)),
    Stage("trust", judge.trust, ("illumination", "stitch", "evaluate"), ("trust", "deconvolve")),
    Stage("report", judge.report, ("evaluate", "trust"), ()),
)


def run_pipeline(
    settings: PipelineSettings,
    out: Path,
    *,
    name: str = "demo",
    command: str = "",
    console: Console | None = None,
) -> Path:
    """Run the stages into ``out`` and return the report's path.

    A second call with the same folder continues: finished stages whose inputs and settings are unchanged are not
    run again, and training goes on from its last checkpoint.

    Raises
    ------
    DlmError
        A sentence for the user; what was finished stays.
    """
    console = console or Console(quiet=True)
    run = RunFolder(out)
    require_engine(settings.engine)
    run.begin(
        preset=name,
        command=command,
        settings=settings.model_dump(mode="json"),
        seeds={"pipeline": settings.seed, "training": settings.train.seed},
        simulated=settings.simulated,
        model={"init_from": settings.init_from},
        question="How much closer to the better lens does the network come than Richardson-Lucy?",
    )
    context = Context(settings, run, console.progress)
    for stage in STAGES:
        if stage.name == "acquire" and settings.acquire is None:
            continue
        key = _key(stage, context)
        if run.is_done(stage.name, key):
            console.skipped(stage.name)
            continue
        _run_stage(stage, key, context, console)
    console.finished(judge.question(out / "report" / "metrics.json"), out / "report" / "index.html")
    return out / "report" / "index.html"


def _key(stage: Stage, context: Context) -> str:
    settings = context.settings.model_dump(mode="json")
    own = {name: settings[name] for name in stage.settings}
    files: list[Path] = []
    if stage.name == "illumination":
        files = [*context.tile_files, *([m] if (m := context.settings.illumination.macro) else [])]
    elif stage.name == "match":
        files = context.label_files
    try:
        return fingerprint([__version__, stage.name, own, [context.run.key(need) for need in stage.needs]], files)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} does not exist; correct the setting that names it.") from None


def _run_stage(stage: Stage, key: str, context: Context, console: Console) -> None:
    started = time.perf_counter()
    context.run.start(stage.name, key)
    with console.stage(stage.name), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        facts = stage.run(context)
    for sentence in dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning)):
        console.note(sentence)
    context.run.finish(stage.name, key, time.perf_counter() - started, facts)
    console.done(stage.name, time.perf_counter() - started, facts.get("note", ""))
