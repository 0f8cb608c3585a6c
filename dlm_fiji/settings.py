"""Settings: each algorithm owns one frozen class, and everything else is derived from it.

A settings class is a pydantic model whose fields say their unit, range and source. The configuration file, the
command line, Fiji's ``#@`` lines and the documentation read the fields; no default is written a second time.
"""

from __future__ import annotations

import difflib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dlm_fiji.errors import ConfigurationError

__all__ = ["Settings", "setting"]


def setting(default: Any, description: str, *, unit: str = "", source: str = "", **limits: Any) -> Any:
    """A field of a settings class.

    Parameters
    ----------
    default
        The value without a user's say.
    description
        One line for the help text.
    unit
        Physical unit, ``"µm"``, ``"px"``, ``"electrons"``; empty for pure numbers and choices.
    source
        Where the default comes from: a paper with its equation, or what was measured.
    **limits
        ``ge``, ``gt``, ``le``, ``lt``, ``min_length`` … as in pydantic's ``Field``.
    """
    extra: dict[str, Any] = {"unit": unit, "source": source}
    return Field(default=default, description=description, json_schema_extra=extra, **limits)


class Settings(BaseModel):
    """Frozen settings of one algorithm; unknown names and values out of range are refused with a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def of(cls, settings: Self | None = None, /, **changes: Any) -> Self:
        """``settings`` (or the defaults) with ``changes``, checked.

        Raises
        ------
        ConfigurationError
            A name is unknown (the nearest one is suggested) or a value is out of range.
        """
        values = settings.model_dump() if settings is not None else {}
        for name in changes:
            if name not in cls.model_fields:
                raise ConfigurationError(unknown_name(name, cls.model_fields, f"setting of {cls.__name__}"))
        try:
            return cls.model_validate(values | changes)
        except ValidationError as error:
            raise ConfigurationError(_sentence(cls, error)) from None

    @classmethod
    def given(cls, **changes: Any) -> Self:
        """The defaults with those ``changes`` that are not None: options that the user may leave out."""
        return cls.of(None, **{name: value for name, value in changes.items() if value is not None})


def unknown_name(name: str, known: Any, what: str) -> str:
    """The sentence for a name that is not among the ``known`` ones, with the nearest as a suggestion."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}."
    return f"{name!r} is not a {what}; {hint}"


def _sentence(cls: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    name = str(first["loc"][0]) if first["loc"] else ""
    field = cls.model_fields.get(name)
    extra = field.json_schema_extra if field is not None else None
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    given = "" if first["type"] == "missing" else f" (given: {first['input']!r}{' ' + unit if unit else ''})"
    return f"Setting {place!r} of {cls.__name__}: {first['msg'].lower()}{given}."
