"""Trains a classifier of the training labels and of spoiled images, and publishes it as an encoder.

It is the judge of generated images (eval.generate), and the ceiling of the tables of probes. Its features are its last
hidden layer, its representation the logits of the classes, and of one class more: noise, shuffled blocks, cross-fades, blanks.
Images without labels take no part.
"""

from contextlib import ExitStack
from dataclasses import replace

from train.engine.session import fetch_images, fit_batch, train
from train.methods.supervised import Config, Supervised
from train.methods.variants import variant_name
from train.tracking import Command, Stage


def main(config: Config) -> None:
    with ExitStack() as held, Stage("train.supervise", config) as stage:
        images = fetch_images(stage, config).with_labels("train.supervise")
        fitted = replace(config, batch_size=fit_batch(config, images))
        stage.introduce(variant=variant_name(config, images.name, len(images.train), images.size), seed=config.seed)
        train(held, stage, config, lambda: Supervised(fitted, images))


COMMAND = Command(main, Config.defaults)

if __name__ == "__main__":
    COMMAND.launch()
