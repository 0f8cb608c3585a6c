"""``dlm_fiji train``: a network from pairs of images, or from sharp images and a virtual microscope."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

__all__ = ["command"]


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the model, its curves and the checkpoint.")],
    pairs: Annotated[
        Path | None,
        typer.Option(help="Folder with lr/ and hr/: registered images of the same names; Zarr is read in parts."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="The same for validation; else the last tenth of the pairs.")
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
        float | None, typer.Option(help="Enlargement; else that of --init-from, 2 (adversarial presets) or 2.5.")
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
        take_over_weights,
    )

    if (pairs is None) == (simulate is None):
        raise ConfigurationError("Give either --pairs or --simulate.")
    adversarial = preset in ("widefield-gan", "confocal-sted", "content")
    start = load_model(init_from) if init_from is not None else None
    if scale is None:
        scale = start.scale if start is not None else 2 if adversarial else 2.5
    if adversarial and scale not in (1, 2, 3, 4):
        raise ConfigurationError(f"The adversarial presets enlarge by 1, 2, 3 or 4, not by {scale:g}.")
    simulation: Any = FluorescenceSimulation if adversarial else SimulationSettings
    changes: dict[str, Any] = {"devices": devices, "tensorboard": tensorboard}
    simulated: dict[str, Any] = {"scale": scale}
    for entry in set_ or []:
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ConfigurationError(f"--set wants NAME=VALUE, not {entry!r}.")
        if simulate is not None and key != "scale" and key in simulation.model_fields:
            several = get_origin(simulation.model_fields[key].annotation) is tuple
            simulated[key] = value.split(",") if several else value
        else:
            changes[key] = value
    settings = TrainingSettings.of(TrainingSettings.preset(preset), **changes)
    console = Console(quiet=quiet, stderr=True)

    network: Any = None
    torch.manual_seed(settings.seed)
    if start is not None:
        network = start.network
        if start.scale != scale:
            network = _new_network(scale, start.card.channels, adversarial, settings)
        for layer in take_over_weights(network, start.network.state_dict()):
            console.print(f"{layer} of {init_from} does not fit and starts anew.")
    training: Any
    if simulate is not None:
        instruments = simulation.of(None, **simulated)
        source = fluorescence_source if adversarial else brightfield_source
        training, held_out = source(simulate, data, settings, instruments)
        pixel = instruments.label_pixel_um * scale
        about: dict[str, Any] = {
            "training_data": f"{len(training.fields)} label fields of {simulate.name}, simulated instruments",
            "pixel_um": (pixel, pixel),
            "na": instruments.na,
        }
    else:
        training, held_out, about = _registered(pairs, validation, adversarial)  # type: ignore[arg-type]
    if network is None:
        channels = held_out[0][0].shape[-1] if len(held_out[0][0].shape) == 3 else 1
        network = _new_network(scale, channels, adversarial, settings)
        if settings.initial == "interpolation":
            _interpolating(network)
    result = _run(adversarial, training, held_out, settings, out, network, resume, console)
    plot_history(result.history, out / "curves.png")
    card = ModelCard(
        name=name or out.resolve().name,
        description=f"Trained with preset {preset}.",
        modality="fluorescence" if adversarial else "bright field",
        normalisation="percentile" if adversarial else "full scale",
        intensity_range=(0.0, 255.0) if adversarial else (0.0, 1.0),
        **about,
        training_command=shlex.join(["python", "-m", "dlm_fiji", *sys.argv[1:]]),
        measured={"validation loss": result.best_loss, "best step": result.best_step},
    )
    save_model(out / "model", result.network, card, half=half)
    console.print(
        f"{out / 'model'}: best validation loss {result.best_loss:.5g} at step {result.best_step} of "
        f"{result.steps}, {result.patches_per_second:.1f} patches/s, {result.seconds:.0f} s ({result.stopped_by}).",
        highlight=False,
    )
    if settings.keep == "best" and result.best_step == 0 and result.steps:
        console.print("No step improved the validation loss: the model has the weights it started from.")


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


def _registered(pairs: Path, validation: Path | None, adversarial: bool) -> tuple[list, list, dict[str, Any]]:
    """Pairs for training, pairs for validation, and what the card says about them."""
    from dlm_fiji.errors import InputError
    from dlm_fiji.micrograph import is_image_file, open_image, open_region_reader, to_array
    from dlm_fiji.training import scaled_pair, scaled_stored_pair

    def read(folder: Path) -> list:
        files = sorted(p for p in (folder / "lr").glob("*") if is_image_file(p))
        missing = [p.name for p in files if not (folder / "hr" / p.name).exists()]
        if missing:
            raise InputError(f"{folder / 'hr'} has no label for {missing[0]} ({len(missing)} in all).")
        if not files:
            raise InputError(f"{folder} has no images in lr/; expected are lr/NAME and hr/NAME.")
        both = [(p, folder / "hr" / p.name) for p in files]
        if any(p.suffix.lower() == ".zarr" for p in files):
            # open until the end of the training, which reads its patches from them
            stored: Any = [(open_region_reader(lr), open_region_reader(hr)) for lr, hr in both]
            return [scaled_stored_pair(*p) for p in stored] if adversarial else stored
        whole = [(to_array(open_image(lr)), to_array(open_image(hr))) for lr, hr in both]
        return [scaled_pair(*p) for p in whole] if adversarial else whole

    found = read(pairs)
    about = {"training_data": f"{len(found)} registered pairs of {pairs.name}"}
    if validation is not None:
        return found, read(validation), about
    if len(found) < 2:
        raise InputError("One pair cannot be both trained and validated on; give --validation or more pairs.")
    kept = max(1, len(found) // 10)
    return found[:-kept], found[-kept:], about


def _run(adversarial: bool, training: Any, held_out: list, settings: Any, out: Path, network: Any, resume: bool,
         console: Any) -> Any:  # fmt: skip
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from dlm_fiji.training import train_adversarial, train_regression

    columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.fields[text]}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as bar:
        task = bar.add_task("train", total=None, text="")

        def progress(step: int, total: int, metrics: dict[str, float]) -> None:
            text = f"loss {metrics['loss']:.5f}  {metrics['patches_per_second']:.1f} patches/s"
            if "val_loss" in metrics:
                text += f"  validation {metrics['val_loss']:.5f}, SSIM {metrics['val_ssim']:.4f}"
            bar.update(task, completed=step, total=total, text=text)

        if adversarial:
            return train_adversarial(
                training, held_out, settings, out, generator=network, progress=progress, resume=resume
            )
        return train_regression(training, held_out, settings, out, network, progress, resume)
