"""Pixels of the page: test-area images, zoomed regions, error maps, as PNG files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import xarray as xr
from scipy.ndimage import uniform_filter

from dlm_fiji.measures import luminance
from dlm_fiji.micrograph import to_array

__all__ = [
    "Region",
    "bar_um",
    "colour_map",
    "detail_regions",
    "display_images",
    "error_maps",
    "grey",
    "overlay",
    "save_png",
]

COLOURS = "magma"


@dataclass(frozen=True)
class Region:
    """A square of the test area in label pixels."""

    y: int
    x: int
    side: int


def display_images(images: Mapping[str, xr.DataArray]) -> tuple[dict[str, np.ndarray], str]:
    """8-bit images to look at, and a sentence on how they were made.

    8-bit images are shown as they are. Others share one window, from the label's 0.1 to 99.9 % of
    intensities, so that brightness can be compared; more than three channels show the first.
    """
    arrays = {name: to_array(image) for name, image in images.items()}
    arrays = {n: a[..., 0] if a.ndim == 3 and a.shape[2] not in (1, 3) else a for n, a in arrays.items()}
    arrays = {n: a[..., 0] if a.ndim == 3 and a.shape[2] == 1 else a for n, a in arrays.items()}
    if all(array.dtype == np.uint8 for array in arrays.values()):
        return arrays, "8-bit images, shown as they are."
    reference = arrays.get("label", next(iter(arrays.values())))
    low, high = _window(reference)
    shown = {}
    for name, array in arrays.items():
        # Outputs were brought to the label's values; the input is still in the camera's.
        start, end = _window(array) if name == "input" and "label" in arrays else (low, high)
        scaled = (array.astype(np.float64) - start) / (end - start)
        shown[name] = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    own = "; the input has its own" if "input" in arrays and "label" in arrays else ""
    return (
        shown,
        f"All images share one display window, {low:.4g} to {high:.4g} (0.1 to 99.9 % of the reference){own}.",
    )


def _window(array: np.ndarray) -> tuple[float, float]:
    low, high = (float(v) for v in np.nanpercentile(array, (0.1, 99.9)))
    return low, max(high, low + 1e-12)


def grey(image: np.ndarray) -> np.ndarray:
    """Luminance Y of 8-bit RGB as the measures take it, or the grey image, as float64."""
    return np.asarray(image if image.ndim == 2 else luminance(image), dtype=np.float64)


def detail_regions(label: np.ndarray, count: int = 3, border: int = 20) -> list[Region]:
    """The squares of the label with the strongest fine detail, at most ``count``, not overlapping.

    Chosen on the label alone, so no method's result has a say: the local standard deviation of Y minus its
    mean in 9 px, averaged over the square.
    """
    height, width = label.shape[:2]
    side = int(min(128, max(24, min(height, width) // 3)))
    border = border if min(height, width) > 2 * border + side else 0
    values = grey(label)
    detail = uniform_filter((values - uniform_filter(values, 9)) ** 2, side, mode="nearest")
    half = side // 2
    allowed = np.full(detail.shape, -np.inf)
    inside = (slice(border + half, height - border - half), slice(border + half, width - border - half))
    allowed[inside] = detail[inside]
    regions = []
    for _ in range(count):
        y, x = np.unravel_index(int(np.argmax(allowed)), allowed.shape)
        if not np.isfinite(allowed[y, x]):
            break
        regions.append(Region(int(y) - half, int(x) - half, side))
        allowed[max(0, y - side) : y + side, max(0, x - side) : x + side] = -np.inf
    return sorted(regions, key=lambda region: (region.y, region.x))


def crop(image: np.ndarray, region: Region, label_shape: tuple[int, int]) -> np.ndarray:
    """The same region of an image of any sampling."""
    fy, fx = image.shape[0] / label_shape[0], image.shape[1] / label_shape[1]
    y0, x0 = round(region.y * fy), round(region.x * fx)
    y1, x1 = round((region.y + region.side) * fy), round((region.x + region.side) * fx)
    return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def error_maps(images: Mapping[str, np.ndarray], label: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """|Y − Y of the label| of each image of the label's size, in colour, and the scale's highest grey level.

    One scale for all maps: the 99.5th percentile of all differences.
    """
    reference = grey(label)
    maps = {
        name: np.abs(grey(image) - reference)
        for name, image in images.items()
        if name != "label" and image.shape[:2] == label.shape[:2]
    }
    if not maps:
        return {}, 0.0
    top = max(float(np.percentile(np.stack(list(maps.values())), 99.5)), 1.0)
    return {name: colour_map(values / top) for name, values in maps.items()}, top


def colour_map(values: np.ndarray, name: str = COLOURS) -> np.ndarray:
    """Values 0–1 as 8-bit RGB of a perceptually even map."""
    import matplotlib

    return (matplotlib.colormaps[name](np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """An error map 0–1 laid over the image in grey, at the image's size; the more error, the less image."""
    import cv2

    base = np.repeat(grey(image)[..., None], 3, axis=2)
    fine = cv2.resize(values.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    share = np.clip(fine, 0, 1)[..., None]
    return np.rint((1 - share) * base + share * colour_map(0.3 + 0.7 * fine)).clip(0, 255).astype(np.uint8)


def save_png(image: np.ndarray, path: Path) -> None:
    """Write 8-bit pixels; losslessly, as a reader may measure on them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image), level=6))


def bar_um(width_um: float) -> float:
    """A round length for a scale bar, at most a third of a picture ``width_um`` wide."""
    power = 10.0 ** np.floor(np.log10(max(width_um / 3, 1e-9)))
    return float(max(step * power for step in (1, 2, 5) if step * power <= width_um / 3))
