"""``write_report``: the page of one run, one folder that opens from disk without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from dlm_fiji import __version__
from dlm_fiji.micrograph import atomic_write, write_json
from dlm_fiji.report import area_sections, making_sections, panels, verdict
from dlm_fiji.report.data_files import write_rows
from dlm_fiji.report.figures_of_merit import figures_of_merit
from dlm_fiji.report.paper_tables import paper_tables
from dlm_fiji.report.run_record import IMAGES, RunRecord
from dlm_fiji.report.specimen import specimen_viewer

__all__ = ["copy_assets", "render", "write_report"]


def write_report(run_dir: str | os.PathLike[str], *, paper: bool = False) -> Path:
    """Write ``run_dir/report``: ``index.html``, its assets, ``metrics.json`` and the data of every figure.

    Parameters
    ----------
    run_dir
        The folder of a run; :mod:`dlm_fiji.report.run_record` says which files are read. Whatever is missing
        is left out, and the page says so in a sentence.
    paper
        Add the papers' tables in their own layout with their figures beside ours.

    Returns
    -------
    pathlib.Path
        ``run_dir/report/index.html``.

    Raises
    ------
    InputError
        ``run_dir`` is no run folder, or images of one area have different sizes.
    SetupError
        The disk is full, or the folder cannot be written to.
    """
    record = RunRecord(Path(run_dir))
    metrics = figures_of_merit(record)
    with atomic_write(record.path / "report") as folder:
        folder.mkdir()
        copy_assets(folder)
        context = _context(record, metrics, folder, paper)
        (folder / "index.html").write_text(render("report.html.j2", context), encoding="utf-8")
        write_json(folder / "metrics.json", metrics)
    return record.path / "report" / "index.html"


def render(template: str, context: Mapping[str, Any]) -> str:
    """A template of this package filled in; every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dlm_fiji.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**context)


def copy_assets(folder: Path) -> None:
    """Script and style sheet beside the page."""
    target = folder / "assets"
    target.mkdir(parents=True, exist_ok=True)
    for asset in (resources.files("dlm_fiji.report") / "assets").iterdir():
        with resources.as_file(asset) as source:
            shutil.copyfile(source, target / asset.name)


def _context(record: RunRecord, metrics: dict[str, Any], folder: Path, paper: bool) -> dict[str, Any]:
    run, area = record.run, record.area
    sections = area_sections.AreaSections(record, metrics, folder)
    headline, support = verdict.answer(metrics["test_area"], sections.words)
    if not verdict.ranking(metrics["test_area"]) and run.get("answer"):
        headline = str(run["answer"])
    context: dict[str, Any] = {
        "name": str(run.get("specimen") or run.get("preset") or record.path.resolve().name),
        "started": str(run.get("started") or "").replace("T", " ")[:16],
        "question": run.get("question") or "",
        "simulated": record.simulated,
        "headline": headline,
        "support": support,
        "cards": sections.cards(),
        "area_viewer": sections.viewer(),
        "area_lead": sections.lead,
        "regions": sections.regions(),
        "detail_of": "label" if "label" in sections.shown else "largest image",
        "profile": sections.profile(),
        "dip": sections.dip(),
        "errors": sections.errors(),
        "figures": sections.table(),
        "trust": making_sections.trust(record, folder),
        "resolution": making_sections.resolution(record, folder),
        "charts": making_sections.charts(record, folder),
        "cross": making_sections.cross_matrix(record, folder),
        "panels": _panels(record, sections, metrics, folder),
        "stages": making_sections.timings(record, folder),
        "total": making_sections.total(record),
        "settings": making_sections.toml(run.get("settings") or {}),
        "command": run.get("command") or "",
        "facts": making_sections.facts(record),
        "tiffs": [name for name in IMAGES if name in area],
        "measured_on": area_sections.measured_on(metrics),
        "version": __version__,
    }
    context["whole_viewer"], context["whole_lead"] = specimen_viewer(record, folder)
    context["paper"] = _paper(record, metrics, sections.size, folder) if paper else []
    context["contents"] = _contents(context)
    context["missing"] = record.missing
    return context


def _panels(
    record: RunRecord, sections: area_sections.AreaSections, metrics: dict[str, Any], folder: Path
) -> list[panels.Panel]:
    found = [
        panels.percent_differences(sections.shown, folder),
        panels.consistency(record, sections.shown, metrics["test_area"], folder),
        panels.shifts(sections.shown, folder),
        panels.further_fields(record, metrics, folder),
        panels.runtime(record, folder),
    ]
    return [panel for panel in found if panel is not None]


def _paper(record: RunRecord, metrics: dict[str, Any], area: str, folder: Path) -> Sequence[Any]:
    run = record.run
    machine = run.get("machine") or {}
    tables = paper_tables(
        metrics["test_area"],
        simulated=record.simulated,
        specimen=str(run.get("specimen") or ""),
        area=area,
        mtf=record.table("measures/mtf.csv"),
        runtime=record.table("measures/runtime.csv"),
        machine=", ".join(str(value) for value in machine.values()) if isinstance(machine, dict) else str(machine),
    )
    for table in tables:
        heads = [title for title, count in table.groups for _ in range(count)]
        columns = [f"{head}: {name}" if head else name for head, name in zip(heads, table.columns, strict=True)]
        write_rows(folder / "data" / f"table_{table.number}.csv", columns, table.rows)
    return tables


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = [
        ("compare", "area_viewer", "Compare"),
        ("regions", "regions", "Zoomed regions"),
        ("errors", "errors", "Error maps"),
        ("figures", "figures", "Figures"),
        ("trust", "trust", "Trust"),
        ("resolution", "resolution", "Resolution"),
        ("whole", "whole_viewer", "Whole specimen"),
        ("making", "charts", "How it was made"),
        ("cross", "cross", "Models and specimens"),
        ("paper", "paper", "The papers' tables"),
        ("timings", "stages", "Steps and times"),
    ]
    parts = [(id, title) for id, key, title in known if context[key]]
    after = next((i + 1 for i, (id, _) in enumerate(parts) if id == "figures"), len(parts))
    parts[after:after] = [(panel.id, _SHORT[panel.id]) for panel in context["panels"]]
    return [*parts, ("again", "Run it again")]


_SHORT = {
    "percent": "Percent difference",
    "consistency": "Consistency",
    "shifts": "Block shifts",
    "fields": "More fields",
    "runtime": "Time by size",
}
