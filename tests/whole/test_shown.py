"""What the page shows, in a real browser: the chosen variant, the address that keeps it, legends, mistakes, and the dark."""

import re
from io import BytesIO

import numpy as np
import PIL.Image
import pytest

from eval.labbook.drawings import CLOUDS
from tests.parts.browser import (
    CLASSES,
    FULL,
    NEIGHBORS,
    PIXELS,
    VARIANTS,
    WIDTHS,
    Browser,
    Open,
    lab_book,
    seen,
    table_order,
    toggle,
)


def test_what_is_shown_stands_in_the_address_and_a_copy_of_it_shows_the_same(browser: Browser, opened: Open) -> None:
    page = opened().page
    assert page.url == lab_book().page.as_uri()
    toggle(page, PIXELS).click()
    page.locator("#chosen").select_option(NEIGHBORS)
    page.locator("#training details summary").first.click()
    page.wait_for_function("location.search.includes('folds=')")
    page.locator(f'#maps figure[data-variant="{FULL}"] .enlarge').first.click()
    page.wait_for_function("location.search.includes('enlarged=')")
    other = browser.open(lab_book().page).page
    other.goto(page.evaluate("location.href"))
    assert toggle(other, PIXELS).get_attribute("aria-pressed") == "false"
    assert other.locator("#chosen").input_value() == NEIGHBORS
    assert other.locator("#training details").first.get_attribute("open") is not None
    other.locator("#viewer .map[data-drawn]").wait_for()
    assert FULL in other.locator("#viewer .caption").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function("!location.search.includes('enlarged=')")


def test_the_chosen_variant_is_marked_and_stands_first_on_a_phone_alone(opened: Open) -> None:
    for width in WIDTHS:
        page = opened(width).page
        table = page.locator("table.summary")
        assert table_order(table) == list(VARIANTS)  # the subject is chosen, and is the first anyway
        assert (
            f"embeddings:{FULL}" in page.locator(".lineage:visible svg").text_content()
        )  # of which the probe was made
        page.locator("#chosen").select_option(PIXELS)
        first = [PIXELS, FULL, NEIGHBORS] if width == "phone" else list(VARIANTS)
        assert table_order(table) == first
        assert page.locator("table.summary tr.chosen th").inner_text() == PIXELS
        maps = page.locator("#maps .cells").first.locator(".cell").all()
        left = min(maps, key=lambda cell: cell.bounding_box()["x"]).get_attribute("data-variant")
        assert left == (PIXELS if width == "phone" else FULL)
        shown = page.locator(".lineage:visible")
        assert [one.get_attribute("data-lineage") for one in shown.all()] == [PIXELS]
        assert f"probe:{PIXELS}" in shown.locator("svg").text_content()


def test_a_variant_that_is_off_is_switched_on_when_it_is_chosen(opened: Open) -> None:
    page = opened().page
    toggle(page, PIXELS).click()
    page.locator("#chosen").select_option(PIXELS)
    assert toggle(page, PIXELS).get_attribute("aria-pressed") == "true" and seen(page, PIXELS) > 0


def test_a_table_fades_out_at_the_side_at_which_it_goes_on(opened: Open) -> None:
    page = opened("phone").page
    box = page.locator("#summary .box")
    assert box.evaluate("box => [box.classList.contains('goes-on'), getComputedStyle(box).maskImage !== 'none']") == [
        True,
        True,
    ]
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    page.wait_for_function("box => !box.classList.contains('goes-on')", arg=box.element_handle())
    assert box.evaluate("box => getComputedStyle(box).maskImage") == "none"


def test_an_enlarged_map_has_its_legend_which_hides_a_class_here_and_there(opened: Open) -> None:
    book = opened()
    page = book.page
    page.locator("#maps figure .enlarge").first.click()
    page.locator("#viewer .map[data-drawn]").wait_for()
    legend, stage = page.locator("#viewer .legend"), page.locator("#viewer .stage")
    assert legend.locator("button").count() == 3
    assert book.colored(legend.locator("canvas").first) > 20
    assert book.colored(stage, CLOUDS[1]) > 50
    legend.locator("button").nth(1).click()
    page.mouse.move(0, 0)
    assert book.colored(stage, CLOUDS[1]) == 0
    page.keyboard.press("Escape")
    assert page.locator("#maps .legend button").nth(1).get_attribute("aria-pressed") == "false"
    assert page.locator("#viewer .legend").count() == 0


def test_a_mistake_of_the_probe_shows_its_image_and_leads_to_its_point(opened: Open) -> None:
    page = opened().page
    cards = page.locator("#mistakes button.mistake")
    assert cards.count() > 2
    rows = [int(card.get_attribute("data-point")) for card in cards.all()]
    sure = [float(re.findall(r"([\d.]+) % sure", card.inner_text())[0]) for card in cards.all()]
    assert sure == sorted(sure, reverse=True) and len(set(rows)) == len(rows)
    labels, images = lab_book().images.test_labels, lab_book().images.test
    for row, card in zip(rows, cards.all(), strict=True):
        true, taken = card.locator("strong").all_inner_texts()
        assert true == CLASSES[labels[row]] != taken
    cards.first.scroll_into_view_if_needed()
    page.locator(f"#mistakes canvas[data-shown='{rows[0]}']").wait_for()
    shown = page.evaluate(
        "() => { const c = document.querySelector('#mistakes canvas');"
        " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    np.testing.assert_array_equal(np.reshape(shown, (*images.shape[1:3], 4))[..., :3], images[rows[0]])
    cards.first.click()
    page.locator(f"#viewer #pointed canvas[data-shown='{rows[0]}']").wait_for()
    assert page.evaluate("[...maps].filter(map => map.chosen >= 0).map(map => map.rows[map.chosen])").count(rows[0]) > 0
    assert f"project:{FULL}" in page.locator("#viewer .caption").inner_text()
    page.keyboard.press("Escape")  # the first lets the point go, the second closes
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_as_dark_as_the_page(opened: Open, scheme: str) -> None:
    book = opened(color_scheme=scheme)
    for element in (book.page.locator("#maps .drawing").first, book.page.locator("#training .drawing").first):
        pixels = np.asarray(PIL.Image.open(BytesIO(book.see(element).screenshot())).convert("L"))
        assert (np.median(pixels) < 60) == (scheme == "dark") and (np.median(pixels) > 200) == (scheme == "light")
