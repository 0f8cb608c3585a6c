"""What the tiles say of a prediction, as the files that the report reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import from_array, save_image, write_json
from dlm_fiji.pipeline.area import save_table
from dlm_fiji.steps.brightfield_trust import BrightfieldTiles, TrustSettings

__all__ = ["write_trust"]


def write_trust(
    folder: Path,
    tiles: BrightfieldTiles,
    prediction: NDArray[np.uint8],
    corner: tuple[int, int],
    controls: Mapping[str, NDArray[np.uint8]],
    control_corner: tuple[int, int],
    settings: TrustSettings,
    provenance: Mapping[str, Any],
    seed: int = 0,
) -> str:
    """Judge a prediction, write ``trust.json``, its maps and curves, and return the verdict in a few words.

    Parameters
    ----------
    folder
        Where the files go.
    tiles
        What the camera took.
    prediction, corner
        Judged image and the mosaic pixel where it begins.
    controls, control_corner
        Images of one area, the label among them, judged in the same way.
    settings, provenance, seed
        Thresholds, what is written into the maps, and the seed of the simulated structures.

    Raises
    ------
    InputError
        The prediction is too small to be judged.
    """
    found = tiles.judge(prediction, corner, settings)
    judged = {}
    for name, image in controls.items():
        try:
            control = tiles.judge(image, control_corner, settings)
        except InputError:
            # A small area has no middle that its surroundings do not shine into.
            continue
        judged[name] = {
            "regions": int(control.flags.size),
            "flagged_share": control.flagged,
            "contradicted_share": control.contradicted,
            "chi2": control.chi2,
        }
    height, width = (round(n / tiles.scale) for n in prediction.shape[:2])
    summary = {
        **found.summary(),
        "judged_by": f"{len(tiles.tiles)} image(s) as the camera gave them, linear light, mean of the channels",
        "rectangle_px": [
            corner[0] + tiles.trim,
            corner[1] + tiles.trim,
            corner[0] + height - tiles.trim,
            corner[1] + width - tiles.trim,
        ],
        "test_area": judged,
    }
    try:
        roc = tiles.roc(prediction, corner, seed)
    except InputError:
        # No room for ten structures of a kind.
        roc = None
    if roc is not None:
        rates = dict(zip(("false_alarm", "inserted", "erased"), roc.at_used, strict=True))
        summary["roc"] = {"d_prime": roc.d_prime, "structures": roc.structures, **rates}
        save_table(
            folder / "roc.csv",
            ["false_alarm", "inserted", "erased"],
            zip(*(a.tolist() for a in (roc.false_alarm, roc.inserted, roc.erased)), strict=True),
        )
        save_table(
            folder / "detectability.csv",
            ["d_prime", "inserted", "erased"],
            zip(*(a.tolist() for a in (roc.strengths, roc.found["inserted"], roc.found["erased"])), strict=True),
        )
    write_json(folder / "trust.json", summary)
    maps = {"map": found.significance, "deviation": found.deviation, "uncheckable": found.uncheckable}
    for name, array in maps.items():
        save_image(from_array(array), folder / f"{name}.tif", provenance=dict(provenance))
    label = f"; of the label's {judged['label']['flagged_share']:.1%}" if "label" in judged else ""
    return f"{found.flagged:.1%} of {found.flags.size} regions flagged{label}"
