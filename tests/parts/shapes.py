"""A small data set of which every variant has all that it can have: scores made by hand, in the local store."""

import contextlib
import html
import re
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from numpy.typing import NDArray

from eval.evidence.pictures import grid
from eval.labbook.book import Book, gather
from eval.labbook.chapter import Chapter
from eval.report import Config
from eval.studies.peel.study import STUDY
from tests.parts.versions import put
from train.data.images import Images
from train.data.scores import Scores, Value
from train.tracking.declarations import declaration
from train.tracking.origin import Origin
from train.tracking.panels import color, figure
from train.tracking.stage import Stage
from train.tracking.store import Store

CLASSES = ("cat", "<dog>", "ship")
METHODS = ("untrained", "pixels", "patches", "vicreg", "vicreg-variance0", "vicreg-neighbors", "eigenmaps")
VARIANTS = tuple(f"shapes-{method}" for method in METHODS)
FULL, NO_VARIANCE, NEIGHBORS, EIGENMAPS = (
    f"shapes-{method}" for method in ("vicreg", "vicreg-variance0", "vicreg-neighbors", "eigenmaps")
)
QUERIES = [0, 12, 24]

Values = dict[str, Value]


def make_images() -> Images:
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        arrays[split] = rng.integers(0, 256, (36, 8, 8, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.repeat(np.arange(3), 12)
    return Images.from_arrays("shapes", CLASSES, arrays)


IMAGES = make_images()


def publish(name: str, content: Scores | Images, variant: str | None, fields: Mapping[str, object]) -> None:
    """As the stage that makes it would, without a run of W&B's."""
    declared = declaration(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        content.save(folder)
        Origin(declared.producers[0], "shapes", variant, 0 if variant else None, {}, ()).save(folder)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with contextlib.closing(Store()) as store:
        put(store, name, files, declared.aliases_for(fields), kind=declared.type)


def publish_scores(name: str, values: Values, variant: str, **panels: Any) -> None:
    publish_of_variant(name, Scores(values, **panels), variant)


def publish_of_variant(name: str, scores: Scores, variant: str) -> None:
    fields: dict[str, object] = {"variant": variant, "seed": 0}
    publish(name, scores, variant, fields | ({"anomalies": "letters"} if name == "anomaly" else {}))


def publish_images() -> None:
    publish("images", IMAGES, None, {"dataset": "shapes"})


def publish_compare(values: Values, anomalies: str | None = "letters") -> None:
    publish("compare", Scores({"compare/anomalies": anomalies, **values}), None, {"dataset": "shapes"})


def publish_claims(entries: Mapping[str, Mapping[str, Value]]) -> None:
    values: Values = {"claims/ids": list(entries)}
    values |= {f"claims/{claim}/{field}": value for claim, entry in entries.items() for field, value in entry.items()}
    publish("claims", Scores(values), None, {"dataset": "shapes"})


class Ended(Exception):
    pass


def collect(variants: tuple[str, ...] = VARIANTS, anomalies: str | None = "letters") -> Book:
    """The book that eval.report would show. The stage ends early: it publishes nothing, and needs no run."""
    with contextlib.suppress(Ended), Stage("eval.report", Config(variants, anomalies)) as stage:
        book = gather(stage, STUDY, variants, anomalies)
        raise Ended
    return book


def chapter(number: int) -> Chapter:
    """Of the exercise; 0 is about the floors."""
    floors = [STUDY.floors] if STUDY.floors else []
    return next(chapter for chapter in (*STUDY.chapters, *floors) if chapter.number == number)


def line(name: str, end: float, mode: str = "lines") -> go.Scatter:
    return go.Scatter(x=[0, 1], y=[0, end], mode=mode, name=name)


def evidence(variant: str, top1: float) -> dict[str, Scores]:
    """All that a variant has, with numbers that follow its probe's accuracy."""
    method = variant.removeprefix("shapes-")
    points = figure("map of " + variant, "first", "second")
    for index, name in enumerate(CLASSES):
        rows = np.flatnonzero(IMAGES.test_labels == index)
        marker = {"color": color(index), "size": 4}
        points.add_trace(go.Scattergl(x=rows * top1, y=rows, customdata=rows, name=name, mode="markers", marker=marker))
    near, far = np.arange(1, 6) + np.array(QUERIES)[:, None], np.arange(6, 11) + np.array(QUERIES)[:, None]
    pictures = {
        f"retrieve/{kind}": grid(
            [list(IMAGES.train[row]) for row in np.column_stack([QUERIES, ids])], [[False] * 6] * 3, set_apart=1
        )
        for kind, ids in (("nearest", near), ("farthest", far))
    }
    roc = figure("ROC: letters among shapes, " + variant, "", "", [line(f"{variant}: AUC {top1:.3f}", top1)])
    roc.add_trace(line("chance: AUC 0.5", 1))
    confusion = figure("Confusion", "", "", [go.Heatmap(z=np.eye(3), x=CLASSES, y=CLASSES)])
    bars = figure("By class", "", "", [go.Bar(name="representation", x=CLASSES, y=[1, 2, 3])])
    bars.add_trace(go.Bar(name="features", x=CLASSES, y=[3, 2, 1]))
    most: list[Any] = [{"set": "letters", "row": row, "score": 1.0} for row in range(4)]
    most += [{"set": "shapes", "row": row, "score": 1.0} for row in range(3)]
    scores = {
        "probe": Scores(
            {
                "probe/top1": top1,
                "probe/top1/interval": [top1 - 0.01, top1 + 0.01],
                "probe/features/top1": top1,
                "probe/chance": 1 / 3,
                "probe/per_class": [top1] * 3,
                "probe/confused": [["cat", "<dog>", 0.125]],
                "probe/pairs": [["cat", "<dog>", 0.125], ["cat", "ship", 0.05]],
            },
            {"probe/confusion": confusion, "probe/per_class": bars},
        ),
        "project": Scores(
            {
                "project/pca/purity": top1 / 2,
                "project/tsne/purity": top1,
                "project/purity/gain": top1 / 2,
                "project/pca/explained": [0.3, 0.2],
                "project/pca/first": 0.3,
                "collapse/effective_rank": 50 * top1,
                "collapse/std": top1,
            },
            {"project/pca": points, "project/tsne": points},
        ),
        "retrieve": Scores(
            {
                "retrieve/precision@5": top1,
                "retrieve/color": 1 - top1 / 2,
                "retrieve/background": 1 - top1 / 3,
                "retrieve/hubness": top1 / 2,
                "retrieve/farthest_distinct": 9,
                "retrieve/queries": list(QUERIES),
            },
            {},
            pictures,
        ),
        "cluster": Scores(
            {
                "cluster/silhouette/clusters": top1 / 4,
                "cluster/silhouette/classes": top1 / 8,
                "cluster/silhouette/gain": top1 / 8,
                "cluster/silhouette/sample": 36,
                "cluster/purity": top1,
                "cluster/nmi": top1 / 2,
                "cluster/ari": top1 / 3,
                "cluster/k": 3,
            },
            {"cluster/clusters": points, "cluster/classes": points},
        ),
        "anomaly": Scores(
            {
                "anomaly/auc": top1,
                "anomaly/auc/interval": [top1 - 0.02, top1 + 0.02],
                "anomaly/against": "letters",
                "anomaly/k": 2,
                "anomaly/most": most,
                "anomaly/most/pixels": 0.9,
            },
            {"anomaly/roc": roc, "anomaly/scores": figure("Scores", "", "", [line("scores", top1)])},
            {"anomaly/most": grid([list(IMAGES.test[:7])], [[True] * 4 + [False] * 3])},
        ),
        "training": Scores(
            {
                "training/epochs": 5,
                "training/batches": 100,
                "knn/top1": top1,
                "collapse/effective_rank": 40 * top1,
                **{
                    f"{kind}/{term}": top1
                    for kind in ("loss", "test")
                    for term in ("invariance", "variance", "covariance")
                },
                "training/invariance/rise": 0.25,
                "training/variance/rise": -0.5,
                "training/covariance/rise": 0.0,
            },
            {
                f"training/{name}": figure(
                    name,
                    "",
                    "",
                    [line("training batches", top1), line("test set, once an epoch", top1, "lines+markers")],
                )
                for name in ("invariance", "variance", "covariance", "total")
            }
            | {"training/collapse": figure("Spread", "", "", [line("effective rank", top1, "lines+markers")])},
        ),
    }
    if not method.startswith(("vicreg", "untrained")):
        del scores["training"]
    if method == "eigenmaps":
        del scores["anomaly"]
    return scores


ACCURACIES = dict(zip(VARIANTS, (0.42, 0.41, 0.69, 0.673, 0.141, 0.501, 0.2), strict=True))


@cache
def filled() -> Path:
    """A PEEL_HOME in which every variant has all that it can have; made once, to be copied."""
    place = Path(tempfile.mkdtemp(prefix="peel-tests-")) / "peel"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(place))
        publish_images()
        for variant, top1 in ACCURACIES.items():
            for name, scores in evidence(variant, top1).items():
                publish_of_variant(name, scores, variant)
    return place


def text(markup: str) -> str:
    """What a reader sees of it, in one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", markup))).strip()


def compared(path: str, first: str, second: str, value: float, ends: list[float] | None) -> Values:
    """One difference as eval.compare publishes it."""
    verdict = "not decided"
    if ends:
        verdict = "higher" if ends[0] > 0 else "lower" if ends[1] < 0 else "no difference shown"
    pair = f"{path}/{first}-minus-{second}"
    return {f"{pair}/difference": value, f"{pair}/interval": ends and list(ends), f"{pair}/verdict": verdict}


def over_seeds(path: str, variant: str, seeds: list[float], ends: list[float]) -> Values:
    return {
        f"{path}/{variant}/mean": float(np.mean(seeds)),
        f"{path}/{variant}/spread": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        f"{path}/{variant}/n": len(seeds),
        f"{path}/{variant}/interval": list(ends) or None,
        f"{path}/{variant}/seeds": list(seeds),
    }
