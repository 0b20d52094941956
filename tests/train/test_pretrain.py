"""train.pretrain on few images: a batch that fits, two images held out, and no value that is not a number."""

import dataclasses
import math

import numpy as np
import pytest

from tests.parts.artifacts import images, publish_images, refusal
from tests.parts.embeddings import blobs
from train import pretrain
from train.data.images import Images
from train.data.scores import Scores
from train.tracking.store import Store

TINY = ("--preset", "small", "--epochs", "2", "--width", "4", "--view-count", "2", "--view-size", "8", "--hidden", "8")


def few(count: int) -> Images:
    """A data set of `count` training and two test images, in two classes."""
    whole = images("few", blobs(2, 10, 4, seed=0))
    labels = np.arange(count) % 2
    return dataclasses.replace(
        whole, train=whole.train[:count], train_labels=labels, test=whole.test[:2], test_labels=np.array([0, 1])
    )


@pytest.mark.parametrize("count", [3, 4, 6, 8])
def test_an_encoder_is_trained_on_few_images_in_one_batch(count: int, store: Store) -> None:
    publish_images(few(count))
    pretrain.COMMAND.run(["--images", "few", *TINY])
    (version,) = store.versions("training")
    scores = Scores.load(store.folder(version)).values
    assert scores["training/batches"] == 2  # an epoch is one batch of all
    assert all(math.isfinite(value) for value in scores.values() if isinstance(value, int | float))
    maker = store.maker(version)
    assert (
        maker and maker.config["batch_size"] == 64
    )  # what was asked for, and what the variant is called by, is the preset's


@pytest.mark.parametrize(
    ("count", "flags", "part"),
    [
        (8, ("--batch-size", "9"), "--batch-size 9 is larger than the 8 images of few; give 8 or less"),
        (2, (), "2 training images are too few"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_can(
    count: int, flags: tuple[str, ...], part: str, store: Store
) -> None:
    publish_images(few(count))
    line = refusal(lambda: pretrain.COMMAND.run(["--images", "few", *TINY, *flags]))
    assert part in line
    assert not store.versions("encoder")
