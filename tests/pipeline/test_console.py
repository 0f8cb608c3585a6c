from __future__ import annotations

from pathlib import Path

import pytest

from dlm_fiji.pipeline.console import Console


def test_a_line_at_start_and_end_and_the_same_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "night.log"
    console = Console(log=log)
    with console.stage("stitch"):
        console.progress(1, 9, "tile_01.tif")
    console.done("stitch", 1.23, "9 tiles")
    console.skipped("match")
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["stitch", "stitch", "match"]
    assert "1.2 s" in shown[1]
    assert "9 tiles" in shown[1]
    written = log.read_text(encoding="utf-8").splitlines()
    assert [line[20:] for line in written] == shown


def test_quiet_prints_nothing_but_still_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True, log=tmp_path / "run.log")
    with console.stage("train"):
        console.progress(3, 10, {"loss": 0.1})
    assert capsys.readouterr().out == ""
    assert "train" in (tmp_path / "run.log").read_text(encoding="utf-8")
