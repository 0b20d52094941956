"""Anomaly detection by density: what lies far from its nearest training representations is an anomaly.

As in Bergman, Cohen and Hoshen 2020 (DN2), with the mean of the *distances*; FAISS returns their squares.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import plotly.graph_objects as go
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from eval.evidence.distributions import histogram
from eval.evidence.intervals import auc_interval
from eval.evidence.pictures import grid, tile
from train.data.duplicates import overlap
from train.data.embeddings import Embeddings, Vectors
from train.data.images import Images, class_name
from train.data.neighbors import Neighbors, nearest
from train.data.scores import Value
from train.tracking import Origin, Problem
from train.tracking.lineage import command_line
from train.tracking.panels import figure

Densities = NDArray[np.float64]

STEPS = 100  # of a curve along each axis, where it is a line of W&B's
PAIRS = 200  # random pairs beside each pair of the most anomalous: their mean distance is then known to about 1 %


@dataclass(frozen=True)
class Detection:
    """normal, anomalies: (n,) and (m,) anomaly scores of two test sets; higher is more anomalous.
    auc: of the ROC, 1 where every anomaly scores higher than every normal image, 0.5 where all scores are equal.
    interval: its 95 %, None where one of the sets is a single image."""

    normal: Densities
    anomalies: Densities
    auc: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Outlier:
    """One of the most anomalous images: the row in its test set, and its anomaly score. anomaly: which set that is."""

    anomaly: bool
    row: int
    score: float


def check_inductive(embeddings: Embeddings, request: str) -> None:
    """Raises Problem where other images cannot be embedded beside these. request: their alias."""
    if embeddings.transductive:
        raise Problem(
            f"{request!r} are transductive embeddings, so no encoder can embed the anomalies; name embeddings that have one"
        )


def check_comparable(normal: Embeddings, anomalies: Embeddings) -> None:
    """Raises Problem where the vectors of the two have different widths."""
    width, other = normal.train.shape[1], anomalies.test.shape[1]
    if width != other:
        raise Problem(
            f"the anomalies' vectors have {other} dimensions and the normal ones {width}; name embeddings of one encoder"
        )


def check_same_encoder(normal: Origin, anomalies: Origin, encoder: str) -> None:
    """Raises Problem unless one and the same encoder made both embeddings, in the same way. encoder: the alias of the normal
    one."""
    made_by, other = (
        {entry for entry in origin.inputs if entry.startswith("encoder@")} for origin in (normal, anomalies)
    )
    if not made_by:
        raise Problem(f"{normal.variant} has no encoder that could embed other images; name embeddings that have one")
    if made_by != other:
        raise Problem(
            f"the anomalies {anomalies.dataset} were embedded by another encoder than {normal.variant}'s;"
            f" run: python -m eval.embed --images {anomalies.dataset} --encoder {encoder}"
        )
    if normal.variant != anomalies.variant:  # VARIANT-mirror beside VARIANT
        again = command_line(replace(normal, config={**normal.config, "images": anomalies.dataset}))
        raise Problem(
            f"the anomalies {anomalies.dataset} were embedded as {anomalies.variant} and not as {normal.variant}; run: {again}"
        )


def detect(embeddings: Embeddings, neighbors: Neighbors, anomalies: Embeddings, k: int, seed: int) -> Detection:
    """Scores the test images of both. seed: of the bootstrap."""
    normal_scores, anomaly_scores = (
        knn_distance(neighbors, embeddings.train, vectors, k, label)
        for vectors, label in ((embeddings.test, "normal images"), (anomalies.test, "anomalies"))
    )
    labels, scores = with_labels(normal_scores, anomaly_scores)
    return Detection(
        normal_scores,
        anomaly_scores,
        float(roc_auc_score(labels, scores)),
        auc_interval(normal_scores, anomaly_scores, seed),
    )


def knn_distance(neighbors: Neighbors, train: Vectors, queries: Vectors, k: int, label: str = "queries") -> Densities:
    """Mean L2 distance, not squared, from each query to the k training vectors nearest to it: (n,)."""
    distances, _ = nearest(neighbors.index, train, queries, k, label=label)
    scores: Densities = distances.mean(axis=1, dtype=np.float64)
    return scores


def with_labels(normal: Densities, anomalies: Densities) -> tuple[NDArray[np.int64], Densities]:
    """Labels, 0 normal and 1 anomaly, and scores of both sets together."""
    return np.repeat([0, 1], [len(normal), len(anomalies)]), np.concatenate([normal, anomalies])


def most_anomalous(detection: Detection, count: int) -> list[Outlier]:
    """The images of both sets with the highest scores, highest first; of equal scores the normal one, then the first row.

    Raises Problem where both sets together have fewer than `count`.
    """
    labels, scores = with_labels(detection.normal, detection.anomalies)
    if count > len(scores):
        raise Problem(f"--most {count} is more than the {len(scores)} test images of both sets; give a smaller number")
    rows = np.argsort(-scores, kind="stable")[:count]
    return [Outlier(bool(labels[i]), int(i - labels[i] * len(detection.normal)), float(scores[i])) for i in rows]


def mutual_distance(most: list[Outlier], normal: NDArray[Any], anomalies: NDArray[Any], seed: int) -> float | None:
    """Mean L2 distance of two of the most anomalous images, divided by that of two random ones of the same sets: near 0
    they are near-duplicates of each other, at 1 they differ as any two.

    normal, anomalies: (n, d) and (m, d), what stands for the images of both sets. None of a single image, and where
    random ones do not differ.
    """
    generator = np.random.default_rng(seed)
    sets = (normal, anomalies)
    distances, random = [], []
    for one, other in combinations(most, 2):
        first, second = sets[one.anomaly], sets[other.anomaly]
        distances.append(np.linalg.norm(first[one.row].astype(np.float64) - second[other.row]))
        rows = generator.integers(len(first), size=PAIRS)
        if one.anomaly == other.anomaly:
            others = (rows + generator.integers(1, len(first), PAIRS)) % len(first)
        else:
            others = generator.integers(len(second), size=PAIRS)
        random.append(np.linalg.norm(first[rows].astype(np.float64) - second[others], axis=1).mean())
    return float(np.mean(distances) / np.mean(random)) if np.any(random) else None


def pixels(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Every image at size x size pixels as one row: (n, 3 * size * size). images: (n, height, width, 3)."""
    if images.shape[1:3] != (size, size):
        square = (PIL.Image.fromarray(image).resize((size, size), PIL.Image.Resampling.BILINEAR) for image in images)
        images = np.stack([np.asarray(image) for image in square])
    return images.reshape(len(images), -1)


