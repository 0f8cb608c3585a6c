"""The parts of the page on the test area: cards, viewer, zoomed regions, profile, error maps, figures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.measures import line_profile
from dlm_fiji.micrograph import pixel_size_um
from dlm_fiji.report import charts, pictures, profiles, verdict
from dlm_fiji.report.data_files import write_rows
from dlm_fiji.report.figures_of_merit import MEASURED_ON
from dlm_fiji.report.run_record import IMAGES, METHODS, RunRecord

__all__ = ["AreaSections", "measured_on"]

_MEASURES = {
    "ssim": "SSIM",
    "psnr_db": "PSNR (dB)",
    "ms_ssim": "MS-SSIM",
    "nrmse": "NRMSE",
    "rse": "RSE",
    "rsp": "RSP",
    "frc_px": "FRC with the label (px)",
    "decorrelation_px": "Decorrelation (px)",
}


class AreaSections:
    """Builds the sections and writes their files; each method gives what the template needs, or nothing."""

    def __init__(self, record: RunRecord, metrics: dict[str, Any], folder: Path) -> None:
        self.record, self.metrics, self.folder = record, metrics, folder
        self.test_area: dict[str, Any] = metrics["test_area"]
        self.shown, self._how_shown = pictures.display_images(record.area) if record.area else ({}, "")
        if "unprocessed" in self.shown:
            # The input has the label's pixels: one picture of it is enough.
            self.shown.pop("input", None)
        self._check_sizes()

    @cached_property
    def reference(self) -> np.ndarray | None:
        """The label, or the largest image where there is none: the coordinates of the section."""
        if "label" in self.shown:
            return self.shown["label"]
        return max(self.shown.values(), key=lambda image: image.shape[0] * image.shape[1], default=None)

    @cached_property
    def pixel(self) -> tuple[float, float] | None:
        """Pixel size of the reference in µm."""
        for name, image in self.record.area.items():
            size = pixel_size_um(image)
            shown = self.shown.get(name)
            fits = shown is not None and self.reference is not None and shown.shape[:2] == self.reference.shape[:2]
            if size is not None and fits:
                return size
        return None

    @property
    def size(self) -> str:
        """Size of the area as the papers write it."""
        if self.reference is None:
            return "–"
        return f"1 image ({self.reference.shape[1]}×{self.reference.shape[0]} pixels)"

    @property
    def words(self) -> str:
        """The area in words."""
        if self.reference is None:
            return "the test area"
        height, width = self.reference.shape[:2]
        return verdict.area_words(height, width, self.pixel, self.held_out)

    @property
    def held_out(self) -> bool:
        """Whether the run itself trained, and so kept this area away from training."""
        return "train" in self.record.stages

    @property
    def lead(self) -> str:
        """The sentence over the viewer."""
        if self.reference is None:
            return ""
        text = f"{self.words[0].upper()}{self.words[1:]}"
        text += "; no pixel of it was used for training." if self.held_out else "."
        if self.record.simulated:
            text += " Simulated instrument."
        return f"{text} {self._how_shown}"

    def cards(self) -> list[dict[str, Any]]:
        """One card a method with its figures; the best is marked."""
        order = [name for name, _ in verdict.ranking(self.test_area) if name != "network_before"]
        found = []
        for name, key in METHODS.items():
            figures = self.test_area.get(key)
            if name == "network_before" or not isinstance(figures, dict) or figures.get("ssim") is None:
                continue
            note = f"{figures['iterations']} iterations, the best for this label" if figures.get("iterations") else ""
            if note and figures.get("iterations_tried") == figures["iterations"]:
                note = f"{figures['iterations']} iterations, as many as were tried: more may be better"
            before = self.test_area.get(METHODS["network_before"])
            if name == "network" and isinstance(before, dict) and before.get("ssim") is not None:
                note = f"{before['ssim']:.3f} before fine-tuning on this specimen"
            psnr = figures.get("psnr_db")
            found.append(
                {
                    "title": IMAGES[name],
                    "ssim": f"{figures['ssim']:.3f}",
                    "psnr": "" if psnr is None else f"{psnr:.2f}",
                    "note": note,
                    "colour": charts.COLOURS[name],
                    "best": name == order[0],
                }
            )
        return found

    def viewer(self) -> dict[str, Any] | None:
        """What the before/after viewer shows; the images as PNG."""
        if self.reference is None or len(self.shown) < 2:
            return None
        height, width = self.reference.shape[:2]
        images = []
        for name, image in self.shown.items():
            pictures.save_png(image, self.folder / "images" / f"{name}.png")
            images.append(
                {
                    "name": name,
                    "title": IMAGES[name],
                    "src": f"images/{name}.png",
                    "width": image.shape[1],
                    "height": image.shape[0],
                }
            )
        names = list(self.shown)
        left = next((n for n in ("richardson_lucy", "input", "unprocessed", "bicubic") if n in names), names[0])
        right = next((n for n in ("network", "label") if n in names and n != left), names[-1])
        return {
            "width": width,
            "height": height,
            "pixel_um": self.pixel[1] if self.pixel is not None else None,
            "images": images,
            "left": names.index(left),
            "right": names.index(right),
        }

    @cached_property
    def _regions(self) -> list[pictures.Region]:
        if self.reference is None or min(self.reference.shape[:2]) < 48:
            return []
        return pictures.detail_regions(self.reference)

    def regions(self) -> list[dict[str, Any]]:
        """Zoomed regions of all images, with a scale bar."""
        found = []
        for number, region in enumerate(self._regions):
            shown = []
            for name, image in self.shown.items():
                assert self.reference is not None
                part = pictures.crop(image, region, self.reference.shape[:2])
                src = f"images/region_{number + 1}_{name}.png"
                pictures.save_png(part, self.folder / src)
                shown.append({"src": src, "title": IMAGES[name]})
            bar = None
            if self.pixel is not None:
                width = region.side * self.pixel[1]
                length = pictures.bar_um(width)
                bar = {"share": round(100 * length / width, 2), "text": f"{length:g} µm"}
            found.append({"x": region.x, "y": region.y, "pictures": shown, "bar": bar})
        return found

    def profile(self) -> dict[str, Any] | None:
        """Luminance along a line through the first region where the label varies most."""
        if not self._regions or "label" not in self.shown:
            return None
        label = pictures.grey(self.shown["label"])
        # The row is chosen on the label alone, like the regions.
        best = max(self._regions, key=lambda r: label[r.y : r.y + r.side, r.x : r.x + r.side].std())
        rows = label[best.y : best.y + best.side, best.x : best.x + best.side]
        row = best.y + int(np.argmax(np.abs(np.diff(rows, axis=1)).sum(axis=1)))
        lines = {
            name: pictures.grey(image)[row, best.x : best.x + best.side]
            for name, image in self.shown.items()
            if image.shape[:2] == label.shape and name != "network_before"
        }
        step, unit = (self.pixel[1], "µm") if self.pixel is not None else (1.0, "px")
        charts.profile_chart(lines, step, unit, self.folder / "images" / "profile.svg")
        return {
            "title": "A line through fine detail",
            "src": "images/profile.svg",
            "alt": "Luminance of the images along one line",
            "text": f"Row y {row}, x {best.x} to {best.x + best.side} px of the area: the row of strongest "
            "edges in the label within the zoomed regions.",
            "data": self._profile_data("profile.csv", lines, step, unit),
        }

    def dip(self) -> dict[str, Any] | None:
        """Contrast of the dip between two near structures of the label, in every image."""
        if not self._regions or "label" not in self.shown:
            return None
        label = pictures.grey(self.shown["label"])
        # Structures are dark on a bright ground or bright on a dark one; the contrast is taken of what stands out.
        dark = bool(np.median(label) > 0.5 * (label.min() + label.max()))
        place = profiles.nearest_pair(255 - label if dark else label, self._regions, self._input_ratio)
        if place is None:
            return None
        lines, dips = {}, {}
        for name, image in self.shown.items():
            if image.shape[:2] == label.shape and name != "network_before":
                values = pictures.grey(image)
                found = line_profile(255 - values if dark else values, place.start, place.end, width=3)
                lines[name], dips[name] = found.values, profiles.dip_at(found.values, place.peaks)
        step, unit = (self.pixel[1], "µm") if self.pixel is not None else (1.0, "px")
        axis = "255 − luminance (grey levels)" if dark else "luminance Y (grey levels)"
        charts.profile_chart(lines, step, unit, self.folder / "images" / "dip.svg", axis)
        listed = ", ".join(f"{IMAGES[name]} {value:.2f}" for name, value in sorted(dips.items(), key=lambda d: -d[1]))
        apart = (place.peaks[1] - place.peaks[0]) * step
        return {
            "title": "Two structures near each other",
            "src": "images/dip.svg",
            "alt": "Profiles across two near structures",
            "text": f"Two structures of the label {apart:.3g} {unit} apart ({place.where}). Contrast of the dip "
            f"between them, at the label's places: {listed}. Rayleigh's limit is 0.15; 0: not resolved. "
            "Mean over 3 px across; the line was chosen on the label alone.",
            "data": self._profile_data("dip.csv", lines, step, unit),
        }

    @property
    def _input_ratio(self) -> float:
        """Label pixels in a pixel of the input."""
        if self.reference is None or "input" not in self.shown:
            return 1.0
        return self.reference.shape[0] / self.shown["input"].shape[0]

    def _profile_data(self, file: str, lines: dict[str, np.ndarray], step: float, unit: str) -> str:
        columns = [f"distance_{'um' if unit == 'µm' else 'px'}", *lines]
        cells = zip(*[np.round(line, 3).tolist() for line in lines.values()], strict=True)
        rows = [(round(i * step, 6), *values) for i, values in enumerate(cells)]
        return write_rows(self.folder / "data" / file, columns, rows)

    def errors(self) -> dict[str, Any] | None:
        """Error maps with one scale."""
        if "label" not in self.shown:
            return None
        label = self.shown["label"]
        maps, top = pictures.error_maps(self.shown, label)
        if not maps:
            return None
        shown = []
        for name, image in maps.items():
            src = f"images/error_{name}.png"
            pictures.save_png(image, self.folder / src)
            mean = float(np.abs(pictures.grey(self.shown[name]) - pictures.grey(label)).mean())
            shown.append({"src": src, "title": IMAGES[name], "mean": f"{mean:.2f}"})
        colours = pictures.colour_map(np.linspace(0, 1, 9)).tolist()
        ramp = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in colours)
        return {"pictures": shown, "top": f"{top:.0f}", "ramp": ramp}

    def table(self) -> dict[str, Any] | None:
        """All figures of all images, and what they gain on bicubic and Richardson–Lucy."""
        entries = {name: self.test_area[key] for name, key in METHODS.items() if self.test_area.get(key)}
        if not entries:
            return None
        measures = [m for m in _MEASURES if any(figures.get(m) is not None for figures in entries.values())]
        colour = any(figures.get("cie94") for figures in entries.values())
        order = verdict.ranking(self.test_area)
        rivals = [name for name in ("unprocessed", "bicubic", "richardson_lucy") if name in entries]
        rows: list[dict[str, Any]] = []
        for name, figures in entries.items():
            cells = [_text(figures.get(m), 2 if m.endswith(("_db", "_px")) else 4) for m in measures]
            if colour:
                found = figures.get("cie94") or {}
                cells.append(f"{_text(found.get('mean'), 2)} ± {_text(found.get('std'), 2)}")
            for rival in rivals:
                base = (entries.get(rival) or {}).get("ssim")
                own = figures.get("ssim")
                gain = None if rival == name or base is None or own is None else own - base
                cells.append("" if gain is None else f"{gain:+.4f}".replace("-", "−"))
            title = IMAGES[name] + (f", {figures['iterations']} iterations" if figures.get("iterations") else "")
            rows.append(
                {
                    "title": title,
                    "cells": cells,
                    "colour": charts.COLOURS[name],
                    "best": bool(order) and name == order[0][0],
                }
            )
        columns = [_MEASURES[m] for m in measures] + (["CIE-94, mean ± std"] if colour else [])
        words = {"unprocessed": "the input", "bicubic": "bicubic", "richardson_lucy": "Richardson–Lucy"}
        columns += [f"SSIM gain on {words[rival]}" for rival in rivals]
        data = [(row["title"], *(cell.replace("−", "-") for cell in row["cells"])) for row in rows]
        write_rows(self.folder / "data" / "figures.csv", ["image", *columns], data)
        how = f"{measured_on(self.metrics)}, against the label"
        if self.metrics.get("brightness"):
            brightness = str(self.metrics["brightness"]).rstrip(".")
            how += f". Brightness: {brightness}"
        further = self.metrics.get("further_test_fields") or []
        extra = f" The {len(further)} other test fields have figures of their own below." if further else ""
        return {
            "columns": columns,
            "rows": rows,
            "how": f"{how}.{extra}",
        }

    def _check_sizes(self) -> None:
        if "label" not in self.shown:
            return
        height, width = self.shown["label"].shape[:2]
        for name in METHODS:
            image = self.shown.get(name)
            if image is not None and image.shape[:2] != (height, width):
                raise InputError(
                    f"evaluate/{name}.tif is {image.shape[1]} × {image.shape[0]} px and evaluate/label.tif "
                    f"{width} × {height} px; they must show the same area."
                )


def measured_on(metrics: Mapping[str, Any]) -> str:
    """How the figures were measured: as the evaluation says, where it says more than which pixels."""
    given = str(metrics.get("measured_on") or "")
    text = given.rstrip(".") if "SSIM" in given else MEASURED_ON
    return f"{text[0].upper()}{text[1:]}"


def _text(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "–"
