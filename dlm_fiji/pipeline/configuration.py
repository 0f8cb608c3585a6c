"""The pipeline's settings: a TOML file whose sections are the stages, and the presets ``demo`` and ``paper``.

Each section is the settings class that its algorithm owns, so the file knows no default of its own.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.microscope.virtual import VirtualMicroscope
from dlm_fiji.registration import ElasticSettings, MatchSettings, StitchSettings
from dlm_fiji.settings import Settings, setting, unknown_name
from dlm_fiji.steps.brightfield_trust import TrustSettings
from dlm_fiji.training import TrainingSettings

__all__ = [
    "PRESETS",
    "AcquireSettings",
    "DeconvolveSettings",
    "IlluminationSettings",
    "InputSettings",
    "PipelineSettings",
    "RegisterSettings",
    "load_settings",
    "preset",
]


class InputSettings(Settings):
    """Where the images are. Relative paths start at the configuration file."""

    tiles: Path | None = setting(None, "folder (or glob) of low-resolution tiles, in scan order by name")
    labels: Path | None = setting(None, "folder (or glob) of high-resolution images of parts of the same specimen")
    grid: tuple[int, int] | None = setting(None, "rows and columns of the tiles; not needed where the files tell")
    pixel_um: float | None = setting(None, "tile pixel, where the files do not say", unit="µm", gt=0)
    label_pixel_um: float | None = setting(None, "label pixel, where the files do not say", unit="µm", gt=0)


class AcquireSettings(Settings):
    """The simulated scan of the demo: a stage under the virtual microscope."""

    microscope: VirtualMicroscope = setting(VirtualMicroscope(), "optics and camera")
    grid: tuple[int, int] = setting((3, 3), "rows and columns of tiles")
    tile: int = setting(80, "tile side", unit="px", ge=32)
    overlap: float = setting(0.25, "nominal overlap of neighbouring tiles", gt=0.05, lt=0.6)
    stage_error: float = setting(1.5, "largest error of the stage on each axis", unit="px", ge=0)
    rotation_deg: float = setting(0.2, "rotation of the camera against the stage", unit="degrees")
    vignetting: float = setting(0.25, "loss of light in the darkest corner", ge=0, lt=0.9)
    label_side: int = setting(240, "side of a label field", unit="label px", ge=150)


class IlluminationSettings(Settings):
    """The flat-field correction."""

    enabled: bool = setting(True, "estimate one flat field from all tiles and divide by it")
    macro: Path | None = setting(None, "an ImageJ macro of your own for the division")


class RegisterSettings(Settings):
    """What follows the matching of a label."""

    elastic: bool = setting(True, "block-wise registration after shift, rotation and scale (training fields only)")
    blocks: ElasticSettings = setting(ElasticSettings(), "the block-wise registration")


class DeconvolveSettings(Settings):
    """The rival: Richardson-Lucy with the microscope's own optics."""

    na: float = setting(0.4, "numerical aperture of the objective", gt=0, le=1.6)
    condenser_na: float = setting(0.3, "numerical aperture of the condenser", ge=0, le=1.6)
    wavelengths_um: tuple[float, ...] = setting(
        (0.630, 0.532, 0.450), "one a colour channel", unit="µm", source="002, Lucy-Richardson"
    )
    iterations: int = setting(100, "iterations searched, from 1", ge=1, le=1000, source="002")


class PipelineSettings(Settings):
    """Everything a run needs."""

    engine: Literal["native", "fiji"] = setting("native", "who stitches, registers and deconvolves")
    scale: float = setting(2.5, "label pixels per tile pixel, L", gt=1, le=8, source="000")
    seed: int = setting(1, "of every random choice", ge=0)
    init_from: str | None = setting("brightfield-x2.5", "model to start from; none: the papers' initialisation")
    simulated: bool = setting(False, "the tiles were made by a virtual microscope")
    input: InputSettings = setting(InputSettings(), "where the images are")
    acquire: AcquireSettings | None = setting(None, "simulated scan (demo only)")
    illumination: IlluminationSettings = setting(IlluminationSettings(), "flat field")
    stitch: StitchSettings = setting(StitchSettings(), "tiles to mosaic")
    match: MatchSettings = setting(MatchSettings(), "labels found in the mosaic")
    registration: RegisterSettings = setting(RegisterSettings(), "labels laid exactly onto the mosaic")
    train: TrainingSettings = setting(
        TrainingSettings.of(TrainingSettings.fine_tune(), steps=600, time_limit_s=None, batch=16),
        "patches and training",
    )
    deconvolve: DeconvolveSettings = setting(DeconvolveSettings(), "Richardson-Lucy")
    trust: TrustSettings = setting(TrustSettings(), "the output judged without a label")


def demo() -> PipelineSettings:
    """The built-in demo: skimage's IHC micrograph under the virtual microscope, with fixed optics and seed."""
    acquire = AcquireSettings()
    return PipelineSettings(
        simulated=True,
        acquire=acquire,
        stitch=StitchSettings(overlap=acquire.overlap),
        deconvolve=DeconvolveSettings(na=acquire.microscope.na, condenser_na=acquire.microscope.condenser_na),
        train=TrainingSettings.of(TrainingSettings.fine_tune(), steps=100, time_limit_s=None),
    )


def paper() -> PipelineSettings:
    """The demo's specimen as the papers would treat it: Fiji's plugins, random initialisation, constant Adam."""
    return PipelineSettings.of(demo(), engine="fiji", init_from=None, train=TrainingSettings.brightfield())


PRESETS = {"demo": demo, "paper": paper}


def preset(name: str) -> PipelineSettings:
    """The settings of a preset.

    Raises
    ------
    ConfigurationError
        There is no preset of that name.
    """
    if name not in PRESETS:
        raise ConfigurationError(unknown_name(name, PRESETS, "preset"))
    return PRESETS[name]()


def load_settings(path: Path) -> PipelineSettings:
    """Settings from a TOML file; ``preset = "demo"`` at its head starts from a preset instead of the defaults.

    Raises
    ------
    ConfigurationError
        The file is missing or not TOML, a key is unknown (the nearest one is suggested), or a value out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} does not exist; give a TOML file or one of the presets {', '.join(PRESETS)}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    start = preset(table.pop("preset")) if "preset" in table else PipelineSettings()
    try:
        settings = _merged(start, table)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    folder = path.resolve().parent
    places = {
        name: folder / place for name in ("tiles", "labels") if (place := getattr(settings.input, name)) is not None
    }
    settings = PipelineSettings.of(settings, input=InputSettings.of(settings.input, **places))
    if settings.illumination.macro is not None:
        macro = IlluminationSettings.of(settings.illumination, macro=folder / settings.illumination.macro)
        settings = PipelineSettings.of(settings, illumination=macro)
    if settings.acquire is None and settings.input.tiles is None:
        raise ConfigurationError(f"{path}: [input] needs 'tiles': the folder of tiles.")
    return settings


def _merged(start: Any, table: dict[str, Any]) -> Any:
    """``start`` with the keys of a TOML table, section by section."""
    changes: dict[str, Any] = {}
    for name, value in table.items():
        current = getattr(start, name, None) if name in type(start).model_fields else None
        if isinstance(value, dict) and isinstance(current, BaseModel) and isinstance(current, Settings):
            try:
                changes[name] = _merged(current, value)
            except ConfigurationError as error:
                raise ConfigurationError(f"[{name}] {error}") from None
        else:
            changes[name] = value
    return type(start).of(start, **changes)
