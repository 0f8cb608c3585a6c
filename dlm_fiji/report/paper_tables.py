"""The papers' tables in their own layout, ours beside.

Figures of the papers: "Deep learning microscopy", supplement, Tables S1, S3 and S4 (the 24 rows of S4 as the
published supplement prints them; the preprint lacks one), and "Deep learning enhanced mobile-phone
microscopy", Tables 2 and 3. A dash is a specimen, size or measure that this run does not have; nothing of
ours is filled in from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PaperTable", "paper_tables"]

DASH = "–"

_S1 = (
    ("Masson's trichrome stained lung tissue", "20 images (224×224 pixels)", 0.672, 0.796),
    ("H&E stained breast tissue", "7 images (660×660 pixels)", 0.685, 0.806),
)
_S3 = (
    ("378.8 × 378.8 µm", 2048, 1.193, 8.343, 0.695, 4.615),
    ("151.3 × 151.3 µm", 818, 0.209, 1.281, 0.135, 0.730),
    ("29.6 × 29.6 µm", 160, 0.038, 0.081, 0.037, 0.062),
)
_S4 = (
    (256.0, 0.801144658, 0.75627907), (287.3502844, 0.790853855, 0.729511618),
    (322.5397888, 0.790801661, 0.72449378),
    (362.038672, 0.795555918, 0.709122843), (406.3746693, 0.787270294, 0.726269147),
    (456.1401437, 0.771249585, 0.774461828), (512.0, 0.713336904, 0.681675286),
    (574.7005687, 0.636153491, 0.640392221), (645.0795775, 0.577148622, 0.588478766),
    (724.0773439, 0.517576094, 0.585453198), (812.7493386, 0.516547441, 0.63392948),
    (912.2802874, 0.439410917, 0.597450901), (1024.0, 0.368925748, 0.585228416),
    (1149.401137, 0.400244051, 0.53887823), (1290.159155, 0.303987367, 0.496261545),
    (1448.154688, 0.228926978, 0.4729755), (1625.498677, 0.20194026, 0.542857143),
    (1824.560575, 0.12865681, 0.454976303), (2048.0, 0.110901071, 0.259743799),
    (2298.802275, 0.0, 0.254320988),
    (2580.31831, 0.0, 0.182785747), (2896.309376, 0.0, 0.072), (3250.997354, 0.0, 0.0),
    (3649.12115, 0.0, 0.0),
)  # fmt: skip
_M2 = (
    ("Masson's-trichrome-stained lung tissue (TIFF input)", "90 images (800×800 pixels)", 0.4956, 0.7020),
    ("Masson's-trichrome-stained lung tissue (JPEG input)", "90 images (800×800 pixels)", 0.5420, 0.6830),
    ("H&E-stained Pap smear", "64 images (1024×1024 pixels)", 0.4601, 0.7775),
    ("Blood smear", "15 images (1024×1024 pixels)", 0.6605, 0.8525),
)
_M3 = (
    (
        "Masson's-trichrome-stained lung tissue (TIFF)",
        (15.976, 1.709, 16.077, 1.683, 4.369, 0.917, 3.814, 0.797),
    ),
    (
        "Masson's-trichrome-stained lung tissue (JPEG)",
        (15.914, 1.722, 15.063, 1.820, 4.372, 0.847, 3.747, 0.908),
    ),
    ("H&E-stained Pap smear (TIFF)", (26.230, 0.766, 23.725, 0.969, 2.127, 0.267, 2.092, 0.317)),
    ("Blood smear (TIFF)", (17.310, 0.726, 16.884, 0.664, 2.143, 0.452, 1.431, 0.099)),
)


@dataclass(frozen=True)
class PaperTable:
    """One table: a head of (title, number of columns) groups over the column names, rows of texts, a note."""

    number: str
    title: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def paper_tables(
    test_area: Mapping[str, Mapping[str, Any]],
    *,
    simulated: bool,
    specimen: str,
    area: str,
    mtf: Sequence[Mapping[str, Any]] = (),
    runtime: Sequence[Mapping[str, Any]] = (),
    machine: str = "",
) -> list[PaperTable]:
    """Tables S1, S3 and S4 of the first paper and 2 and 3 of the second with a run's figures.

    Parameters
    ----------
    test_area
        As in ``metrics.json``; ``cie94: {"mean": …, "std": …}`` of an image fills Table 3.
    simulated
        Our columns are headed "simulated instrument"; runtimes are real either way.
    specimen
        Name of the run's specimen; it takes the row of the paper's specimen of that name, else a row of its
        own.
    area
        Size of the test set in words.
    mtf
        Rows of ``measures/mtf.csv``.
    runtime
        Rows of ``measures/runtime.csv``.
    machine
        What the runtimes were taken on.
    """
    ours = "Simulated instrument (this run)" if simulated else "This run"
    return [
        _ssim_table("S1", "Average structural similarity index", _S1, test_area, ours, specimen, area),
        _runtime_table(runtime, machine),
        _contrast_table(mtf, ours),
        _ssim_table("2", "Average SSIM for the pathology samples", _M2, test_area, ours, specimen, area),
        _colour_table(test_area, ours, specimen),
    ]


def _ssim_table(
    number: str,
    title: str,
    paper: Sequence[tuple[str, str, float, float]],
    test_area: Mapping[str, Mapping[str, Any]],
    ours: str,
    specimen: str,
    area: str,
) -> PaperTable:
    own = (
        area,
        *(_text(test_area.get(name, {}).get("ssim"), 3) for name in ("bicubic", "richardson_lucy", "network")),
    )
    digits = 3 if number == "S1" else 4
    rows, placed = [], False
    for name, test_set, bicubic, network in paper:
        here = _same(name, specimen)
        placed = placed or here
        rows.append((name, test_set, _text(bicubic, digits), _text(network, digits), *(own if here else (DASH,) * 4)))
    if not placed:
        rows.append((specimen or "This run's specimen", DASH, DASH, DASH, *own))
    columns = (
        "Specimen", "Test set", "Bicubic up-sampling SSIM", "Deep neural network SSIM",
        "Test set", "Bicubic SSIM", "Richardson–Lucy SSIM", "Network SSIM",
    )  # fmt: skip
    return PaperTable(number, title, (("", 1), ("Paper", 3), (ours, 4)), columns, tuple(rows))


def _runtime_table(runtime: Sequence[Mapping[str, Any]], machine: str) -> PaperTable:
    measured = {int(row["pixels"]): row for row in runtime if isinstance(row.get("pixels"), float)}
    rows = []
    for field, pixels, single, single2, dual, dual2 in _S3:
        row = measured.pop(pixels, {})
        own = (_text(row.get("seconds"), 3), _text(row.get("seconds_self_feeding"), 3))
        rows.append((field, f"{pixels}×{pixels}", *(_text(v, 3) for v in (single, single2, dual, dual2)), *own))
    for pixels, row in sorted(measured.items(), reverse=True):
        own = (_text(row.get("seconds"), 3), _text(row.get("seconds_self_feeding"), 3))
        rows.append((DASH, f"{pixels}×{pixels}", *(DASH,) * 4, *own))
    output, twice = "Network output", "Network output ×2 (self-feeding)"
    columns = ("Image FOV", "Number of pixels (input)", *(output, twice) * 3)
    groups = (
        ("", 2),
        ("Paper: single GPU runtime (s)", 2),
        ("Paper: dual GPU runtime (s)", 2),
        ("This run (s)", 2),
    )
    note = "The paper's GPUs are GeForce GTX 1080." + (f" Ours: {machine}." if machine else "")
    return PaperTable("S3", "Average runtime for different regions of interest", groups, columns, tuple(rows), note)


def _contrast_table(mtf: Sequence[Mapping[str, Any]], ours: str) -> PaperTable:
    rows = []
    for period, before, after in _S4:
        near = [row for row in mtf if isinstance(row.get("cycles_per_mm"), float)]
        near = [row for row in near if abs(row["cycles_per_mm"] / period - 1) < 0.01]
        row = near[0] if near else {}
        own = tuple(_text(row.get(name), 3) for name in ("input", "network", "label"))
        rows.append((f"{period:.3f}".rstrip("0").rstrip("."), _text(before, 3), _text(after, 3), *own))
    columns = (
        "Period (cycles/mm)", "100×/1.4NA input contrast", "Network output contrast",
        "Input contrast", "Network contrast", "Label contrast",
    )  # fmt: skip
    return PaperTable(
        "S4",
        "Contrast of the USAF resolution target elements",
        (("", 1), ("Paper", 2), (ours, 3)),
        columns,
        tuple(rows),
    )


def _colour_table(test_area: Mapping[str, Mapping[str, Any]], ours: str, specimen: str) -> PaperTable:
    def pair(name: str) -> tuple[str, str]:
        found = test_area.get(name, {}).get("cie94") or {}
        return _text(found.get("mean"), 3), _text(found.get("std"), 3)

    own = (*pair("bicubic"), *pair("richardson_lucy"), *pair("network"))
    rows, placed = [], False
    for name, values in _M3:
        here = _same(name, specimen)
        placed = placed or here
        rows.append((name, *(_text(v, 3) for v in values), *(own if here else (DASH,) * 6)))
    if not placed:
        rows.append((specimen or "This run's specimen", *(DASH,) * 8, *own))
    groups = (
        ("", 1), ("Paper (A): raw images", 2), ("Paper (B): warp-corrected", 2),
        ("Paper (C): network of (A)", 2),
        ("Paper (D): network of (B)", 2), (f"{ours}: bicubic", 2), ("Richardson–Lucy", 2), ("network", 2),
    )  # fmt: skip
    columns = ("Specimen", *("Average", "Std") * 7)
    return PaperTable("3", "CIE-94 colour distance to the label", groups, columns, tuple(rows))


def _same(name: str, specimen: str) -> bool:
    """Whether the run's specimen is the paper's: the same stain and the same tissue are named."""
    words = {"masson", "h&e", "lung", "breast", "pap", "blood"}
    wanted = {word for word in words if word in name.lower()}
    found = {word for word in words if word in specimen.lower()}
    return bool(wanted) and wanted == found and ("jpeg" in name.lower()) == ("jpeg" in specimen.lower())


def _text(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else DASH
