"""Elastic registration: the same pairs through every method at hand, time and error side by side.

    python benchmarks/registration.py [--golden golden] [--lung registration/lung_stains] [--image x.tif]

1. Known warps: sums of low-order sines of up to 8 px on 1024², 1 % noise, the moving image as it is, with changed
   gamma, or inverted. Peers: scikit-image TV-L1 and ILK, SimpleITK B-spline and NanoPyx (if installed).
2. NanoJ's reference pair (--golden): its own best residual beside ours.
3. Landmarks of serial sections in different stains (--lung): mean landmark error of each step, of TV-L1 after our
   affine, of SimpleITK (if installed); and how well the landmarks foretell each other, which is a limit of a kind.
Every method runs in a process of its own and is stopped after --limit seconds. CPU is that process' time (all
threads, imports of the peer included); on a busy machine it is the fairer number.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from scipy import ndimage

SIDE = 1024
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def sines(shape: tuple[int, int], amplitude: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    field = np.zeros((2, *shape))
    for layer in field:
        for a in range(3):
            for b in range(3):
                layer += rng.normal() * np.sin(np.pi * (a * y + b * x) + rng.uniform(0, 2 * np.pi))
    return field * (amplitude / np.hypot(*field).max())


def ours(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from dlm_fiji.registration import register_elastic

    return register_elastic(moving, fixed).displacement


def paper(name: str, moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from dlm_fiji.registration import ElasticSettings, register_elastic

    return register_elastic(moving, fixed, ElasticSettings.paper(name)).displacement


def matched(moving: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from skimage.exposure import match_histograms

    scale = 1 / 255
    return match_histograms(moving, fixed).astype(np.float32) * scale, fixed.astype(np.float32) * scale


def tvl1(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from skimage.registration import optical_flow_tvl1

    a, b = matched(moving, fixed)
    return optical_flow_tvl1(b, a)


def ilk(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from skimage.registration import optical_flow_ilk

    a, b = matched(moving, fixed)
    return optical_flow_ilk(b, a, radius=15)


def nanopyx(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """NanoPyx' channel registration with NanoJ's usual 5 x 5 blocks; its mask is dx beside dy, to be subtracted."""
    from nanopyx.methods.channel_registration import ChannelRegistrationEstimator

    estimator = ChannelRegistrationEstimator(verbose=False)
    pair = np.stack([fixed, moving]).astype(np.float32)
    estimator.estimate(pair, 0, 20, 5, 0.5, save_translation_masks=False, apply=False)
    x, y = np.split(np.asarray(estimator.translation_masks)[1], 2, axis=1)
    return -np.stack([y, x])


def bspline(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    import SimpleITK as sitk

    f, m = (sitk.GetImageFromArray(image.astype(np.float32)) for image in (fixed, moving))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, 1)
    method.SetInterpolator(sitk.sitkLinear)
    grid = sitk.BSplineTransformInitializer(f, [8, 8])
    method.SetInitialTransform(grid, inPlace=False)
    method.SetOptimizerAsLBFGSB(numberOfIterations=60)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    found = method.Execute(f, m)
    field = sitk.GetArrayFromImage(
        sitk.TransformToDisplacementField(found, sitk.sitkVectorFloat64, f.GetSize(), f.GetOrigin(), f.GetSpacing())
    )
    return np.moveaxis(field, -1, 0)[::-1]


def affine_bspline(moving: np.ndarray, fixed: np.ndarray, elastic: bool) -> np.ndarray:
    """SimpleITK's affine map by Mattes' mutual information (every pixel, steps from 8 px down), B-spline after it.

    Its sampling of few pixels and small first steps, as in many examples, end tens of px off here.
    """
    import SimpleITK as sitk

    f, m = (sitk.GetImageFromArray(image.astype(np.float32)) for image in (fixed, moving))
    first = sitk.ImageRegistrationMethod()
    first.SetMetricAsMattesMutualInformation(50)
    first.SetInterpolator(sitk.sitkLinear)
    middle = sitk.CenteredTransformInitializerFilter.GEOMETRY
    first.SetInitialTransform(sitk.CenteredTransformInitializer(f, m, sitk.AffineTransform(2), middle), inPlace=False)
    first.SetOptimizerAsRegularStepGradientDescent(8.0, 1e-3, 200, relaxationFactor=0.8)
    first.SetOptimizerScalesFromPhysicalShift()
    first.SetShrinkFactorsPerLevel([8, 4, 2])
    first.SetSmoothingSigmasPerLevel([8, 4, 2])
    whole = affine = first.Execute(f, m)
    if elastic:
        second = sitk.ImageRegistrationMethod()
        second.SetMetricAsMattesMutualInformation(50)
        second.SetMetricSamplingStrategy(second.RANDOM)
        second.SetMetricSamplingPercentage(0.2, 1)
        second.SetInterpolator(sitk.sitkLinear)
        second.SetMovingInitialTransform(affine)
        second.SetInitialTransform(sitk.BSplineTransformInitializer(f, [8, 8]), inPlace=False)
        second.SetOptimizerAsLBFGSB(numberOfIterations=60)
        second.SetShrinkFactorsPerLevel([4, 2])
        second.SetSmoothingSigmasPerLevel([4, 2])
        whole = sitk.CompositeTransform([affine, second.Execute(f, m)])
    field = sitk.GetArrayFromImage(
        sitk.TransformToDisplacementField(whole, sitk.sitkVectorFloat64, f.GetSize(), f.GetOrigin(), f.GetSpacing())
    )
    return np.moveaxis(field, -1, 0)[::-1]


METHODS: dict[str, Method] = {
    "dlm_fiji": ours,
    "dlm_fiji, schedule of 002": functools.partial(paper, "002"),
    "dlm_fiji, schedule of 004": functools.partial(paper, "004"),
    "skimage TV-L1, matched": tvl1,
    "skimage ILK, matched": ilk,
    "SimpleITK B-spline, MI": bspline,
    "NanoPyx, 5 x 5 blocks": nanopyx,
}


def _timed(answer: Connection, method: Method, moving: np.ndarray, fixed: np.ndarray) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        found = np.asarray(method(moving, fixed), np.float32)
        answer.send((found, time.perf_counter() - wall, time.process_time() - cpu))
    except ImportError as error:
        answer.send(f"not installed ({error})")
    except Exception as error:  # a peer that fails is a result too
        answer.send(f"failed: {type(error).__name__}: {str(error).splitlines()[0]}")


def measure(
    name: str, method: Method, moving: np.ndarray, fixed: np.ndarray, limit: float
) -> tuple[np.ndarray | None, str]:
    """What ``method`` finds and how long it took, or None after a line that says why not."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_timed, args=(there, method, moving, fixed))
    process.start()
    there.close()
    try:
        answer = here.recv() if here.poll(limit) else f"stopped after {limit:.0f} s"
    except EOFError:
        answer = "failed: its process ended without an answer"
    process.kill()
    process.join()
    if isinstance(answer, str):
        print(f"  {name:28s} {answer}", flush=True)
        return None, ""
    found, wall, cpu = answer
    return found, f"wall {wall:6.2f} s  CPU {cpu:6.2f} s"


