"""The network over an image that is read and written in windows; tiles shrink when memory runs out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from queue import SimpleQueue
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from dlm_fiji.allocation import kept_memory
from dlm_fiji.errors import DlmWarning, SetupError
from dlm_fiji.inference.backends import Engine, full_precision
from dlm_fiji.inference.model_files import Model
from dlm_fiji.inference.tile_sizes import default_tile
from dlm_fiji.inference.tiling import Tile, plan_tiles

__all__ = ["Progress", "enhance_windows", "ratio_of", "tile_edge"]

Progress = Callable[[int, int], None]
Read = Callable[[slice, slice], NDArray]
Write = Callable[[slice, slice, NDArray[np.float32]], None]


def ratio_of(model: Model) -> Fraction:
    """The enlargement as a ratio of whole numbers."""
    return Fraction(model.scale).limit_denominator(16)


@kept_memory()
def enhance_windows(
    model: Model,
    engines: Sequence[Engine],
    shape: tuple[int, ...],
    read: Read,
    write: Write,
    tile: int | str = "auto",
    progress: Progress | None = None,
) -> int | None:
    """The network over an image that is read and written in windows.

    Parameters
    ----------
    engines
        What computes; several share the tiles among them.
    shape
        Rows and columns of the input.
    read
        (rows, columns) slices of the input → (h, w, C) float32 in the network's values.
    write
        Takes (rows, columns) slices of the output and an (h', w', C) float32 block; called once an output
        pixel, about in rows of tiles from the top (again from the top after memory ran out). Neither is called
        by two threads at a time.
    tile
        As in :func:`predict`.

    Returns
    -------
    The tile that was used; None for the whole image at once.
    """
    edge = tile_edge(tile, model, engines[0], shape)
    grid, radius = int(model.network.grid), int(model.network.receptive_radius)  # type: ignore[arg-type]
    scale = ratio_of(model)
    free: SimpleQueue[Engine] = SimpleQueue()
    for engine in engines:
        free.put(engine)
    reading, writing = Lock(), Lock()

    def enhance(window: Tile) -> None:
        engine = free.get()
        try:
            with reading:
                values = read(*window.source())
            block = _run(engine, model, values)
            with writing:
                write(*window.target(scale), block[window.kept(scale)])
        finally:
            free.put(engine)  # only now may the engine overwrite the block

    while True:
        tiles = plan_tiles((shape[0], shape[1]), edge, radius, grid)
        try:
            with full_precision():
                for index, _ in enumerate(_each(enhance, tiles, len(engines))):
                    if progress is not None:
                        progress(index + 1, len(tiles))
            return edge
        except (MemoryError, RuntimeError) as error:
            smaller = _smaller_tile(error, edge, tiles, radius, grid)
            was = edge or "the whole image"
            text = f"Memory ran out with tiles of {was}; going on with tiles of {smaller} px."
            warnings.warn(text, DlmWarning, stacklevel=3)
            edge = smaller
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _each(call: Callable[[Tile], None], tiles: list[Tile], workers: int) -> Iterator[None]:
    """``call`` for every tile, by that many threads; one stays in the caller's, whose thread pools are warm."""
    if workers == 1:
        yield from map(call, tiles)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(call, tiles)  # a failure, or a caller that stops, cancels what has not begun


def tile_edge(tile: int | str, model: Model, engine: Engine, shape: tuple[int, ...]) -> int | None:
    """Pixels of a tile's edge for a setting; None for the whole image."""
    if tile == "whole":
        return None
    if tile == "auto":
        edge = default_tile(model, engine)
        return None if max(shape[:2]) <= edge else edge
    return int(tile)


def _run(engine: Engine, model: Model, window: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = window.shape[2] == 1 and model.card.channels > 1
    if grey:
        window = np.repeat(window, model.card.channels, axis=2)
    h, w = window.shape[:2]
    multiple = int(getattr(model.network, "size_multiple", 1))
    if h % multiple or w % multiple:
        # Only a window that ends with the image gets here: tiles are on the grid. The edge pixels are
        # repeated.
        window = np.pad(window, ((0, -h % multiple), (0, -w % multiple), (0, 0)), mode="edge")
    block = engine(np.ascontiguousarray(window.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
    if h % multiple or w % multiple:
        block = block[: math.ceil(h * model.scale), : math.ceil(w * model.scale)]
    return block.mean(axis=2, keepdims=True, dtype=np.float32) if grey else block


def _smaller_tile(error: Exception, edge: int | None, tiles: list[Tile], radius: int, grid: int) -> int:
    text = str(error).lower()
    is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in text or "alloc" in text
    if not is_memory:
        raise error
    largest = max(stop - start for t in tiles for start, stop in t.window)
    smaller = min(edge or largest, largest) // 2
    if smaller < 2 * (radius + grid) + grid:
        raise SetupError(
            f"Not even a tile of {largest} pixels fits into memory; close other programs or choose another device."
        ) from error
    return smaller
