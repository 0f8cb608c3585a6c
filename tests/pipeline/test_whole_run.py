"""The main job, shortened: real files, real ImageJ, a real (short) training."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dlm_fiji.measures import luminance, psnr, ssim
from dlm_fiji.micrograph import open_image, pixel_size_um, provenance
from dlm_fiji.pipeline import run_pipeline
from dlm_fiji.pipeline.configuration import InputSettings, PipelineSettings
from dlm_fiji.pipeline.runner import STAGES

from .conftest import short_demo


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the shortened demo."""
    folder = tmp_path_factory.mktemp("demo run") / "out"
    run_pipeline(short_demo(), folder)
    return folder


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_every_stage_is_recorded_with_its_engine(finished: Path) -> None:
    stages = record(finished)["stages"]
    assert list(stages) == [stage.name for stage in STAGES]
    assert all(entry["status"] == "done" and entry["engine"] and entry["seconds"] >= 0 for entry in stages.values())
    assert "ImageJ 1.54p" in stages["illumination"]["engine"], "the division is a real ImageJ macro"
    assert record(finished)["simulated"] is True


def test_anyone_can_recompute_the_metrics(finished: Path) -> None:
    metrics = json.loads((finished / "report" / "metrics.json").read_text(encoding="utf-8"))
    label = tifffile.imread(finished / "evaluate" / "label.tif")
    assert label.dtype == np.uint8
    assert label.shape[-1] == 3
    for name in ("bicubic", "richardson_lucy", "network"):
        image = tifffile.imread(finished / "evaluate" / f"{name}.tif")
        assert image.shape == label.shape
        a, b = luminance(image), luminance(label)
        stated = metrics["test_area"][name]
        assert stated["ssim"] == pytest.approx(ssim(a, b, 255.0, border=20), abs=1e-6)
        assert stated["psnr_db"] == pytest.approx(psnr(a, b, 255.0, border=20), abs=1e-4)
    assert metrics["test_area"]["richardson_lucy"]["iterations"] == _best_of_search(finished)
    assert set(metrics["engines"]) >= {"stitch", "deconvolve"}
    assert set(metrics["seconds"]) >= {"stitch", "train"}
    for name in ("bicubic", "richardson_lucy", "network"):
        assert metrics["test_area"][name]["cie94"]["mean"] > 0
        assert 0 < metrics["test_area"][name]["rsp"] <= 1


