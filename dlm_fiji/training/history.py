"""The record of a training: ``history.csv`` and its curves."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from dlm_fiji.errors import SetupError
from dlm_fiji.micrograph.writing import atomic_write

__all__ = ["COLUMNS", "plot_history", "read_history", "tensorboard_writer", "write_history"]

COLUMNS = ("step", "loss", "val_loss", "val_ssim", "lr", "seconds")


def write_history(folder: str | os.PathLike[str], rows: list[dict[str, Any]]) -> None:
    """Write all rows to ``history.csv``."""
    names = list(COLUMNS) + sorted({key for row in rows for key in row} - set(COLUMNS))
    with (
        atomic_write(Path(folder) / "history.csv") as part,
        open(part, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_history(folder: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of ``history.csv`` as numbers."""
    with open(Path(folder) / "history.csv", newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def tensorboard_writer(folder: str | os.PathLike[str], step: int) -> Any:
    """Writes to ``folder``/tensorboard; what an interrupted training wrote beyond ``step`` is hidden."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SetupError("TensorBoard is not installed: pip install tensorboard, or train without it.") from None
    return SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=step + 1)


def plot_history(rows: list[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Loss and structural similarity over the steps, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in rows]
    for name, label in (("loss", "training"), ("val_loss", "validation")):
        left.plot(steps, [row[name] for row in rows], label=label)
    left.set(xlabel="step", ylabel="loss", yscale="log" if all(row["val_loss"] > 0 for row in rows) else "linear")
    left.legend()
    right.plot(steps, [row["val_ssim"] for row in rows])
    right.set(xlabel="step", ylabel="SSIM of the validation patches")
    with atomic_write(path) as part:
        figure.savefig(part, dpi=120)
