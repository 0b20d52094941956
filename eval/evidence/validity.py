"""Whether embeddings can be measured at all."""

from collections.abc import Sequence

import numpy as np

from train.data.embeddings import Embeddings, Layer
from train.tracking.problem import Problem


def check(embeddings: Embeddings, layers: Sequence[Layer] = ("representation",)) -> None:
    """Raises Problem where the vectors of `layers` do not fit together or are not finite, or where a class is missing."""
    for layer in layers:
        train, test = embeddings.layer(layer)
        if train.shape[1] != test.shape[1]:
            raise Problem(
                f"{layer}: train vectors have {train.shape[1]} dimensions, test vectors {test.shape[1]}; "
                "embed both with one encoder"
            )
        for split, vectors in (("train", train), ("test", test)):
            if not np.isfinite(vectors).all():
                raise Problem(f"{layer}: {split} vectors hold NaN or infinite values; train the encoder again")
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
