"""Measures of a model on the simulated instrument, written as a run folder with its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.inference import load_model
from dlm_fiji.micrograph import open_image, to_array, write_json
from dlm_fiji.pipeline.area import save_matrix, save_table
from dlm_fiji.pipeline.context import as_rgb8
from dlm_fiji.pipeline.demo import specimen
from dlm_fiji.pipeline.run_folder import RunFolder
from dlm_fiji.report import write_report
from dlm_fiji.steps import characterisation
from dlm_fiji.steps.characterisation import Instrument

__all__ = ["MEASURES", "characterise"]

MEASURES = ("depth", "beads", "usaf", "matrix", "runtime")


def characterise(
    model: str,
    out: Path,
    *,
    measures: Sequence[str] = MEASURES,
    others: Sequence[str] = (),
    specimens: Sequence[Path] = (),
    depth_um: float = 6.0,
    planes: int = 9,
    sides: Sequence[int] = (160, 400, 818),
    paper: bool = False,
    command: str = "",
) -> Path:
    """Measure a bright-field model on the simulated instrument and write the report; returns its page.

    Parameters
    ----------
    model
        Name or folder.
    out
        Run folder, new or of an earlier call.
    measures
        Of :data:`MEASURES`.
    others
        More models, for the matrix of models and specimens.
    specimens
        Sharp RGB micrographs for the matrix; the demo's specimen is always the first.
    depth_um, planes
        Largest defocus, and number of planes from minus to plus that.
    sides
        Of the square inputs whose runtime is measured.
    paper
        Add the papers' tables to the report.
    """
    network = load_model(model)
    if network.card.channels != 3:
        raise InputError(
            f"{network.name} is not for bright field, which the simulated instrument is; use compare on a real pair."
        )
    instrument = Instrument()
    run = RunFolder(out)
    run.begin(
        preset="characterise",
        command=command,
        settings={"microscope": instrument.microscope.model_dump(mode="json"), "label_na": instrument.label_na},
        simulated=True,
        model={"name": network.name, "sha256": network.sha256},
        specimen="synthetic beads, USAF-1951 target, IHC-stained colon",
        question=f"What does {network.name} do to resolution, depth of field and other specimens?",
        answer=f"Measures of {network.name} on a simulated instrument: NA {instrument.microscope.na:g} against "
        f"NA {instrument.label_na:g}.",
    )
    folder = run.folder("measures")

    def depth() -> str:
        heights = np.linspace(-depth_um, depth_um, planes).tolist()
        found = characterisation.depth(network, instrument, specimen()[100:300, 100:300], heights)
        columns = list(found.ssim)
        save_table(folder / "depth_of_field.csv", ["defocus_um", *columns],
                   zip(heights, *(found.ssim[name].tolist() for name in columns), strict=True))  # fmt: skip
        save_table(folder / "defocus_contrast.csv", ["defocus_um", *columns],
                   zip(heights, *(found.contrast[name].tolist() for name in columns), strict=True))  # fmt: skip
        write_json(folder / "depth_of_field.json", {"level": found.level, "depth_um": found.depth_um})
        return ", ".join(f"{name} {value:.1f} µm" for name, value in found.depth_um.items())

    def beads() -> str:
        found = characterisation.bead_widths(network, instrument).images
        rows = [(name, float(value)) for name, widths in found.items() for value in widths.fwhm]
        save_table(folder / "fwhm.csv", ["image", "fwhm_um"], rows)
        fits = {n: {"mean_um": w.mean, "low_um": w.interval[0], "high_um": w.interval[1]} for n, w in found.items()}
        write_json(folder / "fwhm.json", fits)
        return ", ".join(f"{name} {fit['mean_um']:.3f} µm" for name, fit in fits.items())

    def usaf() -> str:
        rows = characterisation.contrasts(network, instrument)
        save_table(folder / "mtf.csv", list(rows[0]), [tuple(row.values()) for row in rows])
        return f"{len(rows)} elements, {rows[0]['cycles_per_mm']:.0f} to {rows[-1]['cycles_per_mm']:.0f} cycles/mm"

    def matrix() -> str:
        models = {name: load_model(name) for name in dict.fromkeys([model, *others])}
        images = {"IHC-stained colon (demo)": specimen()}
        images |= {path.stem: as_rgb8(to_array(open_image(path))) for path in specimens}
        found = characterisation.matrix({m.name: m for m in models.values()}, instrument, images)
        rows = [
            ("bicubic", name, value) for name, value in zip(found.specimens, found.unprocessed.tolist(), strict=True)
        ]
        for name, values in zip(found.models, found.values.tolist(), strict=True):
            rows += [(name, place, value) for place, value in zip(found.specimens, values, strict=True)]
        save_matrix(folder, rows)
        return f"{len(found.models)} × {len(found.specimens)}"

    def runtime() -> str:
        rows = characterisation.runtimes(network, sides)
        save_table(folder / "runtime.csv", ["pixels", "seconds"], [tuple(row.values()) for row in rows])
        return ", ".join(f"{row['pixels']:.0f}²: {row['seconds']:.2f} s" for row in rows)

    todo: dict[str, Callable[[], Any]] = {
        "depth": depth, "beads": beads, "usaf": usaf, "matrix": matrix, "runtime": runtime
    }  # fmt: skip
    notes = []
    started = time.perf_counter()
    for name in measures:
        notes.append(f"{name}: {todo[name]()}")
    run.finish("measures", "", time.perf_counter() - started, {"engine": "native", "note": "; ".join(notes)})
    return write_report(out, paper=paper)
