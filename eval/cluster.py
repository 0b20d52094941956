"""Clusters the training representations by k-means and compares the clusters with the classes, where images have labels.

The map is one t-SNE of a sample of the training vectors jointly with the cluster centers, drawn twice: colored by cluster
and by class. Silhouettes are taken on that sample, in the representation's own dimension; NMI, ARI and purity on all images
with labels. The purity is the share of images that are of the most frequent class of their cluster.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from eval.evidence.clustering import composition, k_means, silhouettes
from eval.evidence.findings import finding
from eval.evidence.maps import SMALLEST, draw, map_figure, tsne
from eval.evidence.validity import check, check_own, labeled_rows
from train.data.embeddings import Embeddings, Vectors
from train.data.scores import Scores, Value
from train.tracking import Command, Problem, Stage

CLUSTERS = 10  # of images without classes, where nobody says how many


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    clusters: int | None = None
    """How many clusters; as many as classes unless given, 10 of unlabeled images."""
    sample: int = 10_000
    """Training images in the map and in the silhouettes at most, drawn at random, the same for all variants and seeds of a
    data set; all where there are fewer."""

    def __post_init__(self) -> None:
        if self.clusters is not None and self.clusters < 2:
            raise Problem(f"--clusters {self.clusters} is too small; give 2 or more")
        if self.sample < SMALLEST:
            raise Problem(f"--sample {self.sample} is too small for a map; give {SMALLEST} or more")


def main(config: Config) -> None:
    with Stage("eval.cluster", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        embeddings = Embeddings.load(source.folder)
        check_own(embeddings, config.embeddings, source.alias)
        check(embeddings)
        k = config.clusters or len(embeddings.classes) or min(CLUSTERS, len(embeddings.train))
        if k > len(embeddings.train):
            raise Problem(
                f"{k} clusters are more than the {len(embeddings.train)} training images; give fewer --clusters"
            )
        scores = cluster(embeddings, k, config.sample, stage.seed or 0)
        scores.log(stage)
        stage.finding = finding("cluster", stage.alias, scores.values)
        stage.publish("cluster", scores.save)


def cluster(embeddings: Embeddings, k: int, sample: int, seed: int) -> Scores:
    """Centers are drawn where the joint t-SNE puts them. Silhouettes that are undefined are left out, and so is what compares
    with classes where no image has a label; where some have, it is of those.

    `cluster/silhouette/gain` is by how much the silhouette of the clusters exceeds that of the classes.
    """
    clusters, centers = k_means(embeddings.train, k, seed)
    rows = draw(len(embeddings.train), sample, seed=0)
    vectors, labels = embeddings.train[rows], embeddings.train_labels[rows]
    coordinates = tsne(np.concatenate([vectors, centers]), seed)
    points, marks = coordinates[: len(rows)], coordinates[len(rows) :]

    samples: dict[str, NDArray[Any]] = silhouette_samples(vectors, clusters[rows], labels)
    agreement: dict[str, Value] = {}
    members = labeled_rows(embeddings.train_labels)
    groupings = {"cluster": ("clusters", clusters[rows], cluster_sizes(clusters, k))}
    if len(members):
        own, classes = clusters[members], embeddings.train_labels[members]
        counts = composition(own, classes, k, len(embeddings.classes))
        samples = {"cluster/purity": counts.argmax(axis=1)[own] == classes, **samples}
        agreement = {
            "cluster/nmi": float(normalized_mutual_info_score(classes, own)),
            "cluster/ari": float(adjusted_rand_score(classes, own)),
        }
        groupings["cluster"] = ("clusters", clusters[rows], cluster_names(counts, embeddings.classes))
        groupings["class"] = ("classes", labels, list(embeddings.classes))
    values: dict[str, Value] = {
        **{path: float(sample.mean(dtype=np.float64)) for path, sample in samples.items()},
        "cluster/silhouette/sample": len(rows),
        **agreement,
        "cluster/k": k,
    }
    figures = {
        f"cluster/{grouping}": map_figure(
            f"t-SNE of the training images by {what}", ("", ""), points, groups, group_names, rows, marks
        )
        for what, (grouping, groups, group_names) in groupings.items()
    }
    return Scores(values, figures, samples=samples)


def silhouette_samples(
    vectors: Vectors, clusters: NDArray[np.int64], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """The silhouette of each vector in its cluster, of each that has a label in its class, and the difference of those, where
    they are defined."""
    rows = labeled_rows(labels)
    by_grouping = {"clusters": silhouettes(vectors, clusters), "classes": silhouettes(vectors[rows], labels[rows])}
    present = {name: values for name, values in by_grouping.items() if values is not None}
    if len(present) == 2:
        present["gain"] = present["clusters"][rows] - present["classes"]
    return {f"cluster/silhouette/{name}": values.astype(np.float32) for name, values in present.items()}


def cluster_names(counts: NDArray[np.int64], classes: tuple[str, ...]) -> list[str]:
    """`3: 41 % ship`: each cluster's most frequent class and that class's share of the cluster. counts: (k, classes)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        f"{i}: {row.max():.0%} {classes[int(row.argmax())]}" if row.any() else f"{i}: empty"
        for i, row in enumerate(shares)
    ]


def cluster_sizes(clusters: NDArray[np.int64], k: int) -> list[str]:
    """`3: 12 % of the images`, of images without labels."""
    return [
        f"{i}: {share:.0%} of the images" for i, share in enumerate(np.bincount(clusters, minlength=k) / len(clusters))
    ]


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
