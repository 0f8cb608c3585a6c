"""Train and judge the fluorescence models (openly licensed images, named on the model cards).

    python benchmarks/fluorescence_model.py train DATA OUT --kind pixels --minutes 60
    python benchmarks/fluorescence_model.py train DATA OUT --kind mse|gan|content --minutes 9 --start PIXELS/model
    python benchmarks/fluorescence_model.py judge DATA MODEL [MODEL ...] [--write]

``--write`` puts the table on the models' cards.

Labels: BPAE actin and nuclei (left two thirds; the rest validates), fields of nuclei, filaments made by chance.
Judged on the real pair of BioSR (wide-field and structured illumination of the same F-actin, 502²): the
wide-field image reduced twofold goes in, while Richardson-Lucy has all its pixels; each output is fitted to the
label by a line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import fft
from scipy.ndimage import convolve, zoom

from dlm_fiji.deconvolution import search
from dlm_fiji.inference import ModelCard, load_model, predict, save_model
from dlm_fiji.measures import error_map, match_intensity, psnr, ring_correlation, ssim
from dlm_fiji.micrograph import open_image, to_array
from dlm_fiji.microscope.virtual import optical_transfer
from dlm_fiji.networks import FluorescenceGenerator
from dlm_fiji.steps.fluorescence_area import registered_label, unit_label
from dlm_fiji.training import (
    SimulatedFluorescence,
    TrainingSettings,
    plot_history,
    scaled_label,
    train_adversarial,
)
from dlm_fiji.training.simulated_fluorescence import FluorescenceSimulation, recorded, simulated_pair
from dlm_fiji.training.synthetic_filaments import synthetic_filaments

WIDTHS = (16, 32, 64, 128)
KEEP_MEANS = 9
KINDS = {
    "pixels": (
        "fluorescence-x2",
        (0.5, 0.5),
        "MSE and SSIM terms half each, no discriminator: 4 % of one lowered SSIM by 0.01 on held-out fields.",
    ),
    "mse": ("fluorescence-x2-mse", (1.0, 0.0), "Mean squared error alone: the twin to compare a GAN with."),
    "gan": (
        "fluorescence-x2-gan",
        (0.01, 0.01),
        "Loss of Wang et al. 2019: MSE and SSIM terms 1 % each, the discriminator the rest: it may look sharper than "
        "it is true; a twin for comparison.",
    ),
    "content": ("fluorescence-x2-content", (0.45, 0.45), "MSE and SSIM terms 45 % each, the discriminator 10 %."),
}
"""Name, shares of the pixel terms, what they are."""
WHAT = (
    "SSIM (95 % bootstrap interval over ROIs of 60 px), PSNR (dB), Fourier ring correlation with the label (px; "
    "null: above 1/7 at every frequency), RSP (SQUIRREL, against the camera image); 10 px border left out, every "
    "image fitted to the label by a line; Richardson-Lucy at its best: kernel, damping and iterations chosen with "
    "the label; on BioSR it has the wide-field image at full sampling, the network the image reduced twofold; its "
    "label was moved onto the image first (by a third of a pixel)"
)
ITERATIONS = (*range(1, 10), *range(10, 50, 5), *range(50, 301, 25))


def plane(path: Path) -> np.ndarray:
    """The image as (H, W)."""
    array = to_array(open_image(path))
    return array if array.ndim == 2 else array[..., :3].mean(-1)


def fields(data: Path) -> tuple[list, list]:
    """Training fields with weights, validation fields."""
    training, validation = [], []
    for name in ("BPAE_actin.tif", "BPAE_nuclei.tif"):
        image = plane(data / "fluorescence" / "bpae" / name)
        # at full size its finest detail is three pixels wide: too soft to be a label
        for reduce in (2, 3):
            label = scaled_label(image, reduce)
            border = label.shape[1] * 2 // 3
            training.append((label[:, :border], 3.0 if "actin" in name else 1.0))
            if reduce == 2:
                validation.append(label[:, border:])
    rng = np.random.default_rng(1)
    validation += [scaled_label(synthetic_filaments((192, 192), rng)) for _ in range(4)]
    for path in sorted((data / "fluorescence" / "nuclei").glob("*.png"))[:5]:
        training.append((scaled_label(plane(path), 2), 0.2))
    return training, validation


def train(data: Path, out: Path, minutes: float, kind: str, start: str | None, rate: float) -> None:
    """Train one model and write its folder."""
    name, shares, what = KINDS[kind]
    settings = TrainingSettings(
        steps=100_000,
        time_limit_s=60 * minutes,
        batch=8,
        patch=64,
        learning_rate=rate,
        schedule="one-cycle",
        clip_norm=50.0,
        ema=0.99,
        keep="last",
        validate_every=200,
        validation_patches=24,
        mse_share=shares[0],
        ssim_share=shares[1],
        discriminator="fast",
        discriminator_rate=1e-4,
        device="cpu",
    )
    training, validation = fields(data)
    source = SimulatedFluorescence(training, settings, FluorescenceSimulation(filaments=0.7))
    simulation = FluorescenceSimulation(
        na=(0.65, 0.65), halo=(0.15, 0.15), halo_um=(1, 1), photons=(3000, 3000), background=(0.05, 0.05)
    )
    pairs = []
    for number, label in enumerate(validation):
        label = label[: label.shape[0] // 16 * 16, : label.shape[1] // 16 * 16]
        low, high = simulated_pair(label, simulation, np.random.default_rng(number))
        pairs.append((low[..., None], high[..., None]))
    if start:
        generator = load_model(start).network
        generator.keep_means = KEEP_MEANS
    else:
        generator = FluorescenceGenerator(2, WIDTHS, keep_means=KEEP_MEANS).start_from_interpolation()

    def say(step: int, total: int, metrics: dict[str, float]) -> None:
        if step % 100 == 0:
            print(step, *(f"{k} {v:.5g}" for k, v in metrics.items()), flush=True)

    result = train_adversarial(source, pairs, settings, out, generator, progress=say)
    plot_history(result.history, out / "curves.png")
    began = f" --start {Path(start).parent.name}/{Path(start).name}" if start else ""
    card = ModelCard(
        name=name,
        description="Wide-field fluorescence of filaments and nuclei: twice the pixels, towards the image of twice the "
        f"NA. Generator of Wang et al. 2019 with widths {WIDTHS[0]} to {WIDTHS[-1]}; the output keeps the input's mean "
        f"in windows of {KEEP_MEANS} camera pixels. {what}",
        modality="fluorescence",
        normalisation="percentile",
        intensity_range=(0.0, 255.0),
        training_data="Labels: BPAE actin and nuclei (left two thirds, reduced 2 and 3 times), five fields of nuclei "
        "(reduced 2 times), and, seven of ten, networks of filaments made by chance "
        "(dlm_fiji.training.synthetic_filaments). Low resolution simulated: dlm_fiji.training.FluorescenceSimulation "
        "at its defaults. The ranges of densities and of the haze were widened once after a look at the contrast and "
        "the score of the real BioSR pair, which no training saw.",
        data_licence="BPAE: R. Haase, BioImageAnalysisNotebooks, CC-BY-4.0. Nuclei: DSB-2018 fixes, CC0. Judged on "
        "BioSR via qiqi-lu/kernel-learning-deconvolution, CC-BY-4.0 / MIT.",
        training_command=f"python benchmarks/fluorescence_model.py train DATA OUT --kind {kind} --minutes {minutes:g} "
        f"--rate {rate:g}{began}",
        measured={"validation SSIM": result.history[-1]["val_ssim"]},
    )
    save_model(out / "model", result.network, card, half=True)
    print(f"{result.steps} steps")


def scores(
    image: np.ndarray, label: np.ndarray, camera: np.ndarray | None = None
) -> dict[str, float | list[float] | None]:
    """Likeness to the label (0 … 1, 10 px of border left out), and to the camera's image once blurred again."""
    inner = (slice(10, -10), slice(10, -10))
    a, b = match_intensity(image[inner], label[inner]), label[inner]
    rois = [
        ssim(a[y : y + 60, x : x + 60], b[y : y + 60, x : x + 60], data_range=1)
        for y in range(0, a.shape[0] - 60, 60)
        for x in range(0, a.shape[1] - 60, 60)
    ]
    rng = np.random.default_rng(0)
    means = [float(np.mean(rng.choice(rois, len(rois)))) for _ in range(1000)]
    square = (slice(0, min(a.shape)),) * 2
    frc = ring_correlation(a[square], b[square]).resolution
    row = {
        "ssim": round(ssim(a, b, data_range=1), 4),
        "ssim_95": [round(float(v), 4) for v in np.percentile(means, (2.5, 97.5))],
        "psnr_db": round(psnr(a, b, data_range=1), 2),
        "frc_px": round(frc, 2) if np.isfinite(frc) else None,
    }
    if camera is not None:
        row["rsp"] = round(error_map(image, camera, shift=None).rsp, 4)
    return row


