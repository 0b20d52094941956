"""k-means, and how well a labelling of vectors separates them."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_samples
from threadpoolctl import threadpool_limits

from train.data.embeddings import Vectors

STARTS = 5  # k-means++ starts, of which the one with the least inertia is kept


def k_means(vectors: Vectors, k: int, seed: int) -> tuple[NDArray[np.int64], Vectors]:
    """The cluster of each vector, (n,), and the centers, (k, d). Fewer than k clusters have members where fewer than k
    vectors differ. Raises ValueError for fewer than k vectors."""
    model = KMeans(k, n_init=STARTS, random_state=seed)
    # Its threads add up in the order in which they finish: with more than two, not the same bytes twice.
    with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.ascontiguousarray(vectors))
    return model.labels_.astype(np.int64), model.cluster_centers_


def silhouettes(vectors: Vectors, labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The silhouette of each vector, (n,), -1 to 1, by L2 distance (Rousseeuw 1987). None where it is undefined: a single
    group, or each vector a group of its own. 0 where all vectors are equal, and for one that is alone in its group."""
    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    return np.asarray(silhouette_samples(vectors, labels), np.float64)


def composition(clusters: NDArray[np.int64], labels: NDArray[np.int64], k: int, classes: int) -> NDArray[np.int64]:
    """How many members of each cluster (row) have each class (column): (k, classes). clusters, labels: (n,)."""
    return np.bincount(clusters * classes + labels, minlength=k * classes).reshape(k, classes)
