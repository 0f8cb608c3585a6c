"""The numbers behind every figure, as CSV in ``report/data``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["write_rows"]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a CSV file; its address seen from the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return f"data/{path.name}"
