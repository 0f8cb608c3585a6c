"""Can a prediction be true? Judged without a label, by the image it was made from.

The prediction p is passed through the microscope's forward model A, scaled, and compared with the image y::

    r = y - (α A p + β),    significance = Σ k r / σ²  /  sqrt( Σ k² / σ² )

k are the shapes that any structure of the specimen has at least after the lens: a point, blobs and short
lines, all blurred. Where one of them stands out of the noise σ, the prediction holds something the image
contradicts, or lacks something the image shows. What the lens erases (frequencies whose signal, after blur,
is below the noise) cannot be contradicted by any image; a second map says how much of the prediction's
detail is of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter, shift, uniform_filter

from dlm_fiji.errors import InputError
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.measures.noise import Noise, estimate_noise

__all__ = ["Trust", "trust"]

#: Side of a region in σ of the spot: one resolution cell. 1 % false alarms then leave a threshold of
#: about 3.4, which structures of d' = 5 pass.
_SIDE = 3.0


@dataclass(frozen=True)
class Trust:
    """What `trust` found; arrays on the image's pixels unless said otherwise.

    Attributes
    ----------
    residual
        Image minus forward-projected prediction, float32.
    significance
        Strongest deviation over all shapes at each pixel, in standard deviations, signed: positive where the
        image has light that the prediction lacks.
    flags
        One for each region, bool, shape (region rows, region columns).
    region
        Side of a region, pixels.
    threshold
        Significance from which a region is flagged.
    false_alarm
        Share of regions that noise alone flags at this threshold.
    chi2
        Mean of (r / σ)²: 1 if only noise is left.
    alpha, beta
        Intensity scaling.
    noise
        Noise model of the image.
    uncheckable
        Share (0 to 1) of the prediction's local contrast that the forward model erases; on the prediction's
        pixels.
    """

    residual: NDArray[np.float32]
    significance: NDArray[np.float32]
    flags: NDArray[np.bool_]
    region: int
    threshold: float
    false_alarm: float
    chi2: float
    alpha: float
    beta: float
    noise: Noise
    uncheckable: NDArray[np.float32]

    @property
    def flagged(self) -> float:
        """Share of flagged regions."""
        return float(self.flags.mean())

    @property
    def flag_map(self) -> NDArray[np.bool_]:
        """The flags laid on the image's pixels."""
        full = np.kron(self.flags, np.ones((self.region, self.region), bool))
        return full[: self.residual.shape[0], : self.residual.shape[1]]

    def summary(self) -> dict[str, Any]:
        """Everything but the arrays, for ``trust.json``."""
        rows, columns = np.nonzero(self.flags)
        return {
            "sentence": self.sentence(),
            "regions": int(self.flags.size),
            "flagged_share": self.flagged,
            "expected_share_from_noise": self.false_alarm,
            "region_px": self.region,
            "threshold": self.threshold,
            "chi2": self.chi2,
            "alpha": self.alpha,
            "beta": self.beta,
            "noise_gain": self.noise.gain,
            "noise_offset": self.noise.offset,
            "uncheckable_share_mean": float(self.uncheckable.mean()),
            "flagged_regions": [
                {"row": int(r) * self.region, "column": int(c) * self.region}
                for r, c in zip(rows, columns, strict=True)
            ],
        }

    def sentence(self) -> str:
        """One sentence for the user."""
        spread = np.sqrt(self.false_alarm * (1 - self.false_alarm) / self.flags.size)
        # Half as many again may come from a noise estimate that is a few per cent off.
        if self.flagged <= 1.5 * self.false_alarm + 3 * spread:
            verdict = "the image does not contradict the prediction"
        else:
            verdict = "in these the image contradicts the prediction"
        return (
            f"{self.flagged:.1%} of {self.flags.size} regions are flagged ({self.false_alarm:.1%} would be "
            "from noise "
            f"alone): {verdict}; {float(self.uncheckable.mean()):.0%} of its local contrast cannot be "
            "checked with this "
            "lens."
        )


