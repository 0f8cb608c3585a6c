"""Fiji's ``TileConfiguration.txt``: one line a tile, ``name; ; (x, y)``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import atomic_write

__all__ = ["read_tile_configuration", "write_tile_configuration"]

_LINE = re.compile(r"^(?P<name>[^;]+);[^;]*;\s*\((?P<numbers>[^)]*)\)\s*$")


def read_tile_configuration(path: str | os.PathLike[str]) -> tuple[list[Path], np.ndarray]:
    """The tiles' paths, beside the file, and their positions.

    Returns
    -------
    paths : list of Path
    positions : (N, 2) float
        y, x px (the file has x first; a z coordinate is ignored).

    Raises
    ------
    InputError
        The file is missing, has a line that is not understood (it is quoted), or holds no tiles.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"Layout file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Layout file {path} cannot be read: {error}.") from error
    names, positions = [], []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#") or re.match(r"^(dim|multiseries)\s*=", text):
            continue
        match = _LINE.match(text)
        try:
            if match is None:
                raise ValueError
            x, y = (float(part) for part in match["numbers"].split(",")[:2])
        except ValueError:
            raise InputError(f"Line {number} of {path} is not 'name; ; (x, y)': {text!r}.") from None
        names.append(path.parent / match["name"].strip())
        positions.append((y, x))
    if not names:
        raise InputError(f"Layout file {path} holds no tiles.")
    result = np.array(positions)
    if not np.isfinite(result).all():
        raise InputError(f"Layout file {path} has a position that is not finite.")
    return names, result


def write_tile_configuration(
    path: str | os.PathLike[str], names: Sequence[str | os.PathLike[str]], positions: np.ndarray
) -> Path:
    """Write positions (N, 2) y, x px as Fiji reads and writes them; whole or not at all."""
    path = Path(path)
    positions = np.asarray(positions, dtype=float)
    if positions.shape != (len(names), 2):
        raise InputError(f"{len(names)} tiles need positions ({len(names)}, 2), not {positions.shape}.")
    text = [
        "# Define the number of dimensions we are working on",
        "dim = 2",
        "",
        "# Define the image coordinates",
    ]
    # repr of a float reads back to the same float
    text += [
        f"{Path(name).name}; ; ({float(x)!r}, {float(y)!r})" for name, (y, x) in zip(names, positions, strict=True)
    ]
    with atomic_write(path) as part:
        part.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path
