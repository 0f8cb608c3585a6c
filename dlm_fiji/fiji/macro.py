"""Any ImageJ macro or command on a micrograph."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.fiji.convert import from_imageplus, to_imageplus
from dlm_fiji.fiji.runtime import java_class, start
from dlm_fiji.micrograph import is_rgb

__all__ = ["MacroResult", "Session", "captured_output", "divide_by_flat_field", "run_command", "run_macro", "session"]

#: ImageJ 1.x keeps its open images and its macro interpreter in static fields: one macro at a time.
_one_at_a_time = threading.RLock()

#: What ImageJ prints, instead of an error, when there is no window for a dialog.
_FAULT = re.compile(r"^(Macro Error: .*|Unrecognized command.*|File not found:\s*.*|.*could not be opened.*)$", re.M)
# A command that Java cannot load prints this and does nothing: seen with ij 1.53f and ij1-patcher 1.2.1 of Fiji 2.3.0.
_CRASH = re.compile(r"^(?:Exception in thread .* )?java\.lang\.(\w+Error)\b", re.MULTILINE)


@dataclass(frozen=True)
class MacroResult:
    """What a macro left: the active image (None when it closed all), its return value and its printed lines."""

    image: xr.DataArray | None
    value: str | None
    log: str


def run_macro(
    image: xr.DataArray | None,
    macro: str | Path,
    argument: str = "",
    *,
    images: Mapping[str, xr.DataArray] | None = None,
    rgb: bool = True,
) -> MacroResult:
    """Run an ImageJ macro on a micrograph.

    Parameters
    ----------
    image
        The active image when the macro begins; None for a macro that opens its own.
    macro
        A file (a ``Path``, or a string that ends in ``.ijm`` or ``.txt``), or the macro's text.
        Blanks in its path do no harm.
    argument
        What ``getArgument()`` returns in the macro.
    images
        More open images by title.
    rgb
        False hands red, green and blue over as three 8-bit slices instead of ImageJ's RGB.

    Returns
    -------
    MacroResult
        With the image that is active at the end, calibrated as the macro left it.

    Raises
    ------
    InputError
        The file is missing, or the macro stopped with an error (its message and line are given).
    """
    text, name = _macro_text(macro)
    start()
    with session() as opened:
        for title, other in (images or {}).items():
            opened.add(to_imageplus(other, title, rgb=rgb))
        if image is not None:
            opened.add(to_imageplus(image, _free_title(image, images), rgb=rgb))
        value = opened.run(text, argument, name)
        active = opened.active()
        result = None if active is None else from_imageplus(active, like=image)
        return MacroResult(result, value, opened.log)


def run_command(
    image: xr.DataArray, command: str, options: str = "", *, images: Mapping[str, xr.DataArray] | None = None
) -> xr.DataArray:
    """Run one menu command, such as ``"Gaussian Blur..."`` with ``"sigma=2"``, and return the active image.

    Raises
    ------
    SetupError
        This ImageJ has no such command: a plugin is missing, or the name is misspelt.
    """
    start()
    if not has_command(command):
        raise SetupError(
            f"This ImageJ has no command {command!r}; its plugin is not installed, or the name is misspelt."
        )
    text = f"run({_quoted(command)}, {_quoted(options)});"
    result = run_macro(image, text, images=images).image
    if result is None:
        raise InputError(f"ImageJ's command {command!r} left no image.")
    return result


def has_command(command: str) -> bool:
    """Whether ImageJ's menus have this command."""
    menus = java_class("ij.Menus")
    if menus.getCommands() is None:
        # Headless, ImageJ reads its menus when the first command runs; this one changes nothing.
        java_class("ij.IJ").run("Conversions...", "scale")
    commands = menus.getCommands()
    return commands is not None and commands.get(command) is not None


def divide_by_flat_field(image: xr.DataArray, flat: xr.DataArray, macro: str | Path | None = None) -> xr.DataArray:
    """``image`` divided by ``flat`` by an ImageJ macro: 32-bit division, back to the type of the input.

    Parameters
    ----------
    image
        8-bit, 16-bit or float, any dims; red, green, blue are divided channel by channel.
    flat
        The flat field, mean about 1: dims ``y x``, or ``c y x`` with as many channels as ``image``.
    macro
        A macro of the user's: it finds the image active and the flat field under the title ``flat_field``, both
        with as many slices, and leaves its result active. By default ``macros/flat_field.ijm`` of this package.

    Returns
    -------
    xarray.DataArray
        Like ``image``: rounded to the nearest grey value and clipped, not rescaled.

    Raises
    ------
    InputError
        The sizes differ, or the macro failed or returned another size.
    """
    for dim in ("y", "x"):
        if flat.sizes.get(dim) != image.sizes[dim]:
            raise InputError(
                f"The flat field has {flat.sizes.get('x')}×{flat.sizes.get('y')} pixels, "
                f"the image {image.sizes['x']}×{image.sizes['y']}."
            )
    if "c" in flat.dims and flat.sizes["c"] != image.sizes.get("c", 1):
        raise InputError(f"The flat field has {flat.sizes['c']} channels, the image {image.sizes.get('c', 1)}.")
    values = flat.values if "c" in flat.dims or "c" not in image.dims else flat.values[None]
    if values.ndim == 3 and "c" not in image.dims:
        values = values[0]
    slices = np.broadcast_to(values.astype(np.float32), image.shape)
    field = xr.DataArray(slices, dims=image.dims)
    script = macro if macro is not None else files("dlm_fiji.fiji").joinpath("macros/flat_field.ijm").read_text("utf-8")
    result = run_macro(image, script, images={"flat_field": field}, rgb=False).image
    if result is None or result.shape != image.shape:
        name = macro if macro is not None else "flat_field.ijm"
        got = "no image" if result is None else f"shape {result.shape}"
        raise InputError(f"The flat-field macro {name} returned {got} for an image of shape {image.shape}.")
    if is_rgb(image) or "c" in image.coords:
        result = result.assign_coords(c=image.coords["c"])
    return result


