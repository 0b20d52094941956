"""A judge of the 8x8 digits, which is trained in seconds, and models as their stages publish them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tests.parts.embeddings import NoConfig
from tests.train.methods.test_supervised import digits
from train.methods.supervised import Config, Supervised
from train.models.encoder import Encoder
from train.tracking import Stage

IMAGES = digits()
STEPS = 250


@cache
def judge() -> Encoder:
    """Of IMAGES: about 95 % of the test images right."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = Supervised(Config(**{"images": "digits", **Config.PRESETS["tiny"], "precision": "float32"}), IMAGES)
        optimizer = torch.optim.Adam(method.parameters(), 3e-3)
        random, draws = np.random.default_rng(0), torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            rows = random.choice(len(IMAGES.train), 64, replace=False)
            optimizer.zero_grad()
            method.loss(method(method.batch("train", rows, draws, slice(None))))[0].backward()
            optimizer.step()
    return method.encoder.eval()


def publish_model(name: str, save: Callable[[Path], None], variant: str, dataset: str = "digits") -> None:
    """An encoder or a generator that was made from the images of `dataset`, which are published."""
    with Stage("train.supervise" if name == "encoder" else "train.autoencode", NoConfig()) as stage:
        stage.about(stage.fetch("images", dataset))
        stage.variant, stage.seed = variant, 0
        stage.publish(name, save)
