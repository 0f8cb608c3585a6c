"""Which shipped model suits an image."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from dlm_fiji.inference.model_files import Model, list_models, load_model
from dlm_fiji.inference.resampling import pixel_um_of

__all__ = ["Recommendation", "recommend"]


@dataclass
class Recommendation:
    """A model with what speaks for and against it for one image."""

    model: Model
    suits: bool
    reasons: list[str]


def recommend(image: xr.DataArray, names: list[str] | None = None) -> list[Recommendation]:
    """Models for ``image``, the ones that suit first.

    Colour means bright field; a grey image is bright field where most of it is bright, fluorescence where
    most of it is dark. Pixel size and numerical aperture are compared where the image has them.
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


def guessed_modality(image: xr.DataArray) -> tuple[str, str]:
    """``"bright field"`` or ``"fluorescence"``, and why."""
    channels = [str(c) for c in image.coords["c"].values] if "c" in image.coords else []
    if channels == ["red", "green", "blue"]:
        return "bright field", "The image is in colour: bright field."
    low, middle, high = (float(v) for v in image.quantile([0.005, 0.5, 0.998]))
    if middle - low > (high - low) / 2:
        return "bright field", "The image is grey and mostly bright: bright field."
    return "fluorescence", "The image is grey and mostly dark: fluorescence."
