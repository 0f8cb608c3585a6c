"""What camera images say of a prediction: matched filters over the residuals of one or many tiles.

Noise is independent from pixel to pixel only as the camera gave it; a stitched mosaic is interpolated and blended.
So a prediction of a mosaic's size is compared with every tile at its own place between the pixels, and what the
tiles say is added up::

    significance = Σ k r / σ²  /  sqrt( Σ k² / σ² ),    both sums over all tiles

What is not the specimen's is fitted first, for each tile and channel: exposure and offset, an illumination that is
left over (a polynomial), and a displacement of a fraction of a pixel. Channels are then averaged: a dye absorbs in
all of them, so nine tenths of a structure's evidence is in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter, map_coordinates, shift

from dlm_fiji.errors import InputError
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.measures.noise import Noise, estimate_noise

__all__ = ["Evidence", "flag_threshold", "gather", "region_maxima", "region_side", "strongest"]

#: Side of a region in σ of the spot: one resolution cell. 1 % false alarms then leave a threshold of
#: about 3.4, which structures of d' = 5 pass.
_SIDE = 3.0
_RING = 2.5
"""Smallest radius of a ring, camera pixels."""
_LEAST = 16
"""Tiles of which fewer rows or columns are judged say nothing."""


@dataclass(frozen=True)
class _Piece:
    """The judged part of a tile, and where its first pixel lies on the judged grid."""

    image: NDArray[Any]
    corner: tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """A prediction judged.

    Attributes
    ----------
    forward
        The microscope, of the channels' mean point spread function.
    signal, power
        Σ k r / σ² and Σ k² / σ² of each shape k, shape (shapes, rows, columns) of the judged grid.
    residuals
        One array a tile, image minus expected image.
    alpha, beta
        Intensity scaling, mean of all tiles and channels.
    noise
        Of the camera, mean of its channels.
    size, trim
        Rows and columns of the judged grid, camera pixels; pixels left out round it.
    """

    forward: ForwardModel
    shapes: NDArray[Any]
    signal: NDArray[Any]
    power: NDArray[Any]
    pieces: tuple[_Piece, ...]
    residuals: tuple[NDArray[Any], ...]
    weights: tuple[NDArray[Any], ...]
    alpha: float
    beta: float
    noise: Noise
    size: tuple[int, int]
    trim: int

    @property
    def significance(self) -> NDArray[Any]:
        """At each pixel the matched filter of largest modulus, in standard deviations."""
        return strongest(self.signal, self.power)

    @property
    def deviation(self) -> NDArray[Any]:
        """Height of the strongest shape's best fit at each pixel, as a share of the brightness there; signed.

        The brightness is the images' own around that pixel (σ of a region's side), but no less than their mean: a
        bright filament in a dark field is judged by its own light, and the dark by what light there is.
        """
        powered = np.where(self.power > 0, self.power, np.inf)
        which = np.abs(self.signal / np.sqrt(powered)).argmax(0)[None]
        height = np.take_along_axis(self.signal / powered, which, 0)[0] * self.shapes.max((1, 2))[which[0]]
        images = [piece.image for piece in self.pieces]
        around = self._mean_of([gaussian_filter(image, region_side(self.forward)) for image in images])
        return height / np.maximum(around, abs(float(np.mean([image.mean() for image in images]))))

    @property
    def chi2(self) -> float:
        """Mean of (r / σ)²."""
        total = sum(float((r**2 * w).sum()) for r, w in zip(self.residuals, self.weights, strict=True))
        return total / sum(r.size for r in self.residuals)

    def residual(self) -> NDArray[Any]:
        """The tiles' mean residual on the judged grid."""
        return self._mean_of(self.residuals)

    def _mean_of(self, images: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Mean on the judged grid of one image for each piece."""
        total, count = np.zeros(self.size), np.zeros(self.size)
        for piece, values in zip(self.pieces, images, strict=True):
            place, offset = _place(piece, self.size)
            at = [np.arange(p.stop - p.start) + o for p, o in zip(place, offset, strict=True)]
            total[place] += map_coordinates(values, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
            count[place] += 1
        return total / np.maximum(count, 1)

    def sigma(self) -> NDArray[Any]:
        """Noise of the tiles' weighted mean on the judged grid."""
        precision = np.zeros(self.size)
        for piece, weight in zip(self.pieces, self.weights, strict=True):
            place, _ = _place(piece, self.size)
            precision[place] += weight[tuple(slice(0, p.stop - p.start) for p in place)]
        return 1 / np.sqrt(np.maximum(precision, min(float(weight.min()) for weight in self.weights)))

    def with_noise_only(self, rng: np.random.Generator) -> Evidence:
        """The same tiles, had the prediction been right: residuals of simulated noise and nothing else."""
        residuals = tuple(rng.standard_normal(w.shape) / np.sqrt(w) for w in self.weights)
        signal, _ = _summed(self.pieces, residuals, self.weights, self.shapes, self.size)
        return replace(self, residuals=residuals, signal=signal)

    def signal_of(self, structure: NDArray[Any]) -> NDArray[Any]:
        """Σ k s / σ² of a structure on the prediction's pixels, alike in all channels, as its tiles would show it."""
        blurred = self.forward.blurred(self.alpha * structure)
        seen = [self.forward.sampled(blurred, _pixels(piece, self.trim)) for piece in self.pieces]
        return _summed(self.pieces, seen, self.weights, self.shapes, self.size)[0]


def gather(
    forwards: Sequence[ForwardModel],
    prediction: NDArray[Any],
    tiles: Sequence[NDArray[Any]],
    positions: NDArray[Any],
    *,
    trim: int = 0,
    noise: Noise | float | None = None,
    scaling: tuple[float, float] | None = None,
    illumination: int = 0,
    displaced: bool = False,
) -> Evidence:
    """Compare a prediction with every tile.

    Parameters
    ----------
    forwards
        The microscope for each channel.
    prediction, tiles
        Shapes (rows, columns, channels).
    positions, trim, noise
        As `dlm_fiji.measures.trust_tiles`.
    scaling
        (α, β), held instead of fitted.
    illumination
        Order of the polynomial by which each tile's illumination may differ from an even one.
    displaced
        Whether each tile may lie a fraction of a pixel beside its position.
    """
    size = (forwards[0].coarse[0] - 2 * trim, forwards[0].coarse[1] - 2 * trim)
    cut = [_cut(tile, position, trim, size) for tile, position in zip(tiles, positions, strict=True)]
    pieces = [piece for piece in cut if piece is not None]
    if not pieces:
        raise InputError("No tile lies on the prediction: check the tiles' positions.")
    blurred = [forward.blurred(prediction[..., c]) for c, forward in enumerate(forwards)]
    grey, expected, alphas, betas = [], [], [], []
    for piece in pieces:
        fitted = np.empty(piece.image.shape)
        for c, forward in enumerate(forwards):
            seen, image = forward.sampled(blurred[c], _pixels(piece, trim)), piece.image[..., c]
            if scaling is None:
                fitted[..., c], alpha, beta = _fit(seen, image, illumination, displaced)
            else:
                alpha, beta = scaling
                fitted[..., c] = alpha * seen + beta
            alphas.append(alpha)
            betas.append(beta)
        grey.append(_Piece(piece.image.mean(-1), piece.corner))
        expected.append(fitted.mean(-1))
    residuals = [p.image - e for p, e in zip(grey, expected, strict=True)]
    if noise is None:
        # Both estimates err only upwards, so the lower is nearer.
        options = (estimate_noise([p.image for p in grey]), estimate_noise(residuals, expected))
        level = np.concatenate([e.ravel() for e in expected])
        noise = min(options, key=lambda n: float(np.mean(n.sigma(level) ** 2)))
    elif not isinstance(noise, Noise):
        noise = Noise(0.0, float(noise) ** 2)
    # The image's own level, not the prediction's: an invented bright structure must not raise the noise it
    # is judged by.
    weights = [1 / noise.sigma(gaussian_filter(p.image, 1.5)) ** 2 for p in grey]
    first = forwards[0]
    mean = ForwardModel(_mean_psf(forwards), first.fine, first.coarse, first.scale)
    shapes = structure_shapes(mean)
    signal, power = _summed(grey, residuals, weights, shapes, size)
    return Evidence(
        forward=mean,
        shapes=shapes,
        signal=signal,
        power=power,
        pieces=tuple(grey),
        residuals=tuple(residuals),
        weights=tuple(weights),
        alpha=float(np.mean(alphas)),
        beta=float(np.mean(betas)),
        noise=noise,
        size=size,
        trim=trim,
    )


def _mean_psf(forwards: Sequence[ForwardModel]) -> NDArray[Any]:
    """Mean of odd or even kernels, the smaller ones with a frame of zeros."""
    rows, columns = (max(f.psf.shape[k] for f in forwards) for k in (0, 1))
    frames = [[(n - m) // 2 for n, m in zip((rows, columns), f.psf.shape, strict=True)] for f in forwards]
    return np.mean([np.pad(f.psf, [(b, b) for b in frame]) for f, frame in zip(forwards, frames, strict=True)], axis=0)


def strongest(signal: NDArray[Any], power: NDArray[Any]) -> NDArray[Any]:
    """Over all shapes, the signed value of largest modulus of signal / sqrt(power); 0 where nothing was judged."""
    values = signal / np.sqrt(np.where(power > 0, power, np.inf))
    return np.take_along_axis(values, np.abs(values).argmax(0)[None], 0)[0]


def _cut(tile: NDArray[Any], position: NDArray[Any], trim: int, size: tuple[int, int]) -> _Piece | None:
    slices, corner = [], []
    for n, start, length in zip(tile.shape[:2], position, size, strict=True):
        at = np.arange(n) + float(start) - trim
        inside = np.flatnonzero((at >= -0.5) & (at <= length - 0.5))
        if inside.size < _LEAST:
            return None
        slices.append(slice(inside[0], inside[-1] + 1))
        corner.append(float(at[inside[0]]))
    return _Piece(np.asarray(tile[tuple(slices)], dtype=np.float64), (corner[0], corner[1]))


def _pixels(piece: _Piece, trim: int) -> list[NDArray[Any]]:
    """Rows and columns of a piece in camera pixels of the prediction's field."""
    return [np.arange(n) + c + trim for n, c in zip(piece.image.shape[:2], piece.corner, strict=True)]


def _place(piece: _Piece, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[float, float]]:
    """The grid's pixels that lie within a piece, and where the first of them lies in it."""
    slices, offset = [], []
    for n, corner, length in zip(piece.image.shape, piece.corner, size, strict=True):
        first = max(int(np.ceil(corner - 1e-6)), 0)
        last = min(int(np.floor(corner + n - 1 + 1e-6)), length - 1)
        slices.append(slice(first, last + 1))
        offset.append(first - corner)
    return (slices[0], slices[1]), (offset[0], offset[1])


def _summed(
    pieces: Sequence[_Piece],
    residuals: Sequence[NDArray[Any]],
    weights: Sequence[NDArray[Any]],
    shapes: NDArray[Any],
    size: tuple[int, int],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Σ k r / σ² and Σ k² / σ² over the pieces, on the judged grid."""
    signal, power = (np.zeros((len(shapes), *size), np.float32) for _ in range(2))
    for piece, residual, weight in zip(pieces, residuals, weights, strict=True):
        place, offset = _place(piece, size)
        inside = (slice(None), *(slice(0, p.stop - p.start) for p in place))
        signal[(slice(None), *place)] += _filtered(residual * weight, shapes, offset)[inside]
        # Never quite 0, so that a region at the edge of all tiles is not all noise.
        least = 1e-12 * float(weight.mean())
        power[(slice(None), *place)] += np.maximum(_filtered(weight, shapes**2, offset)[inside], least)
    return signal, power


def _filtered(values: NDArray[Any], shapes: NDArray[Any], offset: tuple[float, float]) -> NDArray[Any]:
    """Each shape's correlation with the values, zero beyond their edge, moved by ``offset`` < 1 pixels."""
    half = shapes.shape[1] // 2, shapes.shape[2] // 2
    size = [fft.next_fast_len(n + 2 * h, real=True) for n, h in zip(values.shape, half, strict=True)]
    spectrum = fft.rfft2(values, size)
    if max(offset) > 1e-6:
        spectrum *= np.exp(2j * np.pi * offset[0] * fft.fftfreq(size[0]))[:, None]
        spectrum *= np.exp(2j * np.pi * offset[1] * fft.rfftfreq(size[1]))[None]
    inner = tuple(slice(h, h + n) for h, n in zip(half, values.shape, strict=True))
    result = np.empty((len(shapes), *values.shape), np.float32)
    for filtered, shape in zip(result, shapes, strict=True):
        filtered[...] = fft.irfft2(spectrum * fft.rfft2(shape[::-1, ::-1], size), size)[inner]
    return result


def _fit(
    seen: NDArray[Any], image: NDArray[Any], illumination: int, displaced: bool
) -> tuple[NDArray[Any], float, float]:
    """The expected image, α and β, by least squares that single wrong structures do not pull (Huber's weights)."""
    y, x = (np.linspace(-1, 1, n) for n in seen.shape)
    powers = [(i, j) for i in range(illumination + 1) for j in range(illumination + 1 - i)]
    columns = [seen * (y[:, None] ** i * x**j) for i, j in powers] + [np.ones_like(seen)]
    if displaced:
        columns += list(np.gradient(seen))
    design = np.stack([column.ravel() for column in columns], 1)
    target = image.ravel()
    weights = np.ones(seen.size)
    found = np.zeros(design.shape[1])
    for _ in range(8):
        weighted = (design * weights[:, None]).T
        found = np.linalg.lstsq(weighted @ design, weighted @ target, rcond=None)[0]
        left = np.abs(target - design @ found)
        scale = 1.4826 * np.median(left) + 1e-30
        weights = np.minimum(1.0, 1.5 * scale / np.maximum(left, 1e-30))
    return (design @ found).reshape(seen.shape), float(found[0]), float(found[len(powers)])


def structure_shapes(forward: ForwardModel) -> NDArray[Any]:
    """What structures look like on the camera: point, two blobs, a ring, lines in four directions; equal sizes."""
    spot = forward.camera_spot()
    width = _spot_sigma(spot)
    # A ring of five camera pixels is the smallest that a sharp lens shows hollow, which no blob resembles.
    radius = max(_RING, 2 * width)
    pad = int(np.ceil(max(5 * width, radius + 1)))
    point = np.pad(spot, pad)

    def along(rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
        return np.sum([shift(point, at, order=1) for at in zip(rows, columns, strict=True)], axis=0)

    shapes = [point, gaussian_filter(point, 1.5 * width), gaussian_filter(point, 3 * width)]
    turn = np.arange(24) * np.pi / 12
    shapes.append(along(radius * np.sin(turn), radius * np.cos(turn)))
    steps = np.linspace(-2.5 * width, 2.5 * width, 9)
    shapes += [along(steps * np.sin(angle), steps * np.cos(angle)) for angle in np.arange(4) * np.pi / 4]
    return np.stack([s / np.sqrt((s**2).sum()) for s in shapes])


def _spot_sigma(spot: NDArray[Any]) -> float:
    """Width of the spot's core: that of the Gaussian whose squared integral it has."""
    # For a Gaussian of σ and sum S the sum of squares is S² / 4πσ².
    return float(max(np.sqrt(spot.sum() ** 2 / (spot**2).sum() / (4 * np.pi)), 0.6))


def region_side(forward: ForwardModel) -> int:
    """Side of a resolution cell, pixels."""
    return max(round(_SIDE * _core_sigma(forward.camera_spot())), 2)


def _core_sigma(spot: NDArray[Any]) -> float:
    """σ of the spot at half its height; side lobes do not widen it."""
    area = float((spot > 0.5 * spot.max()).sum())
    return max(float(np.sqrt(area / np.pi / (2 * np.log(2)))), 0.6)


def region_maxima(values: NDArray[Any], region: int) -> NDArray[Any]:
    """Largest value in each region of ``region`` × ``region`` pixels, those at the far edges smaller."""
    rows, columns = (-(-n // region) for n in values.shape)
    full = np.full((rows * region, columns * region), -np.inf)
    full[: values.shape[0], : values.shape[1]] = values
    return full.reshape(rows, region, columns, region).max((1, 3))


def flag_threshold(shapes: NDArray[Any], region: int, false_alarm: float) -> float:
    """The significance that noise alone reaches in ``false_alarm`` of the regions."""
    return _calibrated(shapes.tobytes(), shapes.shape, region, false_alarm)


@lru_cache(maxsize=16)
def _calibrated(shapes: bytes, size: tuple[int, ...], region: int, false_alarm: float) -> float:
    """Quantile of the regions' largest significance in white noise."""
    bank = np.frombuffer(shapes).reshape(size)
    side = 1200
    noise = np.random.default_rng(1).standard_normal((side, side))
    significance = strongest(_filtered(noise, bank, (0.0, 0.0)), np.ones((len(bank), 1, 1)))
    peaks = np.sort(region_maxima(np.abs(significance), region), axis=None)
    share = 1 - (np.arange(peaks.size) + 0.5) / peaks.size
    # The tail falls like exp(-z² / 2): a straight line in z² steadies what neighbouring regions share.
    tail = (share < 4 * false_alarm) & (share > false_alarm / 4)
    slope, start = np.polyfit(np.log(share[tail]), peaks[tail] ** 2, 1)
    return float(np.sqrt(slope * np.log(false_alarm) + start))
