"""The ``#@`` lines of Fiji's scripts, made from the settings classes: a default is written in one place only."""

from __future__ import annotations

import typing
from typing import Any, Literal

from dlm_fiji.settings import Settings

__all__ = ["BEGIN", "END", "PREFIX", "parameter_lines", "with_parameters"]

#: In front of every name, so that a script's variables do not meet ImageJ's macro options.
PREFIX = "dlm_"

BEGIN = "# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'"
END = "# --- end of parameters"

_TYPES = {int: "Integer", float: "Double", str: "String", bool: "Boolean"}


def parameter_lines(settings: type[Settings], leave_out: tuple[str, ...] = ()) -> list[str]:
    """One SciJava script parameter a field, with label, default, limits, choices and help.

    Parameters
    ----------
    settings
        The class.
    leave_out
        Fields that the script sets by itself.
    """
    lines = []
    for name, field in settings.model_fields.items():
        if name in leave_out:
            continue
        kind: Any = field.annotation
        options: dict[str, str] = {"label": _quoted(_label(name, field))}
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            options["choices"] = "{" + ", ".join(_quoted(str(choice)) for choice in choices) + "}"
            kind = type(choices[0])
        if kind not in _TYPES:
            raise TypeError(f"{settings.__name__}.{name} of type {kind} has no SciJava type")
        options["value"] = _value(field.default)
        for limit in field.metadata:
            if hasattr(limit, "ge"):
                options["min"] = _value(limit.ge)
            if hasattr(limit, "le"):
                options["max"] = _value(limit.le)
        if kind is str and field.default == "":
            options["required"] = "false"
        options["description"] = _quoted(field.description or "")
        text = ", ".join(f"{key}={value}" for key, value in options.items())
        lines.append(f"#@ {_TYPES[kind]}({text}) {PREFIX}{name}")
    return lines


def with_parameters(script: str, settings: type[Settings], leave_out: tuple[str, ...] = ()) -> str:
    """The script's text with its parameter block made anew."""
    head, rest = script.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    return "\n".join([head + BEGIN, *parameter_lines(settings, leave_out), END]) + tail


def _label(name: str, field: Any) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f" ({extra['unit']})" if extra.get("unit") else ""
    words = {"na": "NA", "um": ""}
    text = " ".join(words.get(word, word) for word in name.split("_")).strip()
    return text[:1].upper() + text[1:] + unit


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    # Jython 2.7 reads a script either with an encoding line or without, depending on who runs it: plain ASCII works.
    text = text.replace("µ", "u").encode("ascii", "replace").decode()
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


#: Which script takes which settings.
SCRIPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Enhance_.py": ("enhance", ()),
    "Deconvolve_.py": ("deconvolve", ()),
    "Compare_with_Richardson-Lucy_.py": ("compare", ()),
    "Error_Map_.py": ("error_map", ()),
    "Stitch_and_Enhance_Folder_.py": ("stitch", ()),
    "Train_.py": ("train", ()),
}


def main() -> None:
    """Make the parameter blocks of ``fiji_scripts/`` anew."""
    from pathlib import Path

    from dlm_fiji.service.operations import OPERATIONS

    folder = Path(__file__).parents[2] / "fiji_scripts"
    for name, (operation, leave_out) in SCRIPTS.items():
        path = folder / name
        path.write_text(with_parameters(path.read_text("utf-8"), OPERATIONS[operation].settings, leave_out), "utf-8")


if __name__ == "__main__":
    main()
