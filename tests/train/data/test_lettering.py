"""Class names as they are drawn in the sample sheet: in any script, and never two alike."""

import itertools

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from train.data import lettering
from train.data.lettering import Font, letter

NAMES = ("cat", "Café", "Кошка", "Ωμέγα", "שלום", "قطة", "猫", "狗", "한국어", "ไทย", "कुत्ता", "😀", "می‌خواهم", "ß", "ẞ")


def drawn(text: str, font: Font) -> bytes:
    sheet = PIL.Image.new("L", (140, 24), "white")
    PIL.ImageDraw.Draw(sheet).text((4, 12), text, fill="black", font=font, anchor="lm")
    return np.asarray(sheet).tobytes()


@pytest.mark.parametrize("fonts", ["those installed", "none installed"])
def test_names_in_any_script_are_drawn_without_boxes_and_no_two_alike(
    fonts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fonts == "none installed":
        monkeypatch.setattr(lettering, "_installed", lambda: ())
    texts = letter(NAMES, 112)
    assert texts[0][0] == "cat"
    assert len({drawn(*text) for text in texts}) == len(NAMES)
    for name, (text, font) in zip(NAMES, texts, strict=True):
        assert text == name or text.isascii()
        for sign in text:  # what a font lacks it draws as it draws a sign that nobody has
            assert sign == " " or sign == "\u200c" or drawn(sign, font) != drawn(lettering.NOWHERE, font)
        if fonts == "none installed" and not name.isascii():
            assert (text.isascii() and "\\" in text) or lettering._has(font, name[0])


def test_every_text_fits_and_long_names_that_begin_alike_are_told_apart() -> None:
    names = ["short", *(f"{'n' * 60}{end}" for end in "abc"), *("猫" * 20 + end for end in "犬狗"), "n" * 60]
    texts = letter(names, 112)
    assert texts[0][0] == "short"
    assert all(font.getlength(text) <= 112 for text, font in texts)
    for one, other in itertools.combinations(texts, 2):
        assert drawn(*one) != drawn(*other)


def test_an_installed_font_is_taken_for_what_pillows_own_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two fonts the one that has all the signs. Pillow's own, larger, stands in for one that is installed."""
    own, other = PIL.ImageFont.load_default(), PIL.ImageFont.load_default(13)
    monkeypatch.setattr(lettering, "_installed", lambda: (own, other))
    monkeypatch.setattr(lettering, "_has", lambda font, sign: font is other or sign.isascii())
    ((text, font),) = letter(["Kätzchen"], 112)
    assert text == "Kätzchen" and font is other
