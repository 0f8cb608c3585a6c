"""Options of a command made from a settings class: name, default, help and unit stand in one place."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from dlm_fiji.settings import Settings

__all__ = ["with_options"]


def with_options(
    settings: type[Settings], leave_out: tuple[str, ...] = (), names: dict[str, str] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option for each field of ``settings``; it gets the values as its argument ``settings``.

    Parameters
    ----------
    settings
        The class.
    leave_out
        Fields that are no options.
    names
        Field → option, where the option is not the field's name with hyphens.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        kept = [p for p in own.parameters.values() if p.name != "settings"]
        options = _options_of(settings, leave_out, names or {})

        @functools.wraps(command)
        def wrapper(**given: Any) -> Any:
            changes = {option.name: given.pop(option.name) for option in options}
            return command(**given, settings=settings.given(**changes))

        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in [*kept, *options]]
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        del wrapper.__wrapped__  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _options_of(settings: type[Settings], leave_out: tuple[str, ...], names: dict[str, str]) -> list[inspect.Parameter]:
    """The fields as parameters of a Typer command."""
    found = []
    for name, field in settings.model_fields.items():
        if name in leave_out:
            continue
        kind: Any = field.annotation
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        text = f"{field.description}{', ' + str(extra['unit']) if extra.get('unit') else ''}"
        default = field.default
        words = [part for part in typing.get_args(kind) if typing.get_origin(part) is Literal]
        if typing.get_origin(kind) is Literal:
            # Not an enumeration of Typer's: a wrong choice gets the settings' own sentence.
            text += f": {', '.join(map(str, typing.get_args(kind)))}"
            kind = type(typing.get_args(kind)[0])
        elif words:  # a number or a word, such as int | Literal["auto"]
            text += f"; or {', '.join(typing.get_args(words[0]))}"
            kind = str
        elif typing.get_origin(kind) is tuple:
            kind, default = list[typing.get_args(kind)[0]] | None, None  # type: ignore[misc]
            text += "; repeatable"
        option = names.get(name, f"--{name.replace('_', '-')}")
        annotation = Annotated[kind, typer.Option(option, help=f"{text[:1].upper()}{text[1:]}.")]
        found.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    return found
