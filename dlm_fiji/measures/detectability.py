"""How well `trust` finds what is wrong: structures of known detectability put in or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

from dlm_fiji.errors import InputError
from dlm_fiji.measures.forward import ForwardModel
from dlm_fiji.measures.trustworthiness import Trust, region_maxima, trust

__all__ = ["Roc", "trust_roc"]

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
    """

    threshold: NDArray[Any]
    false_alarm: NDArray[Any]
    inserted: NDArray[Any]
    erased: NDArray[Any]
    used: float
    at_used: tuple[float, float, float]
    structures: int
    d_prime: float


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
    clean = trust(p, y, psf)
    forward = ForwardModel(np.asarray(psf), p.shape, y.shape)
    sigma = clean.noise.sigma(clean.alpha * forward(p) + clean.beta)
    # A field full of wrong structures would pull the scaling along; a single one does not, so it is held.
    held: dict[str, Any] = {"noise": clean.noise, "scaling": (clean.alpha, clean.beta)}
    rng = np.random.default_rng(seed)
    peaks: dict[str, list[float]] = {"inserted": [], "erased": []}
    for kind in kinds:
        added, places = _structures(kind, forward, sigma, clean.alpha, d_prime, rng)
        cases = {
            "inserted": trust(p + added, y, psf, **held),
            "erased": trust(p, y + clean.alpha * forward(added), psf, **held),
        }
        for name, result in cases.items():
            peaks[name] += [_peak(result, place) for place in places]
    quiet = _regions(clean)
    levels = np.linspace(0, max(8.0, d_prime + 4), 161)

    def over(values: Any, level: Any) -> NDArray[Any]:
        return (np.asarray(values)[None] > np.asarray(level)[:, None]).mean(1)

    used = [clean.threshold]
    return Roc(
        threshold=levels,
        false_alarm=over(quiet, levels),
        inserted=over(peaks["inserted"], levels),
        erased=over(peaks["erased"], levels),
        used=clean.threshold,
        at_used=(
            float(over(quiet, used)[0]),
            float(over(peaks["inserted"], used)[0]),
            float(over(peaks["erased"], used)[0]),
        ),
        structures=len(peaks["inserted"]),
        d_prime=d_prime,
    )


def _structures(
    kind: Kind,
    forward: ForwardModel,
    sigma: NDArray[Any],
    alpha: float,
    d_prime: float,
    rng: np.random.Generator,
) -> tuple[NDArray[Any], list[tuple[float, float]]]:
    """All structures of one kind on the prediction's pixels, and their centres on the camera's."""
    ratio = forward.ratio
    reach = int(np.ceil(max(forward.psf.shape) / 2 / ratio)) + 6  # camera pixels
    pitch = 2 * reach
    rows, columns = (range(reach + 2, n - reach - 2, pitch) for n in forward.coarse)
    if len(rows) * len(columns) < 10:
        raise InputError(
            f"An image of {forward.coarse} has no room for ten structures with this point spread function: "
            "give a "
            "larger field."
        )
    added, places = np.zeros(forward.fine), []
    y, x = np.ogrid[: forward.fine[0], : forward.fine[1]]
    for row in rows:
        for column in columns:
            centre = row + rng.uniform(-2, 2), column + rng.uniform(-2, 2)
            fine = [(c + 0.5) * ratio - 0.5 for c in centre]
            window = tuple(slice(max(int(f - reach * ratio), 0), int(f + reach * ratio) + 1) for f in fine)
            form = _form(kind, y[window[0]] - fine[0], x[:, window[1]] - fine[1], ratio, rng.uniform(0, np.pi))
            energy = _projected_energy(form, forward, 1 / _spread(sigma, window, ratio, form.shape) ** 2)
            added[window] += form * d_prime / (abs(alpha) * np.sqrt(energy))
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


def _spread(sigma: NDArray[Any], window: tuple[slice, ...], ratio: float, shape: tuple[int, ...]) -> NDArray[Any]:
    """The camera's noise on the prediction's pixels of a window."""
    rows, columns = (
        np.clip(((w.start + np.arange(n) + 0.5) / ratio).astype(int), 0, m - 1)
        for w, n, m in zip(window, shape, sigma.shape, strict=True)
    )
    return sigma[np.ix_(rows, columns)]


def _peak(result: Trust, place: tuple[float, float]) -> float:
    """Largest significance within the extent of the largest structure, ± 4 camera pixels."""
    window = tuple(slice(max(round(c) - 4, 0), round(c) + 5) for c in place)
    return float(np.abs(result.significance[window]).max())


def _regions(result: Trust) -> NDArray[Any]:
    return region_maxima(np.abs(result.significance), result.region).ravel()
