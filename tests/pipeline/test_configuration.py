from __future__ import annotations

from pathlib import Path

import pytest

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.pipeline import load_settings, preset

GOOD = """
scale = 2.5
[input]
tiles = "scan"
labels = "labels"
grid = [3, 3]
[stitch]
overlap = 0.25
[train]
steps = 7
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "my run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_changes_only_what_it_says(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert settings.stitch.overlap == 0.25
    assert settings.train.steps == 7
    assert settings.stitch.min_correlation == type(settings.stitch)().min_correlation
    assert settings.input.tiles == tmp_path / "scan", "relative to the file, not to the working directory"


def test_a_file_may_start_from_a_preset(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'preset = "demo"\n[train]\nsteps = 3\n'))
    assert settings.acquire == preset("demo").acquire
    assert settings.train.steps == 3
    assert settings.train.batch == preset("demo").train.batch


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "ovrlap = 1", ["[train]", "'ovrlap'", "did you mean 'overlap'"]),
        ("scal = 2.5\n" + GOOD.replace("scale = 2.5", ""), ["'scal'", "did you mean 'scale'"]),
        (GOOD.replace("overlap = 0.25", "min_correlation = 1.4"), ["[stitch]", "min_correlation", "1.4"]),
        (GOOD.replace("scale = 2.5", "scale = 0.1"), ["scale", "0.1"]),
        (GOOD.replace('tiles = "scan"\n', ""), ["'tiles'", "folder of tiles"]),
        (GOOD.replace("[stitch]", "[stitch"), ["not valid TOML"]),
        ("preset = 'demmo'", ["'demmo'", "did you mean 'demo'"]),
        (GOOD.replace("[train]\nsteps = 7", "").replace("scale = 2.5", "train = 3"), ["train"]),
    ],
)
def test_wrong_files_are_refused_with_a_sentence(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(tmp_path, text))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml does not exist"):
        load_settings(tmp_path / "nowhere.toml")
