"""``dlm_fiji models``: what is shipped, and what suits an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    image: Annotated[Path | None, typer.Option("--for", help="Say which models suit this image.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The cards as JSON.")] = False,
) -> None:
    """List the shipped models, with what they were made for."""
    from rich.console import Console
    from rich.padding import Padding

    from dlm_fiji.errors import SetupError
    from dlm_fiji.inference import list_models, load_model, recommend

    names = list_models()
    if not names:
        raise SetupError("No models are shipped with this installation; train one, or give predict a model folder.")
    if as_json:
        cards = [load_model(name) for name in names]
        print(json.dumps([m.card.model_dump() | {"sha256": m.sha256} for m in cards], indent=2, ensure_ascii=False))
        return
    console = Console()
    if image is not None:
        from dlm_fiji.micrograph import open_image

        for found in recommend(open_image(image)):
            verdict = "suits" if found.suits else "does not suit"
            console.print(f"{found.model.name} {verdict}: {' '.join(found.reasons)}", highlight=False)
        return
    for name in names:
        card = load_model(name).card
        pixel, na = (f"{r[0]:g}-{r[1]:g}" if r else "any" for r in (card.pixel_um, card.na))
        console.print(name, style="bold", highlight=False)
        facts = f"{card.modality}, {card.scale:g}×, pixels: {pixel}{' µm' if card.pixel_um else ''}, NA: {na}"
        for text in (facts, card.description):
            console.print(Padding(text, (0, 0, 0, 4)), highlight=False)
