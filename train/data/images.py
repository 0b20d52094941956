"""The artifact `images`: a prepared image set, uint8 arrays on disk, mapped into memory."""

import errno
import json
import math
import mmap
import os
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from train.data.duplicates import Duplicates
from train.tracking.contents import read_json
from train.tracking.declarations import check_name
from train.tracking.problem import Problem, naming, reading
from train.tracking.store import home

SPLITS = ("train", "test")
SIZE = 32  # pixels of a side, where nobody asks for another
SMALLEST = 8  # pixels of a side: of which every backbone makes a map
CHUNK = 4_096  # images: numpy counts values as int64, eight bytes for each pixel's one

Pixels = NDArray[np.uint8]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=1e-9, le=1)]  # less, and float32 could not divide by it
Classes = tuple[Annotated[str, Field(min_length=1)], ...]
UNLABELED = -1  # the label of an image whose class nobody says, as in scikit-learn and torchvision


@dataclass(frozen=True)
class About:
    """What stands in images.json."""

    name: str
    classes: Classes
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


@dataclass(frozen=True)
class Images:
    """train, test: (n, height, width, 3) uint8. train_labels, test_labels: (n,) int64, indices into `classes`, which may be
    none; UNLABELED of an image without.
    mean, std: of the training images scaled to [0, 1], by channel. duplicates: None where all images differ."""

    name: str
    classes: tuple[str, ...]
    train: Pixels
    train_labels: NDArray[np.int64]
    test: Pixels
    test_labels: NDArray[np.int64]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    duplicates: Duplicates | None = None

    @classmethod
    def from_arrays(cls, name: str, classes: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> Self:
        """With the mean and standard deviation of the training images, in float64, and the count of equal images."""
        values = np.arange(256) / 255
        counts = np.zeros((3, 256), np.int64)
        for start in range(0, len(arrays["train"]), CHUNK):
            for channel, count in enumerate(counts):
                pixels = arrays["train"][start : start + CHUNK, ..., channel]
                count += np.bincount(pixels.ravel(), minlength=256)
        weights = counts / counts.sum(axis=1, keepdims=True)
        mean = weights @ values
        std = np.sqrt(np.maximum(weights @ values**2 - mean**2, 0))
        red, green, blue = ((float(m), float(s) or 1.0) for m, s in zip(mean, std, strict=True))
        mean, deviation = (red[0], green[0], blue[0]), (red[1], green[1], blue[1])
        return cls(name, classes, **arrays, mean=mean, std=deviation, duplicates=Duplicates.of(**arrays))

    def save(self, folder: Path) -> None:
        for split in SPLITS:
            save_array(folder / f"{split}.npy", getattr(self, split))
            save_array(folder / f"{split}_labels.npy", getattr(self, f"{split}_labels"))
        about = {"name": self.name, "classes": self.classes, "mean": self.mean, "std": self.std}
        (folder / "images.json").write_text(json.dumps(about, indent=1))
        if self.duplicates:
            self.duplicates.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            about = read_json(folder / "images.json", About)
            check_name(about.name, "name of an image set")
            check_classes(about.classes)
            arrays = {key: load_array(folder / f"{key}.npy") for split in SPLITS for key in (split, f"{split}_labels")}
            for split in SPLITS:
                images = arrays[split]
                if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1],) * 2 + (3,):
                    raise ValueError(f"{split}.npy is {images.dtype} {images.shape}, not uint8 (n, size, size, 3)")
                if not len(images) or images.shape[1] < SMALLEST:
                    raise ValueError(f"{split}.npy is {images.shape} and holds no image of {SMALLEST} pixels or more")
                check_labels(arrays[f"{split}_labels"], len(images), len(about.classes), f"{split}_labels.npy")
            if arrays["train"].shape[1] != arrays["test"].shape[1]:
                raise ValueError(f"train images have {arrays['train'].shape[1]} pixels, test {arrays['test'].shape[1]}")
            return cls(
                about.name, about.classes, **arrays, mean=about.mean, std=about.std, duplicates=Duplicates.load(folder)
            )

    @cached_property
    def gray(self) -> bool:
        """Whether the three channels of every image are equal, so that one holds all that there is."""
        starts = [(images, start) for images in (self.train, self.test) for start in range(0, len(images), CHUNK)]
        return all(
            (chunk == chunk[..., :1]).all() for images, start in starts if (chunk := images[start : start + CHUNK]).size
        )

    @property
    def labeled(self) -> bool:
        """Whether images of both splits have classes, so that one can learn from some and be asked about others."""
        return has_labels(self.train_labels, self.test_labels)

    def with_labels(self, stage: str) -> Self:
        """The images that have labels, for a stage that learns from those of training and asks about those of test; itself
        where all have. Raises Problem where a split has none."""
        if not self.labeled:
            raise unlabeled(self.name, stage)
        rows = {split: np.flatnonzero(getattr(self, f"{split}_labels") != UNLABELED) for split in SPLITS}
        if all(len(part) == len(getattr(self, split)) for split, part in rows.items()):
            return self
        changes: dict[str, Any] = {}
        for split, part in rows.items():
            pixels = blank((len(part), *getattr(self, split).shape[1:]), np.uint8)
            # In a mapped file as the others are; `raise`, the default, would make a copy.
            changes[split] = np.take(getattr(self, split), part, axis=0, out=pixels, mode="clip")
            changes[f"{split}_labels"] = getattr(self, f"{split}_labels")[part]
        return replace(self, **changes)

    @property
    def size(self) -> int:
        """Height, which is also the width, in pixels."""
        return int(self.train.shape[1])


