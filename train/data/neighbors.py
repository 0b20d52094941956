"""The artifact `neighbors`: the training images nearest to an image, by FAISS, with exact distances."""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from train.data.embeddings import Embeddings, Vectors, check_lengths
from train.data.images import SPLITS, load_array, save_array
from train.tracking.contents import read_json
from train.tracking.problem import Problem, reading
from train.tracking.progress import Progress

Ids = NDArray[np.int64]

BATCH = 4096  # queries to one search: FAISS multiplies matrices in blocks of this size
MARGIN = 8  # candidates beyond those asked for: FAISS may swap neighbors whose distances differ by its rounding
WIDER = 10  # times as many candidates by codes, whose distances are rough, before exact ones choose among them
CODES = 256  # of a part of a vector: a byte
LARGEST_CODE = 32  # bytes that stand for a vector, unless somebody says otherwise
POINTS = 64  # vectors for each center of k-means before codes: of a million a quarter, in a quarter of the time
SAMPLE = 1000  # queries that the recall of an inverted file is measured on
CHUNK = 2**22  # float64 values at once while distances are made exact: 32 MB


@dataclass(frozen=True)
class About:
    """What stands in index.json."""

    recall: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Neighbors:
    """The k nearest *training* images of each image, nearest first, never the image itself.

    *_ids: (n, k) int64, rows of the training vectors. *_distances: (n, k) float32, L2 (not squared).
    index: a FAISS index of the training vectors; `search` asks it about others. recall: of an inverted file, how many
    of the k nearest of a test image it finds, as a share; None where the index is exact.
    """

    train_ids: NDArray[np.int64]
    train_distances: Vectors
    test_ids: NDArray[np.int64]
    test_distances: Vectors
    index: Any
    recall: float | None = None

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            for key in (f"{split}_ids", f"{split}_distances"):
                save_array(folder / f"{key}.npy", getattr(self, key))
        with (folder / "index.faiss").open("wb") as file:  # by its name FAISS loses the end in silence on a full disk
            faiss.write_index(self.index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        if self.recall is not None:
            (folder / "index.json").write_text(json.dumps({"recall": self.recall, **describe(self.index)}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            train, test = (load_ids(folder, split) for split in SPLITS)
            train_distances, test_distances = (load_array(folder / f"{split}_distances.npy") for split in SPLITS)
            for ids, distances in ((train, train_distances), (test, test_distances)):
                if distances.dtype != np.float32 or distances.shape != ids.shape or not (distances >= 0).all():
                    raise ValueError(
                        f"distances are {distances.dtype} {distances.shape}, not float32 {ids.shape} from 0 on"
                    )
            index = read_index(folder / "index.faiss", len(train))
            about = folder / "index.json"
            recall = read_json(about, About).recall if about.exists() else None
            return cls(train, train_distances, test, test_distances, index, recall)

    def search(self, vectors: Vectors, k: int) -> tuple[Vectors, Ids]:
        """L2 distances (n, k) and training ids (n, k) of the k training vectors nearest to each of `vectors`."""
        return search(self.index, vectors, k)


def load_ids(folder: Path, split: str) -> Ids:
    """The ids of a split, every one a row of the training images."""
    count = len(load_array(folder / "train_ids.npy"))
    ids = load_array(folder / f"{split}_ids.npy")
    if ids.dtype != np.int64 or ids.ndim != 2 or not ids.size or ((ids < 0) | (ids >= count)).any():
        raise ValueError(f"{split}_ids.npy is {ids.dtype} {ids.shape}, not int64 (n, k) of rows below {count}")
    return ids


# How an index that `build` makes begins: its type, vectors' width and number, two unused numbers, trained, L2, one
# transform, which centers.
HEAD = struct.Struct("<4siqqq?ii4s")


def read_index(path: Path, count: int) -> Any:
    """An index as `build` makes it, of `count` vectors. Raises ValueError for any other: FAISS has dozens of types, whose
    readers and searches trust the file; so its head is looked at before FAISS reads it."""
    with path.open("rb") as file:
        head = file.read(HEAD.size)
    kind, width, total, _, _, trained, metric, transforms, first = HEAD.unpack(head)
    parts = (kind, trained, metric, transforms, first)
    if parts != (b"IxPT", True, faiss.METRIC_L2, 1, b"VCnt") or total != count or not 0 < width <= path.stat().st_size:
        raise ValueError(f"index.faiss is no index of {count} vectors that eval.index builds")
    index: Any = faiss.read_index(str(path))
    inner: Any = faiss.downcast_index(index.index)
    flat: Any = inner
    sound = True
    if type(inner) is faiss.IndexIVFPQ:
        code, products = inner.code_size, inner.pq
        sound = 0 < code == products.M and width == products.d == code * products.dsub and products.nbits == 8
        sound = sound and products.centroids.size() == CODES * width and inner.by_residual
    if type(inner) in (faiss.IndexIVFFlat, faiss.IndexIVFPQ):
        flat = faiss.downcast_index(inner.quantizer)
        lists: Any = faiss.downcast_InvertedLists(inner.invlists)
        sound = sound and lists.compute_ntotal() == count and 0 < inner.nprobe <= inner.nlist == flat.ntotal
        sound = sound and type(lists) is faiss.ArrayInvertedLists  # in memory, and not in another file
    transform: Any = faiss.downcast_VectorTransform(index.chain.at(0))
    sound = (
        sound and all(part.is_trained for part in (index, transform, inner, flat)) and transform.mean.size() == width
    )
    widths = {index.d, transform.d_in, transform.d_out, inner.d, flat.d}
    metrics = {inner.metric_type, flat.metric_type}
    if (
        not sound
        or type(flat) is not faiss.IndexFlatL2
        or (widths, metrics, inner.ntotal) != ({width}, {faiss.METRIC_L2}, count)
    ):
        raise ValueError("index.faiss is put together as eval.index puts none together")
    return index


def search(index: Any, vectors: Vectors, k: int) -> tuple[Vectors, Ids]:
    """As `Neighbors.search`, of any FAISS index with the L2 metric, which returns *squared* distances. Where the lists that
    an inverted file probes hold fewer than k, it probes more of them.
    """
    queries = np.ascontiguousarray(vectors, dtype=np.float32)
    squared, ids = index.search(queries, k)
    inverted = faiss.try_extract_index_ivf(index)
    if inverted:
        probes = inverted.nprobe
        try:
            while inverted.nprobe < inverted.nlist and (short := (ids < 0).any(axis=1)).any():
                inverted.nprobe = min(2 * inverted.nprobe, inverted.nlist)
                squared[short], ids[short] = index.search(queries[short], k)
        finally:
            inverted.nprobe = probes
    return np.sqrt(np.maximum(squared, 0)), ids


@dataclass(frozen=True)
class Inverted:
    """An inverted file: k-means divides the vectors into `lists`, and a query is compared with the `probes` nearest of
    them alone. 0 takes 4 sqrt(n) lists, and a sixteenth of them. code: bytes that stand for a vector in the index, by product
    quantization (Jégou et al. 2011); 0 keeps the vectors whole.
    """

    lists: int = 0
    probes: int = 0
    code: int = 0


def largest_code(dimensions: int) -> int:
    """Bytes that stand for a vector: the most up to 32 that divide its dimensions evenly."""
    return max(code for code in range(1, LARGEST_CODE + 1) if dimensions % code == 0)


def build(vectors: Vectors, inverted: Inverted | None = None) -> Any:
    """A FAISS index that compares a query with every one of `vectors`, (n, d) float32, or with those that `inverted` says.

    It subtracts the mean of `vectors` from them and from every query: FAISS computes |x|² - 2xy + |y|² in float32, which is
    noise where the mean is large beside the spread, as in a collapsed representation. Raises Problem for more lists than
    vectors, or more probes than lists, and for vectors as `nearest` does.
    """
    check_lengths(vectors, "vectors of the index")
    count, dimensions = vectors.shape
    inner: Any = faiss.IndexFlatL2(dimensions)
    threads = faiss.omp_get_max_threads()
    if inverted is not None:
        lists = inverted.lists or max(1, min(round(4 * math.sqrt(count)), count))
        probes = inverted.probes or max(1, lists // 16)
        if lists > count:
            raise Problem(f"--lists {lists} are more than the {count} vectors; give fewer")
        if probes > lists:
            raise Problem(f"--probes {probes} are more than the {lists} lists; give --probes {lists} or less")
        if inverted.code:
            if count < CODES:
                raise Problem(
                    f"codes are learned from {CODES} vectors or more, not from {count}; leave --kind ivfpq out"
                )
            if dimensions % inverted.code:
                raise Problem(
                    f"--code {inverted.code} does not divide the {dimensions} dimensions; give --code {largest_code(dimensions)}"
                )
            inner = faiss.IndexIVFPQ(inner, dimensions, lists, inverted.code, 8)
            inner.cp.max_points_per_centroid = POINTS
            inner.pq.cp.min_points_per_centroid = 1
        else:
            inner = faiss.IndexIVFFlat(inner, dimensions, lists)
        inner.nprobe = probes
        inner.cp.min_points_per_centroid = 1  # small sets are no reason to warn
        faiss.omp_set_num_threads(1)  # k-means by several threads differs from run to run
    index = faiss.IndexPreTransform(faiss.CenteringTransform(dimensions), inner)
    contiguous = np.ascontiguousarray(vectors, dtype=np.float32)
    try:
        index.train(contiguous)
    finally:
        faiss.omp_set_num_threads(threads)
    index.add(contiguous)
    return index


def describe(index: Any) -> dict[str, int]:
    """Lists and probes of an inverted file, and the bytes of its codes; nothing of an exact index."""
    inverted = faiss.try_extract_index_ivf(index)
    if not inverted:
        return {}
    whole = type(faiss.downcast_index(inverted)) is faiss.IndexIVFFlat
    code = {} if whole else {"code": inverted.code_size}
    return {"lists": inverted.nlist, "probes": inverted.nprobe, **code}


def recall(index: Any, vectors: Vectors, queries: Vectors, k: int) -> float:
    """Share of the k nearest `vectors` of each query that `index` finds, averaged over a sample of 1,000 queries."""
    random = np.random.default_rng(0)
    sample = queries[np.sort(random.choice(len(queries), min(SAMPLE, len(queries)), replace=False))]
    (_, ids), (_, truth) = (
        nearest(each, vectors, sample, k, label=label) for each, label in ((index, "recall"), (build(vectors), "exact"))
    )
    hits = (ids[:, :, None] == truth[:, None, :]).any(axis=2)
    return float(hits.mean())


def nearest(
    index: Any, vectors: Vectors, queries: Vectors, k: int, among_themselves: bool = False, label: str = "neighbors"
) -> tuple[Vectors, Ids]:
    """L2 distances (n, k), float32, and ids (n, k) of the k `vectors` nearest to each query, nearest first.

    index: of `vectors`. FAISS names the candidates; their distances are computed again in float64 from differences,
    and equal distances are ordered by id. among_themselves: the queries are `vectors`, and none is its own neighbor; its
    exact duplicates are. Raises Problem where there are fewer than k, where the index is of other vectors, and where one
    of `queries` or `vectors` is not finite or so long that float32 holds no distance to it.
    """
    if (index.ntotal, index.d) != vectors.shape or queries.shape[1] != index.d:
        raise Problem(
            f"the index is of {index.ntotal} vectors of {index.d} dimensions, not of {len(vectors)} of {vectors.shape[1]}"
            f" for queries of {queries.shape[1]}; make it again with python -m eval.index"
        )
    check_lengths(vectors, label)
    if not among_themselves:
        check_lengths(queries, label)
    others = len(vectors) - among_themselves
    if k > others:
        raise Problem(
            f"k = {k} neighbors of an image are more than the {others} to choose from; give --k {others} or less"
        )
    times = WIDER if "code" in describe(index) else 1
    width = min(times * (k + among_themselves) + MARGIN, len(vectors))
    distances, ids = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    with Progress(label, "image", len(queries), delay=1) as progress:
        for start in range(0, len(queries), BATCH):
            block = queries[start : start + BATCH]
            candidates = search(index, block, width)[1]
            if ((candidates < 0) | (candidates >= len(vectors))).any():
                raise Problem(
                    f"the index names fewer than {width} of its {len(vectors)} vectors, or others than those, for an image;"
                    " make it again with python -m eval.index"
                )
            exact = exact_distances(vectors, candidates, block)
            if among_themselves:
                # Last, and so dropped. Where duplicates kept a row itself out of the candidates, the farthest is dropped.
                exact[candidates == np.arange(start, start + len(block))[:, None]] = np.inf
            order = np.lexsort((candidates, exact), axis=1)[:, :k]
            ids[start : start + len(block)] = np.take_along_axis(candidates, order, axis=1)
            distances[start : start + len(block)] = np.take_along_axis(exact, order, axis=1)
            progress.update(len(block))
    return distances, ids


def exact_distances(vectors: Vectors, ids: Ids, queries: Vectors) -> NDArray[np.float64]:
    """L2 distance of query i to vectors[ids[i, j]], (n, c), from float64 differences."""
    distances = np.empty(ids.shape, np.float64)
    step = max(1, CHUNK // max(1, ids.shape[1] * vectors.shape[1]))
    for start in range(0, len(ids), step):
        rows = slice(start, start + step)
        difference = vectors[ids[rows]].astype(np.float64) - queries[rows, None]
        distances[rows] = np.sqrt(np.einsum("ncd,ncd->nc", difference, difference))
    return distances


def find_neighbors(embeddings: Embeddings, k: int, inverted: Inverted | None = None) -> Neighbors:
    """The k nearest training representations of every training and every test representation."""
    index = build(embeddings.train, inverted)
    train_distances, train_ids = nearest(index, embeddings.train, embeddings.train, k, True, "neighbors of train")
    test_distances, test_ids = nearest(index, embeddings.train, embeddings.test, k, False, "neighbors of test")
    share = recall(index, embeddings.train, embeddings.test, k) if inverted else None
    return Neighbors(train_ids, train_distances, test_ids, test_distances, index, share)
