"""``write_summary``: one page over several runs, with a link to the page of each specimen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji import __version__
from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import atomic_write
from dlm_fiji.report import charts, verdict
from dlm_fiji.report.area_sections import measured_on
from dlm_fiji.report.data_files import write_rows
from dlm_fiji.report.figures_of_merit import MEASURED_ON, figures_of_merit
from dlm_fiji.report.making_sections import matrix_of
from dlm_fiji.report.page import copy_assets, render, write_report
from dlm_fiji.report.run_record import IMAGES, METHODS, RunRecord

__all__ = ["write_summary"]


def write_summary(
    run_dirs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, paper: bool = False
) -> Path:
    """Write the reports of several runs and one page over them.

    Parameters
    ----------
    run_dirs
        The folders of the runs, one a specimen.
    out
        The folder of the summary page, new or the summary of before. ``all.html`` means the folder ``all``: a page
        needs its style sheet beside it.
    paper
        Passed on to :func:`write_report`.

    Returns
    -------
    pathlib.Path
        ``out/index.html``.

    Raises
    ------
    InputError
        No run was given, one is no run folder, or ``out`` holds something else.
    """
    if not run_dirs:
        raise InputError("A summary needs at least one run folder.")
    out = Path(out)
    if out.suffix.lower() == ".html":
        out = out.with_suffix("")
    if out.exists() and not (out / "summary.csv").is_file() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"{out} holds something else; choose a new or empty folder for the summary.")
    runs = []
    for run_dir in run_dirs:
        page = write_report(run_dir, paper=paper)
        record = RunRecord(Path(run_dir))
        runs.append((record, figures_of_merit(record), page))
    shown = [name for name, key in METHODS.items() if any(m["test_area"].get(key) for _, m, _ in runs)]
    rows = [_row(record, metrics, page, shown, out) for record, metrics, page in runs]
    means = []
    for name in shown:
        values = [m["test_area"].get(METHODS[name], {}).get("ssim") for _, m, _ in runs]
        known = [value for value in values if value is not None]
        means.append(f"{np.mean(known):.4f}" if known else "–")
    with atomic_write(out) as folder:
        folder.mkdir()
        copy_assets(folder)
        columns = ["specimen", "simulated", *(f"{name}_{m}" for name in shown for m in ("ssim", "psnr_db"))]
        write_rows(folder / "summary.csv", columns, [row["data"] for row in rows])
        context: dict[str, Any] = {
            "headline": _headline([metrics["test_area"] for _, metrics, _ in runs]),
            "rows": rows,
            "columns": [{"title": IMAGES[name], "colour": charts.COLOURS[name]} for name in shown],
            "means": means,
            "cross": _matrix([record for record, _, _ in runs], folder),
            "simulated": sum(record.simulated for record, _, _ in runs),
            "measured_on": "; ".join(dict.fromkeys(measured_on(m) for _, m, _ in runs if m["test_area"]))
            or MEASURED_ON,
            "version": __version__,
        }
        (folder / "index.html").write_text(render("summary.html.j2", context), encoding="utf-8")
    return out / "index.html"


def _row(record: RunRecord, metrics: dict[str, Any], page: Path, shown: list[str], out: Path) -> dict[str, Any]:
    area = metrics["test_area"]
    order = verdict.ranking(area)
    cells, data = [], []
    for name in shown:
        figures = area.get(METHODS[name]) or {}
        ssim, psnr = figures.get("ssim"), figures.get("psnr_db")
        cells.append(
            {
                "ssim": "–" if ssim is None else f"{ssim:.4f}",
                "psnr": "" if psnr is None else f"{psnr:.2f} dB",
                "best": bool(order) and order[0][0] == name,
            }
        )
        data += [ssim, psnr]
    title = str(record.run.get("specimen") or record.run.get("preset") or record.path.resolve().name)
    return {
        "title": title,
        "link": Path(os.path.relpath(page, out)).as_posix(),
        "simulated": record.simulated,
        "cells": cells,
        "data": [title, record.simulated, *data],
    }


def _matrix(records: Sequence[RunRecord], folder: Path) -> dict[str, Any] | None:
    """The matrices of all runs as one; several models or none."""
    rows = [row for record in records for row in record.table("measures/cross_matrix.csv")]
    found = matrix_of(rows)
    if found is not None:
        columns = ["model", "specimen", "ssim"]
        write_rows(folder / "cross_matrix.csv", columns, [[row.get(c) for c in columns] for row in rows])
    return found


def _headline(areas: Sequence[dict[str, Any]]) -> str:
    # A network before fine-tuning shows what fine-tuning brought; it does not compete.
    orders = [[name for name, _ in verdict.ranking(area) if name != "network_before"] for area in areas]
    wins = [order[0] for order in orders if order]
    if not wins:
        return "None of the runs has figures."
    count = {name: wins.count(name) for name in dict.fromkeys(wins)}
    if len(wins) == 1:
        return f"{IMAGES[wins[0]]} is closest to the label on the one specimen."
    parts = [f"{IMAGES[name]} on {number}" for name, number in sorted(count.items(), key=lambda item: -item[1])]
    return f"Closest to the label by SSIM, of {len(wins)} specimens: {', '.join(parts)}."
