"""The lab book in a real browser: what its figures show and where that comes from. What is published, and what refused."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from eval.labbook.drawings import CLOUDS
from eval.report import Config, main
from tests.parts.browser import (
    CLASSES,
    PIXELS,
    VARIANTS,
    WIDTHS,
    N,
    Opened,
    lab_book,
    launched,
    make_images,
    point_map,
    probe_scores,
    publish,
    publish_images,
    x_of,
)
from tests.parts.embeddings import NoConfig
from train.data.scores import Scores
from train.tracking.problem import Problem
from train.tracking.stage import Stage
from train.tracking.store import Store

Pages = Callable[[str], Opened]


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    """The page at each width, opened once."""
    pages: dict[str, Opened] = {}
    with launched() as browser:

        def opened(width: str) -> Opened:
            if width not in pages:
                pages[width] = browser.open(lab_book().page, width)
            return pages[width]

        yield opened


@pytest.fixture(params=WIDTHS)
def anywhere(request: pytest.FixtureRequest, pages: Pages) -> Opened:
    """The page at desktop and at phone width."""
    return pages(request.param)


@pytest.fixture
def desktop(pages: Pages) -> Opened:
    return pages("desktop")


# ---- in the browser --------------------------------------------------------------------------------------------------


def test_every_figure_is_drawn_as_it_is_scrolled_into_view_and_no_host_is_asked(anywhere: Opened) -> None:
    page = anywhere.page
    drawings = page.locator(".drawing").all()
    maps = 3 * 2 + 1 + 2 + 1 + 3 * 2  # two projections; without variance, neighbors, eigenmaps; clusters and classes
    assert len(drawings) == 2 + maps + 3 + 1  # training, confusions, one ROC for all
    for drawing in drawings:
        anywhere.see(drawing)
        inked = anywhere.colored(drawing)
        drawing.evaluate(  # the same figure without its data
            """element => {
                 const map = [...maps].find(map => map.element === element);
                 if (map) { map.traces.forEach((_, k) => map.group.hidden.add(k)); map.draw(); }
                 else return Plotly.react(element, [], element.layout);
               }"""
        )
        assert inked > anywhere.colored(drawing) + 100, drawing.get_attribute("aria-label")
        drawing.evaluate("element => [...maps].forEach(map => map.group.hidden.clear())")
    anywhere.check_silent()


def test_pointing_at_a_point_shows_the_test_image_of_its_row(anywhere: Opened) -> None:
    drawing = anywhere.see(anywhere.page.locator("#maps .drawing").first)
    for row in (0, 5, N - 1):
        spot = drawing.evaluate(
            """(element, x) => {
                 const map = [...maps].find(map => map.element === element);
                 return map.place(map.x.indexOf(x));
               }""",
            x_of(row),
        )
        drawing.hover(position={"x": spot[0], "y": spot[1]})
        anywhere.page.locator(f"#pointed canvas[data-shown='{row}']").wait_for()
        address = anywhere.page.evaluate("document.querySelector('#pointed canvas').toDataURL()")
        with PIL.Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(pixels, lab_book().images.test[row])
        name = CLASSES[lab_book().images.test_labels[row]]
        assert anywhere.page.locator("#pointed p").inner_text().splitlines() == [name, f"test image {row}"]


def test_the_same_image_is_marked_in_every_map_of_the_chapter(desktop: Opened) -> None:
    first, *others = (
        desktop.see(element) for element in desktop.page.locator("#maps .row").first.locator(".map").all()
    )
    first.focus()
    for _ in range(3):
        desktop.page.keyboard.press("ArrowRight")
    rows = desktop.page.evaluate("[...maps].filter(map => map.chosen >= 0).map(map => map.rows[map.chosen])")
    assert len(rows) >= 1 + len(others) and set(rows) == {2}


def test_a_click_in_the_legend_hides_the_class_in_every_map_beside_it(desktop: Opened) -> None:
    row = desktop.page.locator("#maps .row").first
    maps = [desktop.see(element) for element in row.locator(".map").all()]
    assert [desktop.colored(element, CLOUDS[0]) > 50 for element in maps] == [True] * 3
    button = row.locator(".legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    desktop.page.mouse.move(0, 0)
    assert [desktop.colored(element, CLOUDS[0]) for element in maps] == [0] * 3
    assert [desktop.colored(element, CLOUDS[1]) > 50 for element in maps] == [True] * 3
    button.click()
    desktop.page.mouse.move(0, 0)
    assert [desktop.colored(element, CLOUDS[0]) > 50 for element in maps] == [True] * 3


def test_a_figure_that_left_is_drawn_again_when_it_comes_back(desktop: Opened) -> None:
    drawing = desktop.see(desktop.page.locator("#training .drawing").first)
    desktop.page.evaluate("document.querySelector('#training').style.marginBottom = '9000px'")
    desktop.see(desktop.page.locator("#cluster-maps .drawing").last)
    desktop.page.locator(f"#{drawing.get_attribute('id')}:not([data-drawn])").wait_for(state="attached")
    assert desktop.colored(desktop.see(drawing)) > 100
    desktop.page.evaluate("document.querySelector('#training').style.marginBottom = ''")


def test_a_class_called_script_is_only_a_name(desktop: Opened) -> None:
    for chapter in ("maps", "probe", "cluster-maps"):
        desktop.see(desktop.page.locator(f"#{chapter} .drawing").first)
    assert desktop.page.evaluate("window.harmed === undefined")
    assert desktop.page.locator("#maps .legend button").nth(1).inner_text() == CLASSES[1]


def test_every_reference_on_the_page_is_in_the_registry_with_its_digest(desktop: Opened) -> None:
    store = Store(lab_book().home / "store")
    cells = [
        (
            source.locator(".reference").text_content(),
            source.locator(".version").text_content(),
            source.locator(".digest").get_attribute("title"),
        )
        for source in desktop.page.locator(".source").all()
    ]
    listed = [row.locator("th, td").all_inner_texts() for row in desktop.page.locator("table.sources tbody tr").all()]
    assert len(cells) > len(listed)
    for reference, version, digest in [*cells, *(row[:3] for row in listed)]:
        stored = store.find(*reference.split(":"))
        assert stored is not None and (stored.reference, stored.digest) == (version, digest)
    # ... and the other way round: all that was read is listed, and a command shows where it came from.
    report = store.get("report", "shapes")
    run = store.maker(report)
    assert run is not None
    assert {row[1] for row in listed} == {version.reference for version in run.inputs.values() if version}
    assert all(row[4] == f"python -m train.tracking lineage {row[1]}" for row in listed)


def test_each_figure_of_a_variant_names_the_artifact_of_that_variant(desktop: Opened) -> None:
    figures = desktop.page.locator("figure[data-variant]").all()
    assert len(figures) > 12
    for figure in figures:
        reference = figure.locator("figcaption .reference").text_content()
        assert reference.partition(":")[2].removesuffix("-vs-letters") == figure.get_attribute("data-variant")
    several = desktop.page.locator("#roc figure")
    assert several.get_attribute("data-variant") is None
    assert several.locator(".reference").all_text_contents() == [
        "anomaly:shapes-vicreg-vs-letters", "anomaly:shapes-vicreg-neighbors-vs-letters",
    ]  # fmt: skip


def test_a_row_says_which_variants_have_no_such_figure_and_why(desktop: Opened) -> None:
    assert desktop.page.locator("#roc .absent").inner_text() == f"– {PIXELS} (not made)"


def test_pictures_and_drawings_have_a_text_that_says_what_they_show(desktop: Opened) -> None:
    texts = [image.get_attribute("alt") for image in desktop.page.locator("#most-anomalous img.picture").all()]
    assert len(texts) == 2 and all("shapes-" in text for text in texts)
    assert all(image.get_attribute("alt") for image in desktop.page.locator("img.picture").all())
    labels = [drawing.get_attribute("aria-label") for drawing in desktop.page.locator("#maps .drawing").all()]
    assert all(labels) and len(set(labels)) == len(labels)


# ---- what is published -----------------------------------------------------------------------------------------------


def test_the_page_in_home_is_the_published_one() -> None:
    store = Store(lab_book().home / "store")
    version = store.get("report", "shapes")
    assert (store.folder(version) / "lab-book.html").read_bytes() == lab_book().page.read_bytes()
    assert list(lab_book().home.glob(".lab-book*")) == []


def test_the_run_shows_the_summary_as_a_table() -> None:
    (path,) = lab_book().home.glob("wandb/offline-run-*/files/media/table/report/table_*.table.json")
    table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert [row["probe/top1"] for row in rows] == [0.6234, 0.4, 0.55]
    assert [row["anomaly/auc/high"] for row in rows] == pytest.approx([0.6734, 0.45, None])


def test_the_same_evidence_gives_the_same_page_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for place in ("here", "there"):
        monkeypatch.setenv("PEEL_HOME", str(tmp_path / place))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            monkeypatch.delenv(name, raising=False)
        publish_images(make_images())
        publish("eval.probe", "probe", probe_scores(0.5), "shapes-vicreg")
        main(Config(("shapes-vicreg",)))
        digests += [version.digest for version in Store().versions("report")]
        assert str(tmp_path) not in (tmp_path / place / "lab-book.html").read_text()
    main(Config(("shapes-vicreg",)))
    assert len(Store().versions("report")) == 1
    assert digests[0] == digests[1] and len(digests) == 2


# ---- bad input -------------------------------------------------------------------------------------------------------


def refuses(config: Config, message: str) -> None:
    with pytest.raises(Problem, match=message):
        main(config)
    assert Store().versions("report") == []


def test_a_variant_of_which_nothing_was_made_is_refused_with_the_known_ones() -> None:
    publish_images(make_images())
    publish("eval.probe", "probe", probe_scores(0.5), "shapes-vicreg")
    refuses(
        Config(("shapes-vicreg", "shapes-vicrag")), "'shapes-vicrag'; known aliases: latest, shapes-vicreg, shapes-vic"
    )


def test_variants_of_two_data_sets_are_refused() -> None:
    publish("eval.probe", "probe", probe_scores(0.5), "shapes-vicreg")
    with Stage("eval.probe", NoConfig()) as run:
        run.dataset, run.variant, run.seed = "letters", "letters-vicreg", 0
        run.publish("probe", probe_scores(0.25).save)
    refuses(Config(("shapes-vicreg", "letters-vicreg")), "shapes-vicreg of shapes, letters-vicreg of letters")


def test_a_map_of_other_images_is_refused() -> None:
    publish_images(make_images(seed=1))
    other = Scores({}, {"project/pca": point_map(make_images(seed=0), "pca")})
    publish("eval.project", "project", other, "shapes-vicreg")
    refuses(Config(("shapes-vicreg",)), re.escape("project:v0 was made from other images than images:v0"))


@pytest.mark.parametrize(("variants", "message"), [((), "names no variant"), (("a", "b", "a"), "'a' twice")])
def test_a_list_of_variants_that_makes_no_table_is_refused(variants: tuple[str, ...], message: str) -> None:
    with pytest.raises(Problem, match=message):
        Config(variants)
