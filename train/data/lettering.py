"""Names in any script, drawn: in Pillow's own font, in one that is installed, or spelled out in ASCII."""

import functools
import itertools
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import PIL.ImageFont

Font = PIL.ImageFont.ImageFont | PIL.ImageFont.FreeTypeFont

SIZE = 10  # pixels, as Pillow's own font has
NOWHERE = "\U0010ffff"  # no sign: what a font draws for it, it draws for all that it lacks
FOLDERS = {
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts"),
}
ELSEWHERE = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
MOST_FONTS = 1000  # that are looked into


def letter(names: Sequence[str], width: int) -> list[tuple[str, Font]]:
    """A text for each name, at most `width` pixels wide, and a font that has all its signs. Different names keep different
    texts: where two would read alike, their numbers go before them."""
    spelled = [_spell(name) for name in names]
    counts = Counter(_cut(text, font, width) for text, font in spelled)
    texts = []
    for number, (text, font) in enumerate(spelled):
        alone = counts[_cut(text, font, width)] == 1
        texts.append((_cut(text if alone else f"{number} {text}", font, width), font))
    return texts


def _spell(name: str) -> tuple[str, Font]:
    """The name and a font for it, or the name in ASCII where no font has its signs."""
    own = PIL.ImageFont.load_default()
    for font in [own, *(() if name.isascii() else _installed())]:
        if all(_has(font, sign) for sign in name):
            return name, font
    return name.encode("ascii", "backslashreplace").decode(), own


def _cut(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


@functools.lru_cache(4096)
def _has(font: Font, sign: str) -> bool:
    """Whether a font draws a sign as itself, and not as the box of all that it lacks."""
    if sign.isascii() or unicodedata.category(sign) == "Cf":  # joiners draw nothing
        return True
    try:
        mask, box = font.getmask(sign), font.getmask(NOWHERE)
    except (OSError, ValueError):  # Pillow's font without FreeType has Latin alone
        return False
    return (mask.size, bytes(mask)) != (box.size, bytes(box)) and mask.getbbox() is not None


@functools.cache
def _installed() -> tuple[Font, ...]:
    return tuple(itertools.islice(_fonts(), MOST_FONTS))


def _fonts() -> Iterator[Font]:
    for folder in FOLDERS.get(sys.platform, ELSEWHERE):
        paths = Path(folder).expanduser().rglob("*.[to]t[fc]")
        for path in sorted(paths, key=lambda path: (len(path.name), path)):  # the plain ones have the shortest names
            if "lastresort" in path.name.lower():  # has a box for each script
                continue
            try:
                yield PIL.ImageFont.truetype(path, SIZE)
            except OSError:  # damaged, or of pictures of one size alone
                continue
