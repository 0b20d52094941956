"""Maps: vectors in two dimensions by PCA and by t-SNE, how pure the classes are in them, and their figures."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from train.data.embeddings import Vectors
from train.data.images import UNLABELED
from train.tracking.panels import color, figure, symbol
from train.tracking.problem import Problem

PERPLEXITY = 30.0  # scikit-learn's default
SMALLEST = 4  # points: t-SNE needs a perplexity of at least 1
NEAREST = 10
GRAY = "#888888"  # of points without a label
SURROUNDING = 50  # points of a map, enough to tell a line from a cloud


def draw(n: int, sample: int, seed: int) -> NDArray[np.int64]:
    """Rows to show: all n, or `sample` of them at random; ascending."""
    if n <= sample:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))


def pca(vectors: Vectors, seed: int) -> tuple[Vectors, tuple[float, float]]:
    """The two principal components, (n, 2), and the share of the variance along each; all 0 for equal vectors, and for one."""
    points = rescale(vectors)
    coordinates = np.zeros((len(points), 2), np.float32)
    shares = [0.0, 0.0]
    if points.any():
        components = min(2, points.shape[1])
        model = PCA(components, random_state=seed)
        coordinates[:, :components] = model.fit_transform(points)
        shares[:components] = model.explained_variance_ratio_.tolist()
    return coordinates, (shares[0], shares[1])


def tsne(vectors: Vectors, seed: int) -> Vectors:
    """t-SNE, (n, 2), started from PCA; equal vectors all come to lie at 0. Raises Problem for fewer than four vectors.

    The perplexity is 30, and a third of the others where there are fewer than 91 vectors.
    """
    if len(vectors) < SMALLEST:
        raise Problem(f"{len(vectors)} vectors are too few for a map; give {SMALLEST} or more")
    points = rescale(vectors)
    if not points.any():
        return np.zeros((len(points), 2), np.float32)
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    smaller = f"; perplexity {perplexity:.3g}, for so few" if perplexity < PERPLEXITY else ""
    print(f"t-SNE of {len(points):,} x {points.shape[1]:,}{smaller}", file=sys.stderr, flush=True)
    init = "pca" if points.shape[1] > 1 else "random"
    model = TSNE(perplexity=perplexity, init=init, random_state=seed)
    return np.asarray(model.fit_transform(points), dtype=np.float32)


def rescale(vectors: Vectors) -> Vectors:
    """Centered, and divided by one number so that the mean variance is 1; 0 where all are equal to float32 precision.

    No map depends on where the vectors lie or how long they are, but sums of squares overflow, and vanish in rounding.
    """
    center = vectors.mean(axis=0, dtype=np.float64)
    offsets = vectors - center
    spread = np.sqrt(np.square(offsets).mean())
    if spread <= np.finfo(np.float32).eps * np.abs(center).max():
        return np.zeros(vectors.shape, np.float32)
    return np.asarray(offsets / spread, dtype=np.float32)


def purities(coordinates: Vectors, labels: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Share of each point's 10 nearest points in the map that have its class, (n,); itself excluded.

    coordinates: (n, 2). labels: (n,). Fewer than eleven points: all others. Points of equal distance are taken in random
    order, so that classes that lie on one spot come out at chance. Of one class 1. Raises ValueError for a single point.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    points, classes = coordinates[order], np.asarray(labels)[order]
    k = min(NEAREST, len(points) - 1)
    nearest = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)  # without the point itself
    shares = np.empty(len(points), np.float32)
    shares[order] = (classes[nearest] == classes[:, None]).mean(axis=1)
    return shares


def lines(coordinates: Vectors) -> NDArray[np.float32]:
    """How much the map looks like a line around each point, (n,): the share of the variance of the 50 nearest points,
    itself among them, along their own main axis. 1 on a line or a smooth curve, and where they lie on one spot; 0.5 at
    least.

    coordinates: (n, 2). Fewer than fifty points: all.
    """
    k = min(SURROUNDING, len(coordinates))
    around = NearestNeighbors(n_neighbors=k).fit(coordinates).kneighbors(coordinates, return_distance=False)
    offsets = coordinates[around].astype(np.float64)
    offsets -= offsets.mean(axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", offsets, offsets))  # (n, 2), ascending
    total = variances.sum(axis=1)
    shares = np.divide(variances[:, 1], total, out=np.ones_like(total), where=total > 0)
    return np.asarray(shares, np.float32)


def map_figure(
    title: str,
    axes: tuple[str, str],
    coordinates: Vectors,
    groups: NDArray[np.int64],
    names: Sequence[str],
    rows: NDArray[np.int64],
    centers: Vectors | None = None,
) -> go.Figure:
    """One trace a group, in the group's color; `centers` are drawn on top, in black, and points without a label below, in gray.

    coordinates: (n, 2). groups: (n,) indices into `names`, or UNLABELED. rows: (n,) row of each point's image in its split, which the
    point carries as customdata. centers: (k, 2).
    """

    def points(group: int, name: str, look: dict[str, Any]) -> go.Scattergl:
        member = groups == group
        return go.Scattergl(
            name=name,
            x=coordinates[member, 0],
            y=coordinates[member, 1],
            customdata=rows[member],
            mode="markers",
            marker={"size": 4, **look, "opacity": 0.7},
            hovertemplate="image %{customdata}",
        )

    below = [points(UNLABELED, "unlabeled", {"color": GRAY})] if (groups == UNLABELED).any() else []
    looks = [{"color": color(group), "symbol": symbol(group)} for group in range(len(names))]
    traces = [*below, *(points(group, name, looks[group]) for group, name in enumerate(names))]
    if centers is not None:
        outline = {"size": 12, "color": "black", "symbol": "diamond", "line": {"color": "white", "width": 2}}
        traces.append(
            go.Scattergl(
                name="center", x=centers[:, 0], y=centers[:, 1], mode="markers", marker=outline, hoverinfo="name"
            )
        )
    result = figure(title, *axes, traces)
    result.update_layout(legend={"itemsizing": "constant"}, showlegend=True)
    return result
