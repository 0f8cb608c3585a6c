"""The rival and the verdict: deconvolve, evaluate, report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.micrograph import atomic_write, from_array, open_image, pixel_size_um, save_image, write_json
from dlm_fiji.pipeline.context import Context, as_rgb8
from dlm_fiji.pipeline.learn import field_pair, read_fields
from dlm_fiji.registration.sampling import resample
from dlm_fiji.steps.brightfield_lucy import brightfield_psf, deconvolve_brightfield, search_brightfield
from dlm_fiji.steps.comparison import BORDER, apply_gains, area_measures, compare_regions

__all__ = ["deconvolve", "evaluate", "question", "report"]

MARGIN = 24
"""Mosaic pixels around the test area that Richardson-Lucy sees, so that no border is near the judged pixels."""


def deconvolve(context: Context) -> dict[str, Any]:
    """Richardson-Lucy at its best: true optics and camera pixel, iterations chosen with the test label itself.

    That choice favours the rival: nobody has the label in practice.
    """
    settings, scale = context.settings.deconvolve, context.settings.scale
    mosaic = as_rgb8(context.image("stitch", "mosaic.tif"))
    pixel = pixel_size_um(open_image(context.run.path / "stitch" / "mosaic.tif"))
    camera = pixel[0] if pixel is not None else context.settings.input.pixel_um
    if camera is None:
        from dlm_fiji.errors import InputError

        raise InputError("The tiles carry no pixel size, which Richardson-Lucy needs; set [input] pixel_um.")
    psfs = [
        brightfield_psf(settings.na, settings.condenser_na, wavelength, camera / scale, camera)
        for wavelength in settings.wavelengths_um
    ]
    field = read_fields(context, "test")[0]
    label = field_pair(context, field["index"])[1]
    around, inside = _with_margin(mosaic, field["rectangle"], scale)
    done = 0

    def score(estimate: NDArray[np.uint8]) -> float:
        nonlocal done
        done += 1
        context.progress(done, settings.iterations, "iterations")
        return area_measures(estimate[inside], label)["ssim"]

    gains, engine = _gains(context), context.settings.engine
    rival = search_brightfield(around, psfs, scale, settings.iterations, score, gains, engine)
    folder = context.run.folder("deconvolve")
    with atomic_write(folder / "search.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["iterations", "ssim"])
        writer.writerows((number, f"{value:.6f}") for number, value in rival.scores)
    *_, whole = deconvolve_brightfield(mosaic, psfs, scale, rival.iterations, gains)
    facts = context.provenance("deconvolve", **{**settings.model_dump(), "iterations": rival.iterations})
    hr_pixel = camera / scale
    save_image(from_array(rival.image[inside], hr_pixel), folder / "test_area.tif", provenance=facts)
    save_image(from_array(whole, hr_pixel), folder / "mosaic_deconvolved.tif", provenance=facts)
    edge = "; the search ended at its last iteration" if rival.iterations == settings.iterations else ""
    return {
        "engine": "native" if engine == "native" else "DeconvolutionLab2 (test area), native (whole mosaic)",
        "iterations": rival.iterations,
        "note": f"best of {len(rival.scores)} numbers up to {settings.iterations}: {rival.iterations} iterations, "
        f"chosen with the test label{edge}",
    }


def evaluate(context: Context) -> dict[str, Any]:
    """SSIM and PSNR of bicubic, Richardson-Lucy and network on the held-out area, and its images as files."""
    scale = context.settings.scale
    mosaic = as_rgb8(context.image("stitch", "mosaic.tif"))
    bicubic = np.rint(np.clip(resample(mosaic.astype(np.float32), scale), 0, 255)).astype(np.uint8)
    gains = _gains(context)
    whole = {
        "bicubic": apply_gains(bicubic, gains),
        "richardson_lucy": as_rgb8(context.image("deconvolve", "mosaic_deconvolved.tif")),
        "network": as_rgb8(context.image("predict", "mosaic_enhanced.tif")),
    }
    if (context.run.path / "predict" / "mosaic_before.tif").is_file():
        before = as_rgb8(context.image("predict", "mosaic_before.tif"))
        whole["network_before"] = apply_gains(before, gains)
    fields = read_fields(context, "test")
    iterations = context.run.record["stages"]["deconvolve"]["iterations"]
    results = []
    for number, field in enumerate(fields):
        lr, label = field_pair(context, field["index"])
        images = {name: _cut(image, field["rectangle"], scale) for name, image in whole.items()}
        if number == 0:
            images["richardson_lucy"] = context.image("deconvolve", "test_area.tif")
        folder = (
            context.run.folder("evaluate") if number == 0 else context.run.folder("evaluate") / f"field_{number:02d}"
        )
        _save_area(context, folder, {**images, "label": label}, lr)
        results.append({"label": field["label"], "rectangle": field["rectangle"], **compare_regions(images, label)})
    first = results[0]
    first["richardson_lucy"]["iterations"] = iterations
    untuned = first.pop("network_before", None)
    metrics: dict[str, Any] = {
        "test_area": {name: first[name] for name in ("bicubic", "richardson_lucy", "network")},
        "brightness": "bicubic, Richardson-Lucy and the untuned network get the label's brightness: one gain a "
        "channel in linear light, from the training fields",
        "gains": gains,
        "measured_on": f"luminance Y of 8-bit RGB, data range 255, {BORDER} px border left out",
        "area": {"label": first["label"], "rectangle_px": first["rectangle"]},
        "simulated": context.settings.simulated,
    }
    if untuned is not None:
        metrics["test_area"]["network_before_fine_tuning"] = untuned
    if len(results) > 1:
        metrics["further_test_fields"] = results[1:]
    write_json(context.run.path / "evaluate" / "metrics.json", metrics)
    shown = ", ".join(
        f"{name.replace('_', '-')} {first[name]['ssim']:.4f}" for name in metrics["test_area"] if name in first
    )
    return {"engine": "native", "note": f"SSIM {shown}"}


def report(context: Context) -> dict[str, Any]:
    """The HTML report and ``metrics.json``."""
    from dlm_fiji.report import write_report

    page = write_report(context.run.path)
    return {"engine": "native", "note": str(page)}


def question(metrics: Path) -> str:
    """The verdict in one line, for the console."""
    area = json.loads(metrics.read_text(encoding="utf-8"))["test_area"]
    names = {"bicubic": "bicubic", "richardson_lucy": "Richardson-Lucy", "network": "network"}
    order = sorted(names, key=lambda name: -area[name]["ssim"])
    parts = [f"{names[n]} {area[n]['ssim']:.4f} / {area[n]['psnr_db']:.2f} dB" for n in order]
    return f"best on the held-out area by SSIM: {'; '.join(parts)}"


def _gains(context: Context) -> list[float]:
    return json.loads((context.run.path / "register" / "gains.json").read_text(encoding="utf-8"))


def _with_margin(mosaic: NDArray[np.uint8], rectangle: list[int], scale: float) -> tuple[NDArray[np.uint8], Any]:
    """The mosaic around a rectangle, and the slices of the rectangle in the enlarged cut."""
    y0, x0, y1, x1 = rectangle
    top, left = max(0, y0 - MARGIN), max(0, x0 - MARGIN)
    cut = mosaic[top : y1 + MARGIN, left : x1 + MARGIN]
    rows = slice(round((y0 - top) * scale), round((y1 - top) * scale))
    columns = slice(round((x0 - left) * scale), round((x1 - left) * scale))
    return cut, (rows, columns)


def _cut(image: NDArray[np.uint8], rectangle: list[int], scale: float) -> NDArray[np.uint8]:
    y0, x0, y1, x1 = (round(v * scale) for v in rectangle)
    return image[y0:y1, x0:x1]


def _save_area(context: Context, folder: Path, images: dict[str, NDArray[np.uint8]], lr: NDArray[np.uint8]) -> None:
    pixel = pixel_size_um(open_image(context.run.path / "stitch" / "mosaic.tif"))
    hr_pixel = None if pixel is None else (pixel[0] / context.settings.scale, pixel[1] / context.settings.scale)
    facts = context.provenance("evaluate")
    save_image(from_array(lr, pixel), folder / "input.tif", provenance=facts)
    for name, image in images.items():
        save_image(from_array(image, hr_pixel), folder / f"{name}.tif", provenance={**facts, "method": name})
