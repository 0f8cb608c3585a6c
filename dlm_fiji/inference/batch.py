"""Many files: one that fails is reported and does not stop the rest, finished ones are skipped."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from dlm_fiji.errors import DlmError, InputError
from dlm_fiji.inference.choosing import choose
from dlm_fiji.inference.inference_settings import InferenceSettings
from dlm_fiji.inference.model_files import Model
from dlm_fiji.inference.prediction import predict, prepare_model
from dlm_fiji.inference.recommendation import warn_of_modality
from dlm_fiji.inference.streaming import is_large, stream_file
from dlm_fiji.micrograph import is_image_file, open_image, save_image

__all__ = ["BatchItem", "expand_inputs", "predict_batch"]


@dataclass
class BatchItem:
    """What became of one file."""

    source: Path
    target: Path
    state: Literal["done", "skipped", "failed"]
    reason: str = ""
    seconds: float = 0.0


def expand_inputs(inputs: Sequence[str | os.PathLike[str]]) -> list[tuple[Path, Path]]:
    """Files that ``inputs`` (files, folders, globs) mean, each with its path below the folder given."""
    found: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir() and not path.name.lower().endswith(".zarr"):
            files = sorted(p for p in path.rglob("*") if is_image_file(p) and not _inside_zarr(p, path))
            found |= {file: file.relative_to(path) for file in files if file not in found}
        elif path.exists():
            found.setdefault(path, Path(path.name))
        else:
            files = sorted(Path(p) for p in glob.glob(str(given), recursive=True))
            found |= {file: Path(file.name) for file in files if is_image_file(file) and file not in found}
    if not found:
        raise InputError(f"No image was found in {', '.join(str(given) for given in inputs)}.")
    return list(found.items())


def predict_batch(
    model: Model | str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    settings: InferenceSettings | None = None,
    overwrite: bool = False,
    report: Callable[[BatchItem, int, int], None] | None = None,
) -> list[BatchItem]:
    """Enhance files into ``out_dir``, as ``NAME_enhanced.tif`` (``.ome.tif`` for what is streamed).

    The next file is read and the last one written while the network works on one.

    Parameters
    ----------
    inputs
        Files, folders (with all below them) or globs.
    overwrite
        Enhance files again that are there already. Files appear whole, so one that is there is finished.
    report
        Called with (item, number, files in all) after each file.

    Returns
    -------
    One item a file, in order; the failed ones with their reason.
    """
    model = prepare_model(model)
    settings = InferenceSettings.of(settings)
    items: list[BatchItem] = []
    files = expand_inputs(inputs)
    targets = _targets([below for _, below in files], Path(out_dir))
    waiting: list[tuple[BatchItem, Future[Any]]] = []

    def settle(entry: tuple[BatchItem, Future[Any]]) -> None:
        item, future = entry
        try:
            future.result()
        except (DlmError, OSError) as error:
            item.state, item.reason = "failed", str(error)
        items.append(item)
        if report is not None:
            report(item, len(items), len(files))

    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        for source, target, future in _read_ahead(files, targets, overwrite, reading):
            item = BatchItem(source, target, "done")
            saved: Future[Any] = Future()
            try:
                loaded = None if future is None else future.result()
                if future is None:
                    item.state = "skipped"
                    saved.set_result(None)
                elif loaded is None:
                    record = stream_file(model, source, _ome(target), settings)
                    item.target, item.seconds = _ome(target), record["seconds"]
                    saved.set_result(None)
                else:
                    record = {}
                    warn_of_modality(model, loaded)
                    left = len(files) - len(items) - len(waiting)
                    choose(model, settings, loaded.size // model.card.channels * left)  # all of them may be worth it
                    enhanced = predict(model, loaded, settings=settings, record=record)
                    item.seconds = record["seconds"]
                    made = record | {"source": source.name, "step": "enhance"}
                    saved = writing.submit(save_image, enhanced, target, provenance=made)
            except (DlmError, OSError) as error:
                saved.set_exception(error)
            waiting.append((item, saved))
            while len(waiting) > 1:
                settle(waiting.pop(0))
        for entry in waiting:
            settle(entry)
    return items


def _read_ahead(
    files: list[tuple[Path, Path]], targets: list[Path], overwrite: bool, pool: ThreadPoolExecutor
) -> Iterator[tuple[Path, Path, Future[xr.DataArray | None] | None]]:
    """Each file with the image that is being read; None for what is finished."""

    def submitted(k: int) -> Future[xr.DataArray | None] | None:
        finished = targets[k].exists() or _ome(targets[k]).exists()
        return pool.submit(_load, files[k][0]) if overwrite or not finished else None

    ahead = submitted(0) if files else None
    for k in range(len(files)):
        now, ahead = ahead, submitted(k + 1) if k + 1 < len(files) else None
        yield files[k][0], targets[k], now


def _load(path: Path) -> xr.DataArray | None:
    """The image, or None where it is to be streamed."""
    return None if is_large(path) else open_image(path)


def _targets(names: list[Path], folder: Path) -> list[Path]:
    """Output names; files that differ only in their ending keep it in the name."""
    stems = [name.parent / _stem(name) for name in names]
    targets = []
    for name, stem in zip(names, stems, strict=True):
        base = stem.name if stems.count(stem) == 1 else name.name.replace(".", "_")
        targets.append(folder / name.parent / f"{base}_enhanced.tif")
    return targets


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def _ome(target: Path) -> Path:
    return target.with_name(target.name.removesuffix(".tif") + ".ome.tif")


def _inside_zarr(path: Path, root: Path) -> bool:
    return any(parent.name.lower().endswith(".zarr") for parent in path.parents if parent != root)
