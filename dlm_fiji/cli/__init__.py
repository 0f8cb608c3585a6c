"""The command line: thin commands that read arguments, call one step or the pipeline, and print.

Every :class:`dlm_fiji.errors.DlmError` becomes one sentence on standard error and exit code 2; ``--debug`` shows
the traceback. Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]

COMMANDS = {
    "pipeline": "pipeline",
    "predict": "predict",
    "train": "train",
    "models": "models",
    "export": "export",
    "compare": "compare",
    "trust": "trust",
    "characterise": "characterise",
    "report": "report",
    "calibrate": "calibrate",
    "deconvolve": "operations:deconvolve",
    "error-map": "operations:error_map",
    "register": "operations:register",
    "stitch": "operations:stitch",
    "serve": "serve",
    "watch": "watch",
    "install-scripts": "install_scripts",
    "uninstall-scripts": "install_scripts:uninstall_command",
    "compare-engines": "compare_engines",
    "doctor": "doctor",
}
"""Command name → module of this package, with its function where that is not ``command``."""

INTERRUPTED = 130
"""Exit code after Ctrl-C; newer Typers return it, older ones raise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 something the user can mend, 130 interrupted."""
    import typer

    from dlm_fiji import __version__
    from dlm_fiji.errors import DlmError, DlmWarning

    app = typer.Typer(
        name="dlm_fiji",
        help="Deep-learning microscopy: the image of a better lens, and how far to trust it. Research use only.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"dlm_fiji {__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        pass

    for name, module in COMMANDS.items():
        file, _, function = module.partition(":")
        app.command(name)(getattr(importlib.import_module(f"dlm_fiji.cli.{file}"), function or "command"))
    given = list(sys.argv[1:] if arguments is None else arguments)
    usual = warnings.formatwarning

    def sentence(message: Warning | str, category: type[Warning], *place: Any) -> str:
        return f"dlm_fiji: {message}\n" if issubclass(category, DlmWarning) else usual(message, category, *place)

    warnings.formatwarning = sentence  # type: ignore[assignment]
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = app(given, prog_name="dlm_fiji", standalone_mode=False)
    except DlmError as error:
        if debug:
            raise
        print(f"dlm_fiji: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # Typer brings its own copy of click, so its usage errors are known by what they can do.
        if hasattr(error, "show") and hasattr(error, "exit_code") and not debug:
            error.show()
            return 2
        raise
    finally:
        warnings.formatwarning = usual
    if code == INTERRUPTED and given[:1] != ["train"]:  # which says more itself
        goes_on = given[:1] == ["pipeline"] or "--batch" in given
        what = "the same command goes on from here" if goes_on else "nothing unfinished was left behind"
        print(f"dlm_fiji: stopped; {what}.", file=sys.stderr)
    return code if isinstance(code, int) else 0
