"""The demo's acquisition: a real micrograph seen through the virtual microscope on a moving stage.

It writes ordinary calibrated TIFF tiles and label fields; the later stages know nothing but those files and the
nominal grid, as with a user's data. Everything measured on them is to be called *simulated instrument*.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.micrograph import from_array, save_image, write_json
from dlm_fiji.microscope.linear_light import srgb_to_linear
from dlm_fiji.microscope.virtual import blur, expose, sample
from dlm_fiji.pipeline.configuration import AcquireSettings

__all__ = ["acquire", "specimen"]


def specimen() -> NDArray[np.uint8]:
    """scikit-image's bundled IHC micrograph, (512, 512, 3) uint8: colon, DAB and haematoxylin."""
    from skimage import data

    return data.immunohistochemistry()


def acquire(settings: AcquireSettings, seed: int, folder: Path) -> dict[str, object]:
    """Scan the specimen; writes ``tiles/``, ``labels/`` and ``truth.json`` (never read by the pipeline).

    Returns
    -------
    Facts for the run record.
    """
    rng = np.random.default_rng(seed)
    label = specimen()
    microscope = settings.microscope
    blurred = blur(srgb_to_linear(label / np.float32(255)), microscope)
    light = _illumination((settings.tile, settings.tile), settings.vignetting)
    step = settings.tile * (1 - settings.overlap)
    extent = np.array(settings.grid) - 1
    free = np.array(label.shape[:2]) / microscope.scale - (extent * step + settings.tile)
    errors = rng.uniform(-settings.stage_error, settings.stage_error, (*settings.grid, 2))
    truth = []
    for row, column in np.ndindex(*settings.grid):
        corner = free / 2 + np.array([row, column]) * step + errors[row, column]
        image = sample(
            blurred,
            microscope,
            (settings.tile, settings.tile),
            tuple(corner * microscope.scale),
            settings.rotation_deg,
        )
        tile = expose(image * light[..., None], microscope, rng)
        name = f"tile_{row * settings.grid[1] + column:02d}.tif"
        save_image(from_array(tile, microscope.pixel_um, na=microscope.na), folder / "tiles" / name)
        truth.append({"tile": name, "y": corner[0], "x": corner[1]})
    names = _write_labels(label, settings, folder)
    write_json(folder / "truth.json", {"positions_px": truth, "settings": settings.model_dump()})
    return {
        "engine": "virtual microscope",
        "note": f"{len(truth)} tiles of {settings.tile}² px at {microscope.pixel_um:g} µm, {len(names)} label fields",
    }


def _illumination(shape: tuple[int, int], loss: float) -> NDArray[np.float32]:
    """One uneven illumination for all tiles: a bright spot off the centre, ``loss`` in the darkest corner."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    distance = (y - 0.15) ** 2 + (x + 0.1) ** 2
    return (1 - loss * distance / distance.max()).astype(np.float32)


def _write_labels(label: NDArray[np.uint8], settings: AcquireSettings, folder: Path) -> list[str]:
    """Four fields of the better lens, one a quadrant, inside what the tiles cover."""
    side, (height, width) = settings.label_side, label.shape[:2]
    names = []
    for index, (bottom, right) in enumerate(np.ndindex(2, 2)):
        y = height // 2 + 4 if bottom else height // 2 - 4 - side
        x = width // 2 + 4 if right else width // 2 - 4 - side
        name = f"label_{index:02d}.tif"
        field = label[y : y + side, x : x + side]
        save_image(from_array(field, settings.microscope.label_pixel_um), folder / "labels" / name)
        names.append(name)
    return names
