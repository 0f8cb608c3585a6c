"""How large a tile may be, and how large it is where nobody says: the overlap it repeats, the memory it takes."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import psutil
import torch
from torch import nn

from dlm_fiji.inference.backends import Engine, TorchEngine
from dlm_fiji.inference.model_files import Model
from dlm_fiji.inference.tiling import margin_on_grid

__all__ = ["TILES", "default_tile", "fits", "useful_part"]

TILES = (256, 512, 1024)
"""Tiles that a CPU may take, px."""
ACTIVATIONS = {"openvino": 5.0, "torch": 8.5, "onnxruntime": 15.0}
"""Memory at the peak over that of the largest activation; both shipped architectures, at most, rounded up."""
CPU_BYTES = 2.25 * 2**30
"""A tile takes no more, so that a mosaic of any size streams in 3 GiB."""

_largest: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()


def default_tile(model: Model, engine: Engine) -> int:
    """Edge of a tile where neither the user nor a measurement has chosen, in input pixels.

    On a CPU 512, or 1024 where a network sees so far (fluorescence: 72 to 88 px) that of each tile of 512 more than
    two fifths would be computed for its neighbours. On a GPU 2048, halved until half of the free memory is enough.
    """
    if isinstance(engine, TorchEngine) and engine.device.type == "cuda":
        free = torch.cuda.mem_get_info(engine.device)[0]
        free += torch.cuda.memory_reserved(engine.device) - torch.cuda.memory_allocated(engine.device)
        edge = 2048
        while edge > TILES[0] and tile_bytes(model, edge, "torch") * engine.dtype.itemsize / 4 > free / 2:
            edge //= 2
        return edge
    if engine.description["device"] != "cpu":
        return 2048
    return 1024 if useful_part(model, 512) < 0.6 and fits(model, 1024, engine.description["backend"]) else 512


def useful_part(model: Model, tile: int) -> float:
    """The part of a tile's pixels that is no overlap, 0 … 1, within a large image."""
    radius, grid = int(model.network.receptive_radius), int(model.network.grid)  # type: ignore[arg-type]
    return (max(grid, tile - 2 * margin_on_grid(radius, grid)) / tile) ** 2


def fits(model: Model, tile: int, backend: str) -> bool:
    """Whether a tile is within the memory that the CPU's backend may take, and half of what is free now."""
    return tile_bytes(model, tile, backend) <= min(CPU_BYTES, psutil.virtual_memory().available / 2)


def tile_bytes(model: Model, tile: int, backend: str) -> float:
    """About the memory at the peak for a tile of fp32."""
    return ACTIVATIONS[backend] * largest_activation(model.network) * tile**2


def largest_activation(network: nn.Module) -> float:
    """Bytes of the largest output of a convolution for each input pixel, in fp32."""
    if network not in _largest:
        edge, sizes = 4 * int(getattr(network, "size_multiple", 4)), [0]
        hooks = [
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
            for module in network.modules()
            if isinstance(module, nn.Conv2d)
        ]
        try:
            with torch.inference_mode():
                network(torch.zeros(1, int(network.channels), edge, edge))  # type: ignore[arg-type]
        finally:
            for hook in hooks:
                hook.remove()
        _largest[network] = 4 * max(sizes) / edge**2
    return _largest[network]
