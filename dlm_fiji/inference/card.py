"""What a model says about itself: architecture, what it was made for, what it was made from."""

from __future__ import annotations

from typing import Any, Literal

from dlm_fiji.settings import Settings, setting

__all__ = ["ModelCard"]


class ModelCard(Settings):
    """The description that lies beside the weights, as ``model.json``.

    Ranges are (lowest, highest) of what training saw; an image outside them is enhanced all the same, with a
    warning.
    """

    name: str = setting("model", "name of the model; the folder's name for a shipped one", min_length=1)
    description: str = setting("", "one or two sentences for the user")
    architecture: str = setting("BrightfieldNet", "class in dlm_fiji.networks")
    config: dict[str, Any] = setting({}, "arguments of that class")
    modality: Literal["bright field", "fluorescence"] = setting("bright field", "kind of image")
    scale: float = setting(2.5, "enlargement L", gt=0)
    channels: int = setting(3, "channels in and out", ge=1)
    normalisation: Literal["full scale", "percentile"] = setting(
        "full scale",
        "how values become the network's: divided by the full scale of the type (8-bit sRGB / 255), or "
        "background "
        "and 99.8th percentile of the image to 0 … 255 (002)",
    )
    intensity_range: tuple[float, float] = setting((0.0, 1.0), "values that the network was trained on")
    pixel_um: tuple[float, float] | None = setting(None, "pixel size of the input", unit="µm")
    na: tuple[float, float] | None = setting(None, "numerical aperture of the objective")
    training_data: str = setting("", "what the weights were trained on")
    training_command: str = setting("", "the command that makes the weights again")
    data_licence: str = setting("", "origin and licence of the training data")
    measured: dict[str, Any] = setting({}, "SSIM and PSNR on fields that no training saw")
    limits: str = setting("", "where the model holds and where not")
    licence: str = setting("BSD-3-Clause", "licence of the weights")

    def concerns(self, pixel_um: float | None = None, na: float | None = None) -> list[str]:
        """One sentence for each property of an image that is outside what the model was trained for."""
        found = []
        if pixel_um is not None and self.pixel_um is not None and not _within(pixel_um, self.pixel_um):
            found.append(
                f"The image has pixels of {pixel_um:.3g} µm, model {self.name!r} was trained for "
                f"{self.pixel_um[0]:.3g} to {self.pixel_um[1]:.3g} µm; --resample (resample=True) resamples the image "
                "first."
            )
        if na is not None and self.na is not None and not _within(na, self.na):
            found.append(
                f"The image was taken with NA {na:.3g}, model {self.name!r} was trained for "
                f"{self.na[0]:.3g} to {self.na[1]:.3g}; compare with Richardson-Lucy before you trust "
                "details."
            )
        return found


def _within(value: float, limits: tuple[float, float]) -> bool:
    # 2 % of room: a pixel size is rarely known better.
    return limits[0] * 0.98 <= value <= limits[1] * 1.02
