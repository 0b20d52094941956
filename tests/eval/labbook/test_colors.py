"""The lab book's colors: text against its background, and figures for those who see fewer colors."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.labbook.drawings import CLOUDS, Drawing, overlay, style
from eval.studies.all import STUDIES
from tests.parts.browser import Browser, lab_book, launched
from train.tracking.panels import PALETTE

# How dichromats see linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.0.
DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
READABLE = 4.5  # WCAG 2.2, level AA, text of any size
# Two colors of CIE Lab that differ by 2.3 are just told apart side by side; marks of a figure lie apart.
APART = 4 * 2.3
SEVEN = 7  # variants of the whole exercise


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def linear(rgb: Any) -> NDArray[np.float64]:
    """sRGB, 0 to 255, as linear light, 0 to 1: IEC 61966-2-1."""
    share = np.asarray(rgb, dtype=np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: Any, other: Any) -> float:
    """WCAG 2.2's ratio of two sRGB colors."""
    lights = sorted(float(linear(rgb) @ [0.2126, 0.7152, 0.0722]) + 0.05 for rgb in (one, other))
    return lights[1] / lights[0]


def lab(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* of linear RGB under D65."""
    white = np.sum(XYZ, axis=1)
    share = np.clip(light, 0, 1) @ np.transpose(XYZ) / white
    x, y, z = np.moveaxis(np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb(text: str) -> list[int]:
    return [int(text[k : k + 2], 16) for k in (1, 3, 5)]


def test_contrast_agrees_with_the_published_extremes() -> None:
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([119, 119, 119], [255, 255, 255]) == pytest.approx(4.48, abs=0.01)  # W3C's #777 on white


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_all_text_stands_out_from_what_is_behind_it(browser: Browser, scheme: str, width: str) -> None:
    page = browser.open(lab_book().page, width, color_scheme=scheme).page
    page.locator("#variants [data-toggles]").last.click()  # switched off, it is to be read still
    page.locator("table.summary thead button").nth(1).click()
    texts = page.evaluate(
        r"""() => {
             const numbers = color => color.match(/[\d.]+/g).map(Number);
             const found = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
             while (walker.nextNode()) {
               const element = walker.currentNode.parentElement;
               if (!walker.currentNode.data.trim() || element.closest("script, svg, .skip") || !element.checkVisibility()) continue;
               let behind = element;
               while (behind && (numbers(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 0.5) behind = behind.parentElement;
               const back = numbers(getComputedStyle(behind ?? document.documentElement).backgroundColor).slice(0, 3);
               const ink = numbers(getComputedStyle(element).color).slice(0, 3);
               found.set(JSON.stringify([ink, back]), element.outerHTML.slice(0, 120));
             }
             return [...found].map(([colors, where]) => [...JSON.parse(colors), where]);
           }"""
    )
    assert len(texts) > 5
    dark = np.mean([np.mean(back) for _, back, _ in texts]) < 128
    assert dark == (scheme == "dark")
    faint = [(contrast(ink, back), ink, back, where) for ink, back, where in texts if contrast(ink, back) < READABLE]
    assert faint == []


@pytest.mark.parametrize("vision", DICHROMATS)
def test_no_two_variants_look_alike_to_the_color_blind(vision: str) -> None:
    styles = [style(index) for index in range(SEVEN)]
    seen = lab(linear([rgb(look.color) for look in styles]) @ np.transpose(DICHROMATS[vision]))
    distances = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(range(SEVEN), 2)}
    assert min(distances.values()) > APART, min(distances, key=lambda pair: distances[pair])
    # ... and without any color by dash and by symbol.
    assert len({look.dash for look in styles}) == len({look.symbol for look in styles}) == SEVEN


def test_the_bars_and_the_lines_of_the_largest_study_differ_from_each_other() -> None:
    styles = [style(index) for index in range(max(len(study.representations) for study in STUDIES.values()))]
    assert len({(look.color, look.pattern) for look in styles}) == len(styles) > len(PALETTE)
    assert len({(look.color, look.dash, look.symbol) for look in styles}) == len(styles)


def test_a_bar_has_a_pattern_where_its_color_is_in_use() -> None:
    order = [f"x-{index}" for index in range(len(PALETTE) + 1)]
    bar = Drawing("plot", "Bars", {"data": [{"type": "bar", "name": "bar", "x": [1], "y": [2]}], "layout": {}})
    first, last = overlay({order[0]: bar, order[-1]: bar}, order).data["data"]
    assert first["marker"] == {"color": PALETTE[0]}
    assert last["marker"] == {"color": PALETTE[0], "pattern": {"shape": "/"}}


def test_no_cloud_of_points_has_a_color_that_could_be_a_variant_s() -> None:
    clouds, variants = (lab(linear([rgb(one) for one in palette])) for palette in (CLOUDS, PALETTE))
    assert np.linalg.norm(clouds[:, None] - variants[None], axis=-1).min() > 3 * APART
    for vision in DICHROMATS.values():
        seen = lab(linear([rgb(one) for one in CLOUDS]) @ np.transpose(vision))
        assert min(float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(range(len(CLOUDS)), 2)) > 2 * APART


def test_palette_is_okabe_and_itos_with_two_of_tols() -> None:
    published = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}  # Wong 2011
    tol = {"#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499"}  # muted
    assert published < set(PALETTE) and set(PALETTE) - published < tol
