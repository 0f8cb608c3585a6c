"""The rival and the verdict: deconvolve, evaluate, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, open_image, pixel_size_um, save_image, to_array, write_json
from dlm_fiji.pipeline.area import save_area, save_table
from dlm_fiji.pipeline.assemble import FLAT
from dlm_fiji.pipeline.context import Context, as_rgb8, open_alike
from dlm_fiji.pipeline.learn import field_pair, read_fields
from dlm_fiji.pipeline.trusting import write_trust
from dlm_fiji.steps.brightfield_lucy import brightfield_psf, deconvolve_brightfield, search_brightfield
from dlm_fiji.steps.brightfield_trust import BrightfieldTiles
from dlm_fiji.steps.comparison import BORDER, apply_gains, area_measures, enlarged_bicubic

__all__ = ["deconvolve", "evaluate", "question", "report", "trust"]

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
    save_table(folder / "search.csv", ["iterations", "ssim"], rival.scores)
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
    """Figures of bicubic, Richardson-Lucy and network on the held-out areas, and their images as files."""
    scale = context.settings.scale
    mosaic = as_rgb8(context.image("stitch", "mosaic.tif"))
    bicubic = enlarged_bicubic(mosaic, scale)
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
    pixel = pixel_size_um(open_image(context.run.path / "stitch" / "mosaic.tif"))
    hr_pixel = None if pixel is None else (pixel[0] / scale, pixel[1] / scale)
    results = []
    for number, field in enumerate(fields):
        lr, label = field_pair(context, field["index"])
        images = {name: _cut(image, field["rectangle"], scale) for name, image in whole.items()}
        if number == 0:
            images["richardson_lucy"] = context.image("deconvolve", "test_area.tif")
        folder = (
            context.run.folder("evaluate") if number == 0 else context.run.folder("evaluate") / f"field_{number:02d}"
        )
        figures = save_area(folder, images, label, lr, pixel, hr_pixel, {"": context.provenance("evaluate")})
        results.append({"label": field["label"], "rectangle": field["rectangle"], **figures})
    first = results[0]
    first["richardson_lucy"] |= {"iterations": iterations, "iterations_tried": context.settings.deconvolve.iterations}
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


def trust(context: Context) -> dict[str, Any]:
    """The network's output judged by the raw tiles, without a label; the label and the rivals as controls."""
    settings, scale = context.settings.trust, context.settings.scale
    tiles = _raw_tiles(context)
    test = read_fields(context, "test")[0]
    enhanced = as_rgb8(context.image("predict", "mosaic_enhanced.tif"))
    height, width = round(enhanced.shape[0] / scale), round(enhanced.shape[1] / scale)
    part = [0, 0, height, width]
    if height * width > settings.largest:
        part = _around(test["rectangle"], tiles.trim, height, width)
    prediction, corner = _cut(enhanced, part, scale), (part[0], part[1])
    controls = {
        name: as_rgb8(context.image("evaluate", f"{name}.tif"))
        for name in ("label", "richardson_lucy", "network", "bicubic")
    }
    note = write_trust(
        context.run.folder("trust"),
        tiles,
        prediction,
        corner,
        controls,
        (test["rectangle"][0], test["rectangle"][1]),
        settings,
        context.provenance("trust"),
        context.settings.seed,
    )
    return {"engine": "native", "note": note}


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


def _raw_tiles(context: Context) -> BrightfieldTiles:
    """The tiles as the camera gave them, where stitching placed them."""
    optics = context.settings.deconvolve
    layout = json.loads((context.run.path / "stitch" / "links.json").read_text(encoding="utf-8"))
    images = open_alike(context.tile_files, context.settings.input.pixel_um, "Tile")
    pixel = pixel_size_um(images[0])
    assert pixel is not None, "checked when Richardson-Lucy ran"
    flat = context.run.path / "illumination" / FLAT
    return BrightfieldTiles(
        tiles=[as_rgb8(to_array(image)) for image in images],
        positions=np.array(layout["positions"]) - np.array(layout["origin"]),
        na=optics.na,
        condenser_na=optics.condenser_na,
        wavelengths_um=optics.wavelengths_um,
        camera_um=pixel[0],
        scale=context.settings.scale,
        flat_field=np.atleast_3d(to_array(open_image(flat))) if flat.is_file() else None,
    )


def _around(rectangle: list[int], margin: int, height: int, width: int) -> list[int]:
    """A rectangle with a margin, within the mosaic and beginning on even pixels, as the network's grid wants it."""
    y0, x0, y1, x1 = rectangle
    low = [max(0, v - margin) // 2 * 2 for v in (y0, x0)]
    return [*low, min(height, y1 + margin) // 2 * 2, min(width, x1 + margin) // 2 * 2]
