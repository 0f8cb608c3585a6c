"""``dlm_fiji train``: a network from pairs of images, or from sharp images and a virtual microscope."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

__all__ = ["command"]

ADVERSARIAL_PRESETS = ("widefield-gan", "confocal-sted", "content")
NEW_SCALES = {"widefield-gan": 2, "content": 2, "confocal-sted": 1}
"""Enlargement of a new network; 2.5 for the other presets."""
SILENCE_S = 60
"""A log, which has no bar, gets a line each validation and after this time."""
OF_ADVERSARIAL = ("discriminator", "discriminator_rate", "mse_share", "ssim_share", "keep_means")
OF_REGRESSION = ("gradient_weight", "ssim_weight")


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the model, its curves and the checkpoint.")],
    pairs: Annotated[
        Path | None,
        typer.Option(help="Folder with lr/ and hr/: registered images of the same names; Zarr is read in parts."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="The same for validation; else the last tenth of the pairs, or of the only one.")
    ] = None,
    simulate: Annotated[
        Path | None,
        typer.Option(
            help="Sharp images instead of pairs: a folder, or a TOML list of fields; they are seen through simulated "
            "bright-field microscopes, with the adversarial presets wide-field fluorescence ones."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that the list's file names are relative to.")] = None,
    preset: Annotated[
        str,
        typer.Option(help="brightfield, phone, fast, fine-tune, widefield-gan, confocal-sted, content."),
    ] = "brightfield",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="NAME=VALUE for a setting of training or simulation; ranges as LOW,HIGH; repeatable."
        ),
    ] = None,
    init_from: Annotated[str | None, typer.Option(help="Model to start from (transfer learning).")] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Enlargement; else that of --init-from, 1 (confocal-sted), 2 (the other GANs) or 2.5."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name on the model's card; else the folder's.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights in half precision on disk.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in OUT.")] = False,
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Curves for TensorBoard too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a network; the best one by validation loss (or the last, --set keep=last) becomes the model OUT/model.

    --resume continues bit for bit on a CPU. All settings of training are NAME=VALUE pairs for --set: steps,
    epochs, batch, learning_rate, schedule, time_limit_s, patch, ema, seed, device, precision and more; with
    --simulate those of the simulated instruments too: label_pixel_um, na and more (docs/settings.md).
    """
    import torch
    from rich.console import Console

    from dlm_fiji.errors import ConfigurationError
    from dlm_fiji.inference import ModelCard, load_model, save_model
    from dlm_fiji.training import (
        FluorescenceSimulation,
        SimulationSettings,
        TrainingSettings,
        brightfield_source,
        fluorescence_source,
        plot_history,
        read_registered_pairs,
    )

    if (pairs is None) == (simulate is None):
        raise ConfigurationError("Give either --pairs or --simulate.")
    for option, given, wanted in (("--validation", validation, pairs), ("--data", data, simulate)):
        if given is not None and wanted is None:
            raise ConfigurationError(f"{option} goes with {'--pairs' if pairs is None else '--simulate'}.")
    adversarial = preset in ADVERSARIAL_PRESETS
    start = load_model(init_from) if init_from is not None else None
    if scale is None:
        scale = start.scale if start is not None else NEW_SCALES.get(preset, 2.5)
    simulation: Any = FluorescenceSimulation if adversarial else SimulationSettings
    simulated: Any = simulation if simulate is not None else None
    changes, instrument = _changes(set_ or [], simulated)
    _refuse_unread(changes, preset, simulate is not None, start is not None)
    changes = {"devices": devices, "tensorboard": tensorboard} | changes
    settings = TrainingSettings.of(TrainingSettings.preset(preset), **changes)
    # of several processes, which torchrun or Lightning have started, the first speaks and writes
    first = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    console = Console(quiet=quiet or not first, stderr=True)
    _check_folder(out)
    if resume and not (out / "checkpoint.pt").exists():
        console.print(f"{out} has no checkpoint: the training starts at its first step.", soft_wrap=True)

    training: Any
    about: dict[str, Any]
    torch.manual_seed(settings.seed)
    if simulate is not None:
        colours = start.card.channels if start is not None and start.card.channels == 1 else 3
        network = _starting_network(start, scale, 1 if adversarial else colours, preset, settings, console)
        instruments = simulation.of(None, **instrument, scale=scale)
        if adversarial:
            training, held_out = fluorescence_source(simulate, data, settings, instruments)
        else:
            training, held_out = brightfield_source(simulate, data, settings, instruments, colours)
        pixel = instruments.label_pixel_um * scale
        about = {
            "training_data": f"{len(training.fields)} label fields of {simulate.name}, simulated instruments",
            "pixel_um": (pixel, pixel),
            "na": instruments.na,
        }
    else:
        found = read_registered_pairs(pairs)  # type: ignore[arg-type]
        network = _starting_network(start, scale, 1 if adversarial else found.channels, preset, settings, console)
        known = read_registered_pairs(validation) if validation is not None else None
        training, held_out, split = _split(found, known, network, settings, adversarial)
        said = f"{_count(len(found), 'registered pair')} of {pairs.name}, validated on {split}"  # type: ignore[union-attr]
        console.print(f"{said}.", highlight=False, soft_wrap=True)
        about = {"training_data": said, "pixel_um": found.pixel_um, "na": found.na}
    try:
        result = _run(adversarial, training, held_out, settings, out, network, resume, console)
    except KeyboardInterrupt:
        console.print(f"Stopped; the same command with --resume goes on from the last validation, in {out}.")
        raise typer.Exit(130) from None
    if not first:
        return
    plot_history(result.history, out / "curves.png")
    row = result.history[-1]
    if settings.keep == "best":
        row = next(row for row in result.history if row["step"] == result.best_step)
    left_out = f"; {_count(result.left_out, 'patch')} without content left out" if result.left_out else ""
    card = ModelCard(
        name=name or out.resolve().name,
        description=f"Trained with preset {preset}: the weights of step {row['step']} of {result.steps}, "
        f"{'the best by validation loss' if settings.keep == 'best' else 'the last'}.",
        modality="fluorescence" if adversarial else "bright field",
        normalisation="percentile" if adversarial else "full scale",
        intensity_range=(0.0, 255.0) if adversarial else (0.0, 1.0),
        **about | {"training_data": about["training_data"] + left_out},
        training_command=shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]]),
        measured={"validation loss": row["val_loss"], "validation SSIM": row["val_ssim"], "step": row["step"]}
        | {name: result.description[name] for name in ("lambda", "nu") if name in result.description},
    )
    save_model(out / "model", result.network, card, half=half)
    console.print(
        f"{out / 'model'}: best validation loss {result.best_loss:.5g} at step {result.best_step} of "
        f"{result.steps}, {result.patches_per_second:.1f} patches/s, {result.seconds:.0f} s "
        f"({result.stopped_by}){left_out}.",
        highlight=False,
        soft_wrap=True,
    )
    if settings.keep == "best" and result.best_step == 0 and result.steps:
        console.print("No step improved the validation loss: the model has the weights it started from.")


