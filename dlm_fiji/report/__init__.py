"""The comparison report: a run folder in, a page that opens from disk out."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "page": ["write_report"],
        "overview": ["write_summary"],
        "deep_zoom": ["write_deep_zoom"],
    },
)
