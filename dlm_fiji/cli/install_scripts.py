"""``dlm_fiji install-scripts`` and ``uninstall-scripts``: Fiji's menu entries."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from dlm_fiji.errors import SetupError

__all__ = ["command", "install", "menu_file", "uninstall", "uninstall_command"]

#: Below Fiji's folder: the menu Plugins > Deep Learning Microscopy, and where Jython finds modules.
MENU = Path("scripts/Plugins/Deep_Learning_Microscopy")
LIBRARY = Path("jars/Lib")
CLIENT = "dlm_fiji_client.py"
RECORD = "dlm_fiji_python.json"


def command(
    fiji: Annotated[Path, typer.Argument(help="Fiji's folder, the one with 'jars' and 'plugins' in it.")],
    allow: Annotated[
        list[Path] | None, typer.Option(help="Folder that 'Stitch and Enhance Folder' and 'Train' may use.")
    ] = None,
) -> None:
    """Put the scripts into Fiji's menu Plugins > Deep Learning Microscopy.

    The Python that runs this command is recorded: the scripts start the service with it.
    """
    for path in install(fiji, tuple(allow or ())):
        print(path)
    print("Restart Fiji, or call Help > Refresh Menus.")


def uninstall_command(
    fiji: Annotated[Path, typer.Argument(help="Fiji's folder.")],
) -> None:
    """Remove what install-scripts put into Fiji."""
    for path in uninstall(fiji):
        print(f"removed {path}")


def install(fiji: Path, allow: tuple[Path, ...] = ()) -> list[Path]:
    """Copy the scripts into a Fiji folder.

    Parameters
    ----------
    fiji
        Fiji's folder.
    allow
        Folders whose files the service may use when Fiji starts it.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    SetupError
        It is no Fiji folder, or it cannot be written to.
    """
    from dlm_fiji.fiji.runtime import check_fiji

    folder = check_fiji(fiji)
    for path in allow:
        if not path.is_dir():
            raise SetupError(f"The folder {path} does not exist; --allow names folders.")
    written: list[Path] = []
    with as_file(_scripts()) as scripts:
        try:
            (folder / MENU).mkdir(parents=True, exist_ok=True)
            (folder / LIBRARY).mkdir(parents=True, exist_ok=True)
            for script in sorted(scripts.glob("*_.py")):
                written.append(Path(shutil.copyfile(script, folder / MENU / menu_file(script))))
                (folder / MENU / script.name).unlink(missing_ok=True)  # its name in an earlier version
            written.append(Path(shutil.copyfile(scripts / "Lib" / CLIENT, folder / LIBRARY / CLIENT)))
            record = {"python": sys.executable, "allow": [str(path.absolute()) for path in allow]}
            (folder / LIBRARY / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            written.append(folder / LIBRARY / RECORD)
        except OSError as error:
            raise SetupError(
                f"{folder} cannot be written to ({error.strerror}); is it yours, and is Fiji closed?"
            ) from None
    return written


def uninstall(fiji: Path) -> list[Path]:
    """Remove the scripts from a Fiji folder, and nothing else; returns what was removed."""
    from dlm_fiji.fiji.runtime import check_fiji

    folder = check_fiji(fiji)
    with as_file(_scripts()) as scripts:
        names = [folder / MENU / menu_file(script) for script in sorted(scripts.glob("*_.py"))]
    # Jython leaves a compiled class beside a module.
    names += [folder / LIBRARY / name for name in (CLIENT, RECORD, CLIENT.replace(".py", "$py.class"))]
    removed = []
    for path in names:
        if path.is_file():
            path.unlink()
            removed.append(path)
    if (folder / MENU).is_dir() and not any((folder / MENU).iterdir()):
        (folder / MENU).rmdir()
    return removed


def menu_file(script: Path) -> str:
    """What a script is called in Fiji's folder, so that its command is called as its ``#@script`` line says.

    Fiji names the command of a script after its file, with blanks for underscores, before it reads the line, and
    its ImageJ 1.x menu takes only files with an underscore: ``Enhance_Image....py`` is "Enhance Image...".
    """
    label = script.read_text(encoding="utf-8").split('label="', 1)[1].split('"', 1)[0]
    return label.replace(" ", "_") + ".py"


def _scripts():  # type: ignore[no-untyped-def]
    """The scripts, in a checkout or in an installed package."""
    package = files("dlm_fiji")
    for place in (package.joinpath("_shipped/fiji_scripts"), package.joinpath("../fiji_scripts")):
        if place.joinpath("Enhance_.py").is_file():
            return place
    raise SetupError("The Fiji scripts are missing from this installation; install dlm_fiji again.")
