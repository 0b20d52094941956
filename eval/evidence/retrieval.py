"""Nearest and farthest images: what a representation calls alike, and what it pushes away."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from eval.evidence.intervals import mean_interval
from eval.evidence.pictures import grid, tile
from eval.evidence.validity import labeled_rows
from train.data.embeddings import Embeddings, Vectors
from train.data.images import UNLABELED, Images, class_name
from train.data.neighbors import Ids, Neighbors, build, nearest
from train.data.scores import Value
from train.tracking import Problem
from train.tracking.progress import Progress

PER_QUERY = 5  # images of each query, and the neighbors that count in precision and color
QUERIES = 10  # of images without labels
BLOCK = 2048  # rows: a block of float64 distances has 32 MB


@dataclass(frozen=True)
class Retrieval:
    """queries: (c,) rows of the training set, one a class, or 10 of unlabeled images. nearest, farthest: (c, 5) rows, nearest and farthest first."""

    queries: Ids
    nearest: Ids
    farthest: Ids


def retrieve(embeddings: Embeddings, neighbors: Neighbors, seed: int) -> Retrieval:
    """Raises Problem where there are fewer than 5 neighbors or images."""
    k = neighbors.train_ids.shape[1]
    if k < PER_QUERY:
        raise Problem(
            f"the index holds k = {k} neighbors of each image; remake it with python -m eval.index --k {PER_QUERY}"
        )
    if len(neighbors.train_ids) != len(embeddings.train):
        raise Problem(
            f"the index is of {len(neighbors.train_ids)} images, and there are {len(embeddings.train)} vectors; remake it with"
            " python -m eval.index"
        )
    queries = query_rows(embeddings.train_labels, seed)
    return Retrieval(
        queries, neighbors.train_ids[queries, :PER_QUERY], farthest_of(embeddings.train, queries, PER_QUERY)
    )


def measure(
    embeddings: Embeddings, neighbors: Neighbors, images: Images, seed: int
) -> tuple[dict[str, Value], dict[str, NDArray[np.float32]]]:
    """The scores over the whole training set, and what they are the means of: (n,) each, by metric path.

    The precision is of the images that have labels, and left out where fewer than two have. A ratio of colors is None where
    all images have one. Raises Problem where the embeddings are not one vector for each image.
    """
    if len(images.train) != len(embeddings.train):
        raise Problem(
            f"{len(embeddings.train)} training vectors for the {len(images.train)} training images of {images.name};"
            " name embeddings of all of them"
        )
    ids = np.asarray(neighbors.train_ids[:, :PER_QUERY])
    hits = labeled_precision(embeddings, ids)
    far = farthest(embeddings.train)
    samples = {
        **({} if hits is None else {"retrieve/precision@5": hits}),
        "retrieve/color": color_ratios(mean_colors(images.train), ids, seed),
        "retrieve/background": color_ratios(border_colors(images.train), ids, seed),
        "retrieve/hubness": among_hubs(far),
    }
    ends = None if hits is None else mean_interval(hits, seed)
    values: dict[str, Value] = {
        **{path: None if sample is None else float(sample.mean()) for path, sample in samples.items()},
        **({} if hits is None else {"retrieve/precision@5/interval": list(ends) if ends else None}),
        "retrieve/farthest_distinct": len(np.unique(far)),
    }
    return values, {path: sample.astype(np.float32) for path, sample in samples.items() if sample is not None}


def query_values(retrieval: Retrieval) -> dict[str, Value]:
    """The queries, and how far they share their farthest images: how many of those differ, of how many places, and the
    share of the queries that have the most common one."""
    different, times = np.unique(retrieval.farthest, return_counts=True)
    return {
        "retrieve/queries": retrieval.queries.tolist(),
        "retrieve/shown/farthest_distinct": len(different),
        "retrieve/shown/farthest_places": retrieval.farthest.size,
        "retrieve/shown/farthest_shared": float(times.max() / len(retrieval.queries)),
    }


def pictures(retrieval: Retrieval, images: Images) -> dict[str, PIL.Image.Image]:
    """A row for each query: the query, set apart, then its images; those of its class are framed."""
    by_name = {}
    for name, ids in (("nearest", retrieval.nearest), ("farthest", retrieval.farthest)):
        rows = np.column_stack([retrieval.queries, ids])
        same = same_class(images.train_labels, retrieval.queries, ids)
        marks = np.column_stack([np.zeros(len(rows), bool), same])
        by_name[f"retrieve/{name}"] = grid([list(images.train[row]) for row in rows], marks.tolist(), set_apart=1)
    return by_name


def table(retrieval: Retrieval, images: Images) -> pd.DataFrame:
    """A row for each query: its class, how many of its nearest and farthest are of its class, and all the pictures; without
    labels the pictures alone."""
    labels = images.train_labels
    labeled = len(labeled_rows(labels))
    rows = []
    for query, near, far in zip(retrieval.queries, retrieval.nearest, retrieval.farthest, strict=True):
        row: dict[str, Any] = {"class": class_name(images.classes, labels[query])} if labeled else {}
        row |= {"row": int(query), "query": tile(images.train[query])}
        if labeled:
            row["nearest of its class"] = int(same_class(labels, query[None], near[None]).sum())
            row["farthest of its class"] = int(same_class(labels, query[None], far[None]).sum())
        for kind, ids in (("nearest", near), ("farthest", far)):
            row |= {f"{kind} {place}": tile(images.train[i]) for place, i in enumerate(ids, start=1)}
        rows.append(row)
    return pd.DataFrame(rows)


def query_rows(labels: NDArray[np.int64], seed: int) -> Ids:
    """One random row of each class that has a label, in class order; 10 random rows, or all of fewer, ascending, where none
    has. Depends on the labels and the seed alone."""
    generator = np.random.default_rng(seed)
    present = np.unique(labels[labels != UNLABELED])
    if not len(present):
        return np.sort(generator.permutation(len(labels))[:QUERIES])
    return np.array([generator.choice(np.flatnonzero(labels == label)) for label in present])


def same_class(labels: NDArray[np.int64], queries: Ids, ids: Ids) -> NDArray[np.bool_]:
    """Whether each of `ids`, (n, k), has the class of its query, (n,); an image without a label has none."""
    classes = labels[queries][:, None]
    same: NDArray[np.bool_] = (labels[ids] == classes) & (classes != UNLABELED)
    return same


def labeled_precision(embeddings: Embeddings, ids: Ids) -> NDArray[np.float64] | None:
    """The precision of the images that have labels, among those alone; None of fewer than two. ids: (n, k) neighbors of all
    training images, which serve where all have labels."""
    rows = labeled_rows(embeddings.train_labels)
    if len(rows) == len(ids):
        return precision(ids, embeddings.train_labels)
    if len(rows) < 2:
        return None
    vectors, k = np.asarray(embeddings.train[rows]), min(ids.shape[1], len(rows) - 1)
    among = nearest(build(vectors), vectors, vectors, k, among_themselves=True)[1]
    return precision(among, embeddings.train_labels[rows])


def precision(ids: Ids, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of each image's neighbors that have its class. ids: (n, k). Returns (n,)."""
    hits: NDArray[np.bool_] = labels[ids] == labels[:, None]
    shares: NDArray[np.float64] = hits.mean(axis=1)
    return shares


