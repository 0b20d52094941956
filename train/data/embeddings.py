"""The artifact `embeddings`, which evaluations read: the vectors of one image set, by an encoder or by a method without one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from train.data.images import SPLITS, check_labels, load_array, save_array
from train.tracking.problem import reading

Vectors = NDArray[np.float32]
Layer = Literal["representation", "features"]


@dataclass(frozen=True)
class Embeddings:
    """own: whether the images are of the set that the encoder was made from; else it was transferred to another one.
    transductive: whether train and test images were embedded together, without an encoder that could embed others.

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
    transductive: bool = False

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            for key in (split, f"{split}_features", f"{split}_labels"):
                save_array(folder / f"{key}.npy", getattr(self, key))
        about = {"classes": self.classes, "own": self.own, "transductive": self.transductive}
        (folder / "embeddings.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            about = json.loads((folder / "embeddings.json").read_text())
            classes = tuple(map(str, about["classes"]))
            keys = [key for split in SPLITS for key in (split, f"{split}_features", f"{split}_labels")]
            arrays = {key: load_array(folder / f"{key}.npy") for key in keys}
            for split in SPLITS:
                for key in (split, f"{split}_features"):
                    if (
                        arrays[key].dtype != np.float32
                        or arrays[key].ndim != 2
                        or len(arrays[key]) != len(arrays[split])
                    ):
                        raise ValueError(
                            f"{key}.npy is {arrays[key].dtype} {arrays[key].shape}, not float32 ({len(arrays[split])}, d)"
                        )
                check_labels(arrays[f"{split}_labels"], len(arrays[split]), len(classes), f"{split}_labels.npy")
            transductive = bool(about.get("transductive"))  # older versions are all of encoders, and do not say so
            return cls(classes, **arrays, own=bool(about["own"]), transductive=transductive)

    def layer(self, layer: Layer) -> tuple[Vectors, Vectors]:
        """Train and test vectors of the representation or of the features."""
        return (self.train, self.test) if layer == "representation" else (self.train_features, self.test_features)

    @property
    def has_head(self) -> bool:
        """Whether features and representation differ."""
        return not np.array_equal(self.train_features[:16], self.train[:16])
