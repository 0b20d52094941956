"""Every evaluation of few images, of equal ones, of one class: scores without NaN, or one line that says what is missing."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval import cluster, probe, project
from eval.evidence import density, retrieval
from eval.evidence.validity import check
from tests.faults.conftest import Count
from tests.parts.artifacts import images
from train.data.embeddings import Embeddings
from train.data.neighbors import find_neighbors
from train.data.scores import Scores
from train.eigenmaps import graph_of
from train.engine.monitor import monitor_split
from train.methods.eigenmaps import eigenmaps
from train.methods.ranges import fit_default
from train.tracking import Problem

CASES = 12


def few(rng: np.random.Generator) -> Embeddings:
    """One to twelve images a split, of vectors that may be equal and labels that may lack a class."""
    dimensions = int(rng.integers(1, 6))
    splits: dict[str, Any] = {}
    for split in ("train", "test"):
        count = int(rng.integers(1, 13))
        vectors = rng.normal(size=(count, dimensions)) * 10.0 ** rng.integers(-3, 4)
        form = rng.integers(4)
        if form == 0:
            vectors[:] = vectors[0]
        elif form == 1:
            vectors = vectors[rng.integers(0, count, count)]
        splits[split] = vectors.astype(np.float32)
        splits[f"{split}_labels"] = rng.integers(0, rng.integers(1, 4), count)
    classes = ("a", "b", "c")[: int(max(splits["train_labels"].max(), splits["test_labels"].max())) + 1]
    return Embeddings(classes, **splits, train_features=splits["train"], test_features=splits["test"])


def probed(embeddings: Embeddings) -> Scores:
    check(embeddings)
    layer = probe.probe(embeddings, "representation", 0)
    return probe.score(embeddings, layer, layer, 0, 50)


def projected(embeddings: Embeddings) -> Scores:
    check(embeddings)
    return project.project(embeddings, 100, 0)


def clustered(embeddings: Embeddings) -> Scores:
    check(embeddings)
    return cluster.cluster(embeddings, min(len(embeddings.classes), len(embeddings.train)), 100, 0)


def neighbors_of(embeddings: Embeddings) -> int:
    return fit_default("k", 10, 10, len(embeddings.train) - 1)


def retrieved(embeddings: Embeddings) -> Scores:
    check(embeddings)
    neighbors = find_neighbors(embeddings, neighbors_of(embeddings))
    retrieval_ = retrieval.retrieve(embeddings, neighbors, 0)
    values, samples = retrieval.measure(embeddings, neighbors, images("few", embeddings), 0)
    return Scores(values | retrieval.query_values(retrieval_), samples=samples)


def detected(embeddings: Embeddings) -> Scores:
    neighbors = find_neighbors(embeddings, neighbors_of(embeddings))
    others = replace(embeddings, test=embeddings.test[:2] + 1)
    detection = density.detect(embeddings, neighbors, others, 2, 0)
    most = density.most_anomalous(detection, fit_default("most", 7, 7, len(embeddings.test) + len(others.test)))
    alike: NDArray[np.float32] = embeddings.test
    values = density.values(detection, most, 2, ("x", "y"))
    values |= {"anomaly/most/distance": density.mutual_distance(most, alike, others.test, 0)}
    return Scores(values, density.figures(detection, "x", ("x", "y")))


def mapped(embeddings: Embeddings) -> Scores:
    vectors = np.concatenate([embeddings.train, embeddings.test])
    most = len(vectors) - 1
    graph = graph_of(vectors, fit_default("k", 10, 10, most), dimension := min(128, most), grows=True)
    return Scores({"eigenmaps": eigenmaps(graph, dimension, 0).vectors.astype(float).tolist()})


def held_out(embeddings: Embeddings) -> Scores:
    held, others = monitor_split(embeddings.train_labels)
    assert len(held) >= 2 and len(others)
    return Scores({"held": len(held)})


EVALUATIONS: tuple[Callable[[Embeddings], Scores], ...] = (
    probed, projected, clustered, retrieved, detected, mapped, held_out
)  # fmt: skip


def test_few_images_give_numbers_or_a_line(scale: int, count: Count, tmp_path: Path) -> None:
    crashed, tried = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for case in range(CASES * scale):
            embeddings = few(np.random.default_rng(case))
            for evaluation in EVALUATIONS:
                tried += 1
                (folder := tmp_path / f"{case}-{evaluation.__name__}").mkdir()
                try:
                    evaluation(embeddings).save(folder)
                except Problem as problem:
                    assert "\n" not in str(problem)
                except Exception as error:
                    crashed.append((case, evaluation.__name__, error))
    count("few images", tried, 0, len(crashed))
    assert not crashed
