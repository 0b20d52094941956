"""Equal images of a set, which void what is measured on it: a test image that was trained on tests nothing."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from train.tracking.contents import read_json
from train.tracking.progress import over

Place = tuple[Literal["training", "test"], NonNegativeInt]  # an image: its split and its row there

FILE = "duplicates.json"  # stands only in artifacts of images of which some are equal: the digests of all others stay
DIGEST = 16  # bytes: of a billion images two different ones share theirs with a probability of 1e-21


@dataclass(frozen=True)
class Duplicates:
    """How many images of a set equal another, pixel for pixel and as they are stored, which is after the resize.

    size: height and width in pixels. tests: how many test images there are. across: those that equal a training image.
    mislabeled: images of both splits that equal one of another class. train, test: images that equal an earlier one of
    their split. example: two that are equal.
    """

    size: NonNegativeInt
    tests: NonNegativeInt
    across: NonNegativeInt
    mislabeled: NonNegativeInt
    train: NonNegativeInt
    test: NonNegativeInt
    example: tuple[Place, Place]

    @classmethod
    def of(
        cls,
        train: NDArray[np.uint8],
        train_labels: NDArray[np.int64],
        test: NDArray[np.uint8],
        test_labels: NDArray[np.int64],
    ) -> Self | None:
        """None where all images differ. train, test: (n, size, size, 3). Labels: (n,)."""
        _, groups = np.unique(np.concatenate([digests(train), digests(test)]), return_inverse=True)
        count = int(groups.max(initial=-1)) + 1
        if count == len(groups):
            return None
        labels = np.concatenate([train_labels, test_labels])
        low, high = np.full(count, labels.max()), np.full(count, labels.min())
        named = labels >= 0  # an image without a label contradicts none
        np.minimum.at(low, groups[named], labels[named])
        np.maximum.at(high, groups[named], labels[named])
        in_train, in_test = (
            np.bincount(part, minlength=count) for part in (groups[: len(train)], groups[len(train) :])
        )
        both = (in_train > 0) & (in_test > 0)
        shown = both if both.any() else in_train + in_test > 1
        rows = np.flatnonzero(groups == groups[np.argmax(shown[groups])])
        return cls(
            size=train.shape[1],
            tests=len(test),
            across=int(in_test[both].sum()),
            mislabeled=int((low < high)[groups].sum()),
            train=len(train) - int(np.count_nonzero(in_train)),
            test=len(test) - int(np.count_nonzero(in_test)),
            example=(_place(int(rows[0]), len(train)), _place(int(rows[-1]), len(train))),
        )

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """None where the artifact in `folder` has no such file. Raises ValueError where it holds something else."""
        path = folder / FILE
        return read_json(path, cls) if path.exists() else None

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1))

    def __str__(self) -> str:
        parts = []
        if self.across:
            parts.append(
                f"{self.across:,} of the {self.tests:,} test images equal a training image, and test nothing that is new"
            )
        if self.mislabeled:
            parts.append(
                f"{self.mislabeled:,} images equal one of another class, and no classifier has all of them right"
            )
        if self.train:
            parts.append(
                f"{self.train:,} training images repeat an earlier one, so that what is held out of training is not all new"
            )
        if self.test:
            parts.append(f"{self.test:,} test images repeat an earlier one, and count twice")
        (split, row), (other, other_row) = self.example
        return (
            f"{'; '.join(parts)} (compared pixel for pixel at {self.size} x {self.size};"
            f" for instance {split} image {row} and {other} image {other_row})"
        )


def _place(row: int, train: int) -> Place:
    return ("training", row) if row < train else ("test", row - train)


def digests(images: NDArray[np.uint8]) -> NDArray[Any]:
    """One for each image, (n,), equal where the pixels are. images: (n, height, width, 3)."""
    content = bytearray()
    for image in over(images, "equal images", "image", delay=1, leave=False):
        content += hashlib.blake2b(image.tobytes(), digest_size=DIGEST).digest()
    return np.frombuffer(bytes(content), f"V{DIGEST}")


def overlap(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> int:
    """How many of `others` equal one of `images`, pixel for pixel; none where they have another size."""
    if images.shape[1:] != others.shape[1:]:
        return 0
    return int(np.isin(digests(others), digests(images)).sum())
