from __future__ import annotations

from pathlib import Path

import pytest

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.pipeline.run_folder import RunFolder, fingerprint


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(ConfigurationError, match="holds something else"):
        RunFolder(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(ConfigurationError, match="is a file"):
        RunFolder(tmp_path / "run")


def test_a_finished_stage_is_known_until_something_changes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin(preset="demo")
    run.start("stitch", "a")
    assert not run.is_done("stitch", "a"), "running is not done"
    (run.folder("stitch") / "mosaic.tif").write_bytes(b"image")
    run.finish("stitch", "a", 1.0, {"engine": "native"})
    again = RunFolder(tmp_path)
    assert again.is_done("stitch", "a")
    assert not again.is_done("stitch", "b")
    (tmp_path / "stitch" / "mosaic.tif").unlink()
    assert not again.is_done("stitch", "a"), "its output is gone"


def test_another_key_removes_what_was_left(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin()
    run.start("train", "a")
    (run.folder("train") / "checkpoint.pt").write_bytes(b"half")
    run.start("train", "a")
    assert (tmp_path / "train" / "checkpoint.pt").is_file(), "the same training goes on"
    run.start("train", "b")
    assert not (tmp_path / "train" / "checkpoint.pt").exists()


def test_the_fingerprint_sees_settings_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "tile.tif"
    path.write_bytes(b"one")
    first = fingerprint({"a": 1}, [path])
    assert first == fingerprint({"a": 1}, [path])
    assert first != fingerprint({"a": 2}, [path])
    path.write_bytes(b"two")
    assert first != fingerprint({"a": 1}, [path])
