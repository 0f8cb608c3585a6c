"""``trust`` without a label: the label itself passes, what was added to it is flagged, and the page says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.microscope.virtual import VirtualMicroscope, record
from dlm_fiji.pipeline.judging import judge_image


def verdict(folder: Path) -> dict:
    return json.loads((folder / "trust" / "trust.json").read_text(encoding="utf-8"))


def test_a_bright_field_image(tmp_path: Path) -> None:
    label = np.ascontiguousarray(data.immunohistochemistry()[:250, :250])
    microscope = VirtualMicroscope()
    image = record(label, microscope, np.random.default_rng(0))
    wrong = label.copy()
    wrong[120:132, 120:132] //= 2
    paths = {name: tmp_path / f"{name}.tif" for name in ("image", "label", "wrong")}
    for name, array in (("image", image), ("label", label), ("wrong", wrong)):
        save_image(from_array(array), paths[name])
    page = judge_image(paths["image"], paths["label"], tmp_path / "right", pixel_um=microscope.pixel_um)
    assert verdict(tmp_path / "right")["flagged_share"] < 0.01
    text = page.read_text(encoding="utf-8")
    assert "How far to trust it without a label" in text
    assert "Left out" not in text
    assert "regions flagged" in text
    judge_image(paths["image"], paths["wrong"], tmp_path / "changed", pixel_um=microscope.pixel_um)
    found = verdict(tmp_path / "changed")
    assert found["flagged_share"] > 0
    trim = found["rectangle_px"][0]
    far = [np.hypot(at["row"] + trim - 50, at["column"] + trim - 50) for at in found["flagged_regions"]]
    assert min(far) < 5
    with pytest.raises(InputError, match="--pixel"):
        judge_image(paths["image"], paths["label"], tmp_path / "none")


def test_a_fluorescence_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = gaussian_filter((rng.random((160, 160)) > 0.985).astype(float), 1.0)
    light = gaussian_filter(truth, 1.8)
    save_image(from_array(rng.poisson(light / light.max() * 900 + 20).astype(np.float32)), tmp_path / "image.tif")
    save_image(from_array(truth.astype(np.float32)), tmp_path / "truth.tif")
    judge_image(tmp_path / "image.tif", tmp_path / "truth.tif", tmp_path / "out", sigma=1.8, tolerance=0.1)
    found = verdict(tmp_path / "out")
    assert found["flagged_share"] < 0.01
    assert found["tolerance"] == 0.1
    assert "σ 1.8 px, as given" in found["judged_by"]
