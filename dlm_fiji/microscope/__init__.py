"""The physics of the microscope: point spread functions, image formation, illumination, propagation."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "illumination": ["FlatFieldSettings", "estimate_flat_field"],
        "point_spread": ["born_wolf", "gaussian_psf"],
    },
)
