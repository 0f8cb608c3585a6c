"""What every door calls: one module a step, DataArray in, engine chosen, DataArray and its provenance out."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "engines": ["require_engine"],
        "flat_field": ["FlatFieldResult", "correct_illumination"],
        "mosaicking": ["stitch_tiles", "tiles_in"],
        "pairing": ["LabelMatch", "Pair", "find_label", "pair_with_label"],
        "enhancement": ["enhance"],
        "brightfield_lucy": ["BrightfieldRival", "deconvolve_brightfield", "search_brightfield"],
        "brightfield_trust": ["BrightfieldTiles", "TrustSettings"],
        "fluorescence_trust": ["FluorescenceCamera", "FluorescenceTrustSettings"],
        "comparison": [
            "apply_gains",
            "area_measures",
            "brightness_gains",
            "compare_regions",
            "consistency",
            "enlarged_bicubic",
        ],
    },
)
