"""Pictures out of files: which formats are taken, within which limits, and how any of them becomes RGB pixels of one size.

Memory: a picture takes at most 8 bytes a pixel, its own and its copy in RGB, beside its file and what its decoder needs. Those
over an eighth of the limits are read one at a time, so that eight threads stay within two pictures of MOST_PIXELS and two files
of MOST_BYTES: 2 GB. (Eight PNGs of 88 megapixels take 1.0 GB, a progressive JPEG of 200 megapixels 0.8 GB.)
"""

import contextlib
import functools
import importlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageOps

from train.data.images import Pixels
from train.tracking.problem import one_line

# Suffixes by Pillow's names. Left out: what starts another program (EPS), opens further formats inside (ICNS, BLP, IPTC), has no
# signature (TGA), or is no picture (PDF, FITS). HEIF and JXL need a plugin.
FORMATS = {
    "AVIF": ".avif .avifs",
    "BMP": ".bmp",
    "DIB": ".dib",
    "GIF": ".gif",
    "HEIF": ".heic .heif .hif",
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .mpo",
    "JPEG2000": ".jp2 .j2k .jpc .jpf .jpx .j2c",
    "JXL": ".jxl",
    "PNG": ".png .apng",
    "PPM": ".pbm .pgm .ppm .pnm",
    "QOI": ".qoi",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
}
PLUGINS = {"AVIF": "pillow-avif-plugin", "HEIF": "pillow-heif", "JXL": "pillow-jxl-plugin"}
MODULES = {"AVIF": "pillow_avif", "HEIF": "pillow_heif", "JXL": "pillow_jxl"}
FEATURES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # what Pillow may have been built without

MOST_BYTES = 1 << 28  # of one file: what is larger is a zip bomb sooner than a picture
MOST_PIXELS = (1 << 30) // 12  # Pillow's own limit, 89 megapixels
MOST_JPEG_PIXELS = 1 << 28  # phones make 200 megapixels; the decoder itself halves what is beyond MOST_PIXELS
MOST_JPEG2000_PIXELS = MOST_PIXELS // 3  # its decoder takes 16 bytes a pixel more
THREADS = min(8, os.cpu_count() or 1)
WINDOW = 1024  # images decoded before the next are begun: bounds the memory in which they wait
SHARE = 8  # what is over the limit's eighth waits for its turn
STRIP = 1 << 18  # pixels converted at a time
BLOCK = 1 << 26  # bytes; of more than 32 MB, malloc keeps nothing back for the thread that frees it

# EXIF's orientations, by what turns them upright.
TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
ORIENTATION, BITS, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = (
    0x0112,
    258,
    262,
    322,
    323,
    339,
)  # EXIF's and TIFF's
FRAMES = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # a JPEG's or HEIC's further pictures are previews, depths and the like

_turn = threading.RLock()

Source = TypeVar("Source")


@dataclass(frozen=True)
class Picture:
    """pixels: (size, size, 3). mode: Pillow's name for what the file holds, such as `I;16`. several: more than one frame, of
    which this is the first."""

    pixels: Pixels
    mode: str
    several: bool


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that are read on this machine."""
    for module in MODULES.values():
        with contextlib.suppress(ImportError):
            plugin = importlib.import_module(module)
            if module == "pillow_heif":
                plugin.register_heif_opener()
    PIL.Image.init()
    return tuple(
        name
        for name in FORMATS
        if name in PIL.Image.OPEN and (name not in FEATURES or PIL.features.check(FEATURES[name]) is not False)
    )


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of pictures that are read on this machine."""
    return frozenset(suffix for name in formats() for suffix in FORMATS[name].split())


def plugin(suffix: str) -> str | None:
    """The package that would read pictures of a suffix, where this machine lacks it."""
    for name, package in PLUGINS.items():
        if name not in formats() and suffix in FORMATS[name].split():
            return package
    return None


# -- from files --------------------------------------------------------------------------------------------------------


def in_threads(decode: Callable[[Source], Picture | str], sources: Sequence[Source]) -> Generator[Picture | str]:
    """decode(source) of each source, in order, worked out by threads."""
    formats()
    before = PIL.Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as threads:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        PIL.Image.core.set_block_size(BLOCK)  # type: ignore[attr-defined]
        PIL.Image.MAX_IMAGE_PIXELS = MOST_JPEG_PIXELS  # `_check_size` knows the formats' own
        try:
            for start in range(0, len(sources), WINDOW):
                yield from threads.map(decode, sources[start : start + WINDOW])
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def turn(part: float) -> contextlib.AbstractContextManager[object]:
    """Waits for its turn where `part`, of what a limit allows, is large. One thread may wait twice: for file and pixels."""
    return _turn if part > 1 / SHARE else contextlib.nullcontext()


