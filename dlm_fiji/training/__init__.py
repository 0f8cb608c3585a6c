"""Training: patches from pairs, the regression and the adversarial loop, checkpoints, simulated pairs."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "pair_folder": ["RegisteredPairs", "read_registered_pairs"],
        "plan": ["TrainingSettings"],
        "patches": ["PatchPairs", "extract_patches"],
        "adversarial": ["train_adversarial"],
        "fluorescence_pairs": ["scaled_pair", "scaled_stored_pair"],
        "held_out": ["hold_out_area"],
        "history": ["plot_history", "read_history"],
        "label_fields": ["LabelField", "read_fluorescence_fields", "read_label_fields", "read_test_fields"],
        "label_sources": ["brightfield_source", "fluorescence_source"],
        "loop": ["TrainingResult"],
        "regression": ["train_regression"],
        "simulated": ["SimulatedPairs", "SimulationSettings"],
        "simulated_fluorescence": ["FluorescenceSimulation", "SimulatedFluorescence", "scaled_label"],
        "warm_start": ["start_from_interpolation", "take_over_weights"],
    },
)
