"""What every stage gets: settings, run folder, the inputs found on disk, and a place to report progress."""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import check_content, open_image, pixel_size_um, to_array
from dlm_fiji.micrograph.files import is_image_file
from dlm_fiji.pipeline.configuration import PipelineSettings
from dlm_fiji.pipeline.run_folder import RunFolder

__all__ = ["Context", "as_rgb8", "image_files", "known_pixel_um", "open_alike", "single_plane"]

Progress = Callable[..., None]


@dataclass
class Context:
    """One run while it runs."""

    settings: PipelineSettings
    run: RunFolder
    #: progress(done, total, text) of the running stage.
    progress: Progress

    @property
    def tile_files(self) -> list[Path]:
        """The tiles as acquired, in scan order."""
        if self.settings.acquire is not None:
            return image_files(self.run.path / "acquire" / "tiles", "[input] tiles")
        return image_files(self.settings.input.tiles, "[input] tiles")

    @property
    def label_files(self) -> list[Path]:
        """The label fields, in the order of their names; empty without labels."""
        if self.settings.acquire is not None:
            return image_files(self.run.path / "acquire" / "labels", "[input] labels")
        if self.settings.input.labels is None:
            return []
        return image_files(self.settings.input.labels, "[input] labels")

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the tile scan; None where the files are to tell."""
        return self.settings.input.grid if self.settings.acquire is None else self.settings.acquire.grid

    def provenance(self, stage: str, **facts: Any) -> dict[str, Any]:
        """What goes into the metadata of every file that a stage writes."""
        source = "simulated instrument" if self.settings.simulated else "measured"
        return {"made_by": "dlm_fiji pipeline", "stage": stage, "acquisition": source, **facts}

    def image(self, *parts: str) -> NDArray[Any]:
        """An image of the run folder as (H, W[, C])."""
        return to_array(open_image(self.run.path.joinpath(*parts)))


def image_files(place: Path | None, setting: str) -> list[Path]:
    """The images of a folder or glob, sorted by name.

    Raises
    ------
    InputError
        The place does not exist or holds no image.
    """
    if place is None:
        raise InputError(f"{setting} is not set; name the folder of images.")
    if place.is_dir():
        found = [p for p in place.iterdir() if is_image_file(p) and not p.name.startswith(".")]
    else:
        found = [Path(p) for p in glob.glob(str(place))]
        if not found and not glob.has_magic(str(place)):
            raise InputError(f"{place} ({setting}) does not exist; name a folder or a pattern such as scan/*.tif.")
    if not found:
        raise InputError(f"{place} ({setting}) holds no images (TIFF, PNG or JPEG were expected).")
    return sorted(found)


def open_alike(files: list[Path], pixel_um: float | None, what: str) -> list[xr.DataArray]:
    """Open images that must agree in size and type, and have content.

    Raises
    ------
    InputError
        One is missing, unreadable, of another size or type than the first, NaN or all zero.
    """
    images: list[xr.DataArray] = []
    for path in files:
        image = open_image(path)
        check_content(image, str(path))
        if images and (image.shape != images[0].shape or image.dtype != images[0].dtype):
            raise InputError(
                f"{what} {path} is {_kind(image)}, but {files[0].name} is {_kind(images[0])}; "
                "all must have one size and type."
            )
        if pixel_um is not None and pixel_size_um(image) is None:
            image = image.assign_coords({axis: np.arange(image.sizes[axis]) * pixel_um for axis in ("y", "x")})
        images.append(image)
    return images


def as_rgb8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) of any integer type, or float 0 … 1, as 8-bit (H, W, 3)."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[-1] == 1:
        array = np.repeat(array, 3, axis=-1)
    if array.dtype != np.uint8:
        full = np.iinfo(array.dtype).max if np.issubdtype(array.dtype, np.integer) else 1.0
        array = np.rint(np.clip(array.astype(np.float32) / full, 0, 1) * 255).astype(np.uint8)
    return array


def single_plane(image: xr.DataArray, path: Path) -> NDArray[np.float32]:
    """One channel of one field, checked."""
    check_content(image, str(path))
    array = np.squeeze(to_array(image))
    if array.ndim != 2:
        raise InputError(f"{path} has the shape {array.shape}; give one channel of one field.")
    return array.astype(np.float32)


def known_pixel_um(image: xr.DataArray, given: float | None) -> float | None:
    """The image's pixel where its file says, else the one that was given."""
    size = pixel_size_um(image)
    return size[0] if size is not None else given


def _kind(image: xr.DataArray) -> str:
    return f"{' x '.join(str(n) for n in image.shape)} {image.dtype}"
