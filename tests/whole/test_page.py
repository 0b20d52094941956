"""What a reader does with the lab book, clicked through in a real browser: switch, sort, enlarge, copy, print."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval.labbook.door import PAGE, place
from eval.studies.all import STUDIES
from tests.parts.browser import (
    FULL,
    NEIGHBORS,
    PIXELS,
    TOP1,
    VARIANTS,
    WIDTHS,
    Browser,
    Open,
    Opened,
    lab_book,
    seen,
    table_order,
    toggle,
)
from tests.parts.comparisons import comparison_values
from tests.parts.shapes import publish
from tests.parts.versions import put
from train.data.scores import Scores
from train.tracking.store import Store

LEAGUE = {
    "probe/top1": {
        "vicreg": ([0.7], [0.6, 0.8]),
        "vicreg-brightness0.8-contrast0.8-saturation0.8-hue0.3-solarize0.3": ([0.6], [0.5, 0.7]),
        "untrained": ([0.4], [0.3, 0.5]),
    }
}


@pytest.fixture(scope="module")
def read(browser: Browser) -> Opened:
    """A page that tests leave as they found it."""
    return browser.open(lab_book().page)


def variants_of(element: Any) -> list[str]:
    """The variants whose traces a plot draws, in order."""
    variants = element.evaluate(
        "element => element.data.filter(t => t.visible !== false && t.meta).map(t => t.meta.variant)"
    )
    return list(variants)


# ---- variants --------------------------------------------------------------------------------------------------------


def test_a_variant_is_switched_off_and_on_in_the_whole_page_at_once(opened: Open) -> None:
    book = opened()
    page = book.page
    roc = book.see(page.locator("#roc .drawing"))
    assert variants_of(roc) == [FULL, NEIGHBORS]
    before = {variant: seen(page, variant) for variant in VARIANTS}
    assert all(before.values())
    toggle(page, NEIGHBORS).click()
    assert toggle(page, NEIGHBORS).get_attribute("aria-pressed") == "false"
    assert {variant: seen(page, variant) for variant in (FULL, NEIGHBORS)} == {
        FULL: before[FULL] - pairs(page),
        NEIGHBORS: 0,
    }
    assert variants_of(roc) == [FULL]
    assert page.locator("#said").text_content() == "2 of 3 variants are shown"
    # ... a figure that is drawn only now obeys too
    variance = book.see(page.locator("#training .drawing").first)
    assert variants_of(variance) == [FULL]
    toggle(page, NEIGHBORS).click()
    assert {variant: seen(page, variant) for variant in VARIANTS} == before
    assert variants_of(variance) == variants_of(book.see(roc)) == [FULL, NEIGHBORS]


def pairs(page: Any) -> int:
    """Rows of differences between the two trained variants: they vanish with either."""
    return int(page.locator(f'[data-variant="{FULL} {NEIGHBORS}"]').count())


def test_a_row_of_figures_of_variants_that_are_off_leaves_no_heading(opened: Open) -> None:
    page = opened().page
    heading = page.locator("#most-anomalous h3").first
    assert heading.is_visible()
    for variant in (FULL, NEIGHBORS):
        toggle(page, variant).click()
    assert not heading.is_visible()
    page.locator("#variants .everything").click()
    assert heading.is_visible()
    assert page.evaluate("document.activeElement.dataset.toggles") == FULL
    assert not page.locator("#variants .everything").is_visible()


def test_switches_are_remembered_when_the_page_is_loaded_again(opened: Open) -> None:
    page = opened().page
    toggle(page, PIXELS).click()
    page.reload()
    assert toggle(page, PIXELS).get_attribute("aria-pressed") == "false"
    assert seen(page, PIXELS) == 0 and seen(page, FULL) > 0


def test_shift_shows_one_variant_alone_by_keyboard_too(opened: Open) -> None:
    page = opened().page
    toggle(page, PIXELS).focus()
    page.keyboard.press("Shift+Enter")
    pressed = [toggle(page, variant).get_attribute("aria-pressed") for variant in VARIANTS]
    assert dict(zip(VARIANTS, pressed, strict=True)) == {FULL: "false", NEIGHBORS: "false", PIXELS: "true"}


def test_a_link_to_a_figure_of_a_variant_that_is_off_switches_it_on(opened: Open) -> None:
    page = opened().page
    toggle(page, PIXELS).click()
    page.evaluate(
        """variant => {
             const link = document.querySelector(".answer").appendChild(document.createElement("a"));
             Object.assign(link, {href: `#panel-project-${variant}-project-tsne`, id: "there", textContent: "there"});
             link.dataset.shows = variant;
           }""",
        PIXELS,
    )
    page.locator("#there").click()
    figure = page.locator(f"figure:has(#panel-project-{PIXELS}-project-tsne)")
    assert figure.is_visible() and toggle(page, PIXELS).get_attribute("aria-pressed") == "true"
    page.wait_for_function("element => element.getBoundingClientRect().top >= 0", arg=figure.element_handle())


def test_without_a_script_everything_is_there(opened: Open) -> None:
    book = opened(java_script_enabled=False)
    assert book.page.locator("table.summary tbody tr").count() == len(VARIANTS)
    assert not book.page.locator("#variants").is_visible()
    assert book.page.locator("noscript").is_visible()
    assert all(picture.is_visible() for picture in book.page.locator("#most-anomalous img.picture").all())
    assert all(answer.is_visible() for answer in book.page.locator(".answer").all())


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_sorted_by_its_numbers_and_what_is_missing_comes_last(opened: Open) -> None:
    page = opened().page
    table = page.locator("table.summary")
    first = table_order(table)
    head = table.locator("thead th", has_text="Probe, representation")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert table_order(table) == sorted(VARIANTS, key=lambda variant: -TOP1[variant])
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert table_order(table) == sorted(VARIANTS, key=lambda variant: TOP1[variant])
    # PIXELS has no anomalies: last whichever way. Only one column says that it sorts.
    auc = table.locator("thead th", has_text="AUC")
    for direction, order in (("descending", [FULL, NEIGHBORS, PIXELS]), ("ascending", [NEIGHBORS, FULL, PIXELS])):
        auc.locator("button").click()
        assert auc.get_attribute("aria-sort") == direction
        assert table_order(table) == order
    assert table.locator("[aria-sort]").count() == 1
    auc.locator("button").click()
    assert table.locator("[aria-sort]").count() == 0
    assert table_order(table) == first


def test_a_column_of_words_is_sorted_by_the_alphabet(opened: Open) -> None:
    table = opened().page.locator("table.sources")
    table.locator("thead button", has_text="Reference").click()
    order = table_order(table)
    assert order == sorted(order) and len(set(order)) > 10


# ---- enlarging -------------------------------------------------------------------------------------------------------


def test_a_picture_is_enlarged_with_its_caption_and_escape_returns_to_it(read: Opened) -> None:
    page = read.page
    picture = page.locator("#most-anomalous .enlarge").first
    small = picture.locator("img").bounding_box()["width"]
    picture.focus()
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    large = viewer.locator(".stage img").bounding_box()["width"]
    assert large > 1.5 * small
    assert FULL in viewer.locator(".caption").inner_text() and "anomaly:" in viewer.locator(".caption").inner_text()
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert page.evaluate("document.activeElement === document.querySelector('#most-anomalous .enlarge')")


def test_arrow_keys_lead_to_the_next_figure_that_is_shown(opened: Open) -> None:
    book = opened()
    page = book.page
    toggle(page, NEIGHBORS).click()
    page.locator(f'#maps figure[data-variant="{FULL}"] .enlarge').first.click()
    stage = page.locator("#viewer .stage")
    stage.locator(".map[data-drawn]").wait_for()
    assert book.colored(stage) > 100
    first = page.locator("#viewer .place").inner_text()
    page.keyboard.press("ArrowRight")
    assert PIXELS in page.locator("#viewer .caption").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#viewer .place").inner_text() == first
    # In the last one the arrow leads to the first.
    index, count = map(int, re.findall(r"\d+", first))
    for _ in range(count - index + 1):
        page.keyboard.press("ArrowRight")
    assert page.locator("#viewer .place").inner_text() == f"1 of {count}"
    page.locator("#viewer .close").click()
    assert stage.locator("*").count() == 0


def test_an_enlarged_map_shows_the_image_behind_a_point(read: Opened) -> None:
    page = read.page
    page.locator("#maps figure .enlarge").first.click()
    drawing = page.locator("#viewer .map")
    page.locator("#viewer .map[data-drawn]").wait_for()
    spot = drawing.evaluate(
        "element => { const map = [...maps].find(m => m.element === element); return map.place(0); }"
    )
    drawing.hover(position={"x": spot[0], "y": spot[1]})
    row = drawing.evaluate("element => [...maps].find(m => m.element === element).rows[0]")
    page.locator(f"#viewer #pointed canvas[data-shown='{row}']").wait_for()
    page.keyboard.press("Escape")
    page.locator("body > #pointed").wait_for(state="attached")  # the browser says later that a dialog was closed


# ---- copying ---------------------------------------------------------------------------------------------------------


def test_a_click_copies_the_reference_and_says_so(read: Opened) -> None:
    read.page.evaluate("navigator.clipboard.writeText('')")
    read.page.locator("#probe figcaption button", has_text="copy").first.click()
    read.page.locator("#copied.shown").wait_for()
    assert read.page.locator("#copied").inner_text() == f"copied: probe:{FULL}"
    assert read.page.locator("#copied").get_attribute("role") == "status"
    assert read.page.evaluate("navigator.clipboard.readText()") == f"probe:{FULL}"


def test_a_browser_that_keeps_the_clipboard_from_files_copies_all_the_same(opened: Open) -> None:
    page = opened(before="delete Navigator.prototype.clipboard; window.copied = [];").page
    page.evaluate(
        "document.addEventListener('copy', () => copied.push(getSelection().toString() || document.activeElement.value))"
    )
    button = page.locator("#probe figcaption button", has_text="lineage").first
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#copied.shown").wait_for()
    assert page.evaluate("copied") == [button.get_attribute("data-copy")]
    assert page.evaluate("document.activeElement.textContent") == "lineage"


# ---- printing --------------------------------------------------------------------------------------------------------


def test_paper_holds_every_figure_and_fold_but_no_control_and_no_variant_that_is_off(opened: Open) -> None:
    book = opened()
    page = book.page
    toggle(page, NEIGHBORS).click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    drawings = page.locator(".drawing").all()
    due = [drawing for drawing in drawings if drawing.is_visible()]
    assert 0 < len(due) < len(drawings)
    assert [drawing for drawing in due if not drawing.locator("svg, img").count()] == []
    assert page.locator("details:not([open])").count() == 0
    for control in ("nav", "#variants", ".skip", ".source button", "#viewer", ".enlarge:empty"):
        assert not any(element.is_visible() for element in page.locator(control).all()), control
    assert seen(page, NEIGHBORS) == 0 and seen(page, FULL) > 0
    # Nothing is wider than the paper between its margins: 210 - 2 x 13 mm.
    page.set_viewport_size({"width": round(184 / 25.4 * 96), "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [drawing.bounding_box() for drawing in due]
    for drawing, box in zip(due, boxes, strict=True):
        inner = drawing.locator(".main-svg, img").first.bounding_box()
        assert inner["width"] <= box["width"] + 1 and inner["height"] <= box["height"] + 1
        assert book.colored(drawing) > 100, drawing.get_attribute("aria-label")
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.locator(".drawing > img").count() == 0


def test_the_pdf_has_the_maps_as_pictures(opened: Open, tmp_path: Path) -> None:
    """Chromium leaves out canvases that were never on the screen."""
    page = opened().page
    page.pdf(path=tmp_path / "book.pdf", prefer_css_page_size=True)
    pdf = (tmp_path / "book.pdf").read_bytes()
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") > 3
    sizes = {
        (int(width), int(height))
        for width, height in re.findall(rb"/Subtype /Image\s*/Width (\d+)\s*/Height (\d+)", pdf)
    }
    sides = page.locator(".map").evaluate_all("all => all.map(element => 3 * element.clientWidth)")
    assert all(any(abs(width - side) <= 3 for width, _ in sizes) for side in sides)


# ---- phone and keyboard ----------------------------------------------------------------------------------------------


def test_page_is_no_wider_than_a_phone_and_tables_scroll_in_their_boxes(opened: Open) -> None:
    page = opened("phone").page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#summary .box")
    assert box.evaluate("element => element.scrollWidth > element.clientWidth")
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("element => element.scrollLeft > 0", arg=box.element_handle())
    assert toggle(page, FULL).is_visible()


def test_the_first_tab_skips_to_the_summary_and_every_stop_shows_where_it_is(opened: Open) -> None:
    page = opened().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    stops = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        name, line = page.evaluate(
            "() => [document.activeElement.outerHTML.slice(0, 90), getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert line == "solid", name
        stops.add(name)
    assert len(stops) > 10
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_order_of_the_keyboard_is_contents_variants_summary(read: Opened) -> None:
    order = read.page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, [tabindex='0']")].filter(e => e.checkVisibility())
                   .map(e => e.closest("nav, #variants, .chapter")?.id || e.closest("nav")?.tagName || e.className)"""
    )
    assert list(dict.fromkeys(order))[:4] == ["skip", "NAV", "variants", "summary"]


