"""A lab book of three variants of a made-up data set, and a real browser that opens it."""

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import plotly.graph_objects as go
import pytest
from numpy.typing import NDArray

from eval.evidence.pictures import grid
from eval.report import Config, main
from tests.parts.embeddings import NoConfig, publish_embeddings
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.scores import Scores, Value
from train.tracking.panels import color, figure
from train.tracking.stage import Stage

CLASSES = ("apple", "<script>window.harmed = 1</script>", 'b & "c"')
PER_CLASS = 24
N = PER_CLASS * len(CLASSES)
SIZE = 12
QUERIES = [0, 30, 60]
WIDTHS = {"desktop": 1440, "phone": 390}
FULL, NEIGHBORS, PIXELS = VARIANTS = ("shapes-vicreg", "shapes-vicreg-neighbors", "shapes-pixels")
TOP1 = {FULL: 0.6234, NEIGHBORS: 0.4, PIXELS: 0.55}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    " --disable-sync --no-first-run --disable-quic"
)


def make_images(seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        arrays[split] = rng.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.permutation(np.repeat(np.arange(len(CLASSES)), PER_CLASS))
    return Images.from_arrays("shapes", CLASSES, arrays)


def x_of(row: int | NDArray[np.int64]) -> Any:
    """Where a map of these tests puts the image of `row`: all apart, and not in the order of the rows."""
    return row * 29 % N


def point_map(images: Images, title: str, centers: bool = False) -> go.Figure:
    plot = figure(title, "first", "second")
    for index, name in enumerate(CLASSES):
        rows = np.flatnonzero(images.test_labels == index)
        marker = {"color": color(index), "size": 5}
        x, y = x_of(rows).astype(np.float32), (rows * 31 % N).astype(np.float32)
        plot.add_trace(go.Scattergl(x=x, y=y, customdata=rows, name=name, mode="markers", marker=marker))
    if centers:
        marker = {"color": "#000000", "size": 12, "symbol": "x"}
        plot.add_trace(go.Scattergl(x=[10, 40], y=[20, 60], name="center", mode="markers", marker=marker))
    return plot


def publish(stage: str, name: str, scores: Scores, variant: str, anomalies: str = "") -> None:
    with Stage(stage, NoConfig()) as run:
        run.dataset, run.variant, run.seed = "shapes", variant, 0
        fields = {"variant": variant, "seed": 0, "anomalies": anomalies} if anomalies else None
        run.publish(name, scores.save, fields)


def publish_images(images: Images, name: str = "shapes") -> None:
    with Stage("train.prepare", NoConfig()) as run:
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


def publish_probe(images: Images, variant: str, top1: float) -> None:
    """With the embeddings that it was made from: clouds that overlap, so that a probe is wrong about some images."""
    rng = np.random.default_rng(1)
    vectors: dict[str, Any] = {
        split: (1.5 * np.eye(3, 5)[getattr(images, f"{split}_labels")] + rng.normal(size=(N, 5))).astype(np.float32)
        for split in ("train", "test")
    }
    features = {f"{split}_features": array for split, array in vectors.items()}
    labels: dict[str, Any] = {"train_labels": images.train_labels, "test_labels": images.test_labels}
    publish_embeddings(Embeddings(CLASSES, **vectors, **features, **labels), variant, dataset="shapes")
    with Stage("eval.probe", NoConfig()) as run:
        run.about(run.fetch("embeddings", variant))
        scores = probe_scores(top1)
        scores.values["probe/regularisation"] = 0.1
        run.publish("probe", scores.save)


def publish_everything() -> Images:
    """FULL has every artifact, NEIGHBORS no pictures of retrieval, PIXELS no training and no anomalies."""
    images = make_images()
    publish_images(images)
    batches = np.arange(400)
    for variant, top1 in TOP1.items():
        if variant == FULL:
            publish_probe(images, variant, top1)
        else:
            publish("eval.probe", "probe", probe_scores(top1), variant)
        maps = {f"project/{kind}": point_map(images, f"{kind} of {variant}") for kind in ("pca", "tsne")}
        publish("eval.project", "project", Scores({"collapse/effective_rank": 10 * top1}, maps), variant)
        rows = [[images.train[row + step] for step in range(6)] for row in QUERIES]
        strips = grid(rows, [[False] * 6] * len(rows), set_apart=1)
        pictures = {} if variant == NEIGHBORS else {"retrieve/nearest": strips, "retrieve/farthest": strips}
        values: dict[str, Value] = {"retrieve/precision@5": top1, "retrieve/queries": QUERIES}
        publish("eval.retrieve", "retrieve", Scores(values, {}, pictures), variant)
        clusters = {f"cluster/{kind}": point_map(images, kind, centers=True) for kind in ("clusters", "classes")}
        silhouettes: dict[str, Value] = {
            "cluster/silhouette/clusters": top1 / 3,
            "cluster/silhouette/classes": -top1 / 3,
        }
        publish("eval.cluster", "cluster", Scores(silhouettes, clusters), variant)
        if variant == PIXELS:
            continue
        curve = go.Scattergl(x=batches, y=top1 * np.exp(-batches / 100), mode="lines", name="batches")
        figures = {f"training/{term}": figure(term, "batch", "", [curve]) for term in ("variance", "knn")}
        publish("train.pretrain", "training", Scores({"knn/top1": top1, "loss/variance": 2.5e-5}, figures), variant)
        chance = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="chance")
        curves = [go.Scatter(x=[0, 0.2, 1], y=[0, top1, 1], mode="lines", name=f"AUC {top1}"), chance]
        most = [{"set": "letters", "row": row} for row in range(5)] + [{"set": "shapes", "row": 1}] * 2
        anomaly: dict[str, Value] = {
            "anomaly/auc": top1,
            "anomaly/auc/interval": [top1 - 0.05, top1 + 0.05],
            "anomaly/against": "letters",
            "anomaly/most": most,
        }
        seven = {"anomaly/most": grid([list(images.test[:7])], [[True] * 5 + [False] * 2])}
        publish("eval.anomaly", "anomaly", Scores(anomaly, {"anomaly/roc": figure("ROC", "", "", curves)}, seven),
                variant, anomalies="letters")  # fmt: skip
    return images