class Session:
    """Images open without windows while macros and commands run."""

    def __init__(self) -> None:
        self.interpreter_class = java_class("ij.macro.Interpreter")
        self.windows = java_class("ij.WindowManager")
        self.log = ""

    def add(self, imp: Any) -> None:
        """Open an image and make it the active one."""
        self.interpreter_class.addBatchModeImage(imp)

    def active(self) -> Any:
        """The active image, None where none is open."""
        return self.windows.getCurrentImage()

    def titled(self, title: str) -> Any:
        """The open image of that title, None where there is none."""
        for identity in list(self.windows.getIDList() or []):
            imp = self.windows.getImage(identity)
            if imp is not None and str(imp.getTitle()) == title:
                return imp
        return None

    def command(self, command: str, options: str) -> None:
        """Run a plugin's command; its printed lines are in ``log``."""
        with captured_output() as output:
            try:
                java_class("ij.IJ").run(command, options)
            except Exception as error:
                raise InputError(f"ImageJ's command {command!r} failed: {_first_line(error)}.") from error
            finally:
                self.log = output()
        refuse_crash(self.log, f"the command {command!r}")

    def run(self, text: str, argument: str, name: str) -> str | None:
        """Run a macro's text; returns what it returned."""
        interpreter = self.interpreter_class()
        failure: Exception | None = None
        value = None
        with captured_output() as output:
            try:
                value = interpreter.run(text, argument)
            except Exception as error:
                failure = error
        self.log = output()
        fault = _FAULT.search(self.log)
        if failure is not None or fault is not None:
            said = interpreter.getErrorMessage()
            line = int(interpreter.getLineNumber())
            what = " ".join((fault.group(1).replace("Macro Error: ", "") if fault else str(said or failure)).split())
            if said is None and fault is None and "Macro canceled" in what:
                # exit("…") of the macro's author: the message was printed.
                what = " ".join(self.log.split()) or "it was cancelled"
            what = re.sub(r" in line \d+$", "", what)
            at = f" in line {line}" if line > 0 else ""
            raise InputError(f"ImageJ stopped {name}{at}: {what}.".replace("..", "."))
        refuse_crash(self.log, name)
        return None if value is None else str(value)


def refuse_crash(printed: str, name: str) -> None:
    """Raise SetupError where ``printed`` says that Java could not run a part of ImageJ, which went on regardless."""
    crash = _CRASH.search(printed)
    if crash is not None:
        raise SetupError(
            f"{name[0].upper()}{name[1:]} was not carried out: a command ended with Java's {crash.group(1)}, so this "
            "ImageJ does not fit its own headless parts; update that Fiji, or leave it out (--fiji, DLM_FIJI_HOME) to "
            "use ImageJ 1.54p."
        )


@contextlib.contextmanager
def session() -> Iterator[Session]:
    """Images open without windows, one session at a time; all are closed at the end."""
    with _one_at_a_time:
        yield from _opened()


def _opened() -> Iterator[Session]:
    session = Session()
    interpreter, windows = session.interpreter_class, session.windows
    converter = java_class("ij.process.ImageConverter")
    before, scaling = bool(interpreter.batchMode), bool(converter.getDoScaling())
    interpreter.batchMode = True
    try:
        yield session
    finally:
        for identity in list(windows.getIDList() or []):
            imp = windows.getImage(identity)
            if imp is not None:
                interpreter.removeBatchModeImage(imp)
        windows.setTempCurrentImage(None)
        interpreter.batchMode = before
        # "Conversions..." is a preference of the whole ImageJ; a macro must not change it for the next one.
        converter.setDoScaling(scaling)


@contextlib.contextmanager
def captured_output() -> Iterator[Any]:
    """Java's printed lines while the block runs; headless, ImageJ says there what it would show in a dialog."""
    system, stream = java_class("java.lang.System"), java_class("java.io.ByteArrayOutputStream")()
    printer = java_class("java.io.PrintStream")(stream, True, "UTF-8")
    out, err = system.out, system.err
    system.setOut(printer)
    system.setErr(printer)
    try:
        yield lambda: str(stream.toString("UTF-8"))
    finally:
        system.setOut(out)
        system.setErr(err)


def _macro_text(macro: str | Path) -> tuple[str, str]:
    """The macro's text and what to call it in a sentence."""
    is_file = isinstance(macro, Path) or ("\n" not in macro and macro.lower().endswith((".ijm", ".txt")))
    if not is_file:
        return str(macro), "the macro"
    path = Path(macro).expanduser()
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace"), f"macro {path}"
    except OSError as error:
        raise InputError(f"The macro {path} cannot be read ({error.strerror}); check its path.") from None


def _free_title(image: xr.DataArray, images: Mapping[str, xr.DataArray] | None) -> str:
    title = str(image.name or "image")
    return title if title not in (images or {}) else title + " (1)"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
