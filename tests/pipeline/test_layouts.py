"""Tiles without a full grid go through the first stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from dlm_fiji.micrograph import open_image, save_image
from dlm_fiji.pipeline import assemble
from dlm_fiji.pipeline.configuration import IlluminationSettings, InputSettings, PipelineSettings, preset
from dlm_fiji.pipeline.context import Context
from dlm_fiji.pipeline.run_folder import RunFolder


def stitched(tiles: Path, out: Path, grid: tuple[int, int] | None) -> tuple[str, np.ndarray]:
    """The stitch stage's note, and the positions."""
    settings = PipelineSettings.of(
        preset("demo"), acquire=None, input=InputSettings(tiles=tiles, grid=grid),
        illumination=IlluminationSettings(enabled=False),
    )  # fmt: skip
    context = Context(settings, RunFolder(out), lambda *_: None)
    assemble.illumination(context)
    note = str(assemble.stitch(context)["note"])
    return note, np.array(json.loads((out / "stitch" / "links.json").read_text(encoding="utf-8"))["positions"])


def test_a_missing_tile_is_told_by_the_numbers_or_by_the_stage(scan: Path, tmp_path: Path) -> None:
    _, whole = stitched(scan / "tiles", tmp_path / "whole", (3, 3))
    shutil.copytree(scan / "tiles", tmp_path / "tiles")
    (tmp_path / "tiles" / "tile_04.tif").unlink()
    rest = np.delete(whole, 4, axis=0)
    note, by_number = stitched(tmp_path / "tiles", tmp_path / "numbers", (3, 3))
    np.testing.assert_allclose(by_number, rest, atol=0.1)
    assert "layout: numbers in the file names" in note
    for path, (y, x) in zip(sorted((tmp_path / "tiles").iterdir()), rest, strict=True):
        image = open_image(path)
        image.attrs["stage_um"] = tuple(100 + 0.625 * np.round([y, x]))
        save_image(image, path)
    note, by_stage = stitched(tmp_path / "tiles", tmp_path / "stage", None)
    assert "layout: stage positions in the files" in note
    np.testing.assert_allclose(by_stage - by_stage[0], rest - rest[0], atol=0.1)
