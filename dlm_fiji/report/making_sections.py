"""The parts of the page that tell how the result was made and how good it is beyond the area."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.micrograph import to_array
from dlm_fiji.report import charts as draw
from dlm_fiji.report import pictures
from dlm_fiji.report.data_files import write_rows
from dlm_fiji.report.run_record import IMAGES, METHODS, RunRecord

__all__ = ["charts", "cross_matrix", "facts", "matrix_of", "resolution", "timings", "toml", "total", "trust"]


def charts(record: RunRecord, folder: Path) -> list[dict[str, Any]]:
    """Training, search, stitching and illumination."""
    found: list[dict[str, Any]] = []
    history = record.table("train/history.csv")
    text = draw.training_chart(history, folder / "images" / "training.svg")
    _add(found, text, "Training", "training.svg", "Training and validation loss against steps",
         _copy(record, "train/history.csv", folder))  # fmt: skip
    search = record.table("deconvolve/search.csv")
    text = draw.search_chart(search, folder / "images" / "search.svg")
    data = _copy(record, "deconvolve/search.csv", folder)
    title = "Richardson–Lucy: search for its best setting"
    _add(found, text, title, "search.svg", "Quality of Richardson–Lucy against its settings", data)
    layout = record.json("stitch/links.json") or {}
    text = draw.stitch_chart(layout, folder / "images" / "stitching.svg")
    if text is not None:
        links = layout.get("links") or []
        columns = ["i", "j", "shift_y_px", "shift_x_px", "correlation", "residual_px", "used"]
        rows = [
            (
                k.get("i"),
                k.get("j"),
                *(k.get("shift") or (None, None))[:2],
                k.get("correlation"),
                k.get("residual"),
                k.get("used"),
            )
            for k in links
        ]
        data = write_rows(folder / "data" / "links.csv", columns, rows)
        _add(found, text, "Stitching", "stitching.svg", "Tiles and their links coloured by residual", data)
    flat = record.image("illumination/flat_field.tif")
    if flat is not None:
        values = to_array(flat).astype(np.float64)
        values = values.mean(axis=2) if values.ndim == 3 else values
        spread = values / max(values.max(), 1e-12)
        shown = pictures.colour_map((spread - spread.min()) / max(np.ptp(spread), 1e-12), "cividis")
        # A smooth field needs no more pixels than a chart has.
        step = max(1, max(shown.shape[:2]) // 600)
        pictures.save_png(shown[::step, ::step], folder / "images" / "flat_field.png")
        text = "The field that every tile was divided by: the darkest place gets "
        text += f"{100 * spread.min():.0f} % of the brightest."
        _add(found, text, "Illumination", "flat_field.png", "Estimated illumination of one tile", None)
    return found


def resolution(record: RunRecord, folder: Path) -> list[dict[str, Any]]:
    """Bead widths, contrast transfer and depth of field, where they were measured."""
    found: list[dict[str, Any]] = []
    beads = record.table("measures/fwhm.csv")
    groups: dict[str, list[float]] = {}
    for row in beads:
        if isinstance(row.get("fwhm_um"), float):
            groups.setdefault(str(row.get("image")), []).append(row["fwhm_um"])
    if draw.histogram_chart(groups, "full width at half maximum (µm)", folder / "images" / "fwhm.svg"):
        fits = record.json("measures/fwhm.json") or {}
        parts = []
        for name, values in groups.items():
            fit = fits.get(name) or {}
            mean = fit.get("mean_um", float(np.mean(values)))
            limits_um = [f"{fit[key]:.3f}" for key in ("low_um", "high_um") if fit.get(key) is not None]
            # The label of equal simulated beads has no spread.
            interval = f" (95 %: {' to '.join(limits_um)})" if len(set(limits_um)) == 2 else ""
            parts.append(f"{IMAGES.get(name, name)} {mean:.3f} µm{interval}, {len(values)} beads")
        text = "Gaussian fits to isolated beads: " + "; ".join(parts) + "."
        _add(
            found,
            text,
            "Bead widths",
            "fwhm.svg",
            "Histograms of bead widths",
            _copy(record, "measures/fwhm.csv", folder),
        )
    mtf = record.table("measures/mtf.csv")
    axis = ("spatial frequency (cycles/mm)", "contrast")
    if draw.curves_chart(mtf, "cycles_per_mm", axis, folder / "images" / "mtf.svg", log=True):
        limits = []
        for name in [n for n in mtf[0] if n != "cycles_per_mm"]:
            seen = [r["cycles_per_mm"] for r in mtf if isinstance(r.get(name), float) and r[name] > 0]
            if seen:
                limits.append(f"{IMAGES.get(name, name)} to {max(seen):.0f}")
        text = f"Michelson contrast of bars; some contrast is left up to (cycles/mm): {', '.join(limits)}."
        _add(found, text, "Contrast transfer", "mtf.svg", "Contrast against spatial frequency",
             _copy(record, "measures/mtf.csv", folder))  # fmt: skip
    depth = record.table("measures/depth_of_field.csv")
    if draw.curves_chart(
        depth, "defocus_um", ("defocus (µm)", "SSIM to the label in focus"), folder / "images" / "depth.svg"
    ):
        text = "Similarity to the label in focus as the specimen leaves the focus."
        widths = record.json("measures/depth_of_field.json") or {}
        if widths.get("depth_um"):
            listed = ", ".join(f"{IMAGES.get(n, n)} {value:.1f} µm" for n, value in widths["depth_um"].items())
            text += f" Range over which SSIM stays above {widths['level']:.3f}: {listed}."
        data = _copy(record, "measures/depth_of_field.csv", folder)
        _add(found, text, "Depth of field", "depth.svg", "SSIM against defocus", data)
    contrast = record.table("measures/defocus_contrast.csv")
    axis = ("defocus (µm)", "standard deviation, label in focus = 1")
    if draw.curves_chart(contrast, "defocus_um", axis, folder / "images" / "defocus_contrast.svg"):
        text = "Contrast of the whole image as the specimen leaves the focus, whether right or invented."
        data = _copy(record, "measures/defocus_contrast.csv", folder)
        _add(found, text, "Contrast out of focus", "defocus_contrast.svg", "Contrast against defocus", data)
    return found


_FLAGGED = (230, 120, 0)
_TRUST = {
    "regions": "Regions judged",
    "flagged_share": "Flagged regions",
    "contradicted_share": "Regions that deviate beyond noise by any amount",
    "tolerance_share": "Smallest deviation that is flagged, of the brightness there",
    "expected_share_from_noise": "Expected from noise alone",
    "threshold": "Flagged above (standard deviations)",
    "chi2": "Mean squared residual in units of the noise (1: only noise is left)",
    "uncheckable_share_mean": "Local contrast that cannot be checked with this lens",
}


def trust(record: RunRecord, folder: Path) -> dict[str, Any] | None:
    """What the judgement without a label found."""
    content = record.json("trust/trust.json")
    if not isinstance(content, dict):
        return None
    threshold = content.get("threshold")
    level = float(threshold) if isinstance(threshold, (int, float)) else 4.0
    shown = []
    significance = record.image("trust/map.tif")
    if significance is not None:
        values = np.abs(to_array(significance).astype(np.float64))
        values = values.max(axis=2) if values.ndim == 3 else values
        values = np.nan_to_num(values)
        # Where a lens model errs, every pixel is beyond the threshold, and a scale that ends there shows nothing.
        top = max(2 * level, float(np.percentile(values, 99)))
        pictures.save_png(pictures.colour_map(values / top), folder / "images" / "trust.png")
        title = f"Significance of the contradiction: black none, yellow {top:.0f} standard deviations and more; noise "
        title += f"stays below {level:.1f}"
        shown.append({"src": "images/trust.png", "title": title})
    deviation = record.image("trust/deviation.tif")
    if deviation is not None:
        values = np.nan_to_num(np.abs(to_array(deviation).astype(np.float64)))
        top = 2 * (content.get("tolerance") or 0.05)
        picture = pictures.colour_map(values / top, "gray")
        title = f"Size of the contradiction: black none, white {100 * top:.0f} % of the brightness there and more"
        flags = record.image("trust/flags.tif")
        if flags is not None:
            picture[to_array(flags) > 0] = _FLAGGED
            title += ". Orange: the flagged regions"
        pictures.save_png(picture, folder / "images" / "deviation.png")
        shown.append({"src": "images/deviation.png", "title": title})
    erased = record.image("trust/uncheckable.tif")
    if erased is not None:
        values = np.nan_to_num(to_array(erased).astype(np.float64))
        values = values.mean(axis=2) if values.ndim == 3 else values
        pictures.save_png(pictures.colour_map(values, "cividis"), folder / "images" / "uncheckable.png")
        shown.append(
            {"src": "images/uncheckable.png", "title": "Detail that cannot be checked: blue 0, yellow all of it"}
        )
    text = str(content.get("sentence") or content.get("text") or "")
    rows = [
        (title, f"{100 * value:.1f} %" if "share" in name else f"{value}" if isinstance(value, int) else f"{value:.4g}")
        for name, title in _TRUST.items()
        if isinstance(value := {**content, "tolerance_share": content.get("tolerance")}.get(name), (int, float))
    ]
    if content.get("judged_by"):
        rows.insert(0, ("Judged by", str(content["judged_by"])))
    controls = {name: c for name, c in (content.get("test_area") or {}).items() if isinstance(c, dict)}
    rows += [
        (
            f"{IMAGES.get(name, name)} in the test area ({c['regions']} regions)",
            f"{100 * c['flagged_share']:.1f} % flagged, {100 * c['contradicted_share']:.1f} % beyond noise",
        )
        for name, c in controls.items()
    ]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "trust.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    curves: list[dict[str, Any]] = []
    axis = ("share of sound regions flagged", "share of faults flagged")
    points = [row for row in record.table("trust/roc.csv") if (row.get("false_alarm") or 0) <= 0.2]
    if draw.curves_chart(points, "false_alarm", axis, folder / "images" / "roc.svg"):
        text_roc = (
            "Structures were inserted into the prediction and erased from it in known places, and the threshold moved."
        )
        _add(curves, text_roc, "Faults found against false alarms", "roc.svg",
             "Receiver operating characteristic of the flag", _copy(record, "trust/roc.csv", folder))  # fmt: skip
    axis = ("detectability d′ (signal over noise of the ideal observer)", "share flagged")
    points = record.table("trust/detectability.csv")
    if draw.curves_chart(points, "d_prime", axis, folder / "images" / "detectability.svg"):
        roc = content.get("roc") or {}
        known = f" With d′ = {roc['d_prime']:g}: {100 * roc['inserted']:.0f} % of the inserted and " if roc else ""
        known += f"{100 * roc['erased']:.0f} % of the erased, {roc['structures']} structures each." if roc else ""
        text_d = f"How strong a fault must be to be found, at the threshold in use and without a tolerance.{known}"
        _add(curves, text_d, "Faults found against their strength", "detectability.svg",
             "Share of structures flagged against their detectability",
             _copy(record, "trust/detectability.csv", folder))  # fmt: skip
    return {"text": text, "pictures": shown, "rows": rows, "charts": curves}


def cross_matrix(record: RunRecord, folder: Path) -> dict[str, Any] | None:
    """SSIM of models on specimens."""
    rows = record.table("measures/cross_matrix.csv")
    # One model on one specimen is in the table of figures already.
    if len({row.get("model") for row in rows} - set(METHODS)) < 2 and len({row.get("specimen") for row in rows}) < 2:
        return None
    found = matrix_of(rows)
    if found is not None:
        _copy(record, "measures/cross_matrix.csv", folder)
    return found


def matrix_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A table of models (rows) and specimens (columns) from rows of ``model, specimen, ssim``."""
    rows = [row for row in rows if isinstance(row.get("ssim"), float)]
    if not rows:
        return None
    columns = list(dict.fromkeys(str(row["specimen"]) for row in rows))
    found = {(str(row["model"]), str(row["specimen"])): row["ssim"] for row in rows}
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    return {
        "columns": columns,
        "rows": [
            {"title": IMAGES.get(m, m), "cells": [f"{found[m, c]:.3f}" if (m, c) in found else "–" for c in columns]}
            for m in models
        ],
    }