def best_lucy(image: np.ndarray, kernels: dict[str, np.ndarray], label: np.ndarray) -> tuple[np.ndarray, str]:
    """Richardson-Lucy with the kernel, damping and iterations of the best SSIM against the label."""
    inner = (slice(10, -10), slice(10, -10))
    positive = np.clip(image - np.percentile(image, 0.1), 0, None) + 1e-3 * float(image.max())

    def score(result: np.ndarray) -> float:
        return ssim(match_intensity(result[inner], label[inner]), label[inner], data_range=1)

    found = {n: search(positive, k, ITERATIONS, (0.0, 0.001), score=score, border=10) for n, k in kernels.items()}
    name, best = max(found.items(), key=lambda entry: entry[1].score)
    return best.image, f"{name}, {best.iterations} iterations, damping {best.damping:g}"


def real_pair(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """BioSR: camera image (the wide-field image reduced twofold), enlarged image, label, kernels to try."""
    folder = data / "fluorescence" / "biosr_pairs"
    wide, label = (plane(folder / f"f-actin_{n}.tif").astype(np.float32) for n in ("widefield", "sim"))
    axis = np.arange(-8, 9)
    kernels = {}
    for sigma in (1.6, 1.7, 1.8, 1.9, 2.0):
        kernel = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None] ** 2) / sigma**2)
        kernels[f"Gaussian of {sigma} px"] = (kernel / kernel.sum()).astype(np.float32)
    label, _ = registered_label(wide, label)  # it lies a third of a pixel beside the wide-field image
    return wide.reshape(251, 2, 251, 2).mean((1, 3)), wide, unit_label(label), kernels


