"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.errors import SetupError

__all__ = ["atomic_write", "plain", "remove_leftovers", "write_json"]

#: A part file begins so; a folder that holds only such files counts as empty.
PART_PREFIX = ".part-"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends without an error.

    The block writes a file (or makes a folder) at the name it is given. On success the file is flushed to
    disk and renamed over ``path``; on any error, Ctrl-C included, nothing is left and an older ``path`` is
    untouched. The temporary name keeps the ending (``.ome.tif``), so libraries choose the right format.

    Parameters
    ----------
    path
        The file or folder to write. Missing parent folders are made.

    Raises
    ------
    SetupError
        The disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    part = path.with_name(f"{PART_PREFIX}{_machine()}-{os.getpid()}-{secrets.token_hex(3)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_dir():
            _replace_folder(part, path)
        else:
            with open(part, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        _flush_folder(path.parent)
    except OSError as error:
        _remove(part)
        sentence = _sentence(error, path)
        if sentence is None:
            raise
        raise SetupError(sentence) from error
    except BaseException:
        _remove(part)
        raise


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Take away what runs that were killed on this machine (SIGKILL, power) left of writing ``path``.

    A part whose process still runs, or that another machine wrote, is left alone.
    """
    import psutil

    path = Path(path)
    scheme = re.compile(rf"{PART_PREFIX}{_machine()}-(\d+)-[0-9a-f]{{6}}-{re.escape(path.name)}(\.levels)?")
    for entry in path.parent.glob(f"{PART_PREFIX}{_machine()}-*"):
        found = scheme.fullmatch(entry.name)
        if found and not psutil.pid_exists(int(found[1])):
            _remove(entry)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """``content`` as readable JSON, whole or not at all; NumPy numbers, arrays and paths are allowed in it.

    NaN and infinity become ``null``: JSON has no such numbers, and browsers refuse them.
    """
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def plain(content: Any) -> Any:
    """``content`` made of dicts, lists, strings, numbers, booleans and None only, as JSON wants it."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple, set)):
        return [plain(value) for value in content]
    if isinstance(content, np.ndarray):
        return plain(content.tolist())
    if isinstance(content, np.generic):
        return plain(content.item())
    if isinstance(content, float):
        return content if np.isfinite(content) else None
    if content is None or isinstance(content, (str, bool, int)):
        return content
    return str(content)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _replace_folder(part: Path, path: Path) -> None:
    """Rename folder ``part`` to ``path``; none can be renamed over another, so the old one steps aside."""
    if path.exists():
        aside = part.with_name(part.name + ".old")
        os.replace(path, aside)
        try:
            os.replace(part, path)
        except OSError:
            os.replace(aside, path)
            raise
        _remove(aside)
    else:
        os.replace(part, path)


def _flush_folder(folder: Path) -> None:
    # A rename survives a power cut only once the folder itself is on disk; Windows has no such call.
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sentence(error: OSError, path: Path) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk for {path}; free some space or choose another output folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} cannot be written ({os.strerror(error.errno)}); choose another output folder."
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"{path} cannot be written: a file or folder of another kind is in the way."
    return None
