"""Consistency, percent differences, shifts, near structures, further fields: what they say, and their files."""

import csv
import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.report import panels, profiles
from dlm_fiji.report.pictures import Region, overlay
from dlm_fiji.report.run_record import RunRecord


@pytest.fixture
def label():
    rng = np.random.default_rng(0)
    return np.rint(gaussian_filter(rng.random((160, 160)), 1.5) * 900 - 330).clip(0, 255).astype(np.uint8)


def rows(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_percent_differences_are_those_of_the_range(label, tmp_path):
    brighter = np.minimum(label.astype(int) + 12, 255).astype(np.uint8)
    panel = panels.percent_differences({"network": brighter, "bicubic": label, "label": label}, tmp_path)
    assert [picture["title"].split(":")[0] for picture in panel.strips[0]] == ["Bicubic", "Network"]
    found = {row["image"]: row for row in rows(tmp_path / panel.data)}
    assert float(found["bicubic"]["mean_absolute_percent"]) == 0
    assert float(found["network"]["mean_percent"]) == pytest.approx(100 * 12 / np.ptp(label.astype(float)), rel=0.05)
    assert panels.percent_differences({"network": label}, tmp_path) is None


def test_shifts_are_measured_and_drawn(label, tmp_path):
    moved = np.roll(label, (1, -2), (0, 1))
    panel = panels.shifts({"network": moved, "label": label}, tmp_path)
    found = rows(tmp_path / panel.charts[0]["data"])
    assert len(found) == 25
    assert np.median([float(row["dy_px"]) for row in found]) == pytest.approx(1, abs=0.2)
    assert np.median([float(row["dx_px"]) for row in found]) == pytest.approx(-2, abs=0.2)
    assert "2.1" in panel.charts[0]["text"]
    assert (tmp_path / "images" / "shifts.svg").stat().st_size > 1000


def test_the_nearest_pair_is_found_and_its_dip_measured():
    image = np.zeros((100, 100))
    image[50, 40], image[50, 45] = 200, 180
    image = gaussian_filter(image, 1.2) * 10
    pair = profiles.nearest_pair(image, [Region(30, 20, 40)], 2.5)
    assert pair.start[0] == pair.end[0]
    assert abs(pair.start[0] - 50) <= 1
    assert pair.peaks[1] - pair.peaks[0] == 5
    line = image[50, round(pair.start[1]) : round(pair.end[1]) + 1]
    assert profiles.dip_at(line, pair.peaks) > 0.3
    assert profiles.dip_at(gaussian_filter(line, 6), pair.peaks) < 0.05
    assert profiles.nearest_pair(np.zeros((100, 100)), [Region(30, 20, 40)], 2.5) is None


def test_consistency_and_further_fields(label, tmp_path):
    run = tmp_path / "run"
    coarse = label.reshape(80, 2, 80, 2).mean((1, 3)).astype(np.float32)
    save_image(from_array(np.abs(label.astype(np.float32) - 3)), run / "evaluate" / "squirrel_network.tif")
    for name, image in {"input": coarse.astype(np.uint8), "network": label, "label": label}.items():
        save_image(from_array(image), run / "evaluate" / "field_01" / f"{name}.tif")
    (run / "run.json").write_text(json.dumps({}))
    record = RunRecord(run)
    area = {"network": {"rse": 3.0, "rsp": 0.9}}
    panel = panels.consistency(record, {"network": label}, area, tmp_path)
    assert "Network leaves the smallest error" in panel.lead
    assert "RSE 3.00" in panel.strips[0][0]["title"]
    assert float(rows(tmp_path / panel.data)[0]["rse"]) == 3.0
    metrics = {"further_test_fields": [{"label": "b.tif", "network": {"ssim": 0.75, "psnr_db": 20.0}}]}
    fields = panels.further_fields(record, metrics, tmp_path)
    assert [p["title"] for p in fields.strips[0]] == ["Input", "Network: SSIM 0.7500", "Label"]
    assert all((tmp_path / p["src"]).is_file() for p in fields.strips[0])
    assert panels.further_fields(record, {}, tmp_path) is None


def test_an_overlay_shows_the_image_where_there_is_no_error(label):
    values = np.zeros((80, 80))
    values[:40] = 1
    laid = overlay(label, values)
    np.testing.assert_array_equal(laid[100:, :, 0], label[100:])
    assert np.ptp(laid[:60], axis=2).max() > 30
