"""Prepares an image set: uint8 arrays of one size, labels, class names, and the training images' mean and deviation."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageDraw
import plotly.graph_objects as go

from train.data import datasets
from train.data.archive import check_encoding
from train.data.images import SIZE, SPLITS, UNLABELED, Images
from train.data.lettering import letter
from train.data.splits import Division
from train.tracking import LATER, MACHINE, Command, Problem, Stage
from train.tracking.declarations import check_name, clean_name
from train.tracking.origin import settings
from train.tracking.panels import figure
from train.tracking.store import Store

SIZES = range(8, 513)
RESERVED = (*(name for name in datasets.NAMES if name not in datasets.ADDED), "latest")
SAMPLE_SEED = 0
# Characters of a name that nobody chose: `{variant}-s{seed}-vs-{anomalies}` has two of them, of 128 in all.
LONGEST = 40


@dataclass(frozen=True)
class Config:
    # A path is no part of what comes out (`fingerprint` stands for what lies there); `name` is.
    dataset: Annotated[str, MACHINE]
    """cifar10, cifar100, mnist, fashion-mnist, svhn, stl10, eurosat, digits, photos, or your own: a folder, zip, tar or tar.gz
    of train/CLASS/* and test/CLASS/*, of CLASS/*, of images without classes, or of images and labels.csv; a .npz with the keys
    of MedMNIST or Keras, a .npy (n, h, w[, c]), or Parquet as Hugging Face has it."""
    name: str = ""
    """Name of the set (images:NAME); by default --dataset itself, or the last part of a path."""
    size: int = SIZE
    """Height and width in pixels; images of another size are resized and cut to their central square."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and list them, instead of stopping."""
    encoding: Annotated[str, LATER] = ""
    """Encoding of the names in a zip or tar that does not state it, such as cp932."""
    test_share: Annotated[float, LATER] = Division.share
    """Share of each class that is for testing, where the set does not say which images are."""
    seed: Annotated[int, LATER] = Division.seed
    """Of the choice of those."""
    unlabeled: Annotated[bool, LATER] = False
    """Leave out the labels: the folders are no classes."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise Problem(f"--size {self.size} is out of range; give {SIZES.start} to {SIZES.stop - 1} pixels")
        if not 0 < self.test_share < 1:
            raise Problem(f"--test-share {self.test_share:g} is out of range; give more than 0 and less than 1")
        name = self.name or self.dataset
        path = datasets.own(self.dataset)
        if not datasets.is_known(self.dataset) and path is not None:
            name = self.name or clean_name(datasets.title(path))
            object.__setattr__(self, "dataset", str(path.resolve()))
        if self.encoding:
            check_encoding(self.encoding)
            if not datasets.is_archive(self.dataset):
                raise Problem(
                    f"--encoding {self.encoding!r} is for a zip or tar, and {self.dataset!r} is none; leave it out"
                )
        if not name:
            raise Problem(f"{self.dataset!r} holds no letter or digit to name the image set by; give a --name")
        check_name(name, "name of an image set (--name)")
        if name != self.dataset and reserved(name):
            raise Problem(f"the name {name!r} is reserved and cannot stand for {self.dataset!r}; give another --name")
        object.__setattr__(self, "name", name)

    @property
    def division(self) -> Division | None:
        """Of a set without test images; None where nobody asked for another than the default."""
        division = Division(self.test_share, self.seed)
        return None if division == Division() else division

    def fingerprint(self) -> object:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> object:
        return datasets.fingerprint(self.dataset, self.encoding)


def reserved(name: str) -> bool:
    """Whether a name stands for something else than a set of one's own: a set that is known by name, or W&B's own aliases."""
    return name in RESERVED or re.fullmatch(r"v\d+", name) is not None


def main(config: Config) -> None:
    with Stage("train.prepare", config) as stage:
        stage.introduce(dataset=config.name)
        refuse_other_source(stage, config)
        config.fingerprint()  # of what is there before it is read, not of what replaces it meanwhile
        splits = datasets.read(
            config.dataset, config.size, config.skip_corrupt, config.encoding, config.division, config.unlabeled
        )
        images = Images.from_arrays(config.name, splits.classes, splits.arrays)
        if images.duplicates:
            print(f"images:{config.name}: {images.duplicates}")
        stage.panel("images/samples", sample_sheet(images, np.random.default_rng(SAMPLE_SEED)))
        stage.panel("images/classes", classes_figure(images))
        stage.panel("images/table", sample_table(images, np.random.default_rng(SAMPLE_SEED)))
        stage.finding = f"images:{config.name}: {splits}"
        stage.publish("images", images.save, {"dataset": config.name})


def refuse_other_source(stage: Stage, config: Config) -> None:
    """Raises Problem where `images:NAME` was made from another data set."""
    if source := other_source(stage.store, config):
        raise Problem(
            f"images:{config.name} was made from {source!r}, not from {config.dataset!r}; give another --name"
        )


def other_source(store: Store, config: Config) -> str | None:
    """Where another set lies that `images:NAME` was made from: at another place, and with other images than are here."""
    version = store.find("images", config.name)
    maker = version and store.maker(version)
    source = maker and maker.config.get("dataset")
    if not maker or not source or source == config.dataset:
        return None
    choices = ("size", "skip_corrupt", "test_share", "seed", "unlabeled")
    settled = {name: maker.config[name] for name in choices if name in maker.config}
    return None if settings("train.prepare", replace(config, **settled)) == maker.settings else str(source)


def spare_name(store: Store, dataset: str, encoding: str = "") -> str:
    """A --name that is free, of its own name and a hash of its images; empty where that of the set itself will do."""
    path = datasets.own(dataset)
    if path is None or datasets.is_known(dataset):
        return ""
    name = clean_name(datasets.title(path))
    free = name and not reserved(name) and not other_source(store, Config(dataset, encoding=encoding))
    if free and (len(name) <= LONGEST or store.find("images", name)):
        return ""
    return f"{name[:LONGEST] or 'images'}-{str(datasets.fingerprint(dataset, encoding))[:6]}"


def sample_sheet(images: Images, generator: np.random.Generator, columns: int = 10) -> PIL.Image.Image:
    """Random training images, a row for each of the first 100 classes."""
    tile, margin, gap = max(images.size, 32), 120, 2
    names, labels = shown_classes(images)
    rows = names[:100]
    sheet = PIL.Image.new("RGB", (margin + columns * (tile + gap), len(rows) * (tile + gap)), "white")
    pen = PIL.ImageDraw.Draw(sheet)
    for row, (label, (text, font)) in enumerate(zip(labels, letter(rows, margin - 8), strict=False)):
        top = row * (tile + gap)
        pen.text((4, top + tile // 2), text, fill="black", font=font, anchor="lm")
        ids = np.flatnonzero(images.train_labels == label)
        for column, i in enumerate(generator.permutation(ids)[:columns]):
            picture = PIL.Image.fromarray(images.train[i]).resize((tile, tile), PIL.Image.Resampling.NEAREST)
            sheet.paste(picture, (margin + column * (tile + gap), top))
    return sheet


def shown_classes(images: Images) -> tuple[list[str], list[int]]:
    """Names and labels of the classes; the last is of the images without one, where there are such."""
    labels = list(range(len(images.classes)))
    if min(images.train_labels.min(), images.test_labels.min()) == UNLABELED:
        labels.append(UNLABELED)
    return [class_name(images, label) for label in labels], labels


def class_name(images: Images, label: int) -> str:
    return "unlabeled" if label == UNLABELED else images.classes[label]


def classes_figure(images: Images) -> go.Figure:
    names, classes = shown_classes(images)
    traces = [
        go.Bar(name=split, x=names, y=[int((labels == label).sum()) for label in classes])
        for split, labels in zip(SPLITS, (images.train_labels, images.test_labels), strict=True)
    ]
    counts = figure(f"{images.name}: images by class", "class", "images", traces)
    return counts.update_xaxes(type="category")  # also where the names are numbers


def sample_table(images: Images, generator: np.random.Generator, rows: int = 10) -> pd.DataFrame:
    """A few images of both splits with their labels."""
    cells = []
    for split, pictures, labels in zip(
        SPLITS, (images.train, images.test), (images.train_labels, images.test_labels), strict=True
    ):
        for i in np.sort(generator.permutation(len(labels))[:rows]):
            cells.append((PIL.Image.fromarray(pictures[i]), class_name(images, labels[i]), split, int(i)))
    return pd.DataFrame(cells, columns=["image", "class", "split", "row"])


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
