"""Every step by both engines on the same data, and where the difference comes from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.errors import DlmError
from dlm_fiji.fiji.plugins import plugins_available

__all__ = ["Comparison", "compare", "jar_hashes"]


@dataclass(frozen=True)
class Comparison:
    """One figure of one step by both engines."""

    step: str
    plugin: str
    what: str
    native: str
    fiji: str
    difference: str
    explanation: str


@dataclass(frozen=True)
class Skipped:
    """A step that could not be compared, and why."""

    step: str
    plugin: str
    reason: str


def compare() -> Iterator[Comparison | Skipped]:
    """Run each step by both engines; those whose plugin is missing are named with the reason."""
    from dlm_fiji.fiji.runtime import start

    start()
    available = plugins_available()
    steps: list[tuple[str, str, Callable[[], Iterator[Comparison]]]] = [
        ("illumination", "", _flat_field),
        ("stitch", "stitching", _stitching),
        ("register", "nanoj", _registration),
        ("drift", "nanoj", _drift),
        ("psf", "psf_generator", _psf),
        ("deconvolve", "deconvolutionlab2", _deconvolution),
        ("deconvolve", "ops", _ops),
        ("focus fusion", "edf", _focus),
        ("error map", "squirrel", _error_map),
    ]
    for step, key, work in steps:
        name = available[key].name if key else "ImageJ macro"
        if key and not available[key]:
            yield Skipped(step, name, f"not installed; {available[key].how_to_install}")
            continue
        try:
            yield from work()
        except DlmError as error:
            yield Skipped(step, name, str(error))


def jar_hashes() -> list[tuple[str, str, str, str]]:
    """(plugin, jar, version, SHA-256) of the plugins that were there."""
    found = []
    for plugin in plugins_available().values():
        if plugin.jar is not None:
            digest = hashlib.sha256(Path(plugin.jar).read_bytes()).hexdigest()
            found.append((plugin.name, Path(plugin.jar).name, plugin.version or "", digest))
    return found


def _scene(side: int = 256) -> np.ndarray:
    """A micrograph-like test image with known content, 0 … 1, the same on every machine."""
    from skimage import data
    from skimage.transform import resize

    coins = data.coins().astype(np.float64)
    return resize(coins, (side, side), anti_aliasing=True) / 255


def _flat_field() -> Iterator[Comparison]:
    from dlm_fiji.fiji.macro import divide_by_flat_field
    from dlm_fiji.micrograph import from_array

    scene = (_scene() * 255).astype(np.uint8)
    y, x = np.mgrid[:256, :256] / 255
    flat = (1.2 - 0.4 * (x - 0.4) ** 2 - 0.5 * (y - 0.6) ** 2).astype(np.float32)
    fiji = divide_by_flat_field(from_array(scene), from_array(flat)).values
    native = np.clip(np.floor(scene.astype(np.float32) / flat + 0.5), 0, 255).astype(np.uint8)
    worst = int(np.abs(fiji.astype(int) - native).max())
    yield Comparison(
        "illumination", "ImageJ macro", "8-bit division by a flat field", "NumPy", "flat_field.ijm",
        f"largest {worst} grey levels", "32-bit division, rounded and clipped by both",
    )  # fmt: skip


def _stitching() -> Iterator[Comparison]:
    from dlm_fiji.fiji import stitching
    from dlm_fiji.registration import stitch

    rng = np.random.default_rng(3)
    scene = _scene(640)
    stage = np.array([(r * 128, c * 128) for r in range(3) for c in range(3)])
    true = stage + np.where(np.arange(9)[:, None] == 0, 0, rng.integers(-6, 7, (9, 2))) + 20
    tiles = np.stack([scene[y : y + 160, x : x + 160] for y, x in true])
    tiles = (60000 * np.clip(tiles + rng.normal(0, 0.01, tiles.shape), 0, 1)).astype(np.uint16)
    truth = true - true[0]
    errors = {}
    seconds = {}
    for name, engine in (("native", stitch), ("fiji", stitching.stitch)):
        begin = time.perf_counter()
        found = engine(tiles, grid=(3, 3), overlap=0.2).positions  # type: ignore[operator]
        seconds[name] = time.perf_counter() - begin
        errors[name] = np.abs(found - found[0] - truth).max()
    yield Comparison(
        "stitch", "Grid/Collection stitching", "3 × 3 tiles with known positions: largest error (time)",
        f"{errors['native']:.3f} px ({seconds['native']:.1f} s)", f"{errors['fiji']:.3f} px ({seconds['fiji']:.1f} s)",
        f"{abs(errors['native'] - errors['fiji']):.3f} px",
        "the plugin weighs all links alike, diagonal ones too; ours weighs them by their own error",
    )  # fmt: skip


def _registration() -> Iterator[Comparison]:
    from scipy.ndimage import gaussian_filter, map_coordinates

    from dlm_fiji.fiji import nanoj
    from dlm_fiji.registration import register_elastic

    rng = np.random.default_rng(5)
    fixed = _scene().astype(np.float32)
    bend = np.stack([gaussian_filter(rng.normal(size=fixed.shape), 40) for _ in range(2)])
    bend *= 4 / np.abs(bend).max()
    rows, columns = np.mgrid[:256, :256].astype(float)
    moving = map_coordinates(fixed, [rows + bend[0], columns + bend[1]], order=3, mode="reflect").astype(np.float32)

    def error(warp: Any) -> float:
        """Mean distance of moving(p + w(p)) from p, where the field is known."""
        there = np.stack([rows, columns]) + warp.displacement
        back = [map_coordinates(b, there, order=1, mode="nearest") for b in bend]
        return float(np.hypot(*(warp.displacement + back))[16:-16, 16:-16].mean())

    native = error(register_elastic(moving, fixed))
    once = error(nanoj.register_blocks(moving, fixed))
    paper = error(nanoj.register_elastic(moving, fixed, last_block=40))
    why = "NanoJ's blocks lock near whole pixels, and it spreads them by distance; ours ends with a least-squares fit"
    what = "known smooth warp of up to 4 px: mean error, "
    yield Comparison("register", "NanoJ-Core", what + "one run", f"{native:.3f} px", f"{once:.3f} px",
                     f"{abs(native - once):.3f} px", why)  # fmt: skip
    yield Comparison("register", "NanoJ-Core", what + "the papers' pyramid", f"{native:.3f} px", f"{paper:.3f} px",
                     f"{abs(native - paper):.3f} px", why)  # fmt: skip


def _drift() -> Iterator[Comparison]:
    from scipy.ndimage import shift

    from dlm_fiji.fiji import nanoj
    from dlm_fiji.registration import drift

    scene = _scene().astype(np.float32)
    true = np.array([2.4, -1.3])
    moved = shift(scene, true, order=3, mode="reflect")
    errors = [float(np.abs(np.subtract(engine(scene, moved).shift, true)).max()) for engine in (drift, nanoj.drift)]
    yield Comparison(
        "drift", "NanoJ-Core", "known shift of (2.4, -1.3) px: largest error", f"{errors[0]:.3f} px",
        f"{errors[1]:.3f} px", f"{abs(errors[0] - errors[1]):.3f} px",
        "the plugin's correlation has no mean removed and no window, so its peak is drawn to whole pixels",
    )  # fmt: skip


def _psf() -> Iterator[Comparison]:
    from dlm_fiji.fiji import psf_generator
    from dlm_fiji.microscope import born_wolf

    for wave in (0.630, 0.450):
        fiji = psf_generator.born_wolf(0.4, wave, 0.325, (33, 33))
        for radial, why in (
            ("exact", "the plugin computes the profile at whole-pixel radii and draws straight lines between"),
            ("plugin", "the same table of radii"),
        ):
            native = born_wolf(0.4, wave, 0.325, (33, 33), radial=radial)  # type: ignore[arg-type]
            worst = np.abs(native / native.max() - fiji / fiji.max()).max()
            yield Comparison(
                "psf", "PSF Generator", f"Born & Wolf, NA 0.4, {1000 * wave:.0f} nm, 0.325 µm pixels",
                f"radial={radial!r}", "accuracy Best", f"largest {worst:.2g} of the peak", why,
            )  # fmt: skip


def _blurred() -> tuple[np.ndarray, np.ndarray]:
    from scipy.signal import fftconvolve

    from dlm_fiji.microscope import born_wolf

    psf = born_wolf(0.4, 0.63, 0.325, (33, 33))
    scene = np.pad(_scene(128) * 4000, 16, mode="reflect")
    image = np.random.default_rng(1).poisson(np.maximum(fftconvolve(scene, psf, "same"), 0))[16:-16, 16:-16]
    return image.astype(np.float32), psf.astype(np.float32)


def _relative(a: np.ndarray, b: np.ndarray) -> str:
    scale = float(b.max())
    inner = np.abs(a - b)[16:-16, 16:-16].max() / scale
    return f"largest {np.abs(a - b).max() / scale:.2g} of the maximum, {inner:.2g} off the edge"


def _deconvolution() -> Iterator[Comparison]:
    from dlm_fiji.deconvolution import richardson_lucy as native_lucy
    from dlm_fiji.fiji import deconvolution

    image, psf = _blurred()
    fiji = deconvolution.richardson_lucy(image, psf, 10)
    native = native_lucy(image, psf, 10, boundary="circular")
    yield Comparison(
        "deconvolve", "DeconvolutionLab2", "Richardson-Lucy, 10 iterations, periodic edges", "boundary='circular'",
        "PSF made even and centred by the bridge", _relative(native, fiji),
        "the same formula; handed an odd PSF as it is, the plugin displaces it by one pixel",
    )  # fmt: skip
    from dlm_fiji.fiji.deconvolution import _signal
    from dlm_fiji.fiji.macro import captured_output, session
    from dlm_fiji.fiji.runtime import java_class

    with session(), captured_output():
        command = (
            "-algorithm RL 10 -pad NO NO 0 0 -apo NO NO -norm 1 -constraint no -monitor 0 -verbose mute "
            "-multithreading no -out stack result noshow nosave"
        )
        job = java_class("deconvolution.Deconvolution")("run", command)
        odd = np.array(job.deconvolve(_signal("image", image), _signal("psf", psf)).getXY(0)).reshape(image.shape)
    yield Comparison(
        "deconvolve", "DeconvolutionLab2", "the same with the odd PSF as it is (not what the bridge does)",
        "boundary='circular'", "odd PSF", _relative(native, odd), "the one-pixel displacement of odd PSFs",
    )  # fmt: skip


def _ops() -> Iterator[Comparison]:
    from dlm_fiji.deconvolution import richardson_lucy as native_lucy
    from dlm_fiji.fiji import deconvolution

    image, psf = _blurred()
    rows: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
        ("mirrored edges", {"boundary": "reflect"}, {}, "mirrored with and without repeating the edge pixel"),
        ("weighted edges", {"boundary": "weights", "initial": "constant"}, {"boundary": "weights"},
         "the same weights (Bertero & Boccacci); different first guess and padding"),
        ("accelerated", {"boundary": "reflect", "acceleration": "biggs-andrews"}, {"accelerate": True},
         "the extrapolation is computed over other borders"),
    ]  # fmt: skip
    for what, ours, theirs, why in rows:
        fiji = deconvolution.richardson_lucy(image, psf, 10, plugin="ops", **theirs)
        native = native_lucy(image, psf, 10, **ours)
        yield Comparison("deconvolve", "imagej-ops", f"Richardson-Lucy, 10 iterations, {what}", str(ours), str(theirs),
                         _relative(native, fiji), why)  # fmt: skip


def _focus() -> Iterator[Comparison]:
    from scipy.ndimage import gaussian_filter

    from dlm_fiji.fiji import edf
    from dlm_fiji.microscope import fuse_focus

    scene = _scene(160) * 255
    depth = np.broadcast_to(np.linspace(0, 3, 160), scene.shape)
    stack = np.zeros((4, *scene.shape))
    for height in np.linspace(0, 3, 13):
        for plane in range(4):
            blurred = gaussian_filter(scene, 1e-3 + 1.2 * abs(plane - height))
            stack[plane] += blurred * (np.abs(depth - height) <= 0.125)
    stack = stack.clip(0, 255).astype(np.uint8)

    def error(image: np.ndarray) -> float:
        return float(np.abs(image.astype(float) - scene)[8:-8, 8:-8].mean())

    for method in ("variance", "complex-wavelets"):
        native, fiji = error(fuse_focus(stack, method=method).image), error(edf.fuse_focus(stack, method=method).image)  # type: ignore[arg-type]
        yield Comparison(
            "focus fusion", "Extended Depth of Field", f"tilted scene, 4 planes, {method}: mean error",
            f"{native:.2f} grey levels", f"{fiji:.2f} grey levels", f"{abs(native - fiji):.2f}",
            "other wavelets and votes" if "wave" in method else "other windows: 9 px, and 5 px in the plugin",
        )  # fmt: skip


def _error_map() -> Iterator[Comparison]:
    from scipy.ndimage import gaussian_filter

    from dlm_fiji.fiji import squirrel
    from dlm_fiji.measures import error_map

    rng = np.random.default_rng(11)
    fine = np.zeros((32, 32))
    fine[tuple(rng.integers(3, 29, (2, 25)))] = rng.uniform(500, 2000, 25)
    fine = gaussian_filter(fine, 1.0)
    coarse = (1.7 * gaussian_filter(fine, 3.0) + 100).reshape(16, 2, 16, 2).mean((1, 3))
    coarse += rng.normal(0, 1, coarse.shape)
    fine[10:13, 10:13] += 200  # what the reference does not know
    fiji = squirrel.error_map(fine, coarse)
    native = error_map(fine.astype(np.float32), coarse.astype(np.float32), shift=fiji.shift, enlargement="plugin")
    yield Comparison(
        "error map", "NanoJ-SQUIRREL", "32² on 16² pixels: objective, RSE, RSP",
        f"{native.objective:.4f}, {native.rse:.3f}, {native.rsp:.4f}",
        f"{fiji.objective:.4f}, {fiji.rse:.3f}, {fiji.rsp:.4f}",
        f"map {np.nanmax(np.abs(native.map - fiji.map)) / np.nanmax(fiji.map):.2g} of its maximum",
        "the plugin fits with one Gaussian kernel and draws its map with ImageJ's; ours uses the first for both",
    )  # fmt: skip
