r"""How good is a bright-field model on fields that no training saw? Prints the table of its card.

    python benchmarks/brightfield_model.py FOLDER [--model brightfield-x2.5] [--labels LIST] [--tuned MODEL] [--write]

With a list of labels (models/labels/*.toml) the fields are those that it marks as test. FOLDER holds the openly
licensed micrographs that the card names. Every field is seen through the virtual microscope (simulated instrument)
at three noise levels and through optics outside the range of the training. The rival is Richardson-Lucy with the
true point spread function and camera pixel, its iterations chosen with the label. ``--tuned`` names a model that was
fine-tuned on the instrument outside the range (on the training's labels), and is judged there too; it is made by

    python -m dlm_fiji train TUNED --simulate models/labels/brightfield-x2.5.toml --data FOLDER/brightfield \
      --preset fine-tune --init-from brightfield-x2.5 --set time_limit_s=900 --set threads=1 --set batch=16 \
      --set learning_rate=5e-4 --set ema=0.99 --set keep=last --set validate_every=50 --set na=0.25,0.25 \
      --set condenser_share=1,1 --set blur_um=0.2,0.2 --set wavelength_shift_um=0 --set electrons=10000,10000 \
      --set read_noise=5,5

``--write`` puts the table on the model's card; the model is a folder then.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import tifffile

from dlm_fiji.inference import ModelCard, load_model, predict, save_model
from dlm_fiji.measures import luminance, ssim
from dlm_fiji.microscope.virtual import VirtualMicroscope, record
from dlm_fiji.steps.brightfield_lucy import brightfield_psf, search_brightfield
from dlm_fiji.steps.comparison import area_measures, enlarged_bicubic
from dlm_fiji.training import read_test_fields

CONDITIONS = {
    "10,000 e": VirtualMicroscope(),
    "2,500 e": VirtualMicroscope(electrons=2500),
    "40,000 e": VirtualMicroscope(electrons=40_000),
    "outside: NA 0.25, 0.2 µm more blur": VirtualMicroscope(na=0.25, condenser_na=0.25, blur_um=0.2),
}
OUTSIDE = list(CONDITIONS)[-1]
ITERATIONS = (100, 300)
"""Tried by the rival, within and outside; a wider blur wants more."""
WHAT = (
    "SSIM / PSNR (dB) of the luminance, 20 px border left out; simulated instrument; Richardson-Lucy with the true PSF "
    "and camera pixel, iterations chosen with the label; network_tuned: fine-tuned for 15 minutes of one core on the "
    "training's labels as the instrument outside the range shows them; 95 % bootstrap interval of the mean SSIM over "
    "ROIs of 60 px"
)


def fields(folder: Path) -> dict[str, np.ndarray]:
    """Unseen label fields: a strip of breast_he, OS-1 (reduced 2×), a part of TCGA, skimage's IHC."""
    from skimage.data import immunohistochemistry

    breast = tifffile.imread(folder / "brightfield/breast_he/example1.tif")
    os1 = tifffile.imread(folder / "brightfield/openslide/OS-1-detail.ome.tif")
    with tifffile.TiffFile(folder / "brightfield/tcga_he/tcga-cr-7395-01a-01-ts1.svs") as slide:
        tcga = slide.series[0].asarray()
    return {
        "H&E breast (held-out strip)": breast[:400, 700:1000],
        "H&E (OpenSlide OS-1, unseen slide)": cv2.resize(os1, (550, 550), interpolation=cv2.INTER_AREA)[:400, :300],
        "H&E (TCGA, held-out part)": tcga[1200:1600, 3500:3800],
        "IHC (skimage, unseen stain and slide)": immunohistochemistry()[:400, :300],
    }


def interval(image: np.ndarray, label: np.ndarray, side: int = 60) -> tuple[float, float]:
    """95 % bootstrap interval of the SSIM over ROIs of ``side`` px."""
    a, b = luminance(image), luminance(label)
    rois = [
        ssim(a[y : y + side, x : x + side], b[y : y + side, x : x + side], 255.0)
        for y in range(20, a.shape[0] - side - 20, side)
        for x in range(20, a.shape[1] - side - 20, side)
    ]
    rng = np.random.default_rng(0)
    means = [np.mean(rng.choice(rois, len(rois))) for _ in range(1000)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="brightfield-x2.5")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--tuned")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    judged = (
        fields(arguments.folder)
        if arguments.labels is None
        else read_test_fields(arguments.labels, arguments.folder / "brightfield")
    )
    model = load_model(arguments.model)
    tuned = None if arguments.tuned is None else load_model(arguments.tuned)
    rows = []
    for name, label in judged.items():
        label = np.ascontiguousarray(label[: label.shape[0] // 5 * 5, : label.shape[1] // 5 * 5])
        for condition, m in CONDITIONS.items():
            image = record(label, m, np.random.default_rng(5))
            bicubic = enlarged_bicubic(image, m.scale)
            psfs = [brightfield_psf(m.na, m.condenser_na, w, m.label_pixel_um, m.pixel_um) for w in m.wavelengths_um]
            rival = search_brightfield(
                image,
                psfs,
                m.scale,
                ITERATIONS[condition == OUTSIDE],
                lambda e, label=label: area_measures(e, label)["ssim"],
            )
            results = {"bicubic": bicubic, "richardson_lucy": rival.image, "network": predict(model, image)}
            if tuned is not None and condition == OUTSIDE:
                results["network_tuned"] = predict(tuned, image)
            row: dict[str, object] = {"field": name, "instrument": condition, "rl_iterations": rival.iterations}
            for method, result in results.items():
                measures = {**area_measures(result, label), "ssim_95": interval(result, label)}
                digits = {"psnr_db": 2}
                row[method] = {k: np.round(v, digits.get(k, 4)).tolist() for k, v in measures.items()}
            rows.append(row)
            text = "  ".join(f"{k} {row[k]['ssim']:.4f}/{row[k]['psnr_db']:.2f}" for k in list(row)[3:])  # type: ignore[index]
            print(f"{name:<40} {condition:<36} {text}  (RL {rival.iterations})", flush=True)
    if arguments.write:
        card = ModelCard.of(model.card, measured={**model.card.measured, "what": WHAT, "rows": rows})
        save_model(Path(arguments.model), model.network, card)


if __name__ == "__main__":
    main()
