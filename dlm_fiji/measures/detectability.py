"""How well `trust` finds what is wrong: structures of known detectability put in or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

from dlm_fiji.errors import InputError
from dlm_fiji.measures.evidence import Evidence, gather, region_maxima, region_side, strongest
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.measures.trustworthiness import Trust, judged, tile_evidence

__all__ = ["Roc", "tiles_roc", "trust_roc"]

Kind = Literal["point", "disk", "ring", "line"]
KINDS: tuple[Kind, ...] = ("point", "disk", "ring", "line")


@dataclass(frozen=True)
class Roc:
    """Rates against the threshold on the significance.

    Attributes
    ----------
    threshold
        Shape (n,), rising.
    false_alarm
        Share of regions over it without any structure put in, shape (n,).
    inserted, erased
        Share of structures found that the prediction has and the image has not, and the other way round,
        shape (n,).
    used
        The threshold that `trust` uses; ``at_used`` are (false alarm, inserted, erased) there.
    structures
        Number of structures behind each rate.
    d_prime
        Their detectability.
    strengths, found
        Other detectabilities, and the share found at each with the threshold in use, ``"inserted"`` and
        ``"erased"``.
    """

    threshold: NDArray[Any]
    false_alarm: NDArray[Any]
    inserted: NDArray[Any]
    erased: NDArray[Any]
    used: float
    at_used: tuple[float, float, float]
    structures: int
    d_prime: float
    strengths: NDArray[Any]
    found: dict[str, NDArray[Any]]


def trust_roc(
    prediction: ArrayLike,
    image: ArrayLike,
    psf: ArrayLike,
    *,
    d_prime: float = 5.0,
    kinds: Sequence[Kind] = KINDS,
    seed: int = 0,
) -> Roc:
    """Receiver operating characteristic of `trust` on one field.

    Structures are laid on a jittered grid, each scaled so that its projection A s has √(Σ (α A s)² / σ²) =
    ``d_prime``; once they are added to the prediction, once, projected, to the image.

    Parameters
    ----------
    prediction, image, psf
        As `trust`, a pair that belongs together: the false alarms are counted on it as it is.
    d_prime
        Detectability of each structure: the ideal observer's signal over noise.
    kinds
        ``"point"`` (one camera pixel), ``"disk"`` and ``"ring"`` (6 camera pixels wide), ``"line"`` (8 long).
    seed
        Of the places.

    Returns
    -------
    Roc

    Raises
    ------
    InputError
        The field is too small for at least ten structures of each kind.
    """
    p, y = np.asarray(prediction, dtype=np.float64), np.asarray(image, dtype=np.float64)
    forward = ForwardModel(np.asarray(psf), p.shape, y.shape)
    evidence = gather([forward], p[..., None], [y[..., None]], np.zeros((1, 2)))
    return _roc(evidence, judged(evidence, p), d_prime, kinds, seed)


def tiles_roc(
    prediction: ArrayLike,
    tiles: Sequence[ArrayLike],
    positions: ArrayLike,
    psfs: Sequence[ArrayLike],
    scale: float,
    *,
    trim: int = 0,
    d_prime: float = 5.0,
    kinds: Sequence[Kind] = KINDS,
    seed: int = 0,
) -> Roc:
    """`trust_roc` for a prediction and the tiles that its mosaic was stitched from, as `trust_tiles` judges it.

    Structures are as strong in every channel, and d' is that of all tiles together. A prediction that the tiles
    contradict already would hide what an added structure does, so the tiles' noise is simulated round the
    prediction: the rates are those of the instrument, its tiles and their places, not of this prediction's faults.
    """
    evidence, grey = tile_evidence(prediction, tiles, positions, psfs, scale, trim)
    evidence = evidence.with_noise_only(np.random.default_rng(seed + 1))
    return _roc(evidence, judged(evidence, grey), d_prime, kinds, seed)


def _roc(evidence: Evidence, clean: Trust, d_prime: float, kinds: Sequence[Kind], seed: int) -> Roc:
    """Matched filters are linear: one pass for each kind gives every strength, put in or left out."""
    rng = np.random.default_rng(seed)
    strengths = np.arange(0, 10.25, 0.5)
    signs = {"inserted": -1.0, "erased": 1.0}
    peaks: dict[str, list[NDArray[Any]]] = {name: [] for name in signs}
    for kind in kinds:
        unit, places = _structures(kind, evidence, rng)
        signal = evidence.signal_of(unit)
        for name, sign in signs.items():
            factors = sign * np.append(strengths, d_prime)
            peaks[name] += [_peaks(evidence, signal, factors, place) for place in places]
    at_d = {name: np.array(found)[:, -1] for name, found in peaks.items()}
    quiet = region_maxima(np.abs(clean.significance), clean.region).ravel()
    levels = np.linspace(0, max(8.0, d_prime + 4), 161)

    def over(values: Any, level: Any) -> NDArray[Any]:
        return (np.asarray(values)[None] > np.asarray(level)[:, None]).mean(1)

    used = [clean.threshold]
    return Roc(
        threshold=levels,
        false_alarm=over(quiet, levels),
        inserted=over(at_d["inserted"], levels),
        erased=over(at_d["erased"], levels),
        used=clean.threshold,
        at_used=(
            float(over(quiet, used)[0]),
            float(over(at_d["inserted"], used)[0]),
            float(over(at_d["erased"], used)[0]),
        ),
        structures=len(at_d["inserted"]),
        d_prime=d_prime,
        strengths=strengths,
        found={name: (np.array(found)[:, :-1] > clean.threshold).mean(0) for name, found in peaks.items()},
    )


def _structures(
    kind: Kind, evidence: Evidence, rng: np.random.Generator
) -> tuple[NDArray[Any], list[tuple[float, float]]]:
    """All structures of one kind, of d' = 1, on the prediction's pixels, and their centres on the judged grid."""
    forward, sigma, trim = evidence.forward, evidence.sigma(), evidence.trim
    ratio = forward.ratio
    reach = 5 * region_side(forward)  # camera pixels; neighbours are two of them apart
    rows, columns = (range(reach, n - reach, 2 * reach) for n in evidence.size)
    if len(rows) * len(columns) < 10:
        raise InputError(
            f"An image of {forward.coarse} has no room for ten structures with this point spread function: "
            "give a larger field."
        )
    added, places = np.zeros(forward.fine), []
    y, x = np.ogrid[: forward.fine[0], : forward.fine[1]]
    for row in rows:
        for column in columns:
            centre = row + rng.uniform(-2, 2), column + rng.uniform(-2, 2)
            fine = [(c + trim + 0.5) * ratio - 0.5 for c in centre]
            window = tuple(
                slice(max(int(f - reach * ratio), 0), min(int(f + reach * ratio) + 1, n))
                for f, n in zip(fine, forward.fine, strict=True)
            )
            form = _form(kind, y[window[0]] - fine[0], x[:, window[1]] - fine[1], ratio, rng.uniform(0, np.pi))
            weight = 1 / _spread(sigma, window, ratio, form.shape, trim) ** 2
            added[window] += form / (abs(evidence.alpha) * np.sqrt(_projected_energy(form, forward, weight)))
            places.append(centre)
    return added, places


def _form(kind: Kind, dy: NDArray[Any], dx: NDArray[Any], unit: float, angle: float) -> NDArray[Any]:
    distance = np.hypot(dy, dx) / unit
    if kind == "point":
        return ((np.abs(dy) <= unit / 2) & (np.abs(dx) <= unit / 2)).astype(float)
    if kind == "disk":
        return (distance <= 3).astype(float)
    if kind == "ring":
        return ((distance <= 3) & (distance >= 2)).astype(float)
    if kind == "line":
        along = (dx * np.cos(angle) + dy * np.sin(angle)) / unit
        across = (-dx * np.sin(angle) + dy * np.cos(angle)) / unit
        return ((np.abs(along) <= 4) & (np.abs(across) <= 0.71)).astype(float)
    raise InputError(f"A structure is one of {', '.join(KINDS)}, not {kind!r}.")


def _projected_energy(form: NDArray[Any], forward: ForwardModel, weight: NDArray[Any]) -> float:
    """Σ (A s)² / σ² over the camera's pixels, from the blurred form's own finer ones."""
    return float((fftconvolve(form, forward.psf, mode="same") ** 2 * weight).sum() / forward.ratio**2)


def _spread(
    sigma: NDArray[Any], window: tuple[slice, ...], ratio: float, shape: tuple[int, ...], trim: int
) -> NDArray[Any]:
    """The camera's noise on the prediction's pixels of a window."""
    rows, columns = (
        np.clip(((w.start + np.arange(n) + 0.5) / ratio).astype(int) - trim, 0, m - 1)
        for w, n, m in zip(window, shape, sigma.shape, strict=True)
    )
    return sigma[np.ix_(rows, columns)]


def _peaks(evidence: Evidence, signal: NDArray[Any], factors: NDArray[Any], place: tuple[float, float]) -> NDArray[Any]:
    """Largest significance within the extent of the largest structure, ± 4 camera pixels, for each strength."""
    window = (slice(None), *(slice(max(round(c) - 4, 0), round(c) + 5) for c in place))
    clean, added, power = evidence.signal[window], signal[window], evidence.power[window]
    return np.array([np.abs(strongest(clean + f * added, power)).max() for f in factors])
