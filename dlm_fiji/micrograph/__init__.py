"""What a micrograph is here: an ``xarray.DataArray`` with pixel size, channels and optics, and its files.

Dimensions are a subset of ``t z c y x`` in that order. ``y``, ``x`` and ``z`` have coordinates in µm (pixel
centres, the first at 0) only where the pixel size is known; RGB is ``c = ["red", "green", "blue"]``, not a
lost axis. ``attrs`` holds what is known of the optics: ``objective``, ``na``, ``magnification``,
``wavelength_um``.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "calibrated": ["check_content", "from_array", "is_rgb", "pixel_size_um", "to_array"],
        "fields": ["Field", "fields_of"],
        "files": ["is_image_file", "open_image", "provenance", "save_image"],
        "regions": ["RegionReader", "open_region_reader"],
        "pyramids": ["PyramidWriter"],
        "writing": ["atomic_write", "write_json"],
    },
)
