"""Measures on pure arrays: similarity, colour, resolution, error maps, and whether to trust a result."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "arrays": ["luminance"],
        "colour": ["ColourDifference", "cie94", "lab"],
        "pixel_error": ["match_intensity", "nrmse", "psnr"],
        "similarity": ["ms_ssim", "ssim", "ssim_map"],
        "squirrel": ["ErrorMap", "error_map"],
    },
)
