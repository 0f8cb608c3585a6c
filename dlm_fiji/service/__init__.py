"""The local service that Fiji's scripts and the browser page call: the same steps over HTTP, on this machine only."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "application": ["create_app"],
        "jobs": ["Job", "JobQueue"],
        "operations": ["OPERATIONS", "Operation"],
        "running": ["ServiceSettings", "serve", "service_file"],
    },
)
