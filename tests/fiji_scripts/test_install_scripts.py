"""Scripts are put into a Fiji folder and taken out again; a watched folder is processed once."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest

from dlm_fiji.cli.install_scripts import LIBRARY, MENU, install, uninstall
from dlm_fiji.cli.watch import Watcher
from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.micrograph import open_image, save_image


@pytest.fixture
def fiji(tmp_path):
    for part in ("jars", "plugins", "scripts/Plugins"):
        (tmp_path / "Fiji.app" / part).mkdir(parents=True)
    (tmp_path / "Fiji.app" / "jars" / "ij-1.54f.jar").touch()
    return tmp_path / "Fiji.app"


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_install_and_uninstall(fiji, tmp_path):
    before = everything(fiji)
    written = install(tmp_path, (tmp_path,))
    assert (fiji / MENU / "Enhance_Image....py").read_text().startswith('#@script(label="Enhance Image..."')
    names = [path.name for path in (fiji / MENU).iterdir()]
    assert len(names) == 8
    # Fiji's ImageJ 1.x menu takes no script without an underscore, and shows a trailing one as a blank.
    assert all("_" in name and not name.endswith("_.py") for name in names)
    record = json.loads((fiji / LIBRARY / "dlm_fiji_python.json").read_text())
    assert record == {"python": sys.executable, "allow": [str(tmp_path)]}
    assert install(fiji)  # again, over the first
    other = fiji / MENU / "Mine.py"
    other.touch()
    assert len(uninstall(fiji)) == len(written)
    assert other.exists()
    other.unlink()
    (fiji / MENU).rmdir()
    assert [name for name in everything(fiji) if name != "jars/Lib"] == before


def test_not_a_fiji_folder(tmp_path):
    with pytest.raises(SetupError, match="is not a Fiji folder"):
        install(tmp_path)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def picture(path, value=7):
    save_image(np.full((20, 20), value, np.uint8), path)


@pytest.fixture
def watched(tmp_path):
    folder = tmp_path / "microscope"
    folder.mkdir()
    clock, lines = Clock(), []

    def work(source, target):
        image = open_image(source)
        if image.values.max() == 0:
            raise InputError("it is black")
        save_image(image * 2, target)

    def make():
        return Watcher(folder, tmp_path / "out", work, settle_s=4, clock=clock, say=lines.append)

    return folder, tmp_path / "out", clock, lines, make


def test_a_file_is_taken_when_it_is_complete_and_once(watched):
    folder, out, clock, lines, make = watched
    watcher = make()
    picture(folder / "a.tif")
    whole = (folder / "a.tif").read_bytes()
    (folder / "a.tif").write_bytes(whole[:200])  # the camera is still writing
    assert watcher.look() == 1
    clock.now += 10
    (folder / "a.tif").write_bytes(whole)
    os.utime(folder / "a.tif", (1e9, 1e9))
    assert watcher.look() == 1
    assert not out.exists()
    clock.now += 5
    assert watcher.look() == 0
    assert open_image(out / "a.tif").values.max() == 14
    stamp = (out / "a.tif").stat().st_mtime_ns
    clock.now += 5
    assert watcher.look() == 0
    assert make().look() == 0  # after a restart, too
    assert (out / "a.tif").stat().st_mtime_ns == stamp
    assert len(lines) == 1
    assert [path.name for path in out.iterdir()] == ["a.tif"]


def test_a_bad_file_is_told_once_and_does_not_stop_the_others(watched):
    folder, out, clock, lines, make = watched
    watcher = make()
    picture(folder / "black.tif", 0)
    picture(folder / "good.tif", 9)
    (folder / "notes.txt").write_text("not an image")
    (folder / "broken.tif").write_bytes(b"II*\0 and then nothing")
    for _ in range(4):
        watcher.look()
        clock.now += 5
    assert [path.name for path in out.iterdir()] == ["good.tif"]
    assert len(lines) == 3
    assert any("black.tif: it is black" in line for line in lines)


def test_files_of_one_name_do_not_share_a_result(watched):
    folder, out, clock, lines, make = watched
    watcher = make()
    for number, name in enumerate(("a.tif", "a.png", "a.ome.tif", "a.TIF"), start=1):
        picture(folder / name.lower(), number)
        (folder / name.lower()).rename(folder / name)
    for _ in range(2):
        watcher.look()
        clock.now += 5
    results = {path.name: int(open_image(path).values.max()) for path in out.iterdir()}
    assert len(set(results.values())) == len(results) == len(lines) >= 3
    assert results["a.png.tif"] == 4


def test_a_watch_that_was_killed_goes_on_with_what_it_had_not_finished(watched):
    """Killed while it worked on a file: nothing half is left, the finished one is not done again."""
    folder, out, clock, _lines, make = watched
    done = []
    for name in "abc":
        picture(folder / f"{name}.tif")
    first = make()
    real = first.work

    def killed(source, target):
        if source.name == "b.tif":
            raise KeyboardInterrupt
        done.append(source.name)
        real(source, target)

    first.work = killed
    first.look()
    clock.now += 5
    with pytest.raises(KeyboardInterrupt):
        first.look()
    assert [path.name for path in out.iterdir()] == ["a.tif"]
    second = make()
    second.work = lambda source, target: (done.append(source.name), real(source, target))
    second.look()
    clock.now += 5
    assert second.look() == 0
    assert done == ["a.tif", "b.tif", "c.tif"]


def test_a_file_that_is_taken_away_is_forgotten(watched):
    folder, out, clock, _lines, make = watched
    watcher = make()
    picture(folder / "a.tif")
    assert watcher.look() == 1
    (folder / "a.tif").unlink()
    clock.now += 5
    assert watcher.look() == 0
    assert not out.exists()
    picture(folder / "a.tif")  # it comes back, and waits its time again
    assert watcher.look() == 1


def test_results_go_elsewhere(watched, tmp_path):
    folder, *_ = watched
    with pytest.raises(InputError, match="another folder"):
        Watcher(folder, folder, print)
    with pytest.raises(InputError, match="does not exist"):
        Watcher(tmp_path / "nowhere", folder, print)
