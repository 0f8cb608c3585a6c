"""From pairs to the enhanced mosaic: patches, train, predict."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.inference import Model, ModelCard, load_model, save_model
from dlm_fiji.micrograph import open_image, pixel_size_um, save_image, write_json
from dlm_fiji.networks import BrightfieldNet
from dlm_fiji.pipeline.context import Context
from dlm_fiji.steps.enhancement import enhance
from dlm_fiji.training import PatchPairs, extract_patches, train_regression

__all__ = ["patches", "predict", "read_fields", "starting_model", "train"]

Rectangle = tuple[int, int, int, int]


def read_fields(context: Context, role: str) -> list[dict[str, Any]]:
    """The registered fields of one role: index, label, rectangle in mosaic pixels."""
    fields = json.loads((context.run.path / "register" / "fields.json").read_text(encoding="utf-8"))
    return [{**field, "index": index} for index, field in enumerate(fields) if field["role"] == role]


def field_pair(context: Context, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Low- and high-resolution image of a registered field."""
    return (
        context.image("register", f"field_{index:02d}_lr.tif"),
        context.image("register", f"field_{index:02d}_hr.tif"),
    )


def patches(context: Context) -> dict[str, Any]:
    """Patches by area: no pixel of a test or validation field is in a training patch."""
    settings, scale = context.settings, context.settings.scale
    held = [tuple(f["rectangle"]) for role in ("test", "validate") for f in read_fields(context, role)]
    folder = context.run.folder("patches")
    counts = {}
    for role in ("train", "validate"):
        pairs = []
        for field in read_fields(context, role):
            lr, hr = field_pair(context, field["index"])
            rectangle: Rectangle = tuple(field["rectangle"])
            taken = held if role == "train" else [tuple(f["rectangle"]) for f in read_fields(context, "test")]
            y0, x0, y1, x1 = clear_part(rectangle, taken, _step(scale))
            top, left = y0 - rectangle[0], x0 - rectangle[1]
            lr = lr[top : top + y1 - y0, left : left + x1 - x0]
            hr = hr[round(top * scale) : round((top + y1 - y0) * scale)]
            hr = hr[:, round(left * scale) : round((left + x1 - x0) * scale)]
            pairs.append((lr, hr))
        side = settings.train.patch
        fitting = [pair for pair in pairs if min(pair[0].shape[:2]) >= side]
        if role == "train" and not fitting:
            largest = max((min(pair[0].shape[:2]) for pair in pairs), default=0)
            raise InputError(
                f"No training field is as large as a patch of {side} px (the largest is {largest} px of the tiles' "
                "pixels after matching); give larger labels or set [train] patch smaller."
            )
        if role == "train":
            made = extract_patches(fitting, settings.train, scale)
            made.save(folder)
            counts[role] = len(made)
        else:
            for number, (lr, hr) in enumerate(pairs):
                np.savez_compressed(folder / f"validate_{number:02d}.npz", lr=lr, hr=hr)
            counts[role] = len(pairs)
    write_json(folder / "counts.json", counts)
    side = settings.train.patch
    return {
        "engine": "native",
        "note": f"{counts['train']} training patches of {side} / {round(side * scale)} px, "
        f"{counts['validate']} validation field(s)",
    }


def train(context: Context) -> dict[str, Any]:
    """The bright-field network, from a shipped model or from the papers' initialisation; best by validation loss."""
    folder = context.run.folder("train")
    training = PatchPairs.open(context.run.path / "patches", context.settings.train)
    validation = []
    for path in sorted((context.run.path / "patches").glob("validate_*.npz")):
        with np.load(path) as stored:
            validation.append((stored["lr"], stored["hr"]))
    start = starting_model(context)
    torch.manual_seed(context.settings.seed)
    network = BrightfieldNet(context.settings.scale)
    if start is not None:
        network.load_state_dict(start.network.state_dict())
    result = train_regression(
        training,
        validation,
        context.settings.train,
        folder,
        network=network,
        progress=context.progress,
        resume=True,
    )
    mosaic = open_image(context.run.path / "stitch" / "mosaic.tif")
    pixel = pixel_size_um(mosaic)
    source = "simulated instrument" if context.settings.simulated else "the run's own tiles and labels"
    card = ModelCard(
        name="trained-in-this-run",
        description="Bright-field network trained by the pipeline on this run's own fields.",
        config=result.network.config,
        scale=context.settings.scale,
        pixel_um=None if pixel is None else (pixel[0], pixel[0]),
        training_data=f"{len(training)} patches of {source}",
    )
    save_model(folder / "model", result.network, card)
    origin = f"warm start from {start.name}" if start is not None else "from the papers' initialisation"
    return {
        "engine": "native (PyTorch)",
        "note": f"{origin}; best validation loss {result.best_loss:.5f} at step {result.best_step}",
    }


def starting_model(context: Context) -> Model | None:
    """The model that training starts from, or None; one of another scale is refused with a sentence."""
    if context.settings.init_from is None:
        return None
    model = load_model(context.settings.init_from)
    if abs(model.scale - context.settings.scale) > 1e-6 or model.card.architecture != "BrightfieldNet":
        raise InputError(
            f"Model {model.name!r} enlarges {model.scale:g} times, the run {context.settings.scale:g} times; "
            "choose another init_from, or none of it."
        )
    return model


def predict(context: Context) -> dict[str, Any]:
    """The whole mosaic through the trained network, and through the model before training."""
    folder = context.run.folder("predict")
    mosaic = open_image(context.run.path / "stitch" / "mosaic.tif")
    trained = load_model(context.run.path / "train" / "model")
    enhanced = enhance(mosaic, trained)
    facts = enhanced.attrs.pop("provenance")
    save_image(enhanced, folder / "mosaic_enhanced.tif", provenance=context.provenance("predict", **facts))
    start = starting_model(context)
    if start is not None:
        before = enhance(mosaic, start)
        made = before.attrs.pop("provenance")
        save_image(before, folder / "mosaic_before.tif", provenance=context.provenance("predict", **made))
    size = f"{enhanced.sizes['y']} x {enhanced.sizes['x']} px"
    return {"engine": f"native ({facts.get('backend', 'torch')})", "note": size, "backend": facts}


def clear_part(rectangle: Rectangle, taken: list[Rectangle], step: int) -> Rectangle:
    """The largest part of a rectangle, cut by one straight line for each, that no ``taken`` rectangle touches."""
    y0, x0, y1, x1 = rectangle
    for ty0, tx0, ty1, tx1 in taken:
        if ty1 <= y0 or ty0 >= y1 or tx1 <= x0 or tx0 >= x1:
            continue
        below, right = -(-ty1 // step) * step, -(-tx1 // step) * step
        above, left = ty0 // step * step, tx0 // step * step
        options = [(y0, x0, above, x1), (below, x0, y1, x1), (y0, x0, y1, left), (y0, right, y1, x1)]
        y0, x0, y1, x1 = max(options, key=lambda r: max(0, r[2] - r[0]) * max(0, r[3] - r[1]))
        y1, x1 = max(y0, y1), max(x0, x1)
    return y0, x0, y1, x1


def _step(scale: float) -> int:
    return BrightfieldNet(scale).grid
