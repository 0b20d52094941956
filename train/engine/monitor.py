"""What is measured during a training, without test labels: kNN accuracy on held-out training labels, and collapse."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.images import Images
from train.engine.collapse import dimension_std, effective_rank, spread
from train.methods.method import Method

HELD_OUT = 5_000  # training images whose labels no monitor, sweep or recipe search may learn from
BANK = 10_000  # training images that vote
GLANCE = (1_000, 4_000)  # the same for a look in between, which may cost little
BATCH = 50  # images encoded at a time: on a CPU what lies between two layers then stays in its caches


def monitor_split(labels: NDArray[np.int64], seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training set: held out (5,000, or a fifth of a small set), and the others.

    One draw for all trainings, whatever their seed. A probe holds out other rows, anew for each seed and by class:
    `held_out` of eval/evidence/linear_probe.py.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    count = min(HELD_OUT, len(labels) // 5)
    return order[:count], order[count:]


def knn_accuracy(queries: Tensor, query_labels: Tensor, bank: Tensor, bank_labels: Tensor, k: int = 20) -> float:
    """Share of the queries whose class is the most frequent among their k nearest bank vectors (L2; a tie goes to the
    lower class).

    queries: (n, d). bank: (m, d). Labels: (n,) and (m,) int64.
    """
    classes = int(max(query_labels.max(), bank_labels.max())) + 1
    correct = 0
    for vectors, labels in zip(queries.split(1000), query_labels.split(1000), strict=True):
        nearest = torch.cdist(vectors, bank).topk(min(k, len(bank)), largest=False).indices
        votes = torch.zeros(len(vectors), classes, device=vectors.device)
        votes.scatter_add_(1, bank_labels[nearest], torch.ones_like(nearest, dtype=votes.dtype))
        correct += int((votes.argmax(dim=1) == labels).sum())
    return correct / len(queries)


def measure(method: Method, images: Images) -> dict[str, float]:
    """Once an epoch: kNN accuracy and collapse measures of the representation of held-out training images, and of what the
    loss sees of them."""
    knn, representation, projection = _look(method, images, HELD_OUT, BANK)
    return {
        "knn/top1": knn,
        "collapse/std": float(dimension_std(representation)),
        "collapse/effective_rank": float(effective_rank(representation)),
        "collapse/spread": float(spread(representation)),
        "collapse/projection_rank": float(effective_rank(projection)),
        "collapse/projection_spread": float(spread(projection)),
    }


def glance(method: Method, images: Images) -> dict[str, float]:
    """Once in a tenth of a training: the same on fewer images."""
    knn, representation, projection = _look(method, images, *GLANCE)
    return {
        "curve/knn": knn,
        "curve/effective_rank": float(effective_rank(representation)),
        "curve/spread": float(spread(representation)),
        "curve/projection_rank": float(effective_rank(projection)),
        "curve/projection_spread": float(spread(projection)),
    }


@torch.inference_mode()
def _look(method: Method, images: Images, held_out: int, bank: int) -> tuple[float, Tensor, Tensor]:
    """kNN accuracy of at most so many held-out images among so many others; representation (n, d) and projection (n, e) of
    the held-out ones."""
    queries, others = monitor_split(images.train_labels)
    queries = queries[:held_out]
    rows = np.concatenate([queries, others[:bank]])
    pixels = images.train[np.sort(rows)]
    place = np.argsort(np.argsort(rows))  # where each of `rows` stands among the sorted ones
    parts = [method.encoder.encode(pixels, start, start + BATCH)[1].float() for start in range(0, len(pixels), BATCH)]
    vectors = torch.cat(parts)[place]
    labels = torch.from_numpy(images.train_labels[rows]).to(vectors.device)
    count = len(queries)
    knn = knn_accuracy(vectors[:count], labels[:count], vectors[count:], labels[count:])
    return knn, vectors[:count], method.projection(vectors[:count]).float()
