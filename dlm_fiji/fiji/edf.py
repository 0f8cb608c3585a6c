"""EPFL's Extended Depth of Field (Forster et al. 2004, doi:10.1002/jemt.20092; Aguet et al. 2008) called directly.

Not part of Fiji; its jar works under ImageJ 1.x too. The Java class behind its menu commands takes the settings and
shows its results, which are caught without windows here.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.fiji.convert import from_imageplus, to_imageplus
from dlm_fiji.fiji.macro import captured_output, session
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class
from dlm_fiji.micrograph import from_array, to_array
from dlm_fiji.microscope import FocusFusion

__all__ = ["available", "fuse_focus"]

Method = Literal["sobel", "variance", "real-wavelets", "complex-wavelets"]
_METHODS = ("sobel", "variance", "real-wavelets", "complex-wavelets")


def available() -> Availability:
    """Whether this ImageJ has the plugin, its version, and how to install it."""
    return plugins_available()["edf"]


def fuse_focus(
    stack: np.ndarray,
    *,
    method: Method = "complex-wavelets",
    levels: int | None = None,
    consistency: bool = True,
    window: int = 5,
) -> FocusFusion:
    """One sharp image of a focus stack, by the plugin.

    Parameters
    ----------
    stack
        (planes, H, W) or (planes, H, W, 3); 8-bit colour, or any type that ImageJ has in grey.
    method
        The plugin's four measures of sharpness.
    levels
        Scales of the wavelet transform; None takes as many as the image allows.
    consistency
        Majority votes between sub-bands and between neighbours.
    window
        Side of the window of the variance method, px.

    Returns
    -------
    FocusFusion
        ``plane`` is the plugin's height map: the plane, from 0, that each pixel was taken from.

    Raises
    ------
    SetupError
        The plugin is not there.
    InputError
        The stack has fewer than 2 planes, or is too small for the plugin.
    """
    require("edf")
    stack = np.asarray(stack)
    if method not in _METHODS:
        raise ConfigurationError(f"method is one of {', '.join(_METHODS)}, not {method!r}.")
    if stack.ndim not in (3, 4) or len(stack) < 2 or (stack.ndim == 4 and stack.shape[-1] != 3):
        raise InputError(
            f"A focus stack is (planes, H, W) or (planes, H, W, 3) with 2 planes or more, not {stack.shape}."
        )
    if stack.ndim == 4 and stack.dtype != np.uint8:
        raise InputError(f"The plugin fuses colour of 8 bits only, not {stack.dtype}; use engine='native'.")
    if min(stack.shape[1:3]) < 8:
        raise InputError(f"Images of {stack.shape[1]} × {stack.shape[2]} px are too small for the plugin.")
    settings = _settings(stack, method, levels, consistency, window)
    dims = ("z", "y", "x", "c") if stack.ndim == 4 else ("z", "y", "x")
    with session() as opened:
        imp = to_imageplus(from_array(stack, dims=dims), "focus stack")
        with captured_output():
            try:
                java_class("edfgui.ExtendedDepthOfField")(imp, settings).process()
            except Exception as error:
                raise InputError(f"Extended Depth of Field failed: {str(error).splitlines()[0]}.") from error
        image, height = opened.titled("Output"), opened.titled("Height-Map")
        if image is None or height is None:
            raise InputError("Extended Depth of Field returned no image.")
        fused, plane = to_array(from_imageplus(image)), to_array(from_imageplus(height))
    if np.issubdtype(stack.dtype, np.integer):
        fused = np.clip(np.rint(fused), 0, np.iinfo(stack.dtype).max)
    plane = np.clip(np.rint(plane).astype(int) - 1, 0, len(stack) - 1)  # the height map counts slices from 1
    return FocusFusion(fused.astype(stack.dtype), plane, f"Fiji, {method}")


def _settings(stack: np.ndarray, method: str, levels: int | None, consistency: bool, window: int) -> Any:
    settings = java_class("edfgui.Parameters")()
    # The plugin extends the image to a power of 2; its coarsest scale must keep some pixels.
    side = 1 << int(np.ceil(np.log2(max(stack.shape[1:3]))))
    most = max(1, int(np.log2(side)) - 2)
    settings.maxScales = most
    settings.setQualitySettings({"sobel": 0, "variance": 1, "real-wavelets": 3, "complex-wavelets": 4}[method])
    settings.setTopologySettings(0)
    settings.nScales = min(levels or most, most)
    settings.subBandCC = settings.majCC = consistency
    settings.varWindowSize = window
    settings.color = stack.ndim == 4
    settings.outputColorMap = 0 if stack.ndim == 4 else 1
    settings.colorConversionMethod = 0
    settings.doDenoising = settings.show3dView = settings.log = False
    settings.showTopology = True
    return settings
