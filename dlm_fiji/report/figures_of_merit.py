"""The figures of the test area: read from the run, or measured here, and written to ``metrics.json``.

``metrics.json`` is ``{"test_area": {"bicubic": {"ssim": …, "psnr_db": …}, "richardson_lucy": {…,
"iterations": …}, "network": {…}}, "engines": {stage: …}, "seconds": {stage: …}}`` and whatever else the
evaluation wrote. SSIM (Gaussian window 11, σ 1.5, data range 255) and PSNR are taken on the luminance Y of
8-bit RGB, a border of 20 px left out, so that anyone can recompute them from ``evaluate/*.tif``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import to_array
from dlm_fiji.report.run_record import METHODS, RunRecord

__all__ = ["BORDER", "MEASURED_ON", "figures_of_merit"]

BORDER = 20
MEASURED_ON = (
    "SSIM (Gaussian window of 11 px, σ 1.5, data range 255) and PSNR on the luminance Y of the 8-bit RGB "
    f"images, a border of {BORDER} px left out"
)


def figures_of_merit(record: RunRecord) -> dict[str, Any]:
    """The content of ``metrics.json`` for a run."""
    content = dict(record.metrics or {})
    if not content.get("test_area"):
        content["test_area"] = _measured(record)
    stages = record.stages
    content["engines"] = {
        name: " ".join(str(part) for part in (stage.get("engine"), stage.get("engine_version")) if part)
        for name, stage in stages.items()
        if stage.get("engine")
    }
    content["seconds"] = {name: stage["seconds"] for name, stage in stages.items() if stage.get("seconds") is not None}
    content.setdefault("simulated", record.simulated)
    return content


def _measured(record: RunRecord) -> dict[str, dict[str, Any]]:
    """SSIM and PSNR from the images themselves, for folders that no evaluation has filled."""
    from dlm_fiji.measures import luminance, psnr, ssim

    label = record.area.get("label")
    if label is None:
        return {}
    reference = to_array(label)
    found = {}
    for name, key in METHODS.items():
        if name not in record.area:
            continue
        image = to_array(record.area[name])
        if image.shape != reference.shape:
            raise InputError(
                f"evaluate/{name}.tif is {image.shape[1]} × {image.shape[0]} px and evaluate/label.tif "
                f"{reference.shape[1]} × {reference.shape[0]} px; they must show the same area."
            )
        pair = [luminance(x) if x.ndim == 3 and x.shape[2] == 3 else x.astype(float) for x in (image, reference)]
        top = 255.0 if reference.dtype == np.uint8 else float(reference.max() - reference.min())
        border = BORDER if min(reference.shape[:2]) > 2 * BORDER + 11 else 0
        found[key] = {
            "ssim": float(ssim(pair[0], pair[1], data_range=top, border=border)),
            "psnr_db": float(psnr(pair[0], pair[1], data_range=top, border=border)),
        }
    return found