def _changes(entries: list[str], simulated: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the training and of the simulated instruments (a class, or None) from NAME=VALUE texts."""
    from dlm_fiji.errors import ConfigurationError

    changes: dict[str, Any] = {}
    instrument: dict[str, Any] = {}
    for entry in entries:
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ConfigurationError(f"--set wants NAME=VALUE, not {entry!r}.")
        if key == "scale":
            raise ConfigurationError("The enlargement is set by --scale.")
        if simulated is not None and key in simulated.model_fields:
            kind = simulated.model_fields[key].annotation
            parts = value.split(",")
            if get_origin(kind) is tuple and len(parts) == 1 and Ellipsis not in get_args(kind):
                parts *= 2  # one value is a range without width
            instrument[key] = parts if get_origin(kind) is tuple else value
        else:
            changes[key] = value
    return changes, instrument


def _refuse_unread(changes: dict[str, Any], preset: str, simulated: bool, started: bool) -> None:
    """A sentence for a setting that this training would pass over."""
    from dlm_fiji.errors import ConfigurationError

    adversarial = preset in ADVERSARIAL_PRESETS
    unread = dict.fromkeys(OF_REGRESSION if adversarial else OF_ADVERSARIAL, f"with preset {preset}")
    if simulated:
        unread["overlap"] = "with --simulate"
        if not adversarial:
            unread["min_contrast"] = "with --simulate, which has min_deviation"
    if started:
        unread |= dict.fromkeys(("initial", "keep_means"), "with --init-from, whose network has its own")
    for name in changes:
        if name in unread:
            raise ConfigurationError(f"Nothing reads {name} {unread[name]}; leave it away.")


def _check_folder(out: Path) -> None:
    """Make OUT before images are read for minutes."""
    from dlm_fiji.errors import SetupError

    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise SetupError(f"{out} cannot be a folder for the model ({error.strerror or error}).") from None


def _starting_network(start: Any, scale: float, channels: int, preset: str, settings: Any, console: Any) -> Any:
    """A new network, or the model's; where scale or channels differ, a new one with the weights that fit."""
    from dlm_fiji.errors import ConfigurationError
    from dlm_fiji.training import take_over_weights

    adversarial = preset in ADVERSARIAL_PRESETS
    kind = "FluorescenceGenerator" if adversarial else "BrightfieldNet"
    if start is not None and type(start.network).__name__ != kind:
        raise ConfigurationError(
            f"Model {start.name!r} is a {type(start.network).__name__}, preset {preset} trains a {kind}; "
            "choose another model or preset."
        )
    if start is not None and start.scale == scale and start.card.channels == channels:
        return start.network
    if adversarial and scale not in (1, 2, 3, 4):
        raise ConfigurationError(f"The adversarial presets enlarge by 1, 2, 3 or 4, not by {scale:g}.")
    if start is None:
        network = _new_network(scale, channels, adversarial, settings)
        if settings.initial == "interpolation":
            _interpolating(network)
        return network
    config = start.network.config | {"scale": int(scale) if adversarial else scale, "channels": channels}
    network = type(start.network)(**config)
    for layer in take_over_weights(network, start.network.state_dict()):
        console.print(f"{layer} of {start.name} does not fit and starts anew.", highlight=False, soft_wrap=True)
    return network


def _new_network(scale: float, channels: int, adversarial: bool, settings: Any) -> Any:
    from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator

    if not adversarial:
        return BrightfieldNet(scale, channels)
    return FluorescenceGenerator(int(scale), channels=1, keep_means=settings.keep_means)


def _interpolating(network: Any) -> None:
    from dlm_fiji.networks import BrightfieldNet
    from dlm_fiji.training import start_from_interpolation

    if isinstance(network, BrightfieldNet):
        start_from_interpolation(network)
    else:
        network.start_from_interpolation()


def _split(found: Any, known: Any, network: Any, settings: Any, adversarial: bool) -> tuple[list, list, str]:
    """Pairs for training, pairs for validation (``known``, the last ones, or a strip of the only one), and which."""
    from dlm_fiji.training import hold_out_area

    pairs = found.in_values(network.scale, adversarial)
    if known is not None:
        return pairs, known.in_values(network.scale, adversarial), f"{_count(len(known), 'pair')} of another folder"
    if len(pairs) > 1:
        kept = max(1, len(pairs) // 10)
        return pairs[:-kept], pairs[-kept:], f"the last of them ({', '.join(found.names[-kept:])})"
    values = "as is" if adversarial else "unit"
    cut = settings.for_input(network.scale) if adversarial else settings
    held = hold_out_area(pairs[0], cut, network, values)
    return [held.training], [held.validation], held.text


def _count(number: int, what: str) -> str:
    plural = {"patch": "patches"}.get(what, f"{what}s")
    return f"{number} {what if number == 1 else plural}"


def _run(adversarial: bool, training: Any, held_out: list, settings: Any, out: Path, network: Any, resume: bool,
         console: Any) -> Any:  # fmt: skip
    from rich.progress import BarColumn, Progress, TextColumn

    from dlm_fiji.training import train_adversarial, train_regression

    live = console.is_terminal and not console.quiet
    columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(20), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console, transient=True, disable=not live) as bar:
        task = bar.add_task("train", total=None, text="")
        spoken = 0.0

        def progress(step: int, total: int, metrics: dict[str, float]) -> None:
            nonlocal spoken
            left = int(metrics["seconds_left"])
            text = f"loss {metrics['loss']:.5g}"
            if "val_loss" in metrics:
                text += f", validation {metrics['val_loss']:.5g}, SSIM {metrics['val_ssim']:.4f}"
            text += f", {metrics['patches_per_second']:.1f} patches/s, {timedelta(seconds=left)} left"
            if live:
                bar.update(task, completed=step, total=total, text=text)
            elif step % settings.validate_every == 0 or step == total or metrics["seconds"] > spoken + SILENCE_S:
                spoken = metrics["seconds"]
                console.print(f"step {step}/{total}: {text}", highlight=False, soft_wrap=True)

        if adversarial:
            return train_adversarial(
                training, held_out, settings, out, generator=network, progress=progress, resume=resume
            )
        return train_regression(training, held_out, settings, out, network, progress, resume)