@dataclass
class LabBook:
    home: Path
    images: Images

    @property
    def page(self) -> Path:
        return self.home / "lab-book.html"


@functools.cache
def lab_book() -> LabBook:
    """Made once for all tests, which only read it."""
    with pytest.MonkeyPatch.context() as patch:
        home = Path(tempfile.mkdtemp(prefix="peel-book-"))
        patch.setenv("PEEL_HOME", str(home))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        images = publish_everything()
        main(Config(VARIANTS, "letters"))
    return LabBook(home, images)


@dataclass
class Opened:
    """A page and everything that it said or asked for since it was opened."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def see(self, element: Any) -> Any:
        """Scrolls to a drawing and waits until it is drawn."""
        element.scroll_into_view_if_needed()
        self.page.locator(f"#{element.get_attribute('id')}[data-drawn]").wait_for()
        return element

    def check_silent(self) -> None:
        assert self.messages == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []

    def colored(self, element: Any, hue: str | None = None) -> int:
        """How many pixels of an element are colored: not paper, ink or gray; with `hue` about that color."""
        pixels = np.asarray(PIL.Image.open(BytesIO(element.screenshot())).convert("RGB")).astype(int)
        if hue is None:
            return int((np.ptp(pixels, axis=-1) > 60).sum())
        wanted = np.array([int(hue[k : k + 2], 16) for k in (1, 3, 5)])
        opacity = 0.72  # of the points of a map, on white
        return int((np.abs(pixels - (wanted * opacity + 255 * (1 - opacity))).max(axis=-1) < 12).sum())


Open = Callable[..., Opened]  # what the fixture `opened` is


class Browser:
    """Opens the lab book; every page must stay silent and ask no host."""

    def __init__(self, launched: Any) -> None:
        self.launched = launched
        self.opened: list[Opened] = []

    def open(self, page: Path, width: str = "desktop", before: str = "", **settings: Any) -> Opened:
        """before: JavaScript that runs before the page's own. settings: of the browser's context."""
        context = self.launched.new_context(
            viewport={"width": WIDTHS[width], "height": 850}, reduced_motion="reduce", **settings
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(240_000)  # a busy machine takes its time; nothing is asserted on it
        if before:
            context.add_init_script(before)
        tab = Opened(context.new_page())
        self.opened.append(tab)
        tab.page.on("console", lambda message: tab.messages.append(message.text))
        tab.page.on("pageerror", lambda error: tab.messages.append(str(error)))
        tab.page.on("request", lambda request: tab.requests.append(request.url))
        tab.page.goto(page.as_uri())
        return tab


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser whose pages are checked at the end. Skips the test where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=FLAGS.split())
        browser = Browser(chromium)
        yield browser
        for tab in browser.opened:
            tab.check_silent()
        chromium.close()


def toggle(page: Any, variant: str) -> Any:
    return page.locator(f'#variants [data-toggles="{variant}"]')


def seen(page: Any, variant: str) -> int:
    """How many elements of a variant are to be seen."""
    marked = page.locator(f'[data-variant~="{variant}"]')
    return int(marked.evaluate_all("all => all.filter(element => element.checkVisibility()).length"))


def table_order(table: Any) -> list[str]:
    return [row.locator("th").inner_text() for row in table.locator("tbody tr").all()]