# ---- the front door --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_front_door_leads_to_each_study_and_back_without_a_host(
    browser: Browser, width: str, peel_home: Path
) -> None:
    shutil.copytree(lab_book().home / "store", peel_home / "store", symlinks=True)
    with contextlib.closing(Store()) as store:
        content = lab_book().page.read_bytes()
        put(store, "report", {PAGE: content}, ["shapes-siamese"], kind="report")
        publish("compare", Scores(comparison_values(LEAGUE)), None, {"dataset": "shapes"})
        place(store, tuple(STUDIES.values()), STUDIES["siamese"], content)
    door = browser.open(peel_home / PAGE, width)
    page = door.page
    assert page.locator("table").count() == 2  # of the study that was compared, and the league
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for row in page.locator("#league tbody tr").all():  # names that are long stand in their own column
        name, cell = row.locator("th"), row.locator("td").first
        assert name.evaluate("element => element.scrollWidth <= element.clientWidth")
        assert name.bounding_box()["x"] + name.bounding_box()["width"] <= cell.bounding_box()["x"] + 1
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    for study in ("peel", "siamese"):
        page.get_by_role("link", name=f"The lab book of {study} on shapes").click()
        page.locator("table.summary").wait_for()
        assert page.url == (peel_home / f"lab-book-{study}.html").as_uri()
        page.go_back()
        page.locator("#league").wait_for()