def timings(record: RunRecord, folder: Path) -> list[dict[str, str]]:
    """Engine, version, time and note of every step."""
    rows = []
    for name, stage in record.stages.items():
        seconds = stage.get("seconds")
        note = str(stage.get("note") or "")
        if stage.get("status") not in (None, "done", "running"):
            note = f"{stage['status']}. {note}".strip()
        # The page is written by the step that would otherwise name itself as unfinished.
        if name == "report" and seconds is None:
            continue
        rows.append(
            {
                "name": name,
                "engine": str(stage.get("engine") or "–"),
                "version": str(stage.get("engine_version") or _own_version(record, stage)),
                "seconds": "–" if seconds is None else f"{seconds:.1f}",
                "note": note,
            }
        )
    if rows:
        write_rows(folder / "data" / "timings.csv", list(rows[0]), [tuple(row.values()) for row in rows])
    return rows


def total(record: RunRecord) -> str:
    """The whole time and the machine."""
    seconds = [stage["seconds"] for stage in record.stages.values() if isinstance(stage.get("seconds"), (int, float))]
    machine = record.run.get("machine") or {}
    where = (
        ", ".join(f"{k} {v}" if k == "cores" else str(v) for k, v in machine.items())
        if isinstance(machine, dict)
        else str(machine)
    )
    if not seconds:
        return ""
    whole = sum(seconds)
    text = f"{whole:.0f} s" if whole < 120 else f"{whole / 60:.1f} min"
    return f"Together {text}{f' on {where}' if where else ''}."


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """Versions, seeds, machine and model as rows."""
    rows: list[tuple[str, str]] = []
    for key in ("model", "seeds", "machine", "versions"):
        content = record.run.get(key)
        if isinstance(content, Mapping):
            rows += [(f"{key}: {name}", _short(value)) for name, value in content.items()]
        elif content not in (None, "", []):
            rows.append((key, _short(content)))
    return rows


