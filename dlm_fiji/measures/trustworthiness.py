"""Can a prediction be true? Judged without a label, by the image it was made from.

The prediction p is passed through the microscope's forward model A, scaled, and compared with the image y::

    r = y - (α A p + β),    significance = Σ k r / σ²  /  sqrt( Σ k² / σ² )

k are the shapes that any structure of the specimen has at least after the lens: a point, blobs, a ring
and short lines, all blurred. Where one of them stands out of the noise σ, the prediction holds something the image
contradicts, or lacks something the image shows. What the lens erases (frequencies whose signal, after blur,
is below the noise) cannot be contradicted by any image; a second map says how much of the prediction's
detail is of that kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.ndimage import uniform_filter

from dlm_fiji.errors import InputError
from dlm_fiji.measures.evidence import Evidence, flag_threshold, gather, region_maxima, region_side
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.measures.noise import Noise

__all__ = ["Trust", "judged", "tile_evidence", "trust", "trust_tiles"]


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
    deviation
        Height of that deviation at its middle, as a share of the brightness there, signed.
    flags
        One for each region, bool, shape (region rows, region columns): significant and larger than the tolerance.
    contradicted
        Share of regions with a significant deviation of any size.
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
        pixels, those of the judged part.
    """

    residual: NDArray[np.float32]
    significance: NDArray[np.float32]
    deviation: NDArray[np.float32]
    flags: NDArray[np.bool_]
    contradicted: float
    region: int
    threshold: float
    tolerance: float
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
            "contradicted_share": self.contradicted,
            "expected_share_from_noise": self.false_alarm,
            "tolerance": self.tolerance,
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
            verdict = "the image does not contradict the prediction" + (" by so much" if self.tolerance else "")
        else:
            verdict = "in these the image contradicts the prediction"
        size, most = "", ""
        if self.tolerance:
            size, most = f" with deviations of {self.tolerance:.0%} of the brightness or more", "at most "
        sentence = (
            f"{self.flagged:.1%} of {self.flags.size} regions are flagged{size} (noise alone would flag "
            f"{most}{self.false_alarm:.1%}): {verdict}"
        )
        if self.tolerance:
            sentence += f"; {self.contradicted:.1%} deviate beyond noise by any amount"
        hidden = f"{float(self.uncheckable.mean()):.0%} of its local contrast cannot be checked with this lens."
        return f"{sentence}; {hidden}"


