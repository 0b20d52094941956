"""A stage whose work is nil, as a process of its own: python -m tests.bench.tracked prints when its imports were done.

It reads images, logs a value and publishes vectors that are there already. What follows until the process has ended is
tracking: W&B's service is started and ended in it.
"""

import time

import numpy as np
import wandb

from eval.embed import Config
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.tracking import Stage


def main() -> None:
    vectors = np.zeros((2_400, 128), np.float32)
    print(time.monotonic(), wandb.__version__, flush=True)
    with Stage("eval.embed", Config("none")) as stage:
        images = Images.load(stage.fetch("images", "noise").folder)
        train, test = vectors[: len(images.train)], vectors[: len(images.test)]
        embeddings = Embeddings(images.classes, train, test, train, test, images.train_labels, images.test_labels)
        stage.variant, stage.seed = "noise-none", 0
        stage.log({"embed/dimensions": 128})
        stage.publish("embeddings", embeddings.save)


if __name__ == "__main__":
    main()