def toml(settings: Mapping[str, Any], place: str = "") -> str:
    """Nested settings as TOML that the pipeline reads again; unset ones are left out, as TOML has no null."""
    lines = [
        f"{key} = {_toml_value(value)}"
        for key, value in settings.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    text = "\n".join(lines)
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            name = f"{place}.{key}" if place else str(key)
            inner = toml(value, name)
            if inner:
                text += f"\n\n[{name}]\n{inner}" if not inner.lstrip().startswith("[") else f"\n\n{inner.lstrip()}"
    return text.strip()


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_toml_value(v)}" for k, v in value.items() if v is not None) + "}"
    # Strings, numbers and booleans are written alike in JSON and TOML.
    return json.dumps(value, ensure_ascii=False)


def _own_version(record: RunRecord, stage: Mapping[str, Any]) -> str:
    versions = record.run.get("versions") or {}
    engine = str(stage.get("engine") or "").lower()
    if "torch" in engine and versions.get("torch"):
        return f"PyTorch {versions['torch']}"
    return f"dlm_fiji {versions['dlm_fiji']}" if engine.startswith("native") and versions.get("dlm_fiji") else "–"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _copy(record: RunRecord, name: str, folder: Path) -> str | None:
    source = record.file(name)
    if source is None:
        return None
    (folder / "data").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / "data" / source.name)
    return f"data/{source.name}"


def _add(found: list[dict[str, Any]], text: str | None, title: str, src: str, alt: str, data: str | None) -> None:
    if text is not None:
        found.append({"title": title, "src": f"images/{src}", "alt": alt, "text": text, "data": data})
