"""``docs/settings.md``: every setting with default, unit, range, meaning and source, made from the settings classes."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any, Literal

from dlm_fiji.settings import Settings

__all__ = ["page"]

_HEAD = """# Settings

Made from the settings classes by `python -m dlm_fiji.service.settings_page`; a test holds it equal to them. The same
classes make the sections of the pipeline's TOML file, the options of the commands, the `#@` lines of Fiji's scripts and
the service's JSON schema. A value out of its range, or an unknown name, is refused with one sentence.
"""


def page() -> str:
    """The page's Markdown."""
    from dlm_fiji.fiji import ImageJSettings
    from dlm_fiji.inference import InferenceSettings
    from dlm_fiji.pipeline import PipelineSettings
    from dlm_fiji.service.operations import OPERATIONS
    from dlm_fiji.service.running import ServiceSettings
    from dlm_fiji.training import FluorescenceSimulation, LabelField, SimulationSettings

    parts = [_HEAD, "## The pipeline's file\n"]
    sections = _sections(PipelineSettings)
    parts += _table("At its head", PipelineSettings, leave_out=tuple(sections))
    for name, settings in sections.items():
        parts += _table(f"`[{name}]`", settings)
    parts.append("## Operations of the service, of Fiji's menu and of the commands of their names\n")
    for name, operation in OPERATIONS.items():
        if operation.settings is not OPERATIONS["enhance"].settings or name == "enhance":
            parts += _table(f"`{name}`", operation.settings)
    parts.append("## Everything else\n")
    parts += _table("Inference (`predict`)", InferenceSettings)
    parts += _table("Simulated bright-field instruments (`train --simulate`)", SimulationSettings)
    parts += _table(
        "Simulated fluorescence instruments (`train --simulate`, adversarial presets)", FluorescenceSimulation
    )
    parts += _table("`[[field]]` of a list of labels (`train --simulate LIST.toml`)", LabelField)
    parts += _table("ImageJ", ImageJSettings)
    parts += _table("Service (`serve`)", ServiceSettings)
    return "\n".join(parts).rstrip() + "\n"


def _sections(settings: type[Settings]) -> dict[str, type[Settings]]:
    """The fields that are settings themselves."""
    found = {}
    for name, field in settings.model_fields.items():
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if inspect.isclass(kind) and issubclass(kind, Settings):
                found[name] = kind
    return found


def _table(title: str, settings: type[Settings], leave_out: tuple[str, ...] = ()) -> list[str]:
    lines = [f"### {title}\n", inspect.cleandoc(settings.__doc__ or "").split("\n\n")[0].replace("\n", " ") + "\n"]
    lines += ["| name | default | unit | range | what | source |", "|---|---|---|---|---|---|"]
    for name, field in settings.model_fields.items():
        if name in leave_out:
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        cells = (f"`{name}`", default, extra.get("unit", ""), _range(field), field.description or "",
                 extra.get("source", ""))  # fmt: skip
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return [*lines, ""]


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Settings):
        return "its own"
    if isinstance(value, Path):
        value = value.as_posix()
    return f"`{value!r}`" if value not in ((), [], {}, "") else "empty"


def _range(field: Any) -> str:
    if typing.get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(field.annotation))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(found)


def main() -> None:
    """Write ``docs/settings.md`` anew."""
    (Path(__file__).parents[2] / "docs" / "settings.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
