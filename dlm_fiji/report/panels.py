"""Further parts of the page in one form: consistency with the input, percent differences, shifts, more fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.measures import block_shifts, percent_difference
from dlm_fiji.micrograph import to_array
from dlm_fiji.report import charts, pictures
from dlm_fiji.report.data_files import write_rows
from dlm_fiji.report.run_record import IMAGES, METHODS, RunRecord

__all__ = ["Panel", "consistency", "further_fields", "percent_differences", "runtime", "shifts"]


@dataclass(frozen=True)
class Panel:
    """One part of the page.

    Attributes
    ----------
    id, title, lead
        Anchor, heading, and the sentence under it.
    strips
        Rows of pictures, each picture ``{"src", "title"}``.
    charts
        Each ``{"title", "src", "alt", "text", "data"}``.
    columns, rows
        A table; texts, the first of a row its head.
    how
        How it was computed.
    data
        Address of the CSV file.
    """

    id: str
    title: str
    lead: str
    strips: list[list[dict[str, str]]] = field(default_factory=list)
    charts: list[dict[str, Any]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    how: str = ""
    data: str | None = None


def consistency(
    record: RunRecord, shown: Mapping[str, np.ndarray], test_area: Mapping[str, Any], folder: Path
) -> Panel | None:
    """SQUIRREL's error maps against the input, and laid over the images."""
    maps = {}
    for name, key in METHODS.items():
        image = record.image(f"evaluate/squirrel_{name}.tif")
        if image is not None and (test_area.get(key) or {}).get("rse") is not None and name in shown:
            maps[name] = to_array(image).astype(np.float64)
    if not maps:
        return None
    top = max(float(np.percentile(np.concatenate([m.ravel() for m in maps.values()]), 99.5)), 1e-12)
    plain, over, table = [], [], []
    for name, values in maps.items():
        figures = test_area[METHODS[name]]
        pictures.save_png(pictures.colour_map(values / top), folder / "images" / f"squirrel_{name}.png")
        laid = pictures.overlay(shown[name], values / top)
        pictures.save_png(laid, folder / "images" / f"squirrel_over_{name}.png")
        title = f"{IMAGES[name]}: RSE {figures['rse']:.2f}, RSP {figures['rsp']:.4f}"
        plain.append({"src": f"images/squirrel_{name}.png", "title": title})
        over.append({"src": f"images/squirrel_over_{name}.png", "title": "the same over the image"})
        table.append((name, f"{figures['rse']:.4f}", f"{figures['rsp']:.5f}", f"{values.mean():.4f}"))
    sharpened = [row for row in table if row[0] not in ("bicubic", "unprocessed")] or table
    best = min(sharpened, key=lambda row: float(row[1]))[0]
    trivial = (
        " Bicubic is the input itself, enlarged: it explains it without showing more." if "bicubic" in maps else ""
    )
    return Panel(
        "consistency",
        "Which image explains the input",
        f"Each image is blurred and scaled until it fits the input as well as it can. Of those that sharpen, "
        f"{IMAGES[best]} leaves the smallest error.{trivial} Bright: what the image shows there is not what the camera "
        f"saw. One scale, 0 to {top:.3g}.",
        strips=[plain, over],
        how="Error maps of NanoJ-SQUIRREL (Culley et al. 2018): α, β and a Gaussian σ fitted, luminance of the "
        "encoded values. A small error does not prove an image right: detail that the blur erases is not seen.",
        data=write_rows(folder / "data" / "squirrel.csv", ["image", "rse", "rsp", "mean_error"], table),
    )


def percent_differences(shown: Mapping[str, np.ndarray], folder: Path) -> Panel | None:
    """Signed difference to the label in percent of its range (000, Fig. S7)."""
    if "label" not in shown:
        return None
    label = pictures.grey(shown["label"])
    strip, table = [], []
    for name in METHODS:
        if name not in shown or shown[name].shape[:2] != label.shape:
            continue
        values = percent_difference(pictures.grey(shown[name]), label)
        image = pictures.colour_map(values / (2 * _PERCENT) + 0.5, "RdBu_r")
        pictures.save_png(image, folder / "images" / f"percent_{name}.png")
        large = float((np.abs(values) > 10).mean())
        strip.append(
            {"src": f"images/percent_{name}.png", "title": f"{IMAGES[name]}: over 10 % in {large:.1%} of the pixels"}
        )
        table.append((name, *(f"{v:.4f}" for v in (values.mean(), np.abs(values).mean(), values.std(), 100 * large))))
    if not strip:
        return None
    return Panel(
        "percent",
        "Percent difference to the label",
        f"Red: brighter than the label, blue: darker; full colour at ±{_PERCENT} % of the label's range.",
        strips=[strip],
        how="100 · (image − label) / (maximum − minimum of the label), luminance, as Fig. S7 of the first paper.",
        data=write_rows(
            folder / "data" / "percent_difference.csv",
            ["image", "mean_percent", "mean_absolute_percent", "std_percent", "over_10_percent_of_pixels"],
            table,
        ),
    )


