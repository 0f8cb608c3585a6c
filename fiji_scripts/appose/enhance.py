"""Enhance an image from another program through Appose (https://github.com/apposed): the worker's script.

Inputs: ``image``, an Appose NDArray or a NumPy array, (H, W) or (H, W, C); ``model``, a name or folder;
``pixel_um``, the pixel size or None. Outputs: ``enhanced``, an NDArray in shared memory, and ``pixel_um``.
Progress is reported, and a cancel is obeyed between tiles.
"""

import appose
import numpy as np

from dlm_fiji.errors import DlmError
from dlm_fiji.micrograph import from_array, pixel_size_um, to_array
from dlm_fiji.steps import enhance

globals().setdefault("model", "brightfield-x2.5")
globals().setdefault("pixel_um", None)


class Cancelled(Exception):
    pass


def progress(done, total):
    if task.cancel_requested:
        raise Cancelled
    task.update("enhancing", done, total)


try:
    pixels = np.array(image.ndarray() if hasattr(image, "ndarray") else image)
    result = enhance(from_array(pixels, pixel_um=pixel_um), model, progress=progress)
    values = to_array(result)
    shared = appose.NDArray(str(values.dtype), values.shape)
    shared.ndarray()[:] = values
    task.outputs["enhanced"] = shared
    size = pixel_size_um(result)
    task.outputs["pixel_um"] = size[1] if size else None
except Cancelled:
    task.cancel()
except DlmError as error:
    task.fail(str(error))
