"""What a person sees of a run: one line when a stage starts and ends, a bar for long ones, a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Console"]


class Console:
    """Lines and bars on the terminal, and the same lines in a log.

    Parameters
    ----------
    quiet
        Print nothing.
    log
        File to append every line to, with its time.
    """

    def __init__(self, quiet: bool = False, log: Path | None = None) -> None:
        self._rich = RichConsole(quiet=quiet, highlight=False, soft_wrap=True)
        self._log = log
        self._bar: Progress | None = None
        self._stage_name = ""
        self._began = 0.0

    def note(self, text: str) -> None:
        """One line."""
        self._rich.print(text, markup=False)
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def skipped(self, stage: str) -> None:
        """A stage that was not run again."""
        self.note(f"{stage:<13} unchanged")

    def done(self, stage: str, seconds: float, text: str) -> None:
        """The end of a stage."""
        self.note(f"{stage:<13} done in {seconds:.1f} s  {text}")

    def finished(self, verdict: str, page: Path) -> None:
        """The end of the run."""
        self.note(verdict[0].upper() + verdict[1:] + ".")
        self.note(f"Report: {page}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The start of a stage; its bar appears with the first :meth:`progress`."""
        self.note(f"{name:<13} …")
        self._stage_name, self._began = name, time.perf_counter()
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def progress(self, done: int, total: int, text: object = "") -> None:
        """Move the running stage's bar: ``done`` of ``total``, with rate and time left."""
        if self._rich.quiet or not self._rich.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description:<13}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self._rich,
                transient=True,
            )
            self._bar.add_task(self._stage_name, total=total, rate="", text="")
            self._bar.start()
        rate = done / max(1e-9, time.perf_counter() - self._began)
        shown = ", ".join(f"{k} {v:.4g}" for k, v in text.items()) if isinstance(text, dict) else str(text)
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, rate=f"{rate:.1f}/s", text=shown)
