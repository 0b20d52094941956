"""Trains a linear probe on frozen embeddings and measures it on the test images.

One linear layer, trained to convergence on the standardized vectors of the training images: on the representation, and on
the features that the encoder's head reads. The strength of its L2 penalty is chosen on held-out training labels. Images
without labels take no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from eval.evidence.confusion import confusion_figure, confusion_matrix, most_confused, per_class_figure
from eval.evidence.findings import finding
from eval.evidence.intervals import accuracy_interval
from eval.evidence.linear_probe import Probe, linear_probe
from eval.evidence.maps import draw
from eval.evidence.validity import check_own, with_labels
from train.data.embeddings import Embeddings, Layer
from train.data.images import UNLABELED, Images, Pixels
from train.data.scores import Scores, Value
from train.tracking import Command, Problem, Stage

SHOWN = 500  # test images in the table of predictions
PAIRS = 100  # entangled pairs of classes that are published at most; ten classes have 45


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    resamples: int = 10_000
    """Bootstrap resamples of the test images for the 95 % intervals."""

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise Problem(
                f"--resamples {self.resamples} is too small for an interval; give 1 or more, 10000 for two stable digits"
            )


def main(config: Config) -> None:
    with Stage("eval.probe", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        embeddings = Embeddings.load(source.folder)
        places = np.flatnonzero(
            np.asarray(embeddings.test_labels) != UNLABELED
        )  # test images that the probe is asked about
        check_own(embeddings, config.embeddings, source.alias)
        embeddings = with_labels(embeddings, str(source.dataset), "eval.probe")
        if embeddings.duplicates:
            print(f"{source.dataset}: {embeddings.duplicates}")
        seed = stage.seed or 0
        representation = probe(embeddings, "representation", seed)
        features = probe(embeddings, "features", seed) if embeddings.has_head else representation
        scores = score(embeddings, representation, features, seed, config.resamples)
        scores.log(stage)
        stage.finding = finding("probe", stage.alias, scores.values)
        folder = stage.beside(source, "images")
        images = Images.load(folder).test if folder else None
        stage.panel("probe/predictions", predictions(embeddings, representation, places, images))
        stage.publish("probe", scores.save)


def probe(embeddings: Embeddings, layer: Layer, seed: int) -> Probe:
    train, test = embeddings.layer(layer)
    return linear_probe(train, embeddings.train_labels, test, len(embeddings.classes), seed, f"probe {layer}")


def score(embeddings: Embeddings, representation: Probe, features: Probe, seed: int, resamples: int) -> Scores:
    """Accuracies are shares, 0 to 1. `probe/regularisation` weighs half the squared norm of the weights against the mean
    cross-entropy; `probe/chance` is the accuracy of always naming the most frequent training class. `probe/per_class` and
    `probe/counts` (test images) are in the order of `probe/classes`. `probe/duplicates` is there where images are equal, and
    says which of them void the accuracy. Samples say of each test image whether it is right."""
    labels, classes = np.asarray(embeddings.test_labels), embeddings.classes
    values: dict[str, Value] = {"probe/duplicates": str(embeddings.duplicates)} if embeddings.duplicates else {}
    samples: dict[str, NDArray[np.bool_]] = {}
    for path, layer_probe in (("probe", representation), ("probe/features", features)):
        correct = layer_probe.predictions == labels
        values[f"{path}/top1"] = float(correct.mean())
        ends = accuracy_interval(correct, seed, resamples)
        values[f"{path}/top1/interval"] = list(ends) if ends else None
        values[f"{path}/regularisation"] = layer_probe.regularization
        samples[f"{path}/top1"] = correct

    confusion = confusion_matrix(labels, representation.predictions, len(classes))
    per_class = {"representation": np.diag(confusion)}
    if features is not representation:
        per_class["features"] = np.diag(confusion_matrix(labels, features.predictions, len(classes)))
    values["probe/classes"] = list(classes)
    values["probe/counts"] = np.bincount(labels, minlength=len(classes)).tolist()
    values["probe/per_class"] = per_class["representation"].tolist()
    values["probe/pairs"] = [list(pair) for pair in class_pairs(confusion, classes)]
    values["probe/confused"] = [list(pair) for pair in most_confused(confusion, classes)]
    values["probe/chance"] = float((labels == np.bincount(embeddings.train_labels).argmax()).mean())
    figures = {
        "probe/confusion": confusion_figure(confusion, classes),
        "probe/per_class": per_class_figure(per_class, classes),
    }
    return Scores(values, figures, samples=samples)


def predictions(
    embeddings: Embeddings, representation: Probe, places: NDArray[np.int64], images: Pixels | None
) -> pd.DataFrame:
    """What a sample of the test images is taken for, the same of all variants and seeds of a data set: row, picture, class,
    prediction, whether it is right. places: (n,), which of all test images the embeddings are of. images: all,
    (m, height, width, 3); None where they are not at hand."""
    rows = draw(len(embeddings.test), SHOWN, seed=0)
    names = np.array(embeddings.classes)
    truth, taken = (names[labels[rows]] for labels in (embeddings.test_labels, representation.predictions))
    columns: dict[str, object] = {"row": places[rows]}
    if images is not None:
        columns["image"] = [PIL.Image.fromarray(np.array(images[row])) for row in places[rows]]
    return pd.DataFrame({**columns, "class": truth, "prediction": taken, "right": truth == taken})


def class_pairs(confusion: NDArray[np.float64], classes: Sequence[str]) -> list[tuple[str, str, float]]:
    """(class, class, rate) of every two classes, the most entangled first, at most 100; the two in class order.

    The rate is the mean of the two shares of a class that are taken for the other. confusion: as `confusion_matrix`.
    """
    rates = (confusion + confusion.T) / 2
    first, second = np.triu_indices(len(rates), k=1)
    order = np.argsort(-rates[first, second], kind="stable")[:PAIRS]
    return [(classes[i], classes[j], float(rates[i, j])) for i, j in zip(first[order], second[order], strict=True)]


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
