"""The quality of a stitch at a glance: links coloured by residual over the mosaic."""

from __future__ import annotations

import cv2
import numpy as np

from dlm_fiji.registration.mosaic import Mosaic

__all__ = ["draw_links"]

GOOD, BAD, UNUSED, STAGE = (40, 170, 60), (220, 40, 40), (150, 150, 150), (240, 150, 20)


def draw_links(mosaic: Mosaic, side: int = 1200, bad_px: float = 1.0) -> np.ndarray:
    """The mosaic with every link between the tiles' centres.

    Parameters
    ----------
    mosaic
        The stitched mosaic; tiles are drawn reduced, one at a time.
    side
        Longer side of the picture, px.
    bad_px
        Residual at which a link is fully red; 0 is green. Links that were not used are grey; tiles that were
        placed by the stage have an orange frame and their number.

    Returns
    -------
    (h, w, 3) uint8 RGB
    """
    height, width = mosaic.shape[:2]
    factor = max(height, width) / side
    canvas = np.full((max(1, round(height / factor)), max(1, round(width / factor)), 3), 255, np.uint8)
    corner = (mosaic.positions - mosaic.origin) / factor
    size = np.array(mosaic.tiles.shape[:2]) / factor
    low, high = np.inf, -np.inf
    small = []
    for index in range(len(corner)):
        grey = mosaic.tiles.grey(index)
        small.append(cv2.resize(grey, (max(1, round(size[1])), max(1, round(size[0]))), interpolation=cv2.INTER_AREA))
        low, high = min(low, float(np.percentile(grey, 1))), max(high, float(np.percentile(grey, 99)))
    for image, (y, x) in zip(small, corner, strict=True):
        # paler than the lines that will lie over it
        shown = 80 + 0.68 * np.clip((image - low) * (255 / max(high - low, 1e-12)), 0, 255)
        top, left = round(float(y)), round(float(x))
        place = canvas[top : top + image.shape[0], left : left + image.shape[1]]
        place[:] = shown[: place.shape[0], : place.shape[1], None]
    centre = corner + size / 2
    for link in mosaic.links:
        ends = [tuple(int(v) for v in np.rint(centre[k][::-1])) for k in (link.i, link.j)]
        if link.used:
            share = float(np.clip(link.residual / bad_px, 0, 1))
            colour = tuple(int((1 - share) * g + share * b) for g, b in zip(GOOD, BAD, strict=True))
            cv2.line(canvas, ends[0], ends[1], colour, 3, cv2.LINE_AA)
        else:
            cv2.line(canvas, ends[0], ends[1], UNUSED, 1, cv2.LINE_AA)
    for lost in np.nonzero(mosaic.placed_by_stage)[0]:
        top, left, h, w = (round(float(v)) for v in (*corner[lost], *size))
        cv2.rectangle(canvas, (left + 2, top + 2), (left + w - 3, top + h - 3), STAGE, 2)
        cv2.putText(canvas, str(lost), (left + 8, top + 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, STAGE, 2, cv2.LINE_AA)
    return canvas
