"""Where tiles lie when no grid is given: from the files' own stage positions, or from the images alone."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from dlm_fiji.errors import InputError
from dlm_fiji.registration.links import LinkFinder
from dlm_fiji.registration.subpixel import correlation_peaks, refine_shift

__all__ = ["arrange_by_content", "read_stage_positions"]

#: what one unit of an OME length is in µm
_MICROMETRES = {"µm": 1.0, "um": 1.0, "mm": 1e3, "nm": 1e-3, "m": 1e6, "cm": 1e4, "pm": 1e-6, "Å": 1e-4}


def read_stage_positions(paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
    """Nominal positions (N, 2) y, x px of OME-TIFF tiles, from PositionY/X and PhysicalSizeY/X of their
    first plane.

    Raises
    ------
    InputError
        A file has no OME metadata, no stage position, or no pixel size; the file is named.
    """
    positions = []
    for path in map(Path, paths):
        try:
            with tifffile.TiffFile(path) as file:
                text = file.ome_metadata
        except (OSError, tifffile.TiffFileError) as error:
            raise InputError(f"Tile {path} cannot be read: {error}.") from error
        if not text:
            raise InputError(f"Tile {path} has no OME metadata; give the grid or the positions instead.")
        root = ElementTree.fromstring(text)
        pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
        plane = next((node for node in root.iter() if node.tag.endswith("}Plane") and "PositionX" in node.attrib), None)
        if pixels is None or "PhysicalSizeX" not in pixels.attrib:
            raise InputError(
                f"Tile {path} has no pixel size in its OME metadata; give the positions in pixels instead."
            )
        if plane is None or "PositionY" not in plane.attrib:
            raise InputError(f"Tile {path} has no stage position in its OME metadata; give the grid instead.")
        place = []
        for axis in "YX":
            size = _length(pixels, f"PhysicalSize{axis}", path)
            place.append(_length(plane, f"Position{axis}", path) / size)
        positions.append(place)
    return np.array(positions)


def _length(node: ElementTree.Element, name: str, path: Path) -> float:
    unit = node.attrib.get(f"{name}Unit", "µm")
    try:
        value = float(node.attrib[name]) * _MICROMETRES[unit]
    except (KeyError, ValueError):
        raise InputError(f"Tile {path}: {name} = {node.attrib.get(name)!r} {unit} is not a length.") from None
    if name.startswith("PhysicalSize") and value <= 0:
        raise InputError(f"Tile {path}: {name} = {value} µm is not a pixel size.")
    return value


def arrange_by_content(finder: LinkFinder, count: int, min_correlation: float) -> np.ndarray:
    """Rough positions (N, 2) px of tiles in unknown order, from the images alone.

    Every pair is tried at the coarsest pyramid level, the best links are joined to a tree. Tiles that no
    link reaches are put in a row below the others.
    """
    factor = finder.factors[0]
    images = [finder.coarse(k) for k in range(count)]
    size = np.array(images[0].shape)
    links: list[tuple[float, int, int, np.ndarray]] = []
    for i in range(count):
        for j in range(i + 1, count):
            found = correlation_peaks(images[i], images[j], np.zeros(2), size - 12, 12)
            for _, lag in found[:4]:
                fit = refine_shift(images[i], images[j], lag)
                # a link needs gradients that both tiles share, in both directions
                sure = fit is not None and np.linalg.eigvalsh(fit.information)[0] > 0
                if fit is not None and sure and fit.correlation >= min_correlation:
                    # Fisher's z: a wide overlap that agrees a little weighs less than a narrow one that agrees well
                    weight = np.arctanh(min(fit.correlation, 0.999)) * np.sqrt(fit.pixels)
                    links.append((float(weight), i, j, fit.shift * factor))
    links.sort(key=lambda link: -link[0])
    group = np.arange(count)
    position = np.zeros((count, 2))
    for _, i, j, shift in links:
        if group[i] == group[j]:
            continue
        moved = group == group[j]
        position[moved] += position[i] + shift - position[j]
        group[moved] = group[i]
    main = group == np.bincount(group).argmax()
    if main.sum() < 2 <= count:
        raise InputError(f"None of the {count} tiles in unknown order overlap another one recognisably.")
    lost = np.nonzero(~main)[0]
    below = position[main].max(axis=0)[0] + 2 * size[0] * factor
    for k, tile in enumerate(lost):
        position[tile] = (below, 2 * k * size[1] * factor)
    return position - position[0]
