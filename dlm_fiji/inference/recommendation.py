"""Which shipped model suits an image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import xarray as xr

from dlm_fiji.errors import DlmWarning
from dlm_fiji.inference.model_files import Model, list_models, load_model
from dlm_fiji.inference.resampling import pixel_um_of

__all__ = ["Recommendation", "recommend", "warn_of_modality"]


#: Share of its brightest pixels below which the median of a colour image is black.
_BLACK = 0.15


@dataclass
class Recommendation:
    """A model with what speaks for and against it for one image."""

    model: Model
    suits: bool
    reasons: list[str]


def recommend(image: xr.DataArray, names: list[str] | None = None) -> list[Recommendation]:
    """Models for ``image``, the ones that suit first.

    A grey image is bright field where most of it is bright, fluorescence where most of it is dark; colour means
    bright field unless it is almost black. Pixel size and numerical aperture are compared where the image has them.
    """
    modality, why = guessed_modality(image)
    na = image.attrs.get("na")
    found = []
    for name in list_models() if names is None else names:
        model = load_model(name)
        reasons = [why]
        fits = model.card.modality == modality
        if not fits:
            reasons.append(f"The model is for {model.card.modality}.")
        concerns = model.card.concerns(pixel_um_of(image), float(na) if isinstance(na, (int, float)) else None)
        if pixel_um_of(image) is None and model.card.pixel_um is not None:
            reasons.append("The pixel size of the image is not known.")
        found.append(Recommendation(model, fits and not concerns, reasons + concerns))
    return sorted(found, key=lambda r: (not r.suits, r.model.card.modality != modality, r.model.name))


def warn_of_modality(model: Model, image: xr.DataArray) -> None:
    """A :class:`DlmWarning` where the image is clearly of a kind that the model is not for."""
    modality, why = guessed_modality(image, doubt=0.25)
    if modality not in (None, model.card.modality):
        text = f"{why} Model {model.name!r} is for {model.card.modality}; 'models --for IMAGE' says which suit."
        warnings.warn(text, DlmWarning, stacklevel=3)


def guessed_modality(image: xr.DataArray, doubt: float = 0.0) -> tuple[str | None, str]:
    """``"bright field"`` or ``"fluorescence"``, and why.

    A grey image whose median lies within ``doubt`` of the middle of its values is neither: None.
    """
    channels = [str(c) for c in image.coords["c"].values] if "c" in image.coords else []
    thin = [slice(None, None, max(1, n // 512)) if str(dim) in "yx" else slice(None) for dim, n in image.sizes.items()]
    low, middle, high = (float(v) for v in np.quantile(image.values[tuple(thin)], [0.005, 0.5, 0.998]))
    if channels == ["red", "green", "blue"]:
        if middle < _BLACK * high:
            return "fluorescence", "The image is in colour on black: fluorescence."
        return "bright field", "The image is in colour: bright field."
    if abs(middle - (low + high) / 2) < doubt * (high - low):
        return None, ""
    if middle - low > (high - low) / 2:
        return "bright field", "The image is grey and mostly bright: bright field."
    return "fluorescence", "The image is grey and mostly dark: fluorescence."
