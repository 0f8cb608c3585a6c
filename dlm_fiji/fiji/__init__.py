"""The only place that knows Java: ImageJ in this process, images across the border, one module a plugin.

Importing this package starts no Java. ``start`` (or the first call that needs it) does, once a process.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "runtime": ["ImageJSettings", "Runtime", "running", "start"],
        "java": ["JavaChoice", "choose_java"],
        "plugins": ["Availability", "PLUGINS", "plugins_available"],
        "convert": ["from_imageplus", "to_imageplus"],
        "python_mode": ["is_imageplus", "takes_imageplus"],
        "macro": ["MacroResult", "divide_by_flat_field", "run_command", "run_macro"],
    },
)
