"""Deconvolution: Richardson-Lucy with its variants, and the search for its best settings."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "lucy": ["RichardsonLucy", "richardson_lucy"],
        "searching": ["SearchResult", "residual_whiteness", "search"],
    },
)
