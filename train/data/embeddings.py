"""The artifact `embeddings`, which evaluations read: the vectors of one image set, by an encoder or by a method without one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from train.data.duplicates import Duplicates
from train.data.images import SPLITS, Classes, Images, check_classes, check_labels, has_labels, load_array, save_array
from train.tracking.contents import read_json
from train.tracking.problem import Problem, reading

Vectors = NDArray[np.float32]
Layer = Literal["representation", "features"]

CHUNK = 4_096  # rows: what is computed of them stays in a processor's cache
NAMED = 5  # rows that an error names
# Of a squared length: FAISS adds squares in float32, and those of a difference of two centered vectors are 16 times as
# large at most.
LONGEST = float(np.finfo(np.float32).max) / 16


@dataclass(frozen=True)
class About:
    """What stands in embeddings.json."""

    classes: Classes
    own: bool
    transductive: bool = False  # older versions are all of encoders, and do not say so


@dataclass(frozen=True)
class Embeddings:
    """own: whether the images are of the set that the encoder was made from; else it was transferred to another one.
    transductive: whether train and test images were embedded together, without an encoder that could embed others.
    duplicates: of the images, None where all of them differ.

    train, test: representation (n, d) float32. train_features, test_features: what the encoder's head reads, (n, f);
    the same arrays where an encoder has no head. *_labels: (n,) int64, indices into `classes`;
    UNLABELED of an image without."""

    classes: tuple[str, ...]
    train: Vectors
    test: Vectors
    train_features: Vectors
    test_features: Vectors
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    own: bool = True
    transductive: bool = False
    duplicates: Duplicates | None = None

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            for key in (split, f"{split}_features", f"{split}_labels"):
                save_array(folder / f"{key}.npy", getattr(self, key))
        about = {"classes": self.classes, "own": self.own, "transductive": self.transductive}
        (folder / "embeddings.json").write_text(json.dumps(about, indent=1))
        if self.duplicates:
            self.duplicates.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            about = read_json(folder / "embeddings.json", About)
            check_classes(about.classes)
            keys = [key for split in SPLITS for key in (split, f"{split}_features", f"{split}_labels")]
            arrays = {key: load_array(folder / f"{key}.npy") for key in keys}
            for split in SPLITS:
                for key in (split, f"{split}_features"):
                    array, count = arrays[key], len(arrays[split])
                    if array.dtype != np.float32 or array.ndim != 2 or len(array) != count:
                        raise ValueError(f"{key}.npy is {array.dtype} {array.shape}, not float32 ({count}, d)")
                    # Of another set than the encoder's own the training images may be left out.
                    if not array.size and (split == "test" or about.own or count):
                        raise ValueError(f"{key}.npy is {array.shape} and holds no vector")
                check_labels(arrays[f"{split}_labels"], len(arrays[split]), len(about.classes), f"{split}_labels.npy")
            for layer in ("", "_features"):
                train, test = arrays[f"train{layer}"], arrays[f"test{layer}"]
                if len(train) and train.shape[1] != test.shape[1]:
                    raise ValueError(f"train{layer}.npy is {train.shape}, and test{layer}.npy is {test.shape}")
            embeddings = cls(
                about.classes,
                **arrays,
                own=about.own,
                transductive=about.transductive,
                duplicates=Duplicates.load(folder),
            )
            embeddings.check_lengths(folder.name)
            return embeddings

    def check_lengths(self, maker: str) -> None:
        """Raises Problem, naming `maker`, where a vector is one that `check_lengths` below refuses."""
        for split in SPLITS:
            for key in (split, f"{split}_features"):
                check_lengths(getattr(self, key), f"{maker}, {key}")

    def check_of(self, images: Images) -> None:
        """Raises Problem unless there is one vector for each of the images; those of training may all have none."""
        for split in SPLITS:
            vectors, pictures = len(getattr(self, split)), len(getattr(images, split))
            if vectors != pictures and (vectors or split == "test"):
                raise Problem(
                    f"{vectors} {split} vectors for the {pictures} {split} images of {images.name}; name embeddings of all"
                    " of them"
                )

    def layer(self, layer: Layer) -> tuple[Vectors, Vectors]:
        """Train and test vectors of the representation or of the features."""
        return (self.train, self.test) if layer == "representation" else (self.train_features, self.test_features)

    @property
    def labeled(self) -> bool:
        """Whether images of both splits have classes: what needs labels reads the rows that have them."""
        return has_labels(self.train_labels, self.test_labels)

    @property
    def has_head(self) -> bool:
        """Whether features and representation differ."""
        return not np.array_equal(self.train_features[:16], self.train[:16])


def check_lengths(vectors: Vectors, what: str) -> None:
    """Raises Problem, which begins with `what`, unless every vector is finite and short enough for float32 to hold its
    distance to another: native code would take what comes of such for rows and sizes."""
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = (vectors[start : start + CHUNK] for start in range(0, len(vectors), CHUNK))
        short = [np.einsum("nd,nd->n", block, block) <= LONGEST for block in blocks]
    if len(rows := np.flatnonzero(~np.concatenate([np.empty(0, bool), *short]))):
        raise Problem(
            f"{what}: {row_list(rows, len(vectors))} hold NaN or values too large for a distance in float32, as those of an"
            " encoder that diverged do; train it again with a lower --learning-rate"
        )


def row_list(rows: NDArray[np.int64], count: int) -> str:
    """Which of `count` vectors, for an error: `3 of 165 vectors (rows 4, 8, 9)`."""
    more = ", ..." if len(rows) > NAMED else ""
    return f"{len(rows)} of {count} vectors (row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:NAMED]))}{more})"
