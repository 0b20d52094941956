"""What a reader makes of a source, the training and the test images, and how a set that has no test images is divided."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.images import SPLITS, UNLABELED

WORDS = {"train": "training", "test": "test"}


@dataclass(frozen=True)
class Splits:
    """layout: in a few words, how the images lay. arrays: images (n, size, size, 3) uint8 and labels (n,) int64 of both splits
    by name, as in `Images`. Its text is one line: how they lay, and how many of what there are."""

    layout: str
    classes: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]

    def without_labels(self) -> "Splits":
        labels = {f"{split}_labels": np.full_like(self.arrays[f"{split}_labels"], UNLABELED) for split in SPLITS}
        return Splits(f"{self.layout}, labels left out", (), {**self.arrays, **labels})

    def __str__(self) -> str:
        labels = {split: self.arrays[f"{split}_labels"] for split in SPLITS}
        counts = " and ".join(f"{len(labels[split]):,} {word}" for split, word in WORDS.items())
        bare = {split: int((labels[split] == UNLABELED).sum()) for split in SPLITS}
        parts = [
            f"{bare[split]:,} of the {word} images {'is' if bare[split] == 1 else 'are'} unlabeled"
            for split, word in WORDS.items()
            if bare[split]
        ]
        kinds = f"{counts} images of {len(self.classes)} classes" if self.classes else f"{counts} images, all unlabeled"
        return "; ".join([f"{self.layout}: {kinds}", *(parts if self.classes else [])])


@dataclass(frozen=True)
class Division:
    """Share of the images for testing, of each class alike, and the seed of the choice, where a set does not say which."""

    share: float = 0.2
    seed: int = 0

    def __str__(self) -> str:
        return f"divided by --test-share {self.share:g} and --seed {self.seed}"

    def tests(self, names: Sequence[object], labels: Sequence[str | None]) -> NDArray[np.bool_]:
        """Which of the images are for testing, (n,): of each class at least one, and not all. It depends on names, labels and
        seed alone, whatever the order; an image more moves few others. Where only some images have a label, those without
        are for training.

        names: of the images, no two alike. Raises ValueError, whose text is the class, where a class has a single image.
        """
        groups: dict[str | None, list[int]] = defaultdict(list)
        for row, label in enumerate(labels):
            groups[label].append(row)
        tests = np.zeros(len(names), bool)
        for label, rows in groups.items():
            if label is None and len(groups) > 1:
                continue
            if len(rows) < 2:
                raise ValueError(f"the class {label!r} has" if label is not None else "it has")
            order = sorted(rows, key=lambda row: hashlib.sha256(f"{self.seed} {names[row]}".encode()).digest())
            tests[order[: max(1, min(round(self.share * len(rows)), len(rows) - 1))]] = True
        return tests
