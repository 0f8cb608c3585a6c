"""Stitching, matching of fields of view, drift, and elastic registration: native engines on numpy arrays.

Coordinates are (y, x) in pixels, the centre of the top-left pixel is (0, 0). The functions are imported on
first use, so that ``import dlm_fiji.registration`` costs nothing.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "arrangement": ["read_stage_positions"],
        "drift_correction": ["Drift", "DriftSettings", "drift"],
        "elastic": ["ElasticSettings", "register_elastic"],
        "feature_matching": ["FeatureMatch", "FeatureSettings", "match_features"],
        "field_matching": ["Match", "MatchSettings", "MosaicIndex", "match_template"],
        "global_alignment": ["GlobalSettings", "align_global", "optical_density", "tissue"],
        "link_picture": ["draw_links"],
        "mosaic": ["Link", "Mosaic"],
        "preparation": [
            "JpegDegraded",
            "central_fields",
            "crop_border",
            "degrade_jpeg",
            "develop_raw",
            "enlarge_linear",
            "label_at_factor",
            "to_unit_range",
        ],
        "sampling": ["reduce_bicubic", "resample"],
        "similarity": ["Similarity", "SimilaritySettings", "refine_similarity"],
        "stitching": ["StitchSettings", "nominal_layout", "stitch"],
        "tile_configuration": ["read_tile_configuration", "write_tile_configuration"],
        "warp": ["Warp", "WarpCheck"],
    },
)