def color_ratios(colors: NDArray[np.float64], ids: Ids, seed: int) -> NDArray[np.float64] | None:
    """Mean color distance of each image and its neighbors, (n,), divided by that of as many random pairs of different
    images of the whole set.

    colors: (n, 3), one of each image. ids: (n, k). On average below 1 where neighbors are closer in color than chance.
    None where all images have one color.
    """
    count, k = ids.shape
    generator = np.random.default_rng(seed)
    others = (np.arange(count)[:, None] + generator.integers(1, count, (count, k))) % count
    near, random = (np.linalg.norm(colors[:, None] - colors[pairs], axis=2) for pairs in (ids, others))
    return np.asarray(near.mean(axis=1) / random.mean()) if random.any() else None


def mean_colors(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean red, green and blue of each image, 0 to 255. images: (n, height, width, 3). Returns (n, 3)."""
    colors: NDArray[np.float64] = images.mean(axis=(1, 2), dtype=np.float64)
    return colors


def border_colors(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean red, green and blue of each image's border, an eighth wide, which is mostly background. Shapes as `mean_colors`."""
    height, width = images.shape[1:3]
    border = np.ones((height, width), bool)
    border[_inner(height), _inner(width)] = False
    return np.stack([image[border].mean(axis=0, dtype=np.float64) for image in images])


def _inner(extent: int) -> slice:
    margin = max(1, extent // 8)
    return slice(margin, extent - margin)


def farthest(vectors: Vectors) -> Ids:
    """The row farthest from each row by L2, the smaller of two equally far. vectors: (n, d), n > 1. Returns (n,).

    Exact: every pair is compared in float64, once for both. Memory is bounded by blocks of rows, not by n².
    """
    count = len(vectors)
    mean = vectors.mean(axis=0, dtype=np.float64)
    starts = range(0, count, BLOCK)
    best = np.full(count, -1.0)
    far = np.zeros(count, np.int64)

    def update(start: int, distances: NDArray[np.float64], offset: int) -> None:
        """Rows from `start` on against columns from `offset` on. Only a larger distance replaces, so that the first wins."""
        rows = np.arange(start, start + len(distances))
        values = distances.max(axis=1)
        larger = values > best[rows]
        best[rows[larger]] = values[larger]
        far[rows[larger]] = distances[larger].argmax(axis=1) + offset

    with Progress("farthest", "pair", count * (count + 1) // 2, scale=True, delay=1) as progress:
        for i in starts:
            block = vectors[i : i + BLOCK] - mean
            for j in starts[i // BLOCK :]:
                distances = squared_distances(block, vectors[j : j + BLOCK] - mean)
                if i == j:
                    np.fill_diagonal(distances, -1)  # no image is its own farthest
                else:
                    update(j, distances.T, i)
                update(i, distances, j)
                progress.update(distances.size if i != j else len(block) * (len(block) + 1) // 2)
    return far


def farthest_of(vectors: Vectors, rows: Ids, count: int) -> Ids:
    """The `count` rows farthest from each of `rows`, farthest first: (len(rows), count)."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    queries = vectors[rows] - mean
    blocks = [squared_distances(queries, vectors[i : i + BLOCK] - mean) for i in range(0, len(vectors), BLOCK)]
    distances = np.concatenate(blocks, axis=1)
    distances[np.arange(len(rows)), rows] = -1
    return np.argsort(-distances, axis=1, kind="stable")[:, :count]


def squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared L2 distances (n, m) of rows of `a` (n, d) and `b` (m, d), by a product of matrices."""
    distances = a @ b.T
    distances *= -2
    distances += np.einsum("nd,nd->n", a, a)[:, None]
    distances += np.einsum("nd,nd->n", b, b)
    return distances


def among_hubs(ids: Ids, most: int = 10) -> NDArray[np.bool_]:
    """Which of `ids`, (n,), are one of the `most` frequent ones; of equally frequent ones the smaller id. The share of
    those is the hubness."""
    frequent = np.argsort(-np.bincount(ids), kind="stable")[:most]
    return np.isin(ids, frequent)
