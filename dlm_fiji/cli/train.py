"""``dlm_fiji train``: a network from pairs of images, or from sharp images and a virtual microscope."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["command"]


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the model, its curves and the checkpoint.")],
    pairs: Annotated[
        Path | None, typer.Option(help="Folder with lr/ and hr/: registered images of the same names.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="The same for validation; else the last tenth of the pairs.")
    ] = None,
    simulate: Annotated[
        Path | None, typer.Option(help="Sharp images instead of pairs: a folder, or a TOML list of fields.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that the list's file names are relative to.")] = None,
    preset: Annotated[
        str,
        typer.Option(help="brightfield, phone, fast, fine-tune, widefield-gan, confocal-sted, content."),
    ] = "brightfield",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for any training setting; repeatable.")
    ] = None,
    init_from: Annotated[str | None, typer.Option(help="Model to start from (transfer learning).")] = None,
    scale: Annotated[float, typer.Option(help="Enlargement of a new network.")] = 2.5,
    name: Annotated[str | None, typer.Option(help="Name on the model's card; else the folder's.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights in half precision on disk.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in OUT.")] = False,
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Curves for TensorBoard too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a network; the best one by validation loss becomes the model OUT/model.

    --resume continues bit for bit on a CPU. All settings of training are NAME=VALUE pairs for --set: steps,
    epochs, batch, learning_rate, schedule, time_limit_s, patch, ema, seed, device, precision and more.
    """
    import torch
    from rich.console import Console

    from dlm_fiji.errors import ConfigurationError
    from dlm_fiji.inference import ModelCard, load_model, save_model
    from dlm_fiji.training import TrainingSettings, plot_history, take_over_weights

    if (pairs is None) == (simulate is None):
        raise ConfigurationError("Give either --pairs or --simulate.")
    changes: dict[str, Any] = {"devices": devices, "tensorboard": tensorboard}
    for entry in set_ or []:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigurationError(f"--set wants NAME=VALUE, not {entry!r}.")
        changes[key.strip()] = value.strip()
    settings = TrainingSettings.of(TrainingSettings.preset(preset), **changes)
    adversarial = preset in ("widefield-gan", "confocal-sted", "content")
    console = Console(quiet=quiet, stderr=True)

    network: Any = None
    torch.manual_seed(settings.seed)
    if init_from is not None:
        start = load_model(init_from)
        network = start.network if start.scale == scale else _new_network(scale, start.card.channels, adversarial)
        for layer in take_over_weights(network, start.network.state_dict()):
            console.print(f"{layer} of {init_from} does not fit and starts anew.")
    if simulate is not None and adversarial:
        raise ConfigurationError("--simulate makes bright-field pairs; give the adversarial presets --pairs.")
    training, held_out, about = (
        _simulated(simulate, data, settings, scale)
        if simulate is not None
        else _registered(pairs, validation, adversarial)  # type: ignore[arg-type]
    )
    if network is None:
        network = _new_network(scale, held_out[0][0].shape[-1] if held_out[0][0].ndim == 3 else 1, adversarial)
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
        f"{result.steps}, "
        f"{result.patches_per_second:.1f} patches/s, {result.seconds:.0f} s ({result.stopped_by}).",
        highlight=False,
    )


def _new_network(scale: float, channels: int, adversarial: bool) -> Any:
    from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator

    return FluorescenceGenerator(int(scale), channels=1) if adversarial else BrightfieldNet(scale, channels)


def _interpolating(network: Any) -> None:
    from dlm_fiji.networks import BrightfieldNet
    from dlm_fiji.training import start_from_interpolation

    if isinstance(network, BrightfieldNet):
        start_from_interpolation(network)
    else:
        network.start_from_interpolation()


def _simulated(simulate: Path, data: Path | None, settings: Any, scale: float) -> tuple[Any, list, dict[str, Any]]:
    """Source, validation pairs, and what the card says about them."""
    from dlm_fiji.microscope.virtual import VirtualMicroscope
    from dlm_fiji.training import SimulatedPairs, SimulationSettings, read_label_fields
    from dlm_fiji.training.simulated import recorded_pairs

    fields, held_out = read_label_fields(simulate, data)
    simulation = SimulationSettings(scale=scale)
    source = SimulatedPairs(fields, settings, simulation)
    pairs = recorded_pairs(held_out, VirtualMicroscope(scale=scale))
    pixel = simulation.label_pixel_um * scale
    return source, pairs, {
        "training_data": f"{len(fields)} label fields of {simulate.name}, simulated instruments",
        "pixel_um": (pixel, pixel),
        "na": simulation.na,
    }


def _registered(pairs: Path, validation: Path | None, adversarial: bool) -> tuple[Any, list, dict[str, Any]]:
    from dlm_fiji.errors import InputError
    from dlm_fiji.micrograph import is_image_file, open_image, to_array
    from dlm_fiji.training import scaled_pair

    def read(folder: Path) -> list:
        files = sorted(p for p in (folder / "lr").glob("*") if is_image_file(p))
        missing = [p.name for p in files if not (folder / "hr" / p.name).exists()]
        if missing:
            raise InputError(f"{folder / 'hr'} has no label for {missing[0]} ({len(missing)} in all).")
        if not files:
            raise InputError(f"{folder} has no images in lr/; expected are lr/NAME and hr/NAME.")
        both = [(to_array(open_image(p)), to_array(open_image(folder / "hr" / p.name))) for p in files]
        return [scaled_pair(*p) for p in both] if adversarial else both

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
