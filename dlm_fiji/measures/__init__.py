"""Measures on pure arrays: similarity, colour, resolution, error maps, and whether to trust a result."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "arrays": ["luminance"],
        "beads": ["BeadWidths", "bead_fwhm"],
        "colour": ["ColourDifference", "cie94", "lab"],
        "comparison": [
            "CrossMatrix",
            "DepthOfField",
            "LineProfile",
            "block_shifts",
            "cross_matrix",
            "depth_of_field",
            "line_profile",
            "percent_difference",
        ],
        "detectability": ["Roc", "tiles_roc", "trust_roc"],
        "forward": ["ForwardModel"],
        "frequency": ["decorrelation_resolution", "ring_correlation", "split_image"],
        "noise": ["Noise", "estimate_noise"],
        "pixel_error": ["match_intensity", "nrmse", "psnr"],
        "similarity": ["ms_ssim", "ssim", "ssim_map"],
        "slanted_edge": ["EdgeResponse", "slanted_edge_mtf"],
        "squirrel": ["ErrorMap", "error_map"],
        "trustworthiness": ["Trust", "trust", "trust_tiles"],
        "usaf": ["Contrast", "usaf_mtf"],
        "usaf_geometry": ["Triplet", "usaf_target"],
    },
)
