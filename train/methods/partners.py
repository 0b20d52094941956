"""The training images that an image may be paired with, where neighbors take the place of generated views."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from train.data.images import SPLITS, Images
from train.data.neighbors import Ids, load_ids
from train.tracking import Problem
from train.tracking.problem import reading


@dataclass(frozen=True)
class Partners:
    """The nearest training images of an image. train: (n, k), test: (m, k), rows of the training images; nothing else of
    the artifact is in memory, nor the encoder that its neighbors are by."""

    train: Ids
    test: Ids

    @classmethod
    def load(cls, folder: Path, images: Images, k: int, alias: str) -> Self:
        """The first `k` of the neighbors in `folder`. Raises Problem where they cannot be those of `images`."""
        with reading(folder):
            train, test = (load_ids(folder, split) for split in SPLITS)
        if (len(train), len(test)) != (len(images.train), len(images.test)):
            raise Problem(
                f"neighbors:{alias} are those of {len(train)} and {len(test)} images, not of {images.name}'s"
                f" {len(images.train)} and {len(images.test)}; name an index of {images.name} with --neighbors"
            )
        if (least := min(train.shape[1], test.shape[1])) < k:
            raise Problem(f"neighbors:{alias} holds {least} of each image, not {k}; run eval.index --k {k}")
        partners = cls(np.array(train[:, :k]), np.array(test[:, :k]))
        if (partners.train == np.arange(len(train))[:, None]).any():
            raise Problem(f"neighbors:{alias} names images as their own neighbors; make it again with eval.index")
        return partners

    def draw(self, split: str, rows: Ids, generator: torch.Generator) -> Ids:
        """A training row for each of the `rows` of a split, (n,), uniform over its k."""
        ids: Ids = getattr(self, split)
        choice = torch.randint(ids.shape[1], (len(rows),), generator=generator).numpy()
        return np.asarray(ids[rows, choice])
