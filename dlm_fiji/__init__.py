"""dlm_fiji: deep-learning microscopy inside Fiji.

Importing this package starts neither Java nor PyTorch; names are loaded when they are first used.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "errors": ["ConfigurationError", "DlmError", "DlmWarning", "InputError", "SetupError"],
        "micrograph": ["open_image", "save_image"],
        "inference": ["load_model", "predict"],
        "steps": ["enhance"],
    },
)