def trust(
    prediction: ArrayLike,
    image: ArrayLike,
    psf: ArrayLike,
    *,
    noise: Noise | float | None = None,
    scaling: tuple[float, float] | None = None,
    false_alarm: float = 0.008,
) -> Trust:
    """Check a prediction against the image it was made from.

    Parameters
    ----------
    prediction
        Shape (rows, columns), linear light.
    image
        What the microscope took, shape (rows, columns) / ratio, ratio 1 or more, not necessarily whole.
    psf
        On the prediction's pixels, with the camera pixel in it; see `dlm_fiji.microscope.born_wolf`.
    noise
        The image's noise: a model, a standard deviation, or None to estimate it.
    scaling
        (α, β) with which the prediction's values become the image's; None fits them.
    false_alarm
        Share of regions to be flagged by noise alone. 0.8 % keeps below 1 % with a noise estimate 2 % too
        low.

    Returns
    -------
    Trust

    Raises
    ------
    InputError
        Shapes that do not belong together, NaN, an empty image, or the image handed in as its own
        prediction's label.

    Notes
    -----
    The threshold is calibrated on simulated Gaussian noise with the same shapes and regions. A region is one
    resolution cell; a structure whose projection has detectability d' = √(Σ (A s)² / σ²) = 5 is then found
    in 95 % or more of the cases (tests/measures/test_trust.py). A wrong point spread function shows as flags
    everywhere, rightly: then nothing has been checked.
    """
    p, y = np.asarray(prediction, dtype=np.float64), np.asarray(image, dtype=np.float64)
    for name, array in (("prediction", p), ("image", y)):
        if array.ndim != 2 or min(array.shape) < 32:
            raise InputError(
                f"The {name} must be a grey plane of at least 32 × 32 pixels, not {array.shape}; judge "
                "channels one by "
                "one."
            )
        if not np.isfinite(array).all():
            raise InputError(f"The {name} holds NaN or infinite pixels.")
    if np.ptp(y) == 0:
        raise InputError("The image is empty (one value everywhere), so it can confirm nothing.")
    if not 0 < false_alarm < 0.5:
        raise InputError(f"The share of false alarms must lie between 0 and 0.5, not at {false_alarm}.")
    forward = ForwardModel(np.asarray(psf), p.shape, y.shape)
    seen = forward(p)
    alpha, beta = _scaling(seen, y) if scaling is None else scaling
    expected = alpha * seen + beta
    residual = y - expected
    if noise is None:
        noise = _quieter(estimate_noise(y), estimate_noise(residual, expected), expected)
    elif not isinstance(noise, Noise):
        noise = Noise(0.0, float(noise) ** 2)
    # The image's own level, not the prediction's: an invented bright structure must not raise the noise it
    # is judged by.
    sigma = noise.sigma(gaussian_filter(y, 1.5))

    shapes = _shapes(forward)
    region = _region(forward)
    significance = _significance(residual, sigma, shapes)
    threshold = _threshold(shapes, region, false_alarm)
    return Trust(
        residual=residual.astype(np.float32),
        significance=significance.astype(np.float32),
        flags=region_maxima(np.abs(significance), region) > threshold,
        region=region,
        threshold=threshold,
        false_alarm=false_alarm,
        chi2=float(np.mean((residual / sigma) ** 2)),
        alpha=float(alpha),
        beta=float(beta),
        noise=noise,
        uncheckable=_uncheckable(p, forward, float(np.mean(sigma)) / max(abs(float(alpha)), 1e-30)),
    )


def _scaling(seen: NDArray[Any], image: NDArray[Any]) -> tuple[float, float]:
    """Linear fit that single wrong structures do not pull: reweighted by Huber's function."""
    design = np.stack([seen.ravel(), np.ones(seen.size)], 1)
    target = image.ravel()
    weights = np.ones(seen.size)
    gain, offset = 1.0, 0.0
    for _ in range(8):
        normal = (design * weights[:, None]).T @ design
        gain, offset = np.linalg.lstsq(normal, (design * weights[:, None]).T @ target, rcond=None)[0]
        left = np.abs(target - gain * seen.ravel() - offset)
        scale = 1.4826 * np.median(left) + 1e-30
        weights = np.minimum(1.0, 1.5 * scale / np.maximum(left, 1e-30))
    return float(gain), float(offset)


def _quieter(one: Noise, other: Noise, signal: NDArray[Any]) -> Noise:
    """Both estimates err only upwards, so the lower is nearer."""
    return min((one, other), key=lambda n: float(np.mean(n.sigma(signal) ** 2)))


def _shapes(forward: ForwardModel) -> NDArray[Any]:
    """What structures look like on the camera: point, two blobs, lines in four directions; equal sizes."""
    spot = forward.camera_spot()
    width = _spot_sigma(spot)
    pad = int(np.ceil(5 * width))
    point = np.pad(spot, pad)
    shapes = [point, gaussian_filter(point, 1.5 * width), gaussian_filter(point, 3 * width)]
    for angle in np.arange(4) * np.pi / 4:
        steps = np.linspace(-2.5 * width, 2.5 * width, 9)
        moved = [shift(point, (s * np.sin(angle), s * np.cos(angle)), order=1) for s in steps]
        shapes.append(np.sum(moved, axis=0))
    return np.stack([s / np.sqrt((s**2).sum()) for s in shapes])


def _spot_sigma(spot: NDArray[Any]) -> float:
    """Width of the spot's core: that of the Gaussian whose squared integral it has."""
    # For a Gaussian of σ and sum S the sum of squares is S² / 4πσ².
    return float(max(np.sqrt(spot.sum() ** 2 / (spot**2).sum() / (4 * np.pi)), 0.6))


