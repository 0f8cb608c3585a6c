"""Networks of filaments made by chance: labels sharper and denser than the fluorescence micrographs at hand.

A filament is a worm-like chain: its direction makes a random walk, by 1/√(persistence length) radians a pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dlm_fiji.settings import Settings, setting

__all__ = ["FilamentSettings", "synthetic_filaments"]

Range = tuple[float, float]
STEP = 0.25
"""Pixels between the points that a filament is drawn with; finer than any width."""


class FilamentSettings(Settings):
    """Ranges of which each field draws its own values, logarithmically."""

    spacing: Range = setting((0.7, 8.0), "mean distance between filaments: area / total length", unit="px")
    persistence: Range = setting((15.0, 300.0), "persistence length", unit="px")
    length: Range = setting((20.0, 250.0), "length of a filament", unit="px")
    width: Range = setting((0.4, 1.0), "sigma of the Gaussian profile across", unit="px")
    brightness: Range = setting((0.1, 0.5), "sigma of the logarithm of a filament's brightness")
    spots: Range = setting((0.00003, 0.0006), "spots per pixel", unit="1/px²")


def synthetic_filaments(
    shape: tuple[int, int], rng: np.random.Generator, settings: FilamentSettings | None = None
) -> NDArray[np.float32]:
    """One field of filaments and a few spots, (H, W) float32, values ≥ 0 in arbitrary units.

    Two thirds of the fields vary smoothly in density, and a third have a common direction in part.
    """
    settings = FilamentSettings.of(settings)
    drawn = {
        name: float(np.exp(rng.uniform(*np.log(getattr(settings, name)))))
        for name in ("spacing", "persistence", "length", "width", "brightness", "spots")
    }
    area = shape[0] * shape[1]
    count = max(1, round(area / drawn["spacing"] / drawn["length"]))
    steps = max(2, round(drawn["length"] / STEP))
    heading = rng.uniform(0, 2 * np.pi, (count, 1))
    if rng.random() < 1 / 3:
        heading = rng.uniform(0, np.pi) + rng.normal(0, rng.uniform(0.1, 0.8), (count, 1))
    turns = rng.normal(0, np.sqrt(STEP / drawn["persistence"]), (count, steps))
    angle = heading + np.cumsum(turns, 1)
    centre = rng.uniform(0, 1, (count, 2)) * shape
    y, x = np.cumsum(np.sin(angle), 1) * STEP, np.cumsum(np.cos(angle), 1) * STEP
    y += centre[:, :1] - y.mean(1, keepdims=True)
    x += centre[:, 1:] - x.mean(1, keepdims=True)
    light = np.exp(rng.normal(0, drawn["brightness"], (count, 1))) * np.ones((1, steps)) * STEP
    image = splat(y.ravel(), x.ravel(), light.ravel(), shape)
    spots = rng.poisson(area * drawn["spots"])
    places = rng.uniform(0, 1, (spots, 2)) * shape
    image += gaussian_filter(splat(places[:, 0], places[:, 1], rng.uniform(5, 40, spots), shape), rng.uniform(0.5, 1.5))
    image = gaussian_filter(image, drawn["width"])
    if rng.random() < 2 / 3:
        slow = gaussian_filter(rng.normal(0, 1, shape), rng.uniform(15, 40), mode="wrap")
        image *= np.exp(rng.uniform(0.2, 0.7) * (slow - slow.mean()) / slow.std())
    return image.astype(np.float32)


def splat(y: NDArray, x: NDArray, light: NDArray, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Light at points, shared bilinearly by the four pixels around each; points outside are left out."""
    inside = (y >= 0) & (x >= 0) & (y < shape[0] - 1) & (x < shape[1] - 1)
    y, x, light = y[inside], x[inside], light[inside]
    row, column = y.astype(np.int64), x.astype(np.int64)
    dy, dx = y - row, x - column
    index = row * shape[1] + column
    total = np.zeros(shape[0] * shape[1])
    for down, right, share in (
        (0, 0, (1 - dy) * (1 - dx)),
        (0, 1, (1 - dy) * dx),
        (1, 0, dy * (1 - dx)),
        (1, 1, dy * dx),
    ):
        total += np.bincount(index + down * shape[1] + right, share * light, total.size)
    return total.reshape(shape)
