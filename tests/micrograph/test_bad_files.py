"""Missing, empty, truncated and damaged files: one sentence that names the file."""

import errno
import os

import numpy as np
import pytest
import tifffile

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.micrograph import (
    atomic_write,
    check_content,
    open_image,
    open_region_reader,
    save_image,
    write_json,
)

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)


def one_sentence(error, path):
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_missing(tmp_path):
    path = tmp_path / "tile_07.tif"
    with pytest.raises(InputError) as error:
        open_image(path)
    assert "does not exist" in one_sentence(error, path)


def test_empty_file_folder_and_other_content(tmp_path):
    path = tmp_path / "empty.tif"
    path.touch()
    with pytest.raises(InputError) as error:
        open_image(path)
    assert "empty" in one_sentence(error, path)
    with pytest.raises(InputError) as error:
        open_image(tmp_path)
    assert "folder" in one_sentence(error, tmp_path)
    (tmp_path / "text.tif").write_text("not an image")
    with pytest.raises(InputError) as error:
        open_image(tmp_path / "text.tif")
    assert "format" in one_sentence(error, tmp_path / "text.tif")


@pytest.mark.parametrize("share", [0.999, 0.5, 0.02])
@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".png", ".jpg"])
@pytest.mark.parametrize("reader", [open_image, open_region_reader])
def test_truncated_at_any_place(tmp_path, ending, share, reader):
    path = save_image(PIXELS, tmp_path / f"image{ending}")
    data = path.read_bytes()
    path.write_bytes(data[: max(5, int(len(data) * share))])
    with pytest.raises(InputError) as error:
        reader(path)
    one_sentence(error, path)


def test_truncated_stack_and_compressed(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (5, 64, 96)).astype(np.uint8)
    for options in ({}, {"compression": "zlib"}, {"imagej": True}, {"ome": True}, {"tile": (16, 16)}):
        path = tmp_path / "stack.tif"
        tifffile.imwrite(path, stack, photometric="minisblack", **options)
        data = path.read_bytes()
        for share in (0.9, 0.6, 0.1):
            path.write_bytes(data[: int(len(data) * share)])
            with pytest.raises(InputError) as error:
                open_image(path)
            one_sentence(error, path)


def test_damaged_in_the_middle(tmp_path):
    path = save_image(PIXELS, tmp_path / "image.tif", compression="zlib")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        open_image(path)
    one_sentence(error, path)


def test_damaged_zarr(tmp_path):
    path = save_image(PIXELS, tmp_path / "image.ome.zarr")
    (path / ".zattrs").write_text("{")
    with pytest.raises(InputError) as error:
        open_image(path)
    one_sentence(error, path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((5, 5), np.uint8), "zero everywhere"),
        (np.array([[1.0, np.nan]]), "1 pixels that are NaN"),
        (np.array([[1.0, np.inf]]), "NaN or infinite"),
        (np.zeros((0, 5)), "no pixels"),
    ],
)
def test_content_is_checked(values, words):
    with pytest.raises(InputError, match=words) as error:
        check_content(values, "tile_03.tif")
    assert str(error.value).startswith("tile_03.tif")


def test_good_content_passes():
    check_content(np.eye(3))


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    old = save_image(PIXELS, tmp_path / "image.tif")
    before = old.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name in ("image.tif", "image.png", "new.ome.tif"):
        with pytest.raises(SetupError, match=f"No space is left.*{name}"):
            save_image(PIXELS, tmp_path / name)
    assert old.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["image.tif"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as part:  # noqa: PT012
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text().split() == ["{", '"a":', "1", "}"]
    assert list(tmp_path.iterdir()) == [path]


def test_part_file_keeps_the_ending_and_the_folder(tmp_path):
    with atomic_write(tmp_path / "new" / "image.ome.tif") as part:
        assert part.name.endswith("image.ome.tif")
        assert part.parent == tmp_path / "new"
        part.write_bytes(b"1")
    assert (tmp_path / "new" / "image.ome.tif").read_bytes() == b"1"


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SetupError, match="in the way"):
        write_json(tmp_path / "out" / "a.json", {})


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"n": np.float32(1.5), "nan": float("nan"), "v": np.arange(2), "p": tmp_path})
    text = (tmp_path / "a.json").read_text()
    assert '"nan": null' in text
    assert "1.5" in text
