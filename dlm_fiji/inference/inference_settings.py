"""How a model is run. The command line makes its options from this, so nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

from dlm_fiji.settings import Settings, setting

__all__ = ["InferenceSettings"]


class InferenceSettings(Settings):
    """How a model is run; nothing here changes the result by more than 1e-4 of the range, but passes do."""

    tile: int | Literal["auto", "whole"] = setting("auto", "pixels of a tile with its overlap", unit="px")
    passes: int = setting(
        1,
        "times the network is applied (self-feeding); more than one may sharpen too far",
        source="000, self-feeding",
        ge=1,
        le=5,
    )
    keep_scale: bool = setting(False, "reduce to the input's pixels before each further pass")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = setting("auto", "what computes the network")
    device: str = setting("auto", "device: auto, cpu, cuda, cuda:1, mps; cuda:0,cuda:1 or cuda:all share the tiles")
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "number type of the network")
    threads: int | None = setting(None, "CPU threads; empty for the library's choice", ge=1)
    full_scale: float | None = setting(None, "value of a full pixel, such as 4095 for 12 bits", gt=0)
    resample: bool = setting(False, "resample an image whose pixel size the model was not trained for")
