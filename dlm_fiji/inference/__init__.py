"""Use of a trained network: model folders, exact tiled prediction at any size, backends, export."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "batch": ["BatchItem", "expand_inputs", "predict_batch"],
        "card": ["ModelCard"],
        "exporting": ["export_model"],
        "inference_settings": ["InferenceSettings"],
        "model_files": ["Model", "find_model", "list_models", "load_model", "save_model"],
        "prediction": ["predict"],
        "recommendation": ["Recommendation", "recommend"],
        "streaming": ["predict_file", "stream_file"],
        "tiling": ["Tile", "plan_tiles"],
    },
)