def _best_of_search(folder: Path) -> int:
    with open(folder / "deconvolve" / "search.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return int(max(rows, key=lambda row: float(row["ssim"]))["iterations"])


def test_the_test_area_is_that_of_its_label(finished: Path) -> None:
    """The label in evaluate/ lies on the mosaic: bicubic enlargement correlates with it and not with a shifted one."""
    label = luminance(tifffile.imread(finished / "evaluate" / "label.tif"))[20:-20, 20:-20]
    bicubic = luminance(tifffile.imread(finished / "evaluate" / "bicubic.tif"))[20:-20, 20:-20]

    def correlation(dy: int, dx: int) -> float:
        moved = np.roll(bicubic, (dy, dx), (0, 1))[5:-5, 5:-5]
        return float(np.corrcoef(moved.ravel(), label[5:-5, 5:-5].ravel())[0, 1])

    centre = correlation(0, 0)
    assert centre > 0.85
    assert all(correlation(dy, dx) < centre for dy, dx in ((2, 0), (-2, 0), (0, 2), (0, -2)))


def test_no_training_patch_shows_the_test_area(finished: Path) -> None:
    fields = json.loads((finished / "register" / "fields.json").read_text(encoding="utf-8"))
    test = next(f["rectangle"] for f in fields if f["role"] == "test")
    for field in fields:
        if field["role"] != "test":
            y0, x0, y1, x1 = field["rectangle"]
            assert y1 <= test[0] or y0 >= test[2] or x1 <= test[1] or x0 >= test[3]


def test_the_stage_positions_were_recovered(finished: Path) -> None:
    truth = json.loads((finished / "acquire" / "truth.json").read_text(encoding="utf-8"))
    true = np.array([[t["y"], t["x"]] for t in truth["positions_px"]])
    angle = np.deg2rad(truth["settings"]["rotation_deg"])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    found = np.array(json.loads((finished / "stitch" / "links.json").read_text(encoding="utf-8"))["positions"])
    true, found = true - true.mean(0), found - found.mean(0)
    errors = [np.sqrt(((found - true @ m.T) ** 2).sum(1).mean()) for m in (turn, turn.T)]
    assert min(errors) < 0.15


def test_the_label_is_trusted_by_the_raw_tiles(finished: Path) -> None:
    content = json.loads((finished / "trust" / "trust.json").read_text(encoding="utf-8"))
    assert content["test_area"]["label"]["flagged_share"] <= 0.01
    assert content["test_area"]["label"]["contradicted_share"] <= 0.02  # 0.8 % of some 400 regions, and its spread
    assert content["test_area"]["label"]["chi2"] == pytest.approx(1, abs=0.1)
    assert content["test_area"]["bicubic"]["flagged_share"] > 0.15
    # 10,000 photo-electrons a channel, three channels averaged; the estimate errs upwards.
    assert 0.9e-4 / 3 < content["noise_gain"] < 1.6e-4 / 3
    assert content["roc"]["inserted"] > 0.85


def test_outputs_carry_pixel_size_and_origin(finished: Path) -> None:
    enhanced = finished / "predict" / "mosaic_enhanced.tif"
    assert pixel_size_um(open_image(enhanced)) == pytest.approx((0.25, 0.25))
    made = provenance(enhanced)
    assert made is not None
    assert made["acquisition"] == "simulated instrument"
    assert "enhanced" in made["note"]


def test_a_second_call_runs_nothing_and_a_changed_setting_only_what_follows(finished: Path) -> None:
    before = record(finished)["stages"]
    run_pipeline(short_demo(), finished)
    assert record(finished)["stages"] == before
    settings = short_demo()
    deconvolve = type(settings.deconvolve).of(settings.deconvolve, iterations=3)
    run_pipeline(PipelineSettings.of(settings, deconvolve=deconvolve), finished)
    after = record(finished)["stages"]
    same = [name for name in before if before[name] == after[name]]
    assert same == [stage.name for stage in STAGES if stage.name not in ("deconvolve", "evaluate", "trust", "report")]
    run_pipeline(short_demo(), finished)


def test_files_of_a_user_run_like_the_demo(scan: Path, tmp_path: Path) -> None:
    """Tiles and labels as plain files, without the acquire stage."""
    settings = PipelineSettings.of(
        short_demo(),
        acquire=None,
        simulated=True,
        input=InputSettings(tiles=scan / "tiles", labels=scan / "labels" / "label_*.tif", grid=(3, 3)),
    )
    page = run_pipeline(settings, tmp_path / "run")
    assert page.is_file()
    assert "acquire" not in record(tmp_path / "run")["stages"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on_to_the_same_result(finished: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from conftest import short_demo; from dlm_fiji.pipeline import run_pipeline;"
        "run_pipeline(short_demo(), Path(sys.argv[1]))"
    )
    out = tmp_path / "run"
    arguments = [sys.executable, "-c", script, str(out), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments, env=os.environ)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        stages = record(out)["stages"] if (out / "run.json").is_file() else {}
        if stages.get("train", {}).get("status") == "running":
            process.send_signal(signal.SIGKILL)
        time.sleep(0.05)
    assert process.wait() == -signal.SIGKILL
    stitched = (out / "stitch" / "mosaic.tif").stat().st_mtime_ns
    subprocess.run(arguments, env=os.environ, check=True, timeout=600)
    assert (out / "stitch" / "mosaic.tif").stat().st_mtime_ns == stitched, "not done again"
    first, second = (
        json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8")) for folder in (finished, out)
    )
    for name in ("bicubic", "richardson_lucy", "network"):
        assert first["test_area"][name]["ssim"] == pytest.approx(second["test_area"][name]["ssim"], abs=1e-4)