_PERCENT = 25
_BLOCKS = 5


def shifts(shown: Mapping[str, np.ndarray], folder: Path) -> Panel | None:
    """How far blocks of the output lie from the label's."""
    name = next((n for n in ("network", "richardson_lucy") if n in shown), None)
    if name is None or "label" not in shown or shown[name].shape != shown["label"].shape:
        return None
    if min(shown["label"].shape[:2]) < 16 * _BLOCKS:
        return None
    found = block_shifts(pictures.grey(shown[name]), pictures.grey(shown["label"]), _BLOCKS)
    lengths = np.hypot(found[..., 0], found[..., 1])
    charts.shift_chart(found, shown["label"].shape[:2], folder / "images" / "shifts.svg")
    rows = [(i, j, *np.round(found[i, j], 4)) for i in range(_BLOCKS) for j in range(_BLOCKS)]
    mean = found.mean((0, 1))
    text = (
        f"{IMAGES[name]} against the label in {_BLOCKS} × {_BLOCKS} blocks: {np.sqrt((lengths**2).mean()):.2f} px RMS, "
        f"{lengths.max():.2f} px at most; on average y {mean[0]:+.2f}, x {mean[1]:+.2f} px. "
        "What is left of registration counts against every image in the figures."
    ).replace(" -", " −")
    chart = {
        "title": "Shift of each block",
        "src": "images/shifts.svg",
        "alt": "Arrows of the shifts between output and label",
        "text": text,
        "data": write_rows(folder / "data" / "shifts.csv", ["block_row", "block_column", "dy_px", "dx_px"], rows),
    }
    return Panel("shifts", "How well label and output lie on each other", "", charts=[chart])


def further_fields(record: RunRecord, metrics: Mapping[str, Any], folder: Path) -> Panel | None:
    """Every test field but the first: its images and figures."""
    fields = metrics.get("further_test_fields") or []
    strips, table = [], []
    for number, figures in enumerate(fields, start=1):
        images = {name: record.image(f"evaluate/field_{number:02d}/{name}.tif") for name in IMAGES}
        shown, _ = pictures.display_images({name: image for name, image in images.items() if image is not None})
        strip = []
        for name, image in shown.items():
            src = f"images/field_{number:02d}_{name}.png"
            pictures.save_png(image, folder / src)
            # "label" is the label's file name there.
            ssim = figures[name].get("ssim") if isinstance(figures.get(name), dict) else None
            strip.append({"src": src, "title": IMAGES[name] + ("" if ssim is None else f": SSIM {ssim:.4f}")})
            if ssim is not None:
                table.append((str(figures.get("label") or number), name, ssim, figures[name].get("psnr_db")))
        if strip:
            strips.append(strip)
    if not strips:
        return None
    scores: dict[str, list[float]] = {}
    for _, name, ssim, _ in table:
        scores.setdefault(name, []).append(ssim)
    means = "; ".join(f"{IMAGES[name]} {np.mean(values):.4f}" for name, values in scores.items())
    return Panel(
        "fields",
        "The other test fields",
        f"{len(strips)} further field{'s' if len(strips) > 1 else ''} that no training saw. Mean SSIM: {means}.",
        strips=strips,
        how="Richardson–Lucy keeps the iterations that were best for the first field.",
        data=write_rows(folder / "data" / "fields.csv", ["label", "image", "ssim", "psnr_db"], table),
    )


def runtime(record: RunRecord, folder: Path) -> Panel | None:
    """Seconds by image size."""
    rows = [row for row in record.table("measures/runtime.csv") if isinstance(row.get("pixels"), float)]
    if not rows:
        return None
    twice = any(row.get("seconds_self_feeding") is not None for row in rows)
    columns = ["Input", "Network (s)", "Megapixels a second", *(["Network ×2, self-feeding (s)"] if twice else [])]
    table = []
    for row in rows:
        side, seconds = int(row["pixels"]), row["seconds"]
        cells = [f"{side} × {side} px", f"{seconds:.3f}", f"{side * side / seconds / 1e6:.2f}"]
        if twice:
            again = row.get("seconds_self_feeding")
            cells.append("–" if again is None else f"{again:.3f}")
        table.append(cells)
    names = ["pixels", "seconds", "seconds_self_feeding"]
    data = write_rows(folder / "data" / "runtime.csv", names, [[row.get(n) for n in names] for row in rows])
    lead = "Seconds that the network takes for a square input, on the machine of this run."
    return Panel("runtime", "Time by image size", lead, columns=columns, rows=table, data=data)
