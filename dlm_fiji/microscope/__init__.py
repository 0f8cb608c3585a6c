"""The physics of the microscope: point spread functions, image formation, illumination, propagation."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "background": ["BackgroundLevel", "background_level", "rolling_ball_background", "subtract_background"],
        "focus_fusion": ["FocusFusion", "FocusSettings", "fuse_focus"],
        "gibson_lanni_model": ["gibson_lanni"],
        "overlap_illumination": ["flat_field_from_overlaps"],
        "illumination": ["FlatFieldSettings", "estimate_flat_field"],
        "measured_psf": ["MeasuredPsf", "psf_from_beads"],
        "point_spread": ["born_wolf", "gaussian_psf"],
    },
)