def compare(moving: np.ndarray, fixed: np.ndarray, true: np.ndarray, names: list[str], limit: float) -> None:
    for name in names:
        found, took = measure(name, METHODS[name], moving, fixed, limit)
        if found is not None:
            e = np.hypot(*(found - true))
            print(
                f"  {name:28s} {took}  RMS {np.sqrt((e**2).mean()):.3f} px  95 % {np.percentile(e, 95):.3f}"
                f"  area under 0.3 px {100 * (e < 0.3).mean():.1f} %",
                flush=True,
            )


def known_warps(path: str | None, names: list[str], limit: float) -> None:
    if path is None:
        rng = np.random.default_rng(0)
        layers = [ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), s) * s for s in (1.5, 4, 12)]
        image = np.clip(128 + 35 * sum(layers) / np.std(sum(layers)), 0, 255)
    else:
        from skimage.io import imread

        image = imread(path).astype(np.float32)
        image = image[..., :3] @ np.array([0.2989, 0.587, 0.114]) if image.ndim == 3 else image
        image = image[:SIDE, :SIDE]
    true = sines((image.shape[0], image.shape[1]), 8, 1)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    fixed = ndimage.map_coordinates(image, [y + true[0], x + true[1]], order=5, mode="mirror")
    rng = np.random.default_rng(2)
    moving, fixed = (i + rng.normal(size=i.shape) * 2.55 for i in (image, fixed))
    for label, changed in (
        ("as it is", moving),
        ("gamma 0.6", 255 * np.clip(moving / 255, 0, 1) ** 0.6),
        ("inverted", 255 - moving),
    ):
        print(f"known warp to 8 px, {image.shape[0]} x {image.shape[1]} px, moving {label}")
        compare(changed, fixed, true, names, limit)


def nanoj(folder: Path, names: list[str], limit: float) -> None:
    import json

    from dlm_fiji.registration import Warp

    data = np.load(folder / "nanoj_elastic.npz")
    theirs = json.loads((folder / "nanoj_elastic.json").read_text())
    true = Warp(np.stack([data["true_dy"], data["true_dx"]])).inverse().displacement
    best = min((run for run in theirs.values() if isinstance(run, dict)), key=lambda run: run["mean"])
    print(f"NanoJ's reference pair, 256²: NanoJ (5 blocks) mean {best['mean']:.2f} px, {best['seconds']:.2f} s")
    gamma = 255 * np.clip(data["mov"] / 255, 0, None) ** 0.6
    for label, moving in (("as it is", data["mov"]), ("gamma 0.6", gamma)):
        print(f" moving {label}")
        compare(moving, data["ref"], true, names, limit)


