"""All test images of a data set in one picture, from which the page cuts what is pointed at."""

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

PIXELS = 12_000_000  # of the whole sprite: 10,000 images of 32 x 32 pixels fit; a browser decodes it in a moment
WIDEST = 16_383  # pixels that a WebP can have on a side
LOSSLESS = 1_500_000  # up to so many pixels nothing is lost, and the page stays below a few megabytes


@dataclass(frozen=True)
class Sprite:
    """Image `row` stands at column `row % columns`, line `row // columns`; each is size x size pixels."""

    picture: PIL.Image.Image
    size: int
    columns: int

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> "Sprite":
        """images: (n, height, width, 3). Larger ones are made smaller where all would not fit."""
        n = len(images)
        columns = math.ceil(math.sqrt(n))
        size = min(images.shape[1], 64, math.floor(math.sqrt(PIXELS / n)))
        sheet = np.zeros((columns * columns, size, size, 3), np.uint8)
        for row, image in enumerate(images):
            if image.shape[0] == size:
                sheet[row] = image
            else:
                resized = PIL.Image.fromarray(image).resize((size, size), PIL.Image.Resampling.LANCZOS)
                sheet[row] = np.asarray(resized)
        grid = sheet.reshape(columns, columns, size, size, 3).swapaxes(1, 2)
        return cls(PIL.Image.fromarray(grid.reshape(columns * size, columns * size, 3)), size, columns)

    @property
    def address(self) -> str:
        """As a data URI."""
        small = self.picture.width * self.picture.height <= LOSSLESS
        return address(self.picture, lossless=small)


def address(picture: PIL.Image.Image, lossless: bool = True) -> str:
    """A picture as a data URI: the same bytes for the same picture."""
    file = io.BytesIO()
    if picture.mode not in ("RGB", "RGBA"):
        picture = picture.convert("RGB")
    kind = "webp" if max(picture.size) <= WIDEST else "png"
    options: dict[str, Any] = {"lossless": lossless, "quality": 70, "method": 4} if kind == "webp" else {}
    picture.save(file, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(file.getvalue()).decode()
