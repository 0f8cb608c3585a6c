"""Every refusal is one sentence that names the file or setting, with exit code 2 and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dlm_fiji.cli import main
from dlm_fiji.pipeline.configuration import preset
from dlm_fiji.pipeline.demo import acquire


@pytest.fixture(scope="module")
def demo_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad input scan")
    settings = preset("demo").acquire
    assert settings is not None
    acquire(settings, 1, folder)
    return folder


@pytest.fixture
def scan(demo_scan: Path, tmp_path: Path) -> Path:
    shutil.copytree(demo_scan, tmp_path / "scan")
    return tmp_path / "scan"


CONFIG = """
[input]
tiles = "scan/tiles"
labels = "scan/labels"
grid = [3, 3]
[illumination]
enabled = false
[stitch]
overlap = 0.25
[train]
steps = 2
batch = 2
[deconvolve]
iterations = 2
"""


def refusal(scan: Path, capsys: pytest.CaptureFixture[str], config: str = CONFIG) -> str:
    """Run the pipeline, expect exit code 2, and return the sentence."""
    path = scan.parent / "my.toml"
    path.write_text(config, encoding="utf-8")
    code = main(["pipeline", str(path), "--out", str(scan.parent / "run"), "--quiet"])
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert not list((scan.parent / "run").rglob(".part-*")) if (scan.parent / "run").exists() else True
    return captured.err


def missing(scan: Path) -> None:
    """One tile is gone, and nothing in the other names says which."""
    (scan / "tiles" / "tile_04.tif").unlink()
    for path, letter in zip(sorted((scan / "tiles").iterdir()), "abcdefgh", strict=True):
        path.rename(path.with_name(f"{letter}.tif"))


def other_size(scan: Path) -> None:
    tifffile.imwrite(scan / "tiles" / "tile_04.tif", np.ones((70, 80, 3), np.uint8) * 9, photometric="rgb")


def other_type(scan: Path) -> None:
    tile = tifffile.imread(scan / "tiles" / "tile_04.tif")
    tifffile.imwrite(scan / "tiles" / "tile_04.tif", tile.astype(np.uint16) * 200, photometric="rgb")


def truncated(scan: Path) -> None:
    path = scan / "tiles" / "tile_04.tif"
    path.write_bytes(path.read_bytes()[:4000])


def not_an_image(scan: Path) -> None:
    (scan / "tiles" / "tile_04.tif").write_text("this is a note")


def zero(scan: Path) -> None:
    tifffile.imwrite(scan / "tiles" / "tile_04.tif", np.zeros((80, 80, 3), np.uint8), photometric="rgb")


def nan(scan: Path) -> None:
    for path in (scan / "tiles").glob("*.tif"):
        tile = tifffile.imread(path).astype(np.float32) / 255
        if path.name == "tile_04.tif":
            tile[3, 3] = np.nan
        tifffile.imwrite(path, tile, photometric="rgb")


def empty(scan: Path) -> None:
    for path in (scan / "tiles").iterdir():
        path.unlink()


def gone(scan: Path) -> None:
    shutil.rmtree(scan / "tiles")


def foreign_label(scan: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 240, 3)).astype(np.uint8)
    tifffile.imwrite(scan / "labels" / "label_02.tif", noise, photometric="rgb")


def small_labels(scan: Path) -> None:
    for path in (scan / "labels").glob("*.tif"):
        tifffile.imwrite(path, tifffile.imread(path)[:120, :120].copy(), photometric="rgb")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, ["3 rows", "9 tiles", "there are 8", "which are missing"]),
        (other_size, ["tile_04.tif", "70", "80"]),
        (other_type, ["tile_04.tif", "uint16"]),
        (truncated, ["tile_04.tif"]),
        (not_an_image, ["tile_04.tif"]),
        (zero, ["tile_04.tif", "zero"]),
        (nan, ["tile_04.tif", "NaN"]),
        (empty, ["tiles", "no images"]),
        (gone, ["tiles", "does not exist"]),
        (foreign_label, ["label_02.tif", "correlat"]),
        (small_labels, ["patch of 60 px"]),
    ],
)
def test_bad_files_are_named(
    scan: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], words: list[str]
) -> None:
    spoil(scan)
    sentence = refusal(scan, capsys)
    assert all(word in sentence for word in words), sentence


def test_a_grid_that_does_not_match(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(scan, capsys, CONFIG.replace("[3, 3]", "[2, 4]"))
    assert "2 x 4" in sentence
    assert "9 were found" in sentence


def test_an_unknown_key_gets_the_nearest(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(scan, capsys, CONFIG.replace("iterations = 2", "iteration = 2"))
    assert "did you mean 'iterations'" in sentence


def test_a_value_out_of_range(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(scan, capsys, CONFIG.replace("iterations = 2", "na = 40"))
    assert "[deconvolve]" in sentence
    assert "40" in sentence


def test_a_foreign_output_folder_is_left_alone(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scan.parent / "run").mkdir()
    (scan.parent / "run" / "thesis.txt").write_text("precious")
    assert "holds something else" in refusal(scan, capsys)
    assert (scan.parent / "run" / "thesis.txt").read_text() == "precious"


def test_a_full_disk_leaves_nothing_half_written(
    scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    import dlm_fiji.micrograph.writing as writing

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    assert "space" in refusal(scan, capsys)


def test_fiji_without_a_fiji_says_what_is_missing(
    scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLM_FIJI_HOME", raising=False)
    monkeypatch.delenv("DLM_FIJI_PLUGINS", raising=False)
    path = scan.parent / "my.toml"
    path.write_text(CONFIG, encoding="utf-8")
    assert main(["pipeline", str(path), "--engine", "fiji", "--out", str(scan.parent / "run"), "--quiet"]) == 2
    sentence = capsys.readouterr().err
    assert "Grid/Collection stitching" in sentence
    assert "--engine native" in sentence


def test_usage_errors_are_two_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipelin"]) == 2
    assert "pipelin" in capsys.readouterr().err
