"""A run folder as the pipeline leaves it, made quickly from a real micrograph; nothing in it was trained."""

import csv
import json

import cv2
import numpy as np
import pytest
import skimage.data

from dlm_fiji.measures import luminance, psnr, ssim
from dlm_fiji.micrograph import from_array, save_image

SCALE = 2.5
PIXEL = 0.25


def low_resolution(label):
    blurred = cv2.GaussianBlur(label, (0, 0), 2.0)
    size = (round(label.shape[1] / SCALE), round(label.shape[0] / SCALE))
    return cv2.resize(blurred, size, interpolation=cv2.INTER_AREA)


def table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def make_run(folder, *, network_weight=0.5, simulated=True):
    """``network_weight`` is the share of the label in the stand-in for a network's output."""
    whole = skimage.data.immunohistochemistry()[:500, :500]
    mosaic = low_resolution(whole)
    y0, x0, y1, x1 = 60, 80, 180, 200
    area = tuple(slice(round(a * SCALE), round(b * SCALE)) for a, b in ((y0, y1), (x0, x1)))
    label = np.ascontiguousarray(whole[area])
    bicubic_all = cv2.resize(mosaic, (500, 500), interpolation=cv2.INTER_CUBIC)
    sharp = bicubic_all.astype(float) * 2.0 - cv2.GaussianBlur(bicubic_all, (0, 0), 2.5)
    network_all = network_weight * whole.astype(float) + (1 - network_weight) * bicubic_all
    before = 0.2 * whole.astype(float) + 0.8 * bicubic_all
    as8 = lambda image: np.rint(np.clip(image, 0, 255)).astype(np.uint8)  # noqa: E731
    wholes = {"bicubic": bicubic_all, "richardson_lucy": as8(sharp), "network": as8(network_all)}
    wholes["network_before"] = as8(before)
    images = {name: np.ascontiguousarray(image[area]) for name, image in wholes.items()} | {"label": label}
    for name, image in images.items():
        save_image(from_array(image, PIXEL), folder / "evaluate" / f"{name}.tif")
    save_image(from_array(mosaic[y0:y1, x0:x1], PIXEL * SCALE), folder / "evaluate" / "input.tif")
    save_image(from_array(mosaic, PIXEL * SCALE), folder / "stitch" / "mosaic.tif")
    save_image(from_array(wholes["network"], PIXEL), folder / "predict" / "mosaic_enhanced.tif")
    save_image(from_array(wholes["richardson_lucy"], PIXEL), folder / "deconvolve" / "mosaic_deconvolved.tif")

    figures = {}
    for name, image in images.items():
        pair = luminance(image), luminance(label)
        figures[name] = {
            "ssim": float(ssim(*pair, data_range=255.0, border=20)),
            "psnr_db": min(99.0, float(psnr(*pair, data_range=255.0, border=20))) if name != "label" else 99.0,
        }
    figures["richardson_lucy"]["iterations"] = 14
    figures["network_before_fine_tuning"] = figures.pop("network_before")
    del figures["label"]
    metrics = {"test_area": figures, "area": {"label": "label_03.tif", "rectangle_px": [y0, x0, y1, x1]}}
    (folder / "evaluate" / "metrics.json").write_text(json.dumps(metrics))

    rng = np.random.default_rng(1)
    steps = np.arange(1, 401)
    loss = 0.02 * np.exp(-steps / 90) + 0.006 + rng.normal(0, 0.0008, steps.size)
    rows = [
        (s, f"{v:.6f}", *((f"{0.0062 + 0.018 * np.exp(-s / 80):.6f}", f"{0.84 - 0.2 * np.exp(-s / 70):.4f}")
                          if s % 40 == 0 else ("", "")), 1e-4, f"{s * 0.4:.1f}")
        for s, v in zip(steps, loss, strict=True)
    ]  # fmt: skip
    table(folder / "train" / "history.csv", ["step", "loss", "val_loss", "val_ssim", "lr", "seconds"], rows)
    peak = [(n, f"{0.78 + 0.06 * (1 - ((n - 14) / 30) ** 2):.5f}") for n in range(1, 41)]
    table(folder / "deconvolve" / "search.csv", ["iterations", "ssim"], peak)
    places = [[y * 80 + rng.normal(0, 2), x * 80 + rng.normal(0, 2)] for y in range(3) for x in range(3)]
    links = [
        {
            "i": i,
            "j": j,
            "shift": [0.0, 80.0],
            "correlation": 0.97,
            "residual": abs(rng.normal(0, 0.15)),
            "used": k != 4,
        }
        for k, (i, j) in enumerate([(a, a + 1) for a in range(8) if a % 3 < 2] + [(a, a + 3) for a in range(6)])
    ]
    layout = {
        "positions": places,
        "tile_shape": [100, 100],
        "placed_by_stage": [False] * 8 + [True],
        "links": links,
    }
    (folder / "stitch" / "links.json").write_text(json.dumps(layout))
    yy, xx = np.mgrid[-1:1:100j, -1:1:100j]
    flat = (1 - 0.3 * ((yy - 0.1) ** 2 + xx**2)).astype(np.float32)
    save_image(from_array(flat, PIXEL * SCALE), folder / "illumination" / "flat_field.tif")

    names = [
        "acquire",
        "illumination",
        "stitch",
        "match",
        "register",
        "patches",
        "train",
        "predict",
        "deconvolve",
        "evaluate",
    ]
    stages = {
        n: {"engine": "native", "status": "done", "seconds": 1.5 * k + 0.7, "note": f"note of {n}"}
        for k, n in enumerate(names)
    }
    stages["illumination"] |= {"engine": "ImageJ", "engine_version": "1.54p"}
    run = {
        "preset": "demo",
        "specimen": "IHC-stained colon",
        "command": "python -m dlm_fiji pipeline demo --out dlm_demo",
        "question": "Does the network bring the low-resolution tiles closer to the high-resolution label?",
        "settings": {"scale": 2.5, "seed": 1, "input": {"grid": [3, 3], "tiles": None},
                     "train": {"steps": 400, "optimizer": {"rate": 1e-4}}},
        "versions": {"dlm_fiji": "0.1.0", "python": "3.11.7", "torch": "2.9"},
        "seeds": {"all": 1},
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
        "started": "2026-11-22T17:01:02+0000",
        "stages": stages,
        "simulated": simulated,
        "model": {"name": "brightfield-x2.5", "hash": "0123abcd"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def add_measures(folder):
    """Everything that only some runs have."""
    rng = np.random.default_rng(2)
    beads = [
        (n, f"{v:.4f}")
        for n, m in (("input", 0.9), ("network", 0.48), ("label", 0.45))
        for v in rng.normal(m, 0.05, 60)
    ]
    table(folder / "measures" / "fwhm.csv", ["image", "fwhm_um"], beads)
    fits = {"network": {"mean_um": 0.481, "low_um": 0.47, "high_um": 0.492}}
    (folder / "measures" / "fwhm.json").write_text(json.dumps(fits))
    periods = [256 * 2 ** (k / 6) for k in range(22)]
    rows = [(p, max(0.0, 0.9 - p / 1400), max(0.0, 0.9 - p / 2600), max(0.0, 0.92 - p / 3000)) for p in periods]
    table(folder / "measures" / "mtf.csv", ["cycles_per_mm", "input", "network", "label"], rows)
    depth = [(z, 0.7 - 0.02 * z * z, 0.85 - 0.02 * z * z) for z in np.linspace(-3, 3, 13)]
    table(folder / "measures" / "depth_of_field.csv", ["defocus_um", "input", "network"], depth)
    cross = [("lung", "lung", 0.8), ("lung", "breast", 0.75), ("breast", "breast", 0.82)]
    table(folder / "measures" / "cross_matrix.csv", ["model", "specimen", "ssim"], cross)
    table(folder / "measures" / "runtime.csv", ["pixels", "seconds"], [(2048, 20.5), (160, 0.12), (512, 1.3)])
    sweep = [
        (n, d, 0.8 - (n - 10) ** 2 / 4000 - (d - 0.001) ** 2 * 40) for n in range(1, 31) for d in (0, 0.001, 0.01, 0.1)
    ]
    table(folder / "deconvolve" / "search.csv", ["iterations", "damping", "ssim"], sweep)
    (folder / "trust").mkdir()
    trust = {
        "sentence": "3.0% of 400 regions are flagged (0.8% would be from noise alone).",
        "regions": 400,
        "flagged_share": 0.03,
        "threshold": 3.4,
        "flagged_regions": [{"row": 3, "column": 6}],
    }
    (folder / "trust" / "trust.json").write_text(json.dumps(trust))
    save_image(rng.normal(0, 1.5, (120, 120)).astype(np.float32), folder / "trust" / "map.tif")
    save_image(rng.random((300, 300)).astype(np.float32), folder / "trust" / "uncheckable.tif")
    deviation = rng.normal(0, 0.05, (120, 120)).astype(np.float32)
    save_image(deviation, folder / "trust" / "deviation.tif")
    save_image((np.abs(deviation) > 0.15).astype(np.uint8), folder / "trust" / "flags.tif")
    table(
        folder / "trust" / "roc.csv", ["false_alarm", "inserted", "erased"], [(0, 0, 0), (0.01, 0.96, 0.97), (1, 1, 1)]
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A whole run with its report; read only."""
    from dlm_fiji.report import write_report

    folder = make_run(tmp_path_factory.mktemp("runs") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def measured_run(tmp_path_factory):
    """A run with every optional measure, and its report with the papers' tables; read only."""
    from dlm_fiji.report import write_report

    folder = make_run(tmp_path_factory.mktemp("runs") / "measured")
    add_measures(folder)
    write_report(folder, paper=True)
    return folder


@pytest.fixture
def new_run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def run_maker():
    return make_run
