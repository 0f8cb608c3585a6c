"""The whole specimen in the viewer: mosaic, Richardson–Lucy and network, of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import open_image, open_region_reader
from dlm_fiji.report import pictures
from dlm_fiji.report.deep_zoom import write_deep_zoom
from dlm_fiji.report.run_record import RunRecord

__all__ = ["LARGEST_WHOLE", "specimen_viewer"]

#: Images with more pixels are cut into deep-zoom tiles: browsers keep a whole image decoded in memory.
LARGEST_WHOLE = 12_000_000

_FILES = {
    "stitch/mosaic": "Input",
    "deconvolve/mosaic_deconvolved": "Richardson–Lucy",
    "predict/mosaic_enhanced": "Network",
}
_ENDINGS = (".tif", ".ome.tif", ".ome.zarr")


def specimen_viewer(record: RunRecord, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What the viewer of the whole specimen shows, and its sentence; None for fewer than two images."""
    images: list[dict[str, Any]] = []
    tiled, pixel = False, None
    for name, title in _FILES.items():
        path = next((p for p in (record.path / f"{name}{ending}" for ending in _ENDINGS) if p.exists()), None)
        if path is None:
            continue
        try:
            with open_region_reader(path) as reader:
                height, width = reader.shape[:2]
                short = "whole_" + name.rpartition("/")[2]
                entry: dict[str, Any] = {"name": short, "title": title, "width": width, "height": height}
                if height * width > LARGEST_WHOLE:
                    zoom = write_deep_zoom(reader, folder / "tiles" / short)
                    entry["zoom"] = {"path": f"tiles/{short}", "tile": zoom["tile"], "levels": zoom["levels"]}
                    tiled = True
                else:
                    image = pictures.display_images({"image": open_image(path)})[0]["image"]
                    pictures.save_png(image, folder / "images" / f"{short}.png")
                    entry["src"] = f"images/{short}.png"
                if not images or width > max(known["width"] for known in images):
                    pixel = reader.pixel_um
                images.append(entry)
        except InputError as error:
            record.missing.append(f"Left out of the whole specimen: {error}")
    if len(images) < 2:
        return None, ""
    width, height = max((entry["width"], entry["height"]) for entry in images)
    marks = []
    area = (record.metrics or {}).get("area") or {}
    rectangle = area.get("rectangle_px")
    mosaic = next((entry for entry in images if entry["title"] == "Input"), None)
    if rectangle and mosaic:
        y0, x0, y1, x1 = (float(v) for v in rectangle)
        f = width / mosaic["width"]
        marks.append(
            {
                "title": "held-out area",
                "x": x0 * f,
                "y": y0 * f,
                "width": (x1 - x0) * f,
                "height": (y1 - y0) * f,
            }
        )
    lead = f"{width} × {height} px at the resolution of the network."
    if marks:
        lead += " The frame is the held-out area that the figures come from."
    if tiled:
        lead += " Shown from JPEG tiles, to look at, not to measure on."
    data = {
        "width": width,
        "height": height,
        "pixel_um": pixel[1] if pixel is not None else None,
        "images": images,
        "left": 0,
        "right": len(images) - 1,
        "marks": marks,
    }
    return data, lead
