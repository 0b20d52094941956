"""What is measured during a training, without test labels: kNN accuracy on held-out training labels, and collapse.

Where only some training images have labels, it is measured on those; where none has, kNN accuracy is left out, and views of
the held-out images are told apart in its place.
"""

import math
from collections.abc import Sequence, Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.images import UNLABELED, Images
from train.data.views import Augmentation, batch
from train.engine.collapse import dimension_std, effective_rank, spread
from train.engine.instances import reciprocal_rank, standard_views
from train.methods.method import Method
from train.tracking.problem import Problem

_COLLAPSE = ("std", "effective_rank", "spread", "projection_rank", "projection_spread")
MEASURES = ("knn/top1", *(f"collapse/{name}" for name in _COLLAPSE))
OLDER = MEASURES[:3]  # all that a checkpoint of an older Peel has
CURVE = ("curve/knn", *(f"curve/{name}" for name in _COLLAPSE))
OF_LABELS = (MEASURES[0], CURVE[0])  # what images without labels have none of
INSTANCES = "instances/reciprocal_rank"  # once an epoch, of images without labels alone
INSTANCE_VIEWS = (10, 250)  # so many standard views of so many held-out images
HELD_OUT = 5_000  # training images whose labels no monitor, sweep or recipe search may learn from
LEAST = 2  # of them: one alone has no spread
BANK = 10_000  # training images that vote
GLANCE = (1_000, 4_000)  # the same for a look in between, which may cost little,
GLANCE_SHARE = 3  # and one in so many of them at most votes
BATCH = 50  # images encoded at a time: on a CPU what lies between two layers then stays in its caches


def monitor_split(labels: NDArray[np.int64], seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training set: held out (5,000, or a fifth of a small set, but two at least), and the others.

    One draw for all trainings, whatever their seed. A probe holds out other rows, anew for each seed and by class:
    `validation_rows` of eval/evidence/linear_probe.py. Raises Problem where no others are left.
    """
    count = max(LEAST, min(HELD_OUT, len(labels) // 5))
    if count >= len(labels):
        raise Problem(
            f"{len(labels)} training images are too few: {LEAST} are held out to measure on; give {LEAST + 1} or more"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    return order[:count], order[count:]


def knn_accuracy(queries: Tensor, query_labels: Tensor, bank: Tensor, bank_labels: Tensor, k: int = 20) -> float:
    """Share of the queries whose class is the most frequent among their k nearest bank vectors (L2; a tie goes to the
    lower class).

    queries: (n, d). bank: (m, d). Labels: (n,) and (m,) int64. 1 where there is one class. Fewer than k in the bank: all of
    them vote. Raises ValueError where there are no queries, or no bank.
    """
    if not len(queries) or not len(bank):
        raise ValueError(f"{len(queries)} queries and a bank of {len(bank)} give no accuracy")
    classes = int(max(query_labels.max(), bank_labels.max())) + 1
    correct = 0
    for vectors, labels in zip(queries.split(1000), query_labels.split(1000), strict=True):
        nearest = torch.cdist(vectors, bank).topk(min(k, len(bank)), largest=False).indices
        votes = torch.zeros(len(vectors), classes, device=vectors.device)
        votes.scatter_add_(1, bank_labels[nearest], torch.ones_like(nearest, dtype=votes.dtype))
        correct += int((votes.argmax(dim=1) == labels).sum())
    return correct / len(queries)


def measure(method: Method, images: Images) -> dict[str, float]:
    """Once an epoch: kNN accuracy and collapse measures of the representation of held-out training images, and collapse of
    what the loss sees of them; NaN where vectors are not finite, of which there are no neighbors and no eigenvalues. Without
    labels `reciprocal_rank` of instances in place of kNN accuracy."""
    values = _look(method, images, HELD_OUT, BANK, MEASURES)
    return {INSTANCES: tell_apart(method, images), **values} if unmeasured(images) else values


def glance(method: Method, images: Images) -> dict[str, float]:
    """Once in a tenth of a training: the same on fewer images."""
    held_out, bank = GLANCE
    voters = max(1, min(bank, len(monitor_split(monitored(images))[1]) // GLANCE_SHARE))
    return _look(method, images, held_out, voters, CURVE)


@torch.inference_mode()
def tell_apart(method: Method, images: Images) -> float:
    """How well views of held-out images tell which one they are of. The views are those of SimCLR, the same for all trainings
    of a set whatever their own are, so that trainings can be compared."""
    count, most = INSTANCE_VIEWS
    rows = np.sort(monitor_split(monitored(images))[0][:most])
    pixels, draws = batch(images.train, monitored(images)[rows]), torch.Generator().manual_seed(0)
    parts = []
    for _ in range(count):
        views = standard_views(pixels, Augmentation(size=images.size), draws).permute(0, 2, 3, 1).numpy()
        parts += [method.encoder.encode(views, start, start + BATCH)[1].float() for start in range(0, len(rows), BATCH)]
    vectors = torch.cat(parts).view(count, len(rows), -1)
    return reciprocal_rank(vectors) if vectors.isfinite().all() else math.nan


def monitored(images: Images) -> NDArray[np.int64]:
    """Rows of the training images that are measured on: those with a label, or all where so few have one that none could
    vote for another."""
    rows = np.flatnonzero(images.train_labels != UNLABELED)
    return rows if len(rows) > LEAST else np.arange(len(images.train_labels))


def unmeasured(images: Images) -> Set[str]:
    """Names of the measures that these images have none of."""
    return set(OF_LABELS) if (images.train_labels[monitored(images)] == UNLABELED).any() else set()


@torch.inference_mode()
def _look(method: Method, images: Images, held_out: int, bank: int, names: Sequence[str]) -> dict[str, float]:
    """kNN accuracy of at most so many held-out images among so many others, and the collapse of the held-out ones, by names
    in the order of MEASURES and CURVE."""
    chosen, left_out = monitored(images), unmeasured(images)
    queries, others = monitor_split(chosen)
    queries = queries[:held_out]
    rows = chosen[np.concatenate([queries, others[: 0 if left_out else bank]])]
    pixels = images.train[np.sort(rows)]
    place = np.argsort(np.argsort(rows))  # where each of `rows` stands among the sorted ones
    parts = [method.encoder.encode(pixels, start, start + BATCH)[1].float() for start in range(0, len(pixels), BATCH)]
    vectors, count = torch.cat(parts)[place], len(queries)
    own = vectors[:count]
    projection = method.projection(own).float()
    if not (vectors.isfinite().all() and projection.isfinite().all()):
        return {name: math.nan for name in names if name not in left_out}
    collapse = (dimension_std(own), effective_rank(own), spread(own), effective_rank(projection), spread(projection))
    values = dict(zip(names[1:], map(float, collapse), strict=True))
    if left_out:
        return values
    labels = torch.from_numpy(images.train_labels[rows]).to(vectors.device)
    accuracy = knn_accuracy(own, labels[:count], vectors[count:], labels[count:])
    return {names[0]: accuracy, **values}
