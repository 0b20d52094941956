"""eval.cluster and its parts: against scikit-learn."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.metrics.cluster import contingency_matrix

from eval import cluster
from eval.evidence.clustering import composition, k_means, silhouettes
from tests.parts.embeddings import blobs, numbers, publish_embeddings
from train.data.scores import Scores
from train.tracking import Problem
from train.tracking.store import Store


def result(alias: str = "blobs-vicreg") -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("cluster", alias)))


@dataclasses.dataclass(frozen=True)
class Map:
    """Of a published figure, by training row: coordinates and group of each point; the centers."""

    rows: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    groups: NDArray[np.int64]
    centers: NDArray[np.float32]

    @classmethod
    def of(cls, figure: Any) -> "Map":
        *traces, centers = figure.data
        rows = [numbers(trace.customdata) for trace in traces]
        order = np.argsort(np.concatenate(rows))
        pairs = [np.column_stack([numbers(trace.x), numbers(trace.y)]) for trace in traces]
        groups = np.repeat(np.arange(len(traces)), [len(part) for part in rows])
        return cls(
            np.concatenate(rows)[order],
            np.concatenate(pairs)[order],
            groups[order],
            np.column_stack([numbers(centers.x), numbers(centers.y)]),
        )


def test_k_means_finds_blobs_and_their_centers() -> None:
    embeddings = blobs(4, 100, 6, seed=0, distance=20)
    clusters, centers = k_means(embeddings.train, 4, seed=0)
    assert adjusted_rand_score(embeddings.train_labels, clusters) == 1
    for i in range(4):
        np.testing.assert_allclose(centers[i], embeddings.train[clusters == i].mean(axis=0), atol=1e-4)


def test_k_means_is_scikit_learns_best_of_five_starts() -> None:
    vectors = blobs(3, 100, 6, seed=1, distance=1).train
    clusters, centers = k_means(vectors, 7, seed=3)
    model = KMeans(7, n_init=5, random_state=3).fit(vectors)
    np.testing.assert_array_equal(clusters, model.labels_)
    np.testing.assert_allclose(centers, model.cluster_centers_, atol=1e-5)


def test_silhouettes_agree_with_the_definition() -> None:
    embeddings = blobs(3, 15, 4, seed=2, distance=2)
    vectors, labels = embeddings.train.astype(np.float64), embeddings.train_labels
    between = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    values = []
    for i, label in enumerate(labels):
        own = between[i, labels == label].sum() / ((labels == label).sum() - 1)
        other = min(between[i, labels == group].mean() for group in range(3) if group != label)
        values.append((other - own) / max(own, other))
    silhouette = silhouettes(embeddings.train, labels)
    assert silhouette is not None
    np.testing.assert_allclose(silhouette, values, atol=1e-5)


def test_silhouette_of_one_group_or_of_single_vectors_is_undefined() -> None:
    vectors = blobs(2, 10, 3, seed=0).train
    assert silhouettes(vectors, np.zeros(20, np.int64)) is None
    assert silhouettes(vectors, np.arange(20)) is None


def test_composition_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    clusters, labels = rng.integers(0, 5, 200), rng.integers(0, 3, 200)
    np.testing.assert_array_equal(composition(clusters, labels, 5, 3), contingency_matrix(clusters, labels))


def test_stage_recovers_blobs() -> None:
    cluster.main(cluster.Config(publish_embeddings(blobs(4, 50, 6, seed=3, distance=20))))
    values = result().values
    assert values["cluster/ari"] == 1
    assert values["cluster/nmi"] == pytest.approx(1)
    assert values["cluster/silhouette/clusters"] == values["cluster/silhouette/classes"]
    assert values["cluster/k"] == 4


def test_stage_publishes_what_scikit_learn_measures() -> None:
    embeddings = blobs(3, 60, 6, seed=4, distance=1)
    cluster.main(cluster.Config(publish_embeddings(embeddings), clusters=5))
    scores = result()
    clusters = Map.of(scores.figures["cluster/clusters"])
    classes = Map.of(scores.figures["cluster/classes"])
    assert clusters.rows.tolist() == list(range(180))
    np.testing.assert_array_equal(classes.groups, embeddings.train_labels)
    silhouette_of = {
        "clusters": silhouette_score(embeddings.train, clusters.groups),
        "classes": silhouette_score(embeddings.train, embeddings.train_labels),
    }
    expected = {
        "cluster/ari": adjusted_rand_score(embeddings.train_labels, clusters.groups),
        "cluster/nmi": normalized_mutual_info_score(embeddings.train_labels, clusters.groups),
        "cluster/purity": contingency_matrix(embeddings.train_labels, clusters.groups).max(axis=0).sum() / 180,
        "cluster/silhouette/clusters": silhouette_of["clusters"],
        "cluster/silhouette/classes": silhouette_of["classes"],
        "cluster/silhouette/gain": silhouette_of["clusters"] - silhouette_of["classes"],
        "cluster/silhouette/sample": 180,
        "cluster/k": 5,
    }
    assert scores.values == pytest.approx(expected, abs=1e-6)
    assert set(scores.samples) == {
        path for path in expected if "silhouette/c" in path or "gain" in path or "purity" in path
    }
    for path, sample in scores.samples.items():
        assert (len(sample), sample.mean()) == (180, pytest.approx(expected[path], abs=1e-6))


def test_every_seed_of_every_variant_is_measured_on_the_same_images() -> None:
    embeddings = blobs(3, 60, 6, seed=6, distance=1)
    other = dataclasses.replace(embeddings, train=embeddings.train[:, ::-1].copy())
    rows = []
    for vectors, variant, seed in (
        (embeddings, "blobs-vicreg", 0),
        (other, "blobs-pixels", 0),
        (other, "blobs-pixels", 1),
    ):
        alias = publish_embeddings(vectors, variant, seed)
        cluster.main(cluster.Config(alias, sample=70))
        rows.append(Map.of(result(alias).figures["cluster/classes"]).rows.tolist())
    assert rows[0] == rows[1] == rows[2]


def test_both_maps_have_the_same_points_and_each_center_lies_in_its_own_cluster() -> None:
    embeddings = blobs(4, 50, 6, seed=5, distance=20)
    cluster.main(cluster.Config(publish_embeddings(embeddings)))
    one, other = (Map.of(figure) for figure in result().figures.values())
    np.testing.assert_array_equal(one.coordinates, other.coordinates)
    np.testing.assert_array_equal(one.centers, other.centers)
    clusters = Map.of(result().figures["cluster/clusters"])
    middles = np.stack([clusters.coordinates[clusters.groups == i].mean(axis=0) for i in range(4)])
    between = np.linalg.norm(clusters.centers[:, None] - middles[None], axis=2)
    assert between.argmin(axis=1).tolist() == [0, 1, 2, 3]


def test_on_a_sample_silhouettes_are_scikit_learns_on_that_sample_and_the_rest_on_all() -> None:
    embeddings = blobs(3, 60, 6, seed=6, distance=1)
    cluster.main(cluster.Config(publish_embeddings(embeddings), sample=70))
    scores = result()
    classes, clusters = (Map.of(scores.figures[f"cluster/{name}"]) for name in ("classes", "clusters"))
    vectors = embeddings.train[classes.rows]
    assert scores.values["cluster/silhouette/sample"] == len(set(classes.rows.tolist())) == 70
    np.testing.assert_array_equal(embeddings.train_labels[classes.rows], classes.groups)
    for name, groups in (("classes", classes.groups), ("clusters", clusters.groups)):
        assert scores.values[f"cluster/silhouette/{name}"] == pytest.approx(silhouette_score(vectors, groups), abs=1e-6)
    all_clusters = KMeans(3, n_init=5, random_state=0).fit_predict(embeddings.train)
    assert scores.values["cluster/ari"] == pytest.approx(adjusted_rand_score(embeddings.train_labels, all_clusters))


def test_a_cluster_is_named_after_its_most_frequent_class() -> None:
    clusters, labels = np.array([0, 0, 0, 0, 2, 2]), np.array([1, 1, 1, 0, 0, 0])
    counts = composition(clusters, labels, 3, 2)
    assert cluster.cluster_names(counts, ("cat", "dog")) == ["0: 75% dog", "1: empty", "2: 100% cat"]


def test_a_collapsed_representation_is_one_cluster_that_says_nothing_of_the_classes() -> None:
    embeddings = blobs(3, 20, 5, seed=7)
    same = np.full_like(embeddings.train, 0.1)
    publish_embeddings(dataclasses.replace(embeddings, train=same, test=same))
    cluster.main(cluster.Config("blobs-vicreg"))
    values = result().values
    assert values["cluster/ari"] == pytest.approx(0)
    assert "cluster/silhouette/clusters" not in values


def test_a_rerun_makes_no_new_version() -> None:
    publish_embeddings(blobs(3, 20, 5, seed=8, distance=2))
    for _ in range(2):
        cluster.main(cluster.Config("blobs-vicreg"))
    assert len(Store().versions("cluster")) == 1


def test_clusters_that_cannot_be_are_refused_and_nothing_published() -> None:
    publish_embeddings(blobs(3, 20, 5, seed=9))
    with pytest.raises(Problem, match="61 clusters are more than the 60"):
        cluster.main(cluster.Config("blobs-vicreg", clusters=61))
    assert not Store().versions("cluster")
    with pytest.raises(Problem, match="--clusters 1"):
        cluster.Config("blobs-vicreg", clusters=1)
