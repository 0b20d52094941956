"""The lab book, opened in a real browser: what it shows, where that comes from, and that it asks nobody for anything."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import plotly.graph_objects as go
import pytest
from numpy.typing import NDArray

from eval.report import Config, main
from tests.synthetic import Made
from train.data.images import Images
from train.tracking.figures import color, figure
from train.tracking.problem import Problem
from train.tracking.scores import Scores, Value
from train.tracking.stage import Stage
from train.tracking.store import Store

CLASSES = ("apple", "<script>window.harmed = 1</script>", 'b & "c"')
PER_CLASS = 24
N = PER_CLASS * len(CLASSES)
SIZE = 12
WIDTHS = {"desktop": 1440, "phone": 390}
VARIANTS = ("shapes-vicreg", "shapes-pixels", "shapes-vicreg-s1")


def make_images(seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        arrays[split] = rng.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.permutation(np.repeat(np.arange(len(CLASSES)), PER_CLASS))
    return Images.measured("shapes", CLASSES, arrays)


def x_of(row: int | NDArray[np.int64]) -> Any:
    """Where a map of these tests puts the image of `row`: all apart, and not in the order of the rows."""
    return row * 29 % N


def point_map(images: Images, title: str, centers: bool = False) -> go.Figure:
    shown = figure(title, "first", "second")
    for index, name in enumerate(CLASSES):
        rows = np.flatnonzero(images.test_labels == index)
        marker = {"color": color(index), "size": 5}
        x, y = x_of(rows).astype(np.float32), (rows * 31 % N).astype(np.float32)
        shown.add_trace(go.Scattergl(x=x, y=y, customdata=rows, name=name, mode="markers", marker=marker))
    if centers:
        marker = {"color": "#000000", "size": 12, "symbol": "x"}
        shown.add_trace(go.Scattergl(x=[10, 40], y=[20, 60], name="center", mode="markers", marker=marker))
    return shown


def publish(stage: str, name: str, scores: Scores, variant: str, seed: int = 0, anomalies: str = "") -> None:
    with Stage(stage, Made()) as run:
        run.dataset, run.variant, run.seed = "shapes", variant, seed
        fields = {"variant": variant, "seed": seed, "anomalies": anomalies} if anomalies else None
        run.publish(name, scores.save, fields)


def publish_images(images: Images, name: str = "shapes") -> None:
    with Stage("train.prepare", Made()) as run:
        run.dataset = name
        run.publish("images", images.save, {"dataset": name})


def probe_scores(top1: float) -> Scores:
    confusion = go.Heatmap(z=np.eye(3) * 50, x=CLASSES, y=CLASSES, colorscale="Blues")
    values: dict[str, Value] = {
        "probe/top1": top1,
        "probe/top1/interval": [top1 - 0.01, top1 + 0.02],
        "probe/features/top1": 0.9 - top1,
        "probe/chance": 1 / 3,
        "probe/per_class": [top1, 0.5, 0.25],
        "probe/confused": [[CLASSES[1], CLASSES[0], 0.125]],
    }
    return Scores(values, {"probe/confusion": figure("Confusion", "predicted", "true", [confusion])})


def publish_everything() -> Images:
    """Variant `shapes-vicreg` has every scores artifact, `shapes-pixels` has no training and no anomalies, seed 1 of
    `shapes-vicreg` a probe alone."""
    images = make_images()
    publish_images(images)
    batches = np.arange(400)
    curve = go.Scattergl(x=batches, y=np.exp(-batches / 100), mode="lines", name="batches")
    figures = {f"training/{term}": figure(term, "batch", "", [curve]) for term in ("variance", "knn")}
    publish("train.pretrain", "training", Scores({"knn/top1": 0.5, "loss/variance": 2.5e-5}, figures), "shapes-vicreg")
    for variant, top1 in {"shapes-vicreg": 0.6234, "shapes-pixels": 0.4}.items():
        publish("eval.probe", "probe", probe_scores(top1), variant)
        maps = {f"project/{kind}": point_map(images, f"{kind} of {variant}") for kind in ("pca", "tsne")}
        publish("eval.project", "project", Scores({"collapse/effective_rank": 10 * top1}, maps), variant)
        grid = PIL.Image.fromarray(images.test[:6].reshape(6 * SIZE, SIZE, 3))
        pictures = {"retrieve/nearest": grid, "retrieve/farthest": grid}
        publish("eval.retrieve", "retrieve", Scores({"retrieve/precision@5": top1}, {}, pictures), variant)
        clusters = {f"cluster/{kind}": point_map(images, kind, centers=True) for kind in ("clusters", "classes")}
        silhouettes: dict[str, Value] = {
            "cluster/silhouette/clusters": top1 / 3,
            "cluster/silhouette/classes": -top1 / 3,
        }
        publish("eval.cluster", "cluster", Scores(silhouettes, clusters), variant)
    publish("eval.probe", "probe", probe_scores(0.61), "shapes-vicreg", seed=1)
    chance = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="chance")
    roc = figure("ROC", "", "", [go.Scatter(x=[0, 0.2, 1], y=[0, 0.9, 1], mode="lines", name="AUC .9"), chance])
    values: dict[str, Value] = {"anomaly/auc": 0.9, "anomaly/auc/interval": [0.85, 0.95], "anomaly/against": "letters"}
    most = [{"set": "letters", "row": row, "score": 9.0 - row} for row in range(5)] + [{"set": "shapes", "row": 1}] * 2
    publish("eval.anomaly", "anomaly", Scores({**values, "anomaly/most": most}, {"anomaly/roc": roc}), "shapes-vicreg",
            anomalies="letters")  # fmt: skip
    return images


@dataclass
class LabBook:
    home: Path
    images: Images

    @property
    def page(self) -> Path:
        return self.home / "lab-book.html"


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabBook]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("book") / "peel"
        patch.setenv("PEEL_HOME", str(home))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        images = publish_everything()
        main(Config(VARIANTS, "letters"))
        yield LabBook(home, images)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    programs = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, programs)), None)
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(programs)}")
    playwright = pytest.importorskip("playwright.sync_api")
    flags = (
        "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
        " --disable-sync --no-first-run --disable-quic"
    )
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=flags.split())
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page and everything that it said or asked for since it was opened."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def see(self, element: Any) -> Any:
        """Scrolls to a drawing and waits until it is drawn."""
        element.scroll_into_view_if_needed()
        self.page.locator(f"#{element.get_attribute('id')}[data-drawn]").wait_for()
        return element

    def check_silent(self) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))] == []

    def colored(self, element: Any, hue: str | None = None) -> int:
        """How many pixels of an element are coloured: not paper, ink or gray; with `hue` about that colour."""
        pixels = np.asarray(PIL.Image.open(BytesIO(element.screenshot())).convert("RGB")).astype(int)
        if hue is None:
            return int((np.ptp(pixels, axis=-1) > 60).sum())
        wanted = np.array([int(hue[k : k + 2], 16) for k in (1, 3, 5)])
        opacity = 0.72  # of the points of a map, on white
        return int((np.abs(pixels - (wanted * opacity + 255 * (1 - opacity))).max(axis=-1) < 12).sum())


@pytest.fixture(scope="module")
def pages(book: LabBook, browser: Any) -> Iterator[Callable[[str], Opened]]:
    """The page at each width, opened once. At the end of all tests none of them has complained or asked any host."""
    known: dict[str, Opened] = {}

    def opened(width: str) -> Opened:
        if width not in known:
            context = browser.new_context(viewport={"width": WIDTHS[width], "height": 850}, reduced_motion="reduce")
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            context.set_default_timeout(240_000)  # a busy machine takes its time; nothing is asserted on it
            known[width] = shown = Opened(context.new_page())
            shown.page.on("console", lambda message: shown.said.append(message.text))
            shown.page.on("pageerror", lambda error: shown.said.append(str(error)))
            shown.page.on("request", lambda request: shown.asked.append(request.url))
            shown.page.goto(book.page.as_uri())
        return known[width]

    yield opened
    for shown in known.values():
        shown.check_silent()


@pytest.fixture(params=WIDTHS)
def anywhere(request: pytest.FixtureRequest, pages: Callable[[str], Opened]) -> Iterator[Opened]:
    """The page at desktop and at phone width."""
    yield pages(request.param)


@pytest.fixture
def desktop(pages: Callable[[str], Opened]) -> Iterator[Opened]:
    yield pages("desktop")


# ---- in the browser --------------------------------------------------------------------------------------------------


def test_every_figure_is_drawn_as_it_is_scrolled_into_view_and_no_host_is_asked(anywhere: Opened) -> None:
    page = anywhere.page
    drawings = page.locator(".drawing").all()
    assert len(drawings) == 2 + 2 * 2 + 3 + 1 + 2 * 2  # training, project, probe, one ROC for all, cluster
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


def test_page_is_no_wider_than_the_window(anywhere: Opened) -> None:
    assert anywhere.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_pointing_at_a_point_shows_the_test_image_of_its_row(book: LabBook, anywhere: Opened) -> None:
    drawing = anywhere.see(anywhere.page.locator("#project .drawing").first)
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
        shown = anywhere.page.evaluate("document.querySelector('#pointed canvas').toDataURL()")
        with PIL.Image.open(BytesIO(base64.b64decode(shown.partition(",")[2]))) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(pixels, book.images.test[row])
        name = CLASSES[book.images.test_labels[row]]
        assert anywhere.page.locator("#pointed p").inner_text().splitlines() == [name, f"test image {row}"]


def test_the_same_image_is_marked_in_every_map_of_the_chapter(desktop: Opened) -> None:
    first, *others = (
        desktop.see(element) for element in desktop.page.locator("#project .row").first.locator(".map").all()
    )
    first.focus()
    for _ in range(3):
        desktop.page.keyboard.press("ArrowRight")
    rows = desktop.page.evaluate("[...maps].filter(map => map.chosen >= 0).map(map => map.rows[map.chosen])")
    assert len(rows) >= 1 + len(others) and set(rows) == {2}


def test_a_click_in_the_legend_hides_the_class_in_every_map_beside_it(desktop: Opened) -> None:
    row = desktop.page.locator("#project .row").first
    maps = [desktop.see(element) for element in row.locator(".map").all()]
    assert [desktop.colored(element, color(0)) > 50 for element in maps] == [True, True]
    button = row.locator(".legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    desktop.page.mouse.move(0, 0)
    assert [desktop.colored(element, color(0)) for element in maps] == [0, 0]
    assert [desktop.colored(element, color(1)) > 50 for element in maps] == [True, True]
    button.click()
    desktop.page.mouse.move(0, 0)
    assert [desktop.colored(element, color(0)) > 50 for element in maps] == [True, True]


def test_a_figure_that_left_is_drawn_again_when_it_comes_back(desktop: Opened) -> None:
    drawing = desktop.see(desktop.page.locator("#training .drawing").first)
    desktop.page.evaluate("document.querySelector('#training').style.marginBottom = '9000px'")
    desktop.see(desktop.page.locator("#cluster .drawing").last)
    desktop.page.locator(f"#{drawing.get_attribute('id')}:not([data-drawn])").wait_for(state="attached")
    assert desktop.colored(desktop.see(drawing)) > 100
    desktop.page.evaluate("document.querySelector('#training').style.marginBottom = ''")


def test_a_class_called_script_is_only_a_name(desktop: Opened) -> None:
    for chapter in ("project", "probe", "cluster"):
        desktop.see(desktop.page.locator(f"#{chapter} .drawing").first)
    assert desktop.page.evaluate("window.harmed === undefined")
    assert desktop.page.locator("#project .legend button").nth(1).inner_text() == CLASSES[1]


def test_a_click_copies_the_reference(desktop: Opened) -> None:
    button = desktop.page.locator("#probe figcaption button").first
    button.click()
    desktop.page.locator("#copied.shown").wait_for()
    assert desktop.page.evaluate("navigator.clipboard.readText()") == "probe:shapes-vicreg"


def test_every_reference_on_the_page_is_in_the_registry_with_its_digest(book: LabBook, desktop: Opened) -> None:
    store = Store(book.home / "store")
    sources = desktop.page.locator(".source").all()
    rows = desktop.page.locator("table.sources tbody tr").all()
    shown = [
        (*source.locator("button").all_inner_texts(), source.locator("code").get_attribute("title"))
        for source in sources
    ]
    listed = [row.locator("th, td").all_inner_texts() for row in rows]
    for reference, version, *_, digest in [*shown, *([row[0], row[1], row[2]] for row in listed)]:
        found = store.find(*reference.split(":"))
        assert found is not None and (found.reference, found.digest) == (version, digest)
    # ... and the other way round: all that was read is listed, and a command shows where it came from.
    report = store.get("report", "shapes")
    run = store.maker(report)
    assert run is not None
    assert {row[1] for row in listed} == {version.reference for version in run.inputs.values() if version}
    assert all(row[4] == f"python -m train.tracking lineage {row[1]}" for row in listed)


def test_each_figure_names_the_artifact_of_its_own_variant(desktop: Opened) -> None:
    for name in ("project", "probe", "retrieve", "cluster"):
        for cell in desktop.page.locator(f"#{name} figure").all():
            variant = cell.locator("h4").inner_text()
            assert cell.locator("figcaption button").first.inner_text() == f"{name}:{variant}"
    assert desktop.page.locator("#training h3").all_inner_texts() == ["shapes-vicreg"]


def test_summary_shows_the_numbers_and_why_others_are_missing(desktop: Opened) -> None:
    rows = [row.locator("th, td") for row in desktop.page.locator("table.summary tbody tr").all()]
    texts = {row.first.inner_text(): [cell.inner_text().split("\n") for cell in row.all()[1:]] for row in rows}
    assert list(texts) == list(VARIANTS)
    assert [cell[0] for cell in texts["shapes-pixels"]] == [
        "40.0 %", "50.0 %best", "– not made", "– not made", "0.133", "−0.133best", "40.0 %", "4.0",
    ]  # fmt: skip
    assert texts["shapes-vicreg"][0] == ["62.3 %best", "61.3 to 64.3 %"]
    assert texts["shapes-vicreg"][3] == ["0.900", "0.850 to 0.950"]  # nothing to compare it with: not marked
    assert texts["shapes-vicreg"][7] == ["6.2"]  # describes, and is not ranked
    assert [cell[0] for cell in texts["shapes-vicreg-s1"][2:]] == ["– not made"] * 6
    absent = desktop.page.locator("#project .absent").first.inner_text()
    assert absent == "– shapes-vicreg-s1 (not made)"


def test_pictures_have_a_text_that_says_what_they_show(desktop: Opened) -> None:
    texts = [image.get_attribute("alt") for image in desktop.page.locator("img.picture").all()]
    assert len(texts) == 4 and all("shapes-" in text for text in texts)
    labels = [drawing.get_attribute("aria-label") for drawing in desktop.page.locator(".drawing").all()]
    assert all(labels) and len(set(labels)) == len(labels)


# ---- what is published -----------------------------------------------------------------------------------------------


def test_the_page_in_home_is_the_published_one(book: LabBook) -> None:
    store = Store(book.home / "store")
    version = store.get("report", "shapes")
    assert (store.folder(version) / "lab-book.html").read_bytes() == book.page.read_bytes()
    assert list(book.home.glob(".lab-book*")) == []


def test_the_run_shows_the_summary_as_a_table(book: LabBook) -> None:
    (path,) = book.home.glob("wandb/offline-run-*/files/media/table/report/table_*.table.json")
    table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert [row["probe/top1"] for row in rows] == [0.6234, 0.4, 0.61]
    assert [row["anomaly/auc/high"] for row in rows] == [0.95, None, None]


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
    with Stage("eval.probe", Made()) as run:
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
