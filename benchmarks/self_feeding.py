"""Self-feeding, and an input that is sharp already: what further passes change, and how far from the label they are.

    python benchmarks/self_feeding.py FOLDER [--model brightfield-x2.5] [--passes 3] [--figure OUT.png]

After 000 (text, figs. S5 and S6): feeding the output back in once helped there, further cycles did not change the
image noticeably, and an image from the 100x objective gained detail too. Here each field is seen through the virtual
microscope (simulated instrument) and enhanced with 1 … N passes, each enlarging again (then reduced by areas to the
label's pixels) and with --keep-scale (reduced before each further pass). Printed: SSIM and PSNR against the label,
and the root mean square change against the pass before, in grey levels. Last, the sharp input: blood smears that no
training saw, reduced 2.5 times by areas, enhanced, against the smears themselves. FOLDER as for brightfield_model.py.

That a further pass enlarges again is what 000 does: its Table S3 has 1.193 s for one pass on 2048² pixels and
8.343 s for two, 7.0 times as long; a second pass on an image 2.5² times as large takes 7.25 times as long in all, one
on the input's size twice. Its benefit is shown there by pictures of real 40x/0.95 images, without a number.

Measured with brightfield-x2.5 on four unseen fields: the change halves or falls by a third from the second pass to
the third (5-11, then 3-7 grey levels), but away from the label: one pass is best everywhere (SSIM 0.805-0.926, two
passes lose 0.000-0.038, three 0.042-0.078), as the network has learnt to undo one blur, and it undoes it again. With
the scale kept the passes diverge. A sharp input is sharpened too far (SSIM 0.94, bicubic 0.97).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from brightfield_model import fields

from dlm_fiji.inference import load_model, predict
from dlm_fiji.inference.resampling import reduce_area
from dlm_fiji.inference.windows import ratio_of
from dlm_fiji.micrograph import open_image, to_array
from dlm_fiji.microscope.virtual import VirtualMicroscope, record
from dlm_fiji.steps.comparison import area_measures, enlarged_bicubic

SMEARS = ("Megaloblastic_anemia_19.JPG", "Megaloblastic_anemia_2.JPG")


def line(name: str, image: np.ndarray, label: np.ndarray, before: np.ndarray | None = None) -> None:
    found = area_measures(image, label)
    change = ""
    if before is not None:
        change = f"  change {np.sqrt(np.mean((image.astype(float) - before) ** 2)):5.2f} grey levels"
    print(f"  {name:<34} SSIM {found['ssim']:.4f}  PSNR {found['psnr_db']:.2f} dB{change}", flush=True)


def draw(rows: list[list[tuple[str, np.ndarray]]], path: Path) -> None:
    """One row of pictures a field."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.4 * columns, 2.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axis, (name, image) in zip(axes, row, strict=False):
            axis.imshow(image[100:220, 100:220], interpolation="nearest")
            axis.set_title(name, fontsize=8)
        for axis in axes:
            axis.axis("off")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="brightfield-x2.5")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    rows = []
    for name, label in fields(arguments.folder).items():
        label = np.ascontiguousarray(label[: label.shape[0] // 5 * 5, : label.shape[1] // 5 * 5])
        image = record(label, VirtualMicroscope(), np.random.default_rng(5))
        print(name)
        start = enlarged_bicubic(image, model.scale)
        line("bicubic", start, label)
        row = [("bicubic", start)]
        for keep in (False, True):
            before = None
            for passes in range(1, arguments.passes + 1):
                if keep and passes == 1:
                    before = row[1][1]
                    continue  # the same as without
                out = predict(model, image, passes=passes, keep_scale=keep)
                if out.shape != label.shape:
                    out = np.rint(reduce_area(out, ratio_of(model) ** (passes - 1), label.shape[:2])).astype(np.uint8)
                title = f"{passes} pass{'es' if passes > 1 else ''}{', scale kept' if keep else ''}"
                line(title, out, label, before)
                row.append((title, out))
                before = out
        rows.append([*row, ("label", label)])
    for smear in SMEARS:
        label = to_array(open_image(arguments.folder / "brightfield/blood_smear" / smear))[:500, :800]
        image = cv2.resize(label, (320, 200), interpolation=cv2.INTER_AREA)
        print(f"{smear}, sharp input")
        line("bicubic", enlarged_bicubic(image, model.scale), label)
        enhanced = predict(model, image)
        line("1 pass", enhanced, label)
        rows.append([("bicubic", enlarged_bicubic(image, model.scale)), ("1 pass", enhanced), ("label", label)])
    if arguments.figure is not None:
        draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
