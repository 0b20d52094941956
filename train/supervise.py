"""Trains a classifier of the training labels and of spoiled images, and publishes it as an encoder.

It is the judge of generated images (eval.generate), and the ceiling of the tables of probes. Its features are its last
hidden layer, its representation the logits of the classes, and of one class more: noise, shuffled blocks, cross-fades, blanks.
"""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from train.data.images import SPLITS, UNLABELED, Images, Pixels, blank, has_labels
from train.engine.session import fetch_images, fit_batch, train
from train.methods.supervised import Config, Supervised
from train.methods.variants import variant_name
from train.tracking import Command, Problem, Stage


def main(config: Config) -> None:
    with ExitStack() as held, Stage("train.supervise", config) as stage:
        images = labeled_part(fetch_images(stage, config))
        fitted = replace(config, batch_size=fit_batch(config, images))
        stage.introduce(variant=variant_name(config, images.name, len(images.train), images.size), seed=config.seed)
        train(held, stage, config, lambda: Supervised(fitted, images))


def labeled_part(images: Images) -> Images:
    """The images that have a label. Raises Problem where those of a split have none."""
    for split in SPLITS:
        if not has_labels(getattr(images, f"{split}_labels")):
            raise Problem(
                f"images:{images.name} has no labels of its {split} images, and a classifier learns labels; give a set with "
                f"classes, or learn without: python -m train.pretrain --images {images.name}"
            )
    train, test = (np.flatnonzero(labels != UNLABELED) for labels in (images.train_labels, images.test_labels))
    if (len(train), len(test)) == (len(images.train), len(images.test)):
        return images
    return replace(
        images,
        train=_rows(images.train, train),
        train_labels=images.train_labels[train],
        test=_rows(images.test, test),
        test_labels=images.test_labels[test],
    )


def _rows(pixels: Pixels, rows: NDArray[np.int64]) -> Pixels:
    """These of the images, in a mapped file as the others are."""
    part = blank((len(rows), *pixels.shape[1:]), np.uint8)
    return np.take(pixels, rows, axis=0, out=part, mode="clip")  # `raise` makes a copy


COMMAND = Command(main, Config.defaults)

if __name__ == "__main__":
    COMMAND.launch()
