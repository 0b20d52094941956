"""Laplacian Eigenmaps (Belkin & Niyogi 2003): the coordinates that change least along the edges of a neighbor graph."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from train.data.embeddings import Vectors
from train.data.neighbors import Ids
from train.tracking import Problem
from train.tracking.problem import one_line
from train.tracking.progress import Progress

Doubles = NDArray[np.float64]
Graph = Any  # a scipy.sparse.csr_array (n, n), which has no types

TOLERANCE = 1e-10  # of the eigenvalues; 1e-6 would save a tenth of the products, so steeply does Lanczos end
LOOSE = 1e-3  # enough to see that an eigenvalue was passed over
SAME = 1e-8  # eigenvalues that differ by less are copies of one
SMALL = 500  # nodes up to which a dense solver is used: as fast there, and Lanczos can break down on few nodes


@dataclass(frozen=True)
class Eigenmaps:
    """vectors: (n, d) float32. eigenvalues: (d,) from 0, smallest first. components: their sizes, largest first."""

    vectors: Vectors
    eigenvalues: Doubles
    components: NDArray[np.int64]


def neighbor_graph(ids: Ids) -> Graph:
    """The symmetric connectivity (A + Aᵀ) / 2: 1 between images that are neighbors of each other, 1/2 where only one is the
    other's. ids: (n, k), the neighbors of each of the n images, never the image itself. Raises ValueError for ids that name
    no image: scipy would write outside its memory."""
    n, k = ids.shape
    if ((ids < 0) | (ids >= n)).any():
        raise ValueError(f"neighbors from {ids.min()} to {ids.max()} of {n} images")
    kind = np.int32 if n * k <= np.iinfo(np.int32).max else np.int64
    columns, ends = ids.ravel().astype(kind), np.arange(0, n * k + 1, k, dtype=kind)
    directed = csr_array((np.ones(n * k), columns, ends), shape=(n, n))
    return csr_array((directed + directed.T) / 2)


def component_labels(graph: Graph) -> NDArray[np.int64]:
    """The connected component of each node, (n,). 0 is the largest; equal ones come in the order of their first node."""
    labels = connected_components(graph, directed=False)[1]
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"))
    places: NDArray[np.int64] = rank[labels]
    return places


def eigenmaps(graph: Graph, dimension: int, seed: int) -> Eigenmaps:
    """The `dimension` smallest generalized eigenvectors of L y = λ D y, but for the constant one. L = D - graph.

    Scale: degree-weighted, each dimension has mean 0 and variance 1 (Belkin & Niyogi's yᵀ D y = 1 but for one factor), so that
    distances weigh all dimensions alike; it is scikit-learn's SpectralEmbedding times the root of the sum of degrees. Sign:
    the entry of largest magnitude is positive.

    With c components the eigenvalue 0 has c eigenvectors. As with scikit-learn's drop_first only the constant one is dropped;
    the others say to which component a node belongs and come first: `memberships`.

    seed: of Lanczos' start vector. Raises Problem where there are too few nodes, or so many components that memberships fill
    all dimensions.
    """
    n = graph.shape[0]
    if dimension >= n:
        raise Problem(f"--dimension {dimension} is too large for {n} images; give {n - 1} or less")
    labels, degrees = component_labels(graph), graph.sum(axis=0)
    components = np.bincount(labels)
    if len(components) > dimension:
        raise Problem(
            f"the graph has {len(components)} connected components, so that all of --dimension {dimension} would only"
            " tell them apart; give a larger --k"
        )
    root = np.sqrt(degrees)
    adjacency = csr_array(diags_array(1 / root) @ graph @ diags_array(1 / root))
    share = root / np.sqrt(np.bincount(labels, degrees)[labels])
    trivial = csr_array((share, labels, np.arange(n + 1)), shape=(n, len(components)))
    values, vectors = largest(adjacency, trivial, dimension - len(components) + 1, seed)
    vectors = vectors * (np.sqrt(degrees.sum()) / root)[:, None]
    vectors = with_signs(np.hstack([memberships(labels, degrees), vectors]))
    return Eigenmaps(vectors.astype(np.float32), np.append(np.zeros(len(components) - 1), 1 - values), components)


def memberships(labels: NDArray[np.int64], degrees: Doubles) -> Doubles:
    """The eigenvectors of eigenvalue 0 but for the constant one, (n, c - 1), scaled as in `eigenmaps`.

    Vector j tells component j + 1 from all larger ones together; on smaller ones it is 0.
    """
    volumes = np.bincount(labels, degrees)
    before = np.cumsum(volumes)[:-1]  # of all larger ones
    own, together = volumes[1:], np.cumsum(volumes)[1:]
    values = np.triu(np.broadcast_to(-np.sqrt(own / (before * together)), (len(volumes), len(own))))
    values[np.arange(1, len(volumes)), np.arange(len(own))] = np.sqrt(before / (own * together))
    vectors: Doubles = values[labels] * np.sqrt(volumes.sum())
    return vectors


def largest(matrix: Graph, trivial: Graph, count: int, seed: int) -> tuple[Doubles, Doubles]:
    """The `count` largest eigenvalues (count,), largest first, and eigenvectors (n, count) of a symmetric matrix with
    eigenvalues in [-1, 1], without those of which `trivial`, sparse (n, c), is an orthonormal basis.

    By Lanczos with implicit restarts (ARPACK), which takes products only. From one start vector it may pass over copies of a
    repeated eigenvalue; so it runs again, from another start, for the largest of the others, until none is larger.
    """
    n = matrix.shape[0]
    if n <= SMALL:
        values, vectors = np.linalg.eigh((matrix - 2 * (trivial @ trivial.T)).toarray())
        return values[::-1][:count], vectors[:, ::-1][:, :count]
    random = np.random.default_rng(seed)
    with Progress("Lanczos", "product", delay=1) as progress:

        def lanczos(basis: Doubles, count: int, tolerance: float) -> tuple[Doubles, Doubles]:
            def product(x: Doubles) -> Doubles:
                progress.update()
                y: Doubles = matrix @ x - 2 * (trivial @ (trivial.T @ x)) - 2 * (basis @ (basis.T @ x))
                return y  # the eigenvalues of both bases are now below all others

            operator = LinearOperator(matrix.shape, matvec=product, dtype=np.float64)
            try:
                values, vectors = eigsh(operator, k=count, which="LA", tol=tolerance, v0=random.standard_normal(n))
            except ArpackError as error:
                raise Problem(f"Lanczos found no {count} eigenvectors ({one_line(error)}); give another --k") from error
            return values, vectors

        values, vectors = lanczos(np.empty((n, 0)), count, TOLERANCE)
        while lanczos(vectors, 1, LOOSE)[0][0] > values[0] + SAME:
            value, vector = lanczos(vectors, 1, TOLERANCE)
            values[0], vectors[:, 0] = value[0], vector[:, 0]
            order = np.argsort(values)
            values, vectors = values[order], vectors[:, order]
    return values[::-1], vectors[:, ::-1]


def with_signs(vectors: Doubles) -> Doubles:
    """Each column with the sign that makes its entry of largest magnitude positive."""
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    result: Doubles = vectors * np.where(peaks < 0, -1, 1)
    return result
