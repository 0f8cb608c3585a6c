"""``dlm_fiji compare-engines``: every step by both engines on the same data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["command", "table"]


def command(
    fiji: Annotated[Path | None, typer.Option(help="Fiji folder (or DLM_FIJI_HOME).")] = None,
    plugins: Annotated[Path | None, typer.Option(help="Folder of plugin jars (or DLM_FIJI_PLUGINS).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table (Markdown) to this file, too.")] = None,
) -> None:
    """Run every step by the native engine and by its ImageJ plugin, and print the differences with their reason."""
    import os

    from dlm_fiji.fiji import ImageJSettings, start
    from dlm_fiji.fiji.parity import compare, jar_hashes
    from dlm_fiji.micrograph.writing import atomic_write

    # The plugins' modules look for their jars by the same variables.
    for name, value in (("DLM_FIJI_HOME", fiji), ("DLM_FIJI_PLUGINS", plugins)):
        if value is not None:
            os.environ[name] = str(value)
    runtime = start(ImageJSettings.of())
    text = table(list(compare()), jar_hashes(), f"{runtime.engine}, Java {runtime.java.version}")
    print(text)
    if out is not None:
        with atomic_write(out) as part:
            part.write_text(text, encoding="utf-8")


def table(rows: Iterable[Any], jars: Iterable[tuple[str, str, str, str]], engine: str) -> str:
    """The Markdown of a comparison."""
    from dlm_fiji.fiji.parity import Comparison

    lines = [
        f"Compared with {engine}.",
        "",
        "| step | plugin | what | native | Fiji | difference | why |",
        "|---|---|---|---|---|---|---|",
    ]
    missing = []
    for row in rows:
        if isinstance(row, Comparison):
            cells = (row.step, row.plugin, row.what, row.native, row.fiji, row.difference, row.explanation)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        else:
            missing.append(f"- {row.step}, {row.plugin}: not compared: {row.reason}")
    lines += ["", *missing] if missing else []
    jars = list(jars)
    if jars:
        lines += ["", "| plugin | jar | version | SHA-256 |", "|---|---|---|---|"]
        lines += [f"| {name} | {jar} | {version or 'not said'} | `{digest}` |" for name, jar, version, digest in jars]
    return "\n".join(lines) + "\n"