def our_affine(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from dlm_fiji.registration import align_global

    return align_global(moving, fixed).warp().displacement


def our_sections(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from dlm_fiji.registration import ElasticSettings, align_global, register_elastic

    rough = align_global(moving, fixed)
    elastic = register_elastic(rough.apply(moving), fixed, ElasticSettings.sections())
    return rough.warp().compose(elastic).displacement


def our_affine_tvl1(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from dlm_fiji.registration import Warp, align_global, optical_density

    rough = align_global(moving, fixed)
    a, b = optical_density(rough.apply(moving)), optical_density(fixed)
    rest = tvl1(255 * a / a.max(), 255 * b / b.max())
    return rough.warp().compose(Warp(rest)).displacement


def itk_on_density(elastic: bool, moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    from dlm_fiji.registration import optical_density

    return affine_bspline(optical_density(moving), optical_density(fixed), elastic)


ON_SECTIONS: dict[str, Method] = {
    "dlm_fiji affine": our_affine,
    "dlm_fiji affine + elastic": our_sections,
    "our affine + TV-L1": our_affine_tvl1,
    "SimpleITK affine": functools.partial(itk_on_density, False),
    "SimpleITK affine + B-spline": functools.partial(itk_on_density, True),
}


def landmarks(folder: Path, peers: bool, limit: float) -> None:
    from skimage.io import imread

    def load(name: str) -> tuple[np.ndarray, np.ndarray]:
        points = np.loadtxt(folder / f"29-041-Izd2-w35-{name}.csv", delimiter=",", skiprows=1)[:, :0:-1] / 10
        return imread(folder / f"29-041-Izd2-w35-{name}.jpg"), points

    def error(displacement: np.ndarray, moving: np.ndarray, fixed: np.ndarray) -> float:
        at = np.stack([ndimage.map_coordinates(layer, fixed.T, order=1, mode="nearest") for layer in displacement], 1)
        return float(np.linalg.norm(fixed + at - moving, axis=1).mean())

    sections = {name.split("-")[0]: load(name) for name in ("He-les3", "CD31-3-les3", "Ki67-7-les3")}
    for first, second in (("He", "CD31"), ("He", "Ki67"), ("CD31", "Ki67")):
        (image, points), (other, theirs) = sections[first], sections[second]
        count = min(len(points), len(theirs))
        p, q = points[:count], theirs[:count]
        untouched = np.linalg.norm(p - q, axis=1).mean()
        print(f"sections, {first} to {second}, {count} landmarks: untouched {untouched:.1f} px", flush=True)
        for name, method in ON_SECTIONS.items():
            if not peers and not name.startswith("dlm_fiji"):
                continue
            found, took = measure(name, method, image, other, limit)
            if found is not None:
                print(f"  {name:28s} {took}  mean {error(found, p, q):.2f} px", flush=True)
        print(
            f"  the landmarks themselves: affine {affine_error(p, q):.1f}, each from all others {left_out(p, q):.1f} px"
        )


def affine_error(moving: np.ndarray, fixed: np.ndarray) -> float:
    design = np.column_stack([fixed, np.ones(len(fixed))])
    return float(np.linalg.norm(design @ np.linalg.lstsq(design, moving, rcond=None)[0] - moving, axis=1).mean())


def left_out(moving: np.ndarray, fixed: np.ndarray) -> float:
    """Mean error of a landmark foretold by a smoothed thin-plate spline through all others, at the best smoothing."""
    from scipy.interpolate import RBFInterpolator

    means = []
    for smoothing in 10.0 ** np.arange(2, 8):
        off = []
        for k in range(len(fixed)):
            others = np.arange(len(fixed)) != k
            spline = RBFInterpolator(fixed[others], moving[others], smoothing=smoothing)
            off.append(np.linalg.norm(spline(fixed[k : k + 1])[0] - moving[k]))
        means.append(np.mean(off))
    return float(min(means))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="field for the known warps; a made texture by default")
    parser.add_argument("--golden", type=Path, help="folder with nanoj_elastic.npz")
    parser.add_argument("--lung", type=Path, help="folder with the lung sections and landmarks")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--limit", type=float, default=120, help="seconds a method may take")
    parser.add_argument("--no-known", action="store_true", help="leave the known warps out")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    names = [name for name in METHODS if not args.no_peers or name.startswith("dlm_fiji")]
    print(f"{os.cpu_count()} cores")
    if not args.no_known:
        known_warps(args.image, names, args.limit)
    if args.golden:
        nanoj(args.golden, names, args.limit)
    if args.lung:
        landmarks(args.lung, not args.no_peers, args.limit)


if __name__ == "__main__":
    main()