def _region(forward: ForwardModel) -> int:
    """Side of a resolution cell, pixels."""
    return max(round(_SIDE * _core_sigma(forward.camera_spot())), 3)


def _core_sigma(spot: NDArray[Any]) -> float:
    """σ of the spot at half its height; side lobes do not widen it."""
    area = float((spot > 0.5 * spot.max()).sum())
    return max(float(np.sqrt(area / np.pi / (2 * np.log(2)))), 0.6)


def _significance(residual: NDArray[Any], sigma: NDArray[Any], shapes: NDArray[Any]) -> NDArray[Any]:
    """At each pixel the matched filter of largest modulus."""
    half = shapes.shape[1] // 2, shapes.shape[2] // 2
    size = [fft.next_fast_len(n + 2 * h, real=True) for n, h in zip(residual.shape, half, strict=True)]
    weight = 1 / sigma**2
    signal, power = fft.rfft2(residual * weight, size), fft.rfft2(weight, size)
    best = np.zeros(residual.shape)
    for shape in shapes:
        kernel = fft.rfft2(shape[::-1, ::-1], size)
        square = fft.rfft2(shape[::-1, ::-1] ** 2, size)
        inner = tuple(slice(h, h + n) for h, n in zip(half, residual.shape, strict=True))
        found = fft.irfft2(signal * kernel, size)[inner]
        expected = np.sqrt(np.maximum(fft.irfft2(power * square, size)[inner], 1e-12 * float(weight.mean())))
        value = found / expected
        best = np.where(np.abs(value) > np.abs(best), value, best)
    return best


def region_maxima(values: NDArray[Any], region: int) -> NDArray[Any]:
    """Largest value in each region of ``region`` × ``region`` pixels, those at the far edges smaller."""
    rows, columns = (-(-n // region) for n in values.shape)
    full = np.full((rows * region, columns * region), -np.inf)
    full[: values.shape[0], : values.shape[1]] = values
    return full.reshape(rows, region, columns, region).max((1, 3))


def _threshold(shapes: NDArray[Any], region: int, false_alarm: float) -> float:
    return _calibrated(shapes.tobytes(), shapes.shape, region, false_alarm)


@lru_cache(maxsize=16)
def _calibrated(shapes: bytes, size: tuple[int, ...], region: int, false_alarm: float) -> float:
    """Quantile of the regions' largest significance in white noise."""
    bank = np.frombuffer(shapes).reshape(size)
    side = 1200
    noise = np.random.default_rng(1).standard_normal((side, side))
    peaks = np.sort(region_maxima(np.abs(_significance(noise, np.ones_like(noise), bank)), region), axis=None)
    share = 1 - (np.arange(peaks.size) + 0.5) / peaks.size
    # The tail falls like exp(-z² / 2): a straight line in z² steadies what neighbouring regions share.
    tail = (share < 4 * false_alarm) & (share > false_alarm / 4)
    slope, start = np.polyfit(np.log(share[tail]), peaks[tail] ** 2, 1)
    return float(np.sqrt(slope * np.log(false_alarm) + start))


def _uncheckable(prediction: NDArray[Any], forward: ForwardModel, sigma: float) -> NDArray[np.float32]:
    """Local share of contrast in frequencies that reach the camera below its noise.

    Each frequency counts with 1 / (1 + SNR), SNR = |OTF|² S / N, S the prediction's radial power spectrum
    and N the noise spread over the prediction's pixels.
    """
    shape = prediction.shape
    mean = float(prediction.mean())
    spectrum = fft.rfft2(prediction - mean)
    fy, fx = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    radius = np.hypot(fy, fx)
    rings = np.minimum((radius * 2 * min(shape)).astype(int) // 2, min(shape))
    power = np.abs(spectrum) ** 2 / prediction.size
    count = np.maximum(np.bincount(rings.ravel()), 1)
    radial = (np.bincount(rings.ravel(), power.ravel()) / count)[rings]
    # A camera pixel gathers ratio² of the prediction's, so its noise spreads over as many.
    floor = (sigma * forward.ratio) ** 2
    lost = floor / (floor + forward.transfer() ** 2 * radial + 1e-30)
    if forward.ratio > 1:
        # Frequencies beyond the camera's own are folded: not seen at their place.
        nyquist = 0.5 / forward.ratio
        lost = np.where((np.abs(fy) > nyquist) | (fx > nyquist), 1.0, lost)
    hidden = fft.irfft2(spectrum * lost, shape)
    window = max(round(4 * _region(forward) * forward.ratio), 8)
    local = uniform_filter(prediction**2, window) - uniform_filter(prediction, window) ** 2
    erased = uniform_filter(hidden**2, window)
    least = 1e-6 * float(prediction.var()) + 1e-30
    return np.sqrt(np.clip(erased / np.maximum(local, least), 0, 1)).astype(np.float32)
