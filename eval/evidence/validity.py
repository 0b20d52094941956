"""Whether embeddings can be measured at all."""

import numpy as np

from train.data.embeddings import Embeddings
from train.tracking.problem import Problem


def check(embeddings: Embeddings) -> None:
    """Raises Problem where a class is missing."""
    if len(embeddings.classes) < 2:
        raise Problem(f"{embeddings.classes[0]!r} is the only class; give images of two or more")
    for split, labels in (("train", embeddings.train_labels), ("test", embeddings.test_labels)):
        counts = np.bincount(labels, minlength=len(embeddings.classes))
        if not counts.all():
            name = embeddings.classes[int(np.argmin(counts))]
            raise Problem(f"class {name!r} has no {split} image; prepare images in which each class has some")


def check_own(embeddings: Embeddings, request: str, alias: str) -> None:
    """Raises Problem where `request` embeds other images than the variant's own: the result would take its `alias`."""
    if not embeddings.own:
        raise Problem(
            f"{request!r} are embeddings of other images than those {alias} was made from; name {alias} itself"
        )
