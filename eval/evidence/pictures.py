"""Grids of small images."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from train.tracking.panels import color

Pixels = NDArray[np.uint8]  # (height, width, 3)

TILE = 64  # pixels
FRAME = 4
GAP = 2
MARK = color(0)


def tile(image: Pixels, side: int = TILE) -> PIL.Image.Image:
    """The image on side x side pixels, its own pixels enlarged and not smoothed."""
    return PIL.Image.fromarray(np.array(image)).resize((side, side), PIL.Image.Resampling.NEAREST)


def grid(rows: Sequence[Sequence[Pixels]], marks: Sequence[Sequence[bool]], set_apart: int = 0) -> PIL.Image.Image:
    """Images in rows of equal length on white. Those with a mark stand in a thick frame and the others in none, so that
    no color needs to be told from another. A wide gap follows the first `set_apart` columns.

    An image wider than a tile is shown in its own size.
    """
    side = max(TILE, *(max(image.shape[:2]) for row in rows for image in row))
    step = side + 2 * FRAME + GAP
    apart = step // 4 if set_apart else 0
    canvas = PIL.Image.new("RGB", (len(rows[0]) * step + apart + GAP, len(rows) * step + GAP), "white")
    for i, (images, row_marks) in enumerate(zip(rows, marks, strict=True)):
        for j, (image, mark) in enumerate(zip(images, row_marks, strict=True)):
            left, top = GAP + j * step + (apart if j >= set_apart else 0), GAP + i * step
            if mark:
                canvas.paste(MARK, (left, top, left + side + 2 * FRAME, top + side + 2 * FRAME))
            canvas.paste(tile(image, side), (left + FRAME, top + FRAME))
    return canvas