def simulated(label: np.ndarray, na: float, photons: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """The same for a label seen by a simulated microscope; the kernel is the true one with the camera's pixel."""
    simulation = FluorescenceSimulation(
        na=(na, na), wavelength_um=(0.6, 0.6), halo=(0, 0), photons=(photons, photons), background=(0.1, 0.1)
    )
    label = label[: label.shape[0] // 2 * 2, : label.shape[1] // 2 * 2]
    camera = recorded(label, simulation, np.random.default_rng(7))
    airy = fft.fftshift(fft.irfft2(optical_transfer((64, 64), simulation.label_pixel_um, na, 0.6), (64, 64)))
    pixel = np.array([0.25, 0.5, 0.25])  # the camera's pixel: two label pixels wide, centred on one
    kernel = np.clip(convolve(airy[16:49, 16:49], np.outer(pixel, pixel)), 0, None)
    enlarged = zoom(camera, 2, order=3, mode="grid-mirror", grid_mode=True)
    return camera, enlarged, unit_label(label), {"true optics": (kernel / kernel.sum()).astype(np.float32)}


def judge(data: Path, models: list[str], write: bool) -> None:
    """Print the table of the cards, and write it on them: wide-field, Richardson-Lucy at its best, and the models."""
    nuclei = plane(sorted((data / "fluorescence" / "nuclei").glob("*.png"))[6])
    held_out = dict(zip(("BPAE actin (held-out third)", "BPAE nuclei (held-out third)"), fields(data)[1], strict=False))
    held_out["nuclei (unseen field)"] = scaled_label(nuclei, 2)[:400, :400]
    cases = {("BioSR F-actin, wide-field and SIM", "real"): real_pair(data)}
    for name, label in held_out.items():
        for na, photons in ((0.65, 3000.0), (0.65, 300.0), (0.4, 3000.0)):
            text = f"simulated, NA {na}, {photons:.0f} photons" + (", outside the training" if na < 0.5 else "")
            cases[name, text] = simulated(label, na, photons)
    rows = []
    for (name, text), (camera, enlarged, label, kernels) in cases.items():
        lucy, settings = best_lucy(enlarged, kernels, label)
        row: dict = {"field": name, "instrument": text, "lucy_settings": settings}
        row["wide-field"] = scores(enlarged, label, camera)
        row["Richardson-Lucy"] = scores(lucy, label, camera)
        for model in models:
            loaded = load_model(model)
            name_of_model = Path(model).name if Path(model).name != "model" else Path(model).parent.name
            row[name_of_model] = scores(predict(loaded, camera, device="cpu", backend="torch"), label, camera)
        rows.append(row)
        print(f"{name} ({text}); Richardson-Lucy: {settings}")
        for kind, values in row.items():
            if isinstance(values, dict):
                print(f"  {kind:24s}" + "  ".join(f"{k} {v}" for k, v in values.items()), flush=True)
    command = "python benchmarks/fluorescence_model.py judge DATA MODEL ..."
    for model in models if write else ():
        loaded = load_model(model)
        card = ModelCard.of(loaded.card, measured={"what": WHAT, "command": command, "rows": rows})
        save_model(Path(model), loaded.network, card, half=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("data", type=Path)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--kind", choices=tuple(KINDS), default="pixels")
    parser.add_argument("--start", help="model whose weights are the first")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--write", action="store_true", help="put the table on the models' cards")
    arguments = parser.parse_args()
    if arguments.what == "train":
        train(
            arguments.data, Path(arguments.paths[0]), arguments.minutes, arguments.kind, arguments.start, arguments.rate
        )
    else:
        judge(arguments.data, arguments.paths, arguments.write)


if __name__ == "__main__":
    main()
