"""Whether embeddings can be measured at all, and by which labels."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from train.data.embeddings import Embeddings
from train.data.images import UNLABELED, unlabeled
from train.tracking.problem import Problem


def check(embeddings: Embeddings) -> None:
    """Raises Problem where a class is missing in a split whose every image has a label."""
    if len(embeddings.classes) == 1:
        raise Problem(f"{embeddings.classes[0]!r} is the only class; give images of two or more")
    for split, labels in (("train", embeddings.train_labels), ("test", embeddings.test_labels)):
        if (labels != UNLABELED).all():
            _check_classes(labels, embeddings.classes, f"{split} image")


def with_labels(embeddings: Embeddings, dataset: str, stage: str) -> Embeddings:
    """The images that have labels, for a stage that learns from those of training and asks about those of test.

    Raises Problem where a split has none, or none of a class.
    """
    if not embeddings.labeled:
        raise unlabeled(dataset, stage)
    check(embeddings)
    rows = {split: labeled_rows(getattr(embeddings, f"{split}_labels")) for split in ("train", "test")}
    if all(len(part) == len(getattr(embeddings, split)) for split, part in rows.items()):
        return embeddings
    for split, part in rows.items():
        _check_classes(getattr(embeddings, f"{split}_labels")[part], embeddings.classes, f"labeled {split} image")
    arrays = {
        key: getattr(embeddings, key)[part]
        for split, part in rows.items()
        for key in (split, f"{split}_features", f"{split}_labels")
    }
    return replace(embeddings, **arrays)


def labeled_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the images that have labels, ascending."""
    return np.flatnonzero(labels != UNLABELED)


def check_own(embeddings: Embeddings, request: str, alias: str) -> None:
    """Raises Problem where `request` embeds other images than the variant's own: the result would take its `alias`."""
    if not embeddings.own:
        raise Problem(
            f"{request!r} are embeddings of other images than those {alias} was made from; name {alias} itself"
        )


def _check_classes(labels: NDArray[np.int64], classes: tuple[str, ...], what: str) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        name = classes[int(np.argmin(counts))]
        raise Problem(f"class {name!r} has no {what}; prepare images in which each class has some")
