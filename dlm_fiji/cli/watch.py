"""``dlm_fiji watch``: enhance what a microscope writes into a folder, as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dlm_fiji.errors import DlmError, InputError, SetupError

__all__ = ["Watcher", "command"]


def command(
    folder: Annotated[Path, typer.Argument(help="Folder that the microscope writes to.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the results; FOLDER/enhanced by default.")] = None,
    model: Annotated[str, typer.Option(help="Model: a shipped name, or a folder.")] = "brightfield-x2.5",
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    settle: Annotated[float, typer.Option(help="Seconds that a file must not have changed.")] = 4.0,
    once: Annotated[bool, typer.Option("--once", help="Process what is there, then stop.")] = False,
) -> None:
    """Enhance every image that appears in FOLDER.

    A file is taken when it has stopped growing and can be read. Results are written whole or not at all, so that a
    restart goes on where it stopped and nothing is processed twice. Ctrl-C stops.
    """
    from dlm_fiji.inference import load_model
    from dlm_fiji.micrograph import open_image, save_image
    from dlm_fiji.steps import enhance

    network = load_model(model)

    def work(source: Path, target: Path) -> None:
        result = enhance(open_image(source), network)
        save_image(result, target, provenance={"source": source.name, **result.attrs.get("provenance", {})})

    watcher = Watcher(folder, out or folder / "enhanced", work, settle_s=settle)
    while True:
        waiting = watcher.look()
        if once and not waiting:
            return
        time.sleep(min(every, settle) if waiting else every)


class Watcher:
    """Looks into a folder and processes each complete file once.

    Parameters
    ----------
    folder, out
        Where files appear, and where results go: ``NAME.tif`` for ``NAME.tif``, ``NAME.png.tif`` for ``NAME.png``.
    work
        Called with source and target; writes the target whole or not at all.
    settle_s
        A file is complete when size and time have not changed for so long.
    clock
        Time in seconds, for tests.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        work: Callable[[Path, Path], Any],
        settle_s: float = 4.0,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], Any] = print,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"The folder {folder} does not exist.")
        if out.resolve() == folder.resolve():
            raise InputError("Results must go to another folder than the one that is watched.")
        self.folder, self.out, self.work, self.settle_s = folder, out, work, settle_s
        self._clock, self._say = clock, say
        #: path → (size, modification time) and since when they have been so
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        #: files that could not be processed, as they were then; one that changes gets another chance
        self._refused: dict[Path, tuple[int, int]] = {}

    def look(self) -> int:
        """Process what is complete; returns how many files are still being written."""
        from dlm_fiji.micrograph import is_image_file

        waiting = 0
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(".") or not path.is_file() or not is_image_file(path):
                continue
            try:
                state = path.stat()
            except FileNotFoundError:  # taken away between two lines
                continue
            now = (state.st_size, state.st_mtime_ns)
            target = self.target(path)
            if self._done(path, target, state.st_mtime) or self._refused.get(path) == now:
                continue
            before = self._seen.get(path)
            if before is None or before[0] != now:
                self._seen[path] = (now, self._clock())
                waiting += 1
                continue
            if self._clock() - before[1] < self.settle_s:
                waiting += 1
                continue
            self._process(path, target, now)
        return waiting

    def target(self, source: Path) -> Path:
        """Where the result of ``source`` goes."""
        return self.out / (source.name if source.suffix.lower() == ".tif" else f"{source.name}.tif")

    def _done(self, source: Path, target: Path, changed: float) -> bool:
        """Whether a whole result is there that is not older than its source."""
        try:
            return target.stat().st_mtime >= changed
        except FileNotFoundError:
            return False

    def _process(self, source: Path, target: Path, state: tuple[int, int]) -> None:
        begin = time.perf_counter()
        try:
            self.work(source, target)
        except SetupError:
            raise  # no space, no model: the next file would fail too
        except DlmError as error:
            self._refused[source] = state
            self._say(f"{source.name}: {error}")
            return
        self._seen.pop(source, None)
        self._say(f"{source.name} -> {target.name} ({time.perf_counter() - begin:.1f} s)")
