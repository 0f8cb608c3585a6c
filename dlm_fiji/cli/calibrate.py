"""``dlm_fiji calibrate``: the fixed distortion of an instrument, from a series of image pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    moving: Annotated[Path, typer.Argument(help="Folder of images of the instrument to be corrected.")],
    fixed: Annotated[Path, typer.Argument(help="Folder of the same fields by the reference instrument, same names.")],
    out: Annotated[Path, typer.Argument(help="Warp file to write (.npz).")],
    schedule: Annotated[str, typer.Option(help="fit (ours), shrinking-blocks (002) or growing-count (004).")] = "fit",
) -> None:
    """Average the block-shift maps of a series of pairs into one fixed correction (004)."""
    from dlm_fiji.errors import InputError
    from dlm_fiji.micrograph import open_image, to_array
    from dlm_fiji.micrograph.files import is_image_file
    from dlm_fiji.registration import ElasticSettings, Warp, register_elastic

    for folder in (moving, fixed):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; name the folder of images.")
    names = sorted(path.name for path in moving.iterdir() if is_image_file(path))
    missing = [name for name in names if not (fixed / name).is_file()]
    if not names or missing:
        what = f"{fixed / missing[0]} is missing" if missing else f"{moving} holds no images"
        raise InputError(f"{what}; both folders need the same fields under the same names.")
    settings = ElasticSettings.of(None, schedule=schedule)
    warps = []
    for name in names:
        warp = register_elastic(to_array(open_image(moving / name)), to_array(open_image(fixed / name)), settings)
        warps.append(warp)
    mean = Warp.mean(warps)
    mean.save(out)
    print(f"{out}: mean of {len(warps)} maps, they scatter by {mean.record['scatter_px']:.3f} px about it.")
