"""A prepared image set: uint8 arrays on disk, mapped into memory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Images:
    """train, test: (n, height, width, 3) uint8. train_labels, test_labels: (n,) int64, indices into `classes`.
    mean, std: of the training images scaled to [0, 1], by channel."""

    name: str
    classes: tuple[str, ...]
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def measured(cls, name: str, classes: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> Self:
        """With the mean and standard deviation of the training images, in float64."""
        values = np.arange(256) / 255
        counts = np.stack([np.bincount(arrays["train"][..., channel].ravel(), minlength=256) for channel in range(3)])
        weights = counts / counts.sum(axis=1, keepdims=True)
        mean = weights @ values
        std = np.sqrt(np.maximum(weights @ values**2 - mean**2, 0))
        red, green, blue = ((float(m), float(s) or 1.0) for m, s in zip(mean, std, strict=True))
        return cls(name, classes, **arrays, mean=(red[0], green[0], blue[0]), std=(red[1], green[1], blue[1]))

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            np.save(folder / f"{split}.npy", getattr(self, split))
            np.save(folder / f"{split}_labels.npy", getattr(self, f"{split}_labels"))
        about = {"name": self.name, "classes": self.classes, "mean": self.mean, "std": self.std}
        (folder / "images.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        about = json.loads((folder / "images.json").read_text())
        arrays = {key: load_array(folder / f"{key}.npy") for split in SPLITS for key in (split, f"{split}_labels")}
        return cls(about["name"], tuple(about["classes"]), **arrays, mean=tuple(about["mean"]), std=tuple(about["std"]))

    @property
    def size(self) -> int:
        """Height, which is also the width, in pixels."""
        return int(self.train.shape[1])


def load_array(path: Path) -> NDArray[Any]:
    """An array mapped into memory: read as it is used, never unpickled."""
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