def decode(content: bytes, size: int) -> Picture | str:
    """The picture in a file's content, or in a few words why there is none."""
    try:
        with contextlib.closing(PIL.Image.open(io.BytesIO(content), formats=formats())) as image:
            limit = _check_size(image)
            with turn(_count(image) / limit):
                if image.format in ("JPEG", "MPO") and _count(image) > MOST_PIXELS:
                    image.draft(None, (image.width // 2, image.height // 2))
                mode = image.mode
                black, white = _ends(image)
                image.load()  # all of it: `open` reads no more than the header
                return Picture(fit(image, size, black, white), mode, _several(image))
    except PIL.UnidentifiedImageError:
        return "its content is not an image, or not of a kind that Pillow reads"
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever their format's code comes upon
        return one_line(error)


def _check_size(image: PIL.Image.Image) -> int:
    """The most pixels that an image of this format may have. Raises ValueError where it has more."""
    most = {"JPEG": MOST_JPEG_PIXELS, "MPO": MOST_JPEG_PIXELS, "JPEG2000": MOST_JPEG2000_PIXELS}
    limit = most.get(image.format or "", MOST_PIXELS)
    if _count(image) > limit:
        raise ValueError(
            f"{image.width} x {image.height} pixels, or those of one tile, are more than {limit // 10**6} million, "
            f"the most for a {image.format}"
        )
    return limit


def _count(image: PIL.Image.Image) -> int:
    """The pixels of an image, or of one of its tiles where a TIFF has tiles larger than itself."""
    tags: Any = getattr(image, "tag_v2", {})
    return max(image.width * image.height, int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_HEIGHT, 0)))


def _several(image: PIL.Image.Image) -> bool:
    """Whether frames follow the first. Asked last: the answer moves to the second."""
    with contextlib.suppress(Exception):
        return image.format in FRAMES and bool(getattr(image, "is_animated", False))
    return False


def open_png(path: Path) -> PIL.Image.Image:
    """A picture of an artifact, wholly read. Raises ValueError, or what Pillow raises, where it is none."""
    with PIL.Image.open(path, formats=("PNG",)) as image:
        _check_size(image)
        image.load()
        return image


# -- to pixels ---------------------------------------------------------------------------------------------------------


def fit(image: PIL.Image.Image, size: int, black: int = 0, white: int = 255) -> Pixels:
    """Any image as RGB pixels (size, size, 3): upright, over white where transparent, its center cut to a square.

    An image of exactly that size keeps its pixels; others are resized, bilinear with antialiasing. black, white: the values
    of an image of 16 bits.
    """
    image = _rgb(_upright(image), black, white)
    if image.size != (size, size):
        image = PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """As EXIF says that it is seen, or as it lies where the EXIF data are damaged."""
    method = None
    with contextlib.suppress(Exception):
        method = TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image if method is None else image.transpose(method)


def _ends(image: PIL.Image.Image) -> tuple[int, int]:
    """The values of black and of white. Raises ValueError where the range of the image's values is unknown."""
    tags: Any = getattr(image, "tag_v2", {})  # a TIFF's
    kinds = set(tags.get(SAMPLE_FORMAT, (1,)))
    if image.mode == "F" or kinds & {3, 6}:
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if 2 in kinds:
        raise ValueError("its pixels are signed numbers of unknown range")
    if image.mode == "I" and image.format != "PPM":  # those state their largest value, and Pillow scales it to 65535
        raise ValueError("its pixels are 32-bit integers of unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return 0, 255
    white = (1 << int(tags.get(BITS, (16,))[0])) - 1  # 12 bits are not scaled by Pillow
    return (white, 0) if tags.get(PHOTOMETRIC) == 0 else (0, white)


def _rgb(image: PIL.Image.Image, black: int, white: int) -> PIL.Image.Image:
    """Converted in strips: whole, an image would take a dozen bytes more for each pixel."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rows = max(1, STRIP // image.width)
    if image.height <= rows:
        return _convert(image, black, white)
    result = PIL.Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(_convert(strip, black, white), (0, top))
    return result


def _convert(image: PIL.Image.Image, black: int, white: int) -> PIL.Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts off what is beyond 255
        values = np.asarray(image).astype(np.float64)
        gray = ((values - black) / ((white - black) / 255)).round().clip(0, 255).astype(np.uint8)
        if isinstance(clear := image.info.get("transparency"), int):
            gray[values == clear] = 255
        return PIL.Image.fromarray(gray).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