def trust(
    prediction: ArrayLike,
    image: ArrayLike,
    psf: ArrayLike,
    *,
    noise: Noise | float | None = None,
    scaling: tuple[float, float] | None = None,
    false_alarm: float = 0.008,
    tolerance: float = 0.0,
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
    tolerance
        Deviations lower than this share of the brightness there are not flagged, however significant: a network
        is rarely right to the camera's noise, and half a per cent of brightness over a wide area is no structure.

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
    _check_planes(p, [y])
    forward = ForwardModel(np.asarray(psf), p.shape, y.shape)
    evidence = gather([forward], p[..., None], [y[..., None]], np.zeros((1, 2)), noise=noise, scaling=scaling)
    return judged(evidence, p, false_alarm, tolerance)


def trust_tiles(
    prediction: ArrayLike,
    tiles: Sequence[ArrayLike],
    positions: ArrayLike,
    psfs: Sequence[ArrayLike],
    scale: float,
    *,
    trim: int = 0,
    illumination: int = 4,
    noise: Noise | float | None = None,
    false_alarm: float = 0.008,
    tolerance: float = 0.0,
) -> Trust:
    """Check a prediction against the tiles that its mosaic was stitched from.

    The mosaic itself is no fair judge: it is interpolated between pixels, so its noise is neither white nor as
    strong as the camera's, and its finest detail has lost contrast.

    Parameters
    ----------
    prediction
        Shape (rows, columns) or (rows, columns, channels), linear light.
    tiles
        Camera images of even illumination, shape (h, w) or (h, w, channels), linear light.
    positions
        Shape (n, 2): (y, x) of each tile's first pixel in camera pixels; (0, 0) is the first camera pixel of the
        prediction's field. Tiles and parts of tiles beyond it are left out.
    psfs
        One for each channel, on the prediction's pixels, as for `trust`.
    scale
        Prediction pixels in a camera pixel.
    trim
        Camera pixels at the field's edge that are not judged, as what lies beyond the edge shines into them.
    illumination
        Order of the polynomial by which each tile's illumination may still differ from an even one.
    noise, false_alarm, tolerance
        As for `trust`.

    Returns
    -------
    Trust
        Arrays on the camera pixels of the field without the trimmed edge, channels averaged.

    Raises
    ------
    InputError
        Shapes that do not belong together, NaN, an empty tile, no tile on the field.

    Notes
    -----
    Each tile may also lie a fraction of a pixel beside its position: registration is not the prediction's fault.
    """
    evidence, grey = tile_evidence(prediction, tiles, positions, psfs, scale, trim, illumination, noise)
    return judged(evidence, grey, false_alarm, tolerance)


def tile_evidence(
    prediction: ArrayLike,
    tiles: Sequence[ArrayLike],
    positions: ArrayLike,
    psfs: Sequence[ArrayLike],
    scale: float,
    trim: int = 0,
    illumination: int = 4,
    noise: Noise | float | None = None,
) -> tuple[Evidence, NDArray[Any]]:
    """The evidence behind `trust_tiles`, and the prediction's mean channel."""
    p = np.asarray(prediction, dtype=np.float64)
    ts = [np.asarray(tile, dtype=np.float64) for tile in tiles]
    if p.ndim == 2:
        p, ts = p[..., None], [t[..., None] for t in ts]
    if p.ndim != 3 or any(t.ndim != 3 or t.shape[2] != p.shape[2] for t in ts) or len(psfs) != p.shape[2]:
        raise InputError(
            f"A prediction of shape {p.shape} needs tiles of as many channels and a point spread function for each."
        )
    for channel in range(p.shape[2]):
        _check_planes(p[..., channel], [t[..., channel] for t in ts])
    coarse = (round(p.shape[0] / scale), round(p.shape[1] / scale))
    forwards = [ForwardModel(np.asarray(psf), p.shape[:2], coarse, scale) for psf in psfs]
    evidence = gather(
        forwards,
        p,
        ts,
        np.asarray(positions, float),
        trim=trim,
        noise=noise,
        illumination=illumination,
        displaced=True,
    )
    return evidence, p.mean(-1)


def _check_planes(prediction: NDArray[Any], images: Sequence[NDArray[Any]]) -> None:
    for name, array in (("prediction", prediction), *(("image", image) for image in images)):
        if array.ndim != 2 or min(array.shape) < 32:
            raise InputError(
                f"The {name} must be a grey plane of at least 32 × 32 pixels, not {array.shape}; judge "
                "channels one by one."
            )
        if not np.isfinite(array).all():
            raise InputError(f"The {name} holds NaN or infinite pixels.")
        if name == "image" and np.ptp(array) == 0:
            raise InputError("The image is empty (one value everywhere), so it can confirm nothing.")


def judged(evidence: Evidence, prediction: NDArray[Any], false_alarm: float = 0.008, tolerance: float = 0.0) -> Trust:
    """The verdict; ``prediction`` is one plane."""
    if not 0 < false_alarm < 0.5:
        raise InputError(f"The share of false alarms must lie between 0 and 0.5, not at {false_alarm}.")
    significance = evidence.significance
    region = region_side(evidence.forward)
    threshold = flag_threshold(evidence.shapes, region, false_alarm)
    beyond = np.abs(significance)
    deviation = evidence.deviation
    sigma = float(np.mean(evidence.sigma())) / max(abs(evidence.alpha), 1e-30)
    return Trust(
        residual=evidence.residual().astype(np.float32),
        significance=significance.astype(np.float32),
        deviation=deviation.astype(np.float32),
        flags=region_maxima(np.where(np.abs(deviation) >= tolerance, beyond, 0), region) > threshold,
        contradicted=float((region_maxima(beyond, region) > threshold).mean()),
        region=region,
        threshold=threshold,
        tolerance=tolerance,
        false_alarm=false_alarm,
        chi2=evidence.chi2,
        alpha=evidence.alpha,
        beta=evidence.beta,
        noise=evidence.noise,
        uncheckable=_inner(_uncheckable(prediction, evidence.forward, sigma), evidence),
    )


def _inner(values: NDArray[Any], evidence: Evidence) -> NDArray[Any]:
    """What belongs to the judged grid, of an array on the prediction's pixels."""
    edge = round(evidence.trim * evidence.forward.ratio)
    return values[edge : values.shape[0] - edge, edge : values.shape[1] - edge]


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
    window = max(round(4 * region_side(forward) * forward.ratio), 8)
    local = uniform_filter(prediction**2, window) - uniform_filter(prediction, window) ** 2
    erased = uniform_filter(hidden**2, window)
    least = 1e-6 * float(prediction.var()) + 1e-30
    return np.sqrt(np.clip(erased / np.maximum(local, least), 0, 1)).astype(np.float32)