def blank(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """An array to be filled and saved: a nameless file of its size, mapped into memory, that the system writes to disk where
    memory is short, and that is gone with the array. Raises OSError where the disk has no room for it."""
    count = math.prod(shape) * np.dtype(kind).itemsize
    home().mkdir(parents=True, exist_ok=True)
    with naming(home()), tempfile.TemporaryFile(dir=home()) as file:
        file.truncate(count)
        # Without room, the first write to a page would end the process. macOS and some file systems have no such call.
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, count)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        return np.ndarray(shape, kind, mmap.mmap(file.fileno(), count))


def check_classes(classes: tuple[str, ...]) -> None:
    """Raises ValueError where two classes have one name: a figure or a table could not tell them apart."""
    if len(set(classes)) < len(classes):
        raise ValueError(f"two classes are called {max(classes, key=classes.count)!r}")


def check_labels(labels: NDArray[Any], count: int, classes: int, what: str) -> None:
    """Raises ValueError unless `labels` are `count` indices into so many classes, or UNLABELED."""
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise ValueError(f"{what} is {labels.dtype} {labels.shape}, not int64 ({count},)")
    if ((labels < UNLABELED) | (labels >= classes)).any():
        choices = f"outside 0 to {classes - 1} and {UNLABELED} (none)" if classes else "and there are no classes"
        raise ValueError(f"{what} has labels {choices}")


def has_labels(*splits: NDArray[np.int64]) -> bool:
    """Whether each of the splits has an image with a label."""
    return all((labels != UNLABELED).any() for labels in splits)


def unlabeled(name: str, stage: str) -> Problem:
    """What a stage says that can measure nothing without labels."""
    return Problem(
        f"{name} is unlabeled, and {stage} learns from labels of training images and asks about those of test images;"
        " prepare images that have some (python -m train.prepare --help), or leave this stage out"
    )


def class_name(classes: tuple[str, ...], label: int) -> str:
    """What tables and captions call the class of an image."""
    return classes[label] if label != UNLABELED else "unlabeled"


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes what numpy.save writes, which loses the end of a file in silence where the disk is full. Raises OSError."""
    about = np.lib.format.header_data_from_array_1_0(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        file.write(np.ascontiguousarray(array.T if about["fortran_order"] else array).data)


def load_array(path: Path) -> NDArray[Any]:
    """An array mapped into memory: read as it is used, never unpickled."""
    return np.lib.format.open_memmap(path, mode="r")
