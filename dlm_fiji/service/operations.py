"""What the service can do: each operation with its settings and the step it calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.micrograph import from_array, is_rgb, pixel_size_um, to_array
from dlm_fiji.service.jobs import Job, Results
from dlm_fiji.settings import Settings, setting

__all__ = ["OPERATIONS", "CompareSettings", "DeconvolveSettings", "EnhanceSettings", "Operation"]

#: Centres of the colour channels of bright-field images, µm, as in the demo's virtual microscope.
COLOURS_UM = (0.630, 0.532, 0.450)

Images = dict[str, xr.DataArray]


class EnhanceSettings(Settings):
    """Enhance: a network applied to the image."""

    model: str = setting("brightfield-x2.5", "Model: a shipped name, or a folder")
    passes: int = setting(1, "Times the output is fed back in", ge=1, le=5, source="000, self-feeding")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = setting("auto", "What computes the network")


class DeconvolveSettings(Settings):
    """Deconvolve: Richardson-Lucy with a Born & Wolf point spread function."""

    na: float = setting(0.4, "Numerical aperture of the objective", gt=0, le=1.7)
    condenser_na: float = setting(0.3, "Aperture of the condenser (bright field only)", ge=0, le=1.7)
    wavelength_um: float = setting(0.52, "Wavelength of a fluorescence channel", unit="µm", gt=0.2, lt=2)
    pixel_um: float = setting(0.0, "Pixel size, where the image has none", unit="µm", ge=0, le=20)
    scale: float = setting(1.0, "Enlargement before the first iteration", ge=1, le=5)
    iterations: int = setting(10, "Iterations", ge=1, le=500, source="Wang et al. 2019")
    damping: float = setting(0.0, "Damping, as a part of the maximum (fluorescence only)", ge=0, le=1)


class CompareSettings(Settings):
    """Compare with Richardson-Lucy: the network and the deconvolution of the same image, on the same pixels."""

    model: str = setting("brightfield-x2.5", "Model: a shipped name, or a folder")
    na: float = setting(0.4, "Numerical aperture of the objective", gt=0, le=1.7)
    condenser_na: float = setting(0.3, "Aperture of the condenser (bright field only)", ge=0, le=1.7)
    wavelength_um: float = setting(0.52, "Wavelength of a fluorescence channel", unit="µm", gt=0.2, lt=2)
    pixel_um: float = setting(0.0, "Pixel size, where the image has none", unit="µm", ge=0, le=20)
    iterations: int = setting(10, "Iterations of Richardson-Lucy", ge=1, le=500)


class ErrorMapSettings(Settings):
    """Error map: where an enhanced image contradicts the image it was made from."""

    enlargement: int = setting(0, "Pixels of the enhanced image to one of the reference; 0 finds it", ge=0, le=16)


class RegisterSettings(Settings):
    """Register: bend the image so that it lies on the reference."""

    schedule: Literal["fit", "shrinking-blocks", "growing-count"] = setting("fit", "How the field is refined")
    min_similarity: float = setting(0.5, "Regions that correlate less have no vote", ge=0, le=1)


class StitchEnhanceSettings(Settings):
    """Stitch a folder of tiles, and enhance the mosaic."""

    folder: str = setting("", "Folder of the tiles, in acquisition order by name")
    rows: int = setting(1, "Rows of the grid", ge=1, le=1000)
    columns: int = setting(1, "Columns of the grid", ge=1, le=1000)
    overlap: float = setting(0.15, "Overlap as a part of the tile's side", gt=0, lt=1)
    order: Literal["row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"] = setting(
        "row-by-row", "Scan order"
    )
    engine: Literal["native", "fiji"] = setting("native", "native, or Fiji's Grid/Collection stitching")
    model: str = setting("", "Model that enhances the mosaic; empty only stitches")


class TrainSettings(Settings):
    """Train: run the pipeline of a configuration file."""

    config: str = setting("", "Configuration file (TOML)")
    output: str = setting("", "Run folder")


@dataclass(frozen=True)
class Operation:
    """One thing the service can do."""

    settings: type[Settings]
    #: Names of the images it takes.
    images: tuple[str, ...]
    run: Callable[[Job, Images, Any], Results]
    #: Settings that are paths, which must lie in a folder that the user allowed.
    paths: tuple[str, ...] = ()


def enhance(job: Job, images: Images, s: EnhanceSettings) -> Results:
    from dlm_fiji.steps import enhance as step

    job.say(f"loading model {s.model}")
    model = _model(s.model)
    job.say(f"enhancing with {s.model}")
    options = {} if s.backend == "auto" else {"backend": s.backend}
    return {"enhanced": step(images["image"], model, passes=s.passes, progress=job.progress, **options)}


def preview(job: Job, images: Images, s: EnhanceSettings) -> Results:
    """Enhance for the browser page, which wants the input back as something a browser shows."""
    image = images["image"]
    if set(image.dims) & set("tz"):
        raise InputError("The page shows single images; use the command line or Fiji for stacks.")
    return {"input": image, **enhance(job, images, s)}


def deconvolve(job: Job, images: Images, s: DeconvolveSettings) -> Results:
    image = images["image"]
    pixel = _pixel_um(image, s.pixel_um)
    job.say(f"Richardson-Lucy, {s.iterations} iterations")
    rgb8 = is_rgb(image) and image.dtype == np.uint8
    planes = _planes(image)
    done: list[np.ndarray] = []
    for number, plane in enumerate(planes):

        def progress(iteration: int, number: int = number) -> None:
            job.progress(number * s.iterations + iteration, len(planes) * s.iterations)

        work = _deconvolved_brightfield if rgb8 else _deconvolved_channels
        done.append(work(plane, pixel, s, progress))
    full = np.stack(done).reshape(*[image.sizes[d] for d in "tz" if d in image.dims], *done[0].shape)
    result = from_array(full, pixel_um=pixel / s.scale, like=image, dims=_plane_dims(image))
    result.attrs["provenance"] = {
        "step": "deconvolve",
        "engine": "native",
        "note": "computationally enhanced",
        **s.model_dump(),
        "pixel_um": pixel,
    }
    return {"deconvolved": result}


def compare(job: Job, images: Images, s: CompareSettings) -> Results:
    image = images["image"]
    enhanced = enhance(job, images, EnhanceSettings.of(model=s.model))["enhanced"]
    scale = float(_model(s.model).scale)
    shared = {k: v for k, v in s.model_dump().items() if k != "model"}
    deconvolved = deconvolve(job, images, DeconvolveSettings.of(scale=scale, **shared))["deconvolved"]
    return {"network": enhanced, "richardson_lucy": deconvolved, "bicubic": _enlarged(image, scale)}


def error_map(job: Job, images: Images, s: ErrorMapSettings) -> Results:
    from dlm_fiji.measures import error_map as measure
    from dlm_fiji.registration import resample

    fine, coarse = images["image"], images["reference"]
    job.say("comparing with the reference")
    a, b = _grey(fine), _grey(coarse)
    factor = s.enlargement or max(1, round(a.shape[0] / b.shape[0]))
    target = (b.shape[0] * factor, b.shape[1] * factor)
    if abs(a.shape[0] / b.shape[0] - a.shape[1] / b.shape[1]) > 0.05:
        raise InputError(f"The images of {a.shape} and {b.shape} px do not show the same field.")
    if a.shape != target:
        # The measure wants whole blocks; 2.5 times enlarged images are brought to the nearest whole factor.
        a = resample(a, target[0] / a.shape[0])[: target[0], : target[1]]
        if a.shape != target:
            a = np.pad(a, [(0, t - n) for t, n in zip(target, a.shape, strict=True)], mode="edge")
    found = measure(a, b)
    pixel = pixel_size_um(coarse)
    where = from_array(found.map, pixel_um=None if pixel is None else (pixel[0] / factor, pixel[1] / factor))
    figures = {"rse": found.rse, "rsp": found.rsp, "alpha": found.alpha, "beta": found.beta, "sigma": found.sigma}
    where.attrs["provenance"] = {"step": "error map", "engine": "native", **figures}
    return {"error_map": where, "figures": figures}


def register(job: Job, images: Images, s: RegisterSettings) -> Results:
    from dlm_fiji.registration import register_elastic

    job.say("registering")
    moving, fixed = images["image"], images["reference"]
    warp = register_elastic(to_array(moving), to_array(fixed), **s.model_dump())
    aligned = from_array(warp.apply(to_array(moving)), like=moving, pixel_um=pixel_size_um(fixed))
    aligned.attrs["provenance"] = {"step": "register", "engine": warp.engine, **warp.record}
    return {"registered": aligned, "figures": dict(warp.record)}


def stitch_and_enhance(job: Job, images: Images, s: StitchEnhanceSettings) -> Results:
    from dlm_fiji.micrograph import is_image_file, open_image
    from dlm_fiji.registration import StitchSettings
    from dlm_fiji.steps import stitch_tiles

    folder = Path(s.folder)
    if not s.folder or not folder.is_dir():
        raise InputError(f"The folder {s.folder!r} does not exist.")
    tiles = sorted(path for path in folder.iterdir() if path.is_file() and is_image_file(path))
    if not tiles:
        raise InputError(f"There are no images in {folder}.")
    job.say(f"stitching {len(tiles)} tiles")
    options = StitchSettings.of(overlap=s.overlap, order=s.order)
    mosaic = stitch_tiles(tiles, (s.rows, s.columns), options, engine=s.engine)
    image = from_array(mosaic.image, pixel_um=pixel_size_um(open_image(tiles[0])))
    image.attrs["provenance"] = {"step": "stitch", **mosaic.summary()}
    results: Results = {"mosaic": image, "figures": json.loads(json.dumps(mosaic.summary(), default=str))}
    if s.model:
        results["enhanced"] = enhance(job, {"image": image}, EnhanceSettings.of(model=s.model))["enhanced"]
    return results


def train(job: Job, images: Images, s: TrainSettings) -> Results:
    from dlm_fiji.pipeline import load_settings, run_pipeline

    if not s.config or not s.output:
        raise ConfigurationError("Training needs 'config', a TOML file, and 'output', the run folder.")
    job.say("training")
    report = run_pipeline(load_settings(Path(s.config)), Path(s.output), name=Path(s.config).stem)
    return {"figures": {"report": str(report)}}


OPERATIONS: dict[str, Operation] = {
    "enhance": Operation(EnhanceSettings, ("image",), enhance),
    "preview": Operation(EnhanceSettings, ("image",), preview),
    "deconvolve": Operation(DeconvolveSettings, ("image",), deconvolve),
    "compare": Operation(CompareSettings, ("image",), compare),
    "error_map": Operation(ErrorMapSettings, ("image", "reference"), error_map),
    "register": Operation(RegisterSettings, ("image", "reference"), register),
    "stitch": Operation(StitchEnhanceSettings, (), stitch_and_enhance, ("folder",)),
    "train": Operation(TrainSettings, (), train, ("config", "output")),
}

_models: dict[str, Any] = {}


def _model(name: str) -> Any:
    """A model that stays loaded."""
    from dlm_fiji.inference import load_model

    if name not in _models:
        _models[name] = load_model(name)
    return _models[name]


def _pixel_um(image: xr.DataArray, given: float) -> float:
    pixel = pixel_size_um(image)
    if pixel is None and not given:
        raise InputError(
            "The image has no pixel size, which the point spread function needs: set it (in Fiji: Image > "
            "Properties...) or give pixel_um."
        )
    return float(np.mean(pixel)) if pixel is not None else given


def _plane_dims(image: xr.DataArray) -> list[str]:
    return [d for d in ("t", "z", "y", "x", "c") if d in image.dims]


def _planes(image: xr.DataArray) -> list[np.ndarray]:
    """The (H, W[, C]) planes of an image over t and z."""
    values = to_array(image)
    tail = 3 if "c" in image.dims else 2
    return list(values.reshape(-1, *values.shape[values.ndim - tail :]))


def _deconvolved_brightfield(
    plane: np.ndarray, pixel: float, s: DeconvolveSettings, progress: Callable[[int], None]
) -> np.ndarray:
    from dlm_fiji.steps.brightfield_lucy import brightfield_psf, deconvolve_brightfield

    fine = pixel / s.scale
    psfs = [brightfield_psf(s.na, s.condenser_na, wave, fine, pixel) for wave in COLOURS_UM]
    estimates = enumerate(deconvolve_brightfield(plane, psfs, s.scale, s.iterations), start=1)
    result = plane
    for number, estimate in estimates:
        progress(number)
        result = estimate
    return result


def _deconvolved_channels(
    plane: np.ndarray, pixel: float, s: DeconvolveSettings, progress: Callable[[int], None]
) -> np.ndarray:
    from dlm_fiji.deconvolution import richardson_lucy
    from dlm_fiji.microscope import born_wolf
    from dlm_fiji.registration import resample

    fine = pixel / s.scale
    radius = int(np.ceil((4 * 0.61 * s.wavelength_um / s.na + pixel / 2) / fine))
    radius = min(radius, (min(plane.shape[:2]) - 1) // 2)
    psf = born_wolf(s.na, s.wavelength_um, fine, (2 * radius + 1,) * 2, max(1.0, s.na), camera_pixel_um=pixel)
    channels = plane[..., None] if plane.ndim == 2 else plane
    done = []
    for c in range(channels.shape[-1]):
        values = channels[..., c].astype(np.float32)
        if s.scale != 1:
            values = np.maximum(resample(values, s.scale), 0)
        done.append(
            richardson_lucy(
                np.ascontiguousarray(values),
                psf,
                s.iterations,
                damping=s.damping,
                callback=lambda number, _: progress(number),
            )
        )
    result = np.stack(done, axis=-1) if plane.ndim == 3 else done[0]
    if np.issubdtype(plane.dtype, np.integer):
        result = np.clip(np.rint(result), 0, np.iinfo(plane.dtype).max)
    return result.astype(plane.dtype)


def _enlarged(image: xr.DataArray, scale: float) -> xr.DataArray:
    from dlm_fiji.registration import resample

    planes = []
    for plane in _planes(image):
        large = resample(plane.astype(np.float32), scale)
        if np.issubdtype(image.dtype, np.integer):
            large = np.clip(np.rint(large), 0, np.iinfo(image.dtype).max)
        planes.append(large.astype(image.dtype))
    full = np.stack(planes).reshape(*[image.sizes[d] for d in "tz" if d in image.dims], *planes[0].shape)
    pixel = pixel_size_um(image)
    size = None if pixel is None else (pixel[0] / scale, pixel[1] / scale)
    if size is None:
        return from_array(full, dims=_plane_dims(image), channels=_channels(image))
    return from_array(full, pixel_um=size, like=image, dims=_plane_dims(image))


def _channels(image: xr.DataArray) -> list[str] | None:
    return [str(name) for name in image.coords["c"].values] if "c" in image.coords else None


def _grey(image: xr.DataArray) -> np.ndarray:
    if set(image.dims) - set("cyx"):
        raise InputError("An error map is made of single images, not of stacks; duplicate one slice first.")
    values = to_array(image).astype(np.float32)
    return values if values.ndim == 2 else values.mean(axis=-1)
