"""Every command answers, and the thin ones do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from dlm_fiji.cli import COMMANDS, main
from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.microscope.virtual import VirtualMicroscope, record
from dlm_fiji.registration import Warp


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_help_loads_neither_torch_nor_java() -> None:
    script = (
        "import sys; from dlm_fiji.cli import main; main(['--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'jpype', 'skimage', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert "pipeline" in done.stdout


def test_compare_writes_a_report_with_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = np.ascontiguousarray(data.immunohistochemistry()[:300, :300])
    image = record(label, VirtualMicroscope(), np.random.default_rng(0))
    save_image(from_array(image, 0.625), tmp_path / "low.tif")
    save_image(from_array(label, 0.25), tmp_path / "high.tif")
    arguments = ["compare", str(tmp_path / "low.tif"), "--label", str(tmp_path / "high.tif")]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--na", "0.4", "--iterations", "12"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.is_file()
    area = json.loads((page.parent / "metrics.json").read_text(encoding="utf-8"))["test_area"]
    assert area["network"]["ssim"] > area["bicubic"]["ssim"] + 0.1, "the shipped model does its job"
    assert area["richardson_lucy"]["iterations"] == 12


def test_compare_refuses_the_image_as_its_own_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(from_array(data.immunohistochemistry()[:100, :100], 0.6), tmp_path / "low.tif")
    same = str(tmp_path / "low.tif")
    assert main(["compare", same, "--label", same, "--out", str(tmp_path / "out")]) == 2
    assert "is the image itself" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_calibrate_finds_the_fixed_distortion(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :200].astype(float)
    distortion = np.stack([1.5 * np.sin(x / 60), 1.2 * np.cos(y / 70)])
    for folder in ("phone", "bench"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        true = ndimage.gaussian_filter(rng.random((200, 200)), 1.5)
        true = ((true - true.min()) / np.ptp(true) * 255).astype(np.uint8)
        seen = ndimage.map_coordinates(
            true.astype(float), [y + distortion[0], x + distortion[1]], order=3, mode="mirror"
        )
        save_image(from_array(np.clip(seen, 0, 255).astype(np.uint8)), tmp_path / "phone" / f"{number}.tif")
        save_image(from_array(true), tmp_path / "bench" / f"{number}.tif")
    out = tmp_path / "phone.npz"
    assert main(["calibrate", str(tmp_path / "phone"), str(tmp_path / "bench"), str(out)]) == 0
    # aligned(p) = moving(p + d) undoes the distortion: d is about its negative.
    error = (Warp.load(out).displacement + distortion)[:, 20:-20, 20:-20]
    assert np.sqrt((error**2).sum(0).mean()) < 0.25


def test_a_warning_is_one_sentence_without_code(tmp_path: Path) -> None:
    save_image(from_array(np.zeros((40, 40, 3), np.uint8), pixel_um=0.3), tmp_path / "fine.ome.tif")
    command = ["predict", "fine.ome.tif", "out.ome.tif", "--model", "brightfield-x2.5", "--backend", "torch"]
    done = subprocess.run(  # pytest would keep the warning for itself
        [sys.executable, "-m", "dlm_fiji", *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sentence = next(line for line in done.stderr.splitlines() if "0.3 µm" in line)
    assert sentence.startswith("dlm_fiji: The image has pixels of 0.3 µm")
    assert "record =" not in done.stderr


@pytest.mark.parametrize(("name", "says"), [("pipeline", "the same command goes on"), ("stitch", "nothing unfinished")])
def test_interrupted_commands_say_what_is_left(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    module, _, function = COMMANDS[name].partition(":")
    monkeypatch.setattr(f"dlm_fiji.cli.{module}.{function or 'command'}", interrupted)
    assert main([name]) == 130
    assert says in capsys.readouterr().err
