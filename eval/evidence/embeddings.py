"""What evaluations read: the vectors of one encoder for one image set, and the index of nearest neighbors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from train.data.images import SPLITS, load_array

Vectors = NDArray[np.float32]
Layer = Literal["representation", "features"]


@dataclass(frozen=True)
class Embeddings:
    """own: whether the images are of the set that the encoder was made from; else it was transferred to another one.

    train, test: representation (n, d) float32. train_features, test_features: what the encoder's head reads, (n, f);
    the same arrays where an encoder has no head. *_labels: (n,) int64, indices into `classes`."""

    classes: tuple[str, ...]
    train: Vectors
    test: Vectors
    train_features: Vectors
    test_features: Vectors
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    own: bool = True

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            for key in (split, f"{split}_features", f"{split}_labels"):
                np.save(folder / f"{key}.npy", getattr(self, key))
        about = {"classes": self.classes, "own": self.own}
        (folder / "embeddings.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        about = json.loads((folder / "embeddings.json").read_text())
        keys = [key for split in SPLITS for key in (split, f"{split}_features", f"{split}_labels")]
        arrays = {key: load_array(folder / f"{key}.npy") for key in keys}
        return cls(tuple(about["classes"]), **arrays, own=about["own"])

    def layer(self, layer: Layer) -> tuple[Vectors, Vectors]:
        """Train and test vectors of the representation or of the features."""
        return (self.train, self.test) if layer == "representation" else (self.train_features, self.test_features)

    @property
    def has_head(self) -> bool:
        """Whether features and representation differ."""
        return not np.array_equal(self.train_features[:16], self.train[:16])


@dataclass(frozen=True)
class Neighbors:
    """The k nearest *training* images of each image, nearest first, never the image itself.

    *_ids: (n, k) int64, rows of the training vectors. *_distances: (n, k) float32, L2 (not squared).
    index: a FAISS index of the training vectors; `search` asks it about others.
    """

    train_ids: NDArray[np.int64]
    train_distances: Vectors
    test_ids: NDArray[np.int64]
    test_distances: Vectors
    index: Any

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            for key in (f"{split}_ids", f"{split}_distances"):
                np.save(folder / f"{key}.npy", getattr(self, key))
        faiss.write_index(self.index, str(folder / "index.faiss"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        keys = [f"{split}_{kind}" for split in SPLITS for kind in ("ids", "distances")]
        arrays = {key: load_array(folder / f"{key}.npy") for key in keys}
        return cls(**arrays, index=faiss.read_index(str(folder / "index.faiss")))

    def search(self, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """L2 distances (n, k) and training ids (n, k) of the k training vectors nearest to each of `vectors`."""
        return search(self.index, vectors, k)


def search(index: Any, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """As `Neighbors.search`, of any FAISS index with the L2 metric, which returns *squared* distances."""
    squared, ids = index.search(np.ascontiguousarray(vectors, dtype=np.float32), k)
    return np.sqrt(np.maximum(squared, 0)), ids
