"""One judged area as files: its images, what each would look like to the input's camera, and its figures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dlm_fiji.micrograph import atomic_write, from_array, save_image
from dlm_fiji.steps.comparison import compare_regions, consistency

__all__ = ["save_area", "save_matrix", "save_table"]

Pixel = tuple[float, float] | float | None


def save_area(
    folder: Path,
    images: Mapping[str, NDArray[Any]],
    label: NDArray[Any],
    low: NDArray[Any],
    pixel: Pixel,
    label_pixel: Pixel,
    provenance: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Write ``input.tif``, ``label.tif``, one file an image and one error map an image; returns the figures.

    Parameters
    ----------
    folder
        Made if missing.
    images, label
        By name, of the label's shape and type.
    low
        The input, of any sampling.
    pixel, label_pixel
        Pixel sizes in µm of the input and of the others.
    provenance
        By name of the image; ``""`` for all that are not named.
    figures
        Of each image; by default :func:`dlm_fiji.steps.compare_regions` of 8-bit images.
    """
    save_image(from_array(low, pixel), folder / "input.tif", provenance=dict(provenance[""]))
    for name, image in {**images, "label": label}.items():
        facts = {**(provenance.get(name) or provenance[""]), "method": name}
        save_image(from_array(image, label_pixel), folder / f"{name}.tif", provenance=facts)
    given = compare_regions(images, label) if figures is None else figures
    found = {name: dict(given[name]) for name in images}
    for name, image in images.items():
        errors = consistency(image, low)
        found[name] |= {"rse": errors.rse, "rsp": errors.rsp}
        save_image(from_array(errors.map), folder / f"squirrel_{name}.tif", provenance=dict(provenance[""]))
    return found


def save_matrix(folder: Path, rows: Iterable[tuple[str, str, float]]) -> None:
    """SSIM by model and specimen, as the report's and the summary's matrix of both."""
    save_table(folder / "cross_matrix.csv", ["model", "specimen", "ssim"], rows)


def save_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
