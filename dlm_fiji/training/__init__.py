"""Training: patches from pairs, the regression and the adversarial loop, checkpoints, simulated pairs."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "plan": ["TrainingSettings"],
        "patches": ["PatchPairs", "extract_patches"],
        "regression": ["TrainingResult", "train_regression"],
        "warm_start": ["start_from_interpolation", "take_over_weights"],
    },
)