def equal_images(normal: Images, anomalies: Images) -> str | None:
    """How many anomalies equal a normal image pixel for pixel, in words; None where none does. Of images of two sizes none
    can."""
    equal = overlap(normal.train, anomalies.test), overlap(normal.test, anomalies.test)
    if not any(equal):
        return None
    return (
        f"{equal[0]:,} of the {len(anomalies.test):,} anomalies equal a training image of {normal.name}, {equal[1]:,} a test"
        " image of it, and nothing can tell those apart"
    )


def samples(detection: Detection) -> dict[str, NDArray[np.float32]]:
    """The scores of both sets, of whose order the AUC is a statistic."""
    return {
        "anomaly/auc/normal": detection.normal.astype(np.float32),
        "anomaly/auc/anomalies": detection.anomalies.astype(np.float32),
    }


def values(detection: Detection, most: list[Outlier], k: int, names: tuple[str, str]) -> dict[str, Value]:
    """The scores to publish. names: of the normal and the anomalous image set."""
    return {
        "anomaly/auc": detection.auc,
        "anomaly/auc/interval": list(detection.interval) if detection.interval else None,
        "anomaly/against": names[1],
        "anomaly/k": k,
        "anomaly/most/count": len(most),
        "anomaly/most/anomalies": sum(outlier.anomaly for outlier in most),
        "anomaly/most": [
            {"set": names[outlier.anomaly], "row": outlier.row, "score": outlier.score} for outlier in most
        ],
    }


def figures(detection: Detection, variant: str, names: tuple[str, str]) -> dict[str, go.Figure]:
    """The ROC curve, and the scores of both sets."""
    against = f"{names[1]} among {names[0]}, {variant}"
    false, true, _ = roc_curve(*with_labels(detection.normal, detection.anomalies))
    ends = " [{:.3f}, {:.3f}]".format(*detection.interval) if detection.interval else ""
    traces = [
        go.Scatter(x=false, y=true, name=f"{variant}: AUC {detection.auc:.3f}{ends}"),
        go.Scatter(x=[0, 1], y=[0, 1], name="chance: AUC 0.5", line={"color": "#888888", "dash": "dash"}),
    ]
    roc = figure(f"ROC: {against}", "normal images taken for anomalies", "anomalies found", traces)
    roc.update_traces(mode="lines").update_layout(
        legend={"x": 0.98, "y": 0.04, "xanchor": "right", "yanchor": "bottom"}
    )
    scores = histogram(
        f"Anomaly scores: {against}",
        "mean L2 distance to the nearest training images",
        {f"{names[0]}, normal": detection.normal, f"{names[1]}, anomalies": detection.anomalies},
    )
    return {"anomaly/roc": roc, "anomaly/scores": scores}


def curve(detection: Detection) -> pd.DataFrame:
    """The ROC as points of a line, thinned to where it reaches each hundredth of either axis."""
    false, true, _ = roc_curve(*with_labels(detection.normal, detection.anomalies), drop_intermediate=True)
    steps = np.linspace(0, 1, STEPS + 1)
    rows = {0, len(false) - 1, *np.searchsorted(false, steps), *np.searchsorted(true, steps)}
    places = sorted(row for row in rows if row < len(false))
    return pd.DataFrame({"normal images taken for anomalies": false[places], "anomalies found": true[places]})


def picture(most: list[Outlier], normal: Images, anomalies: Images) -> PIL.Image.Image:
    """The most anomalous images in a row, the most anomalous first; those of the anomalies' set are framed."""
    sets = (normal, anomalies)
    return grid(
        [[sets[outlier.anomaly].test[outlier.row] for outlier in most]], [[outlier.anomaly for outlier in most]]
    )


def table(most: list[Outlier], normal: Images, anomalies: Images) -> pd.DataFrame:
    """The most anomalous images: rank, picture, image set, class, row in its test set, score."""
    rows = []
    for rank, outlier in enumerate(most, start=1):
        images = (normal, anomalies)[outlier.anomaly]
        rows.append(
            {
                "rank": rank,
                "image": tile(images.test[outlier.row]),
                "set": images.name,
                "class": class_name(images.classes, images.test_labels[outlier.row]),
                "row": outlier.row,
                "score": outlier.score,
            }
        )
    return pd.DataFrame(rows)
