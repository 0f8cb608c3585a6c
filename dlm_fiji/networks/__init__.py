"""The papers' networks, their layers and losses, in nothing but PyTorch."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "brightfield": ["BrightfieldNet"],
        "fluorescence": ["Discriminator", "FluorescenceGenerator"],
        "adversarial_losses": ["PixelWeights", "calibrated_weights", "discriminator_loss", "generator_loss"],
        "losses": ["brightfield_loss", "gradient_energy", "structural_similarity"],
    },
)
