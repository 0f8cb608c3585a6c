"""The main job: the stages in order, the run folder that records them, and the presets."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "configuration": ["PipelineSettings", "load_settings", "preset"],
        "runner": ["run_pipeline"],
    },
)
