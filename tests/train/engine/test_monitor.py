"""What is measured during a training, and on which images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from tests.parts.artifacts import Silent
from tests.parts.trainings import continuation
from tests.train.engine.test_loop import TINY, dots
from train.data.images import UNLABELED, Images
from train.engine import monitor
from train.engine.loop import Training
from train.methods.vicreg import VICReg
from train.models.encoder import Architecture, Encoder


@pytest.fixture
def images() -> Images:
    return dots()


def test_knn_accuracy_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    bank, queries = random.normal(size=(300, 5)), random.normal(size=(1200, 5))
    bank_labels, labels = (bank[:, 0] > 0).astype(int) + 2 * (bank[:, 1] > 0), (queries[:, 0] > 0).astype(int)
    expected = KNeighborsClassifier(20).fit(bank, bank_labels).score(queries, labels)
    query, label, vectors, vector_labels = (torch.from_numpy(array) for array in (queries, labels, bank, bank_labels))
    assert monitor.knn_accuracy(query, label, vectors, vector_labels) == pytest.approx(expected, abs=1e-9)


def test_the_monitor_reads_held_out_training_labels_and_no_test_label(images: Images) -> None:
    held, others = monitor.monitor_split(images.train_labels)
    assert len(held) == 10 and sorted([*held, *others]) == list(range(50))
    method = VICReg(TINY, images).eval()
    method.encoder = Encoder(Architecture("pixels", 0, 0, 0, 32, images.mean, images.std)).eval()
    method.projector = torch.nn.Sequential()
    measured = monitor.measure(method, images)
    assert measured["knn/top1"] > 0.9  # the class is the color
    assert measured == monitor.measure(method, dataclasses.replace(images, test_labels=images.test_labels[::-1]))
    flipped = images.train_labels.copy()
    flipped[held] = (flipped[held] + 1) % 3
    assert monitor.measure(method, dataclasses.replace(images, train_labels=flipped))["knn/top1"] < 0.1


def test_the_monitor_reads_the_labeled_rows_alone(images: Images) -> None:
    """The same as of a set of those rows."""
    labeled = np.arange(0, 50, 2)
    labels = np.full(50, UNLABELED)
    labels[labeled] = images.train_labels[labeled]
    partly = dataclasses.replace(images, train_labels=labels)
    part = dataclasses.replace(images, train=images.train[labeled], train_labels=images.train_labels[labeled])
    method = VICReg(TINY, images).eval()
    assert monitor.measure(method, partly) == monitor.measure(method, part)
    assert monitor.glance(method, partly) == monitor.glance(method, part)
    assert monitor.measure(method, partly) != monitor.measure(method, images)


def test_without_labels_instances_are_told_apart_in_place_of_classes_and_a_training_goes_on_and_ends(
    images: Images, tmp_path: Path
) -> None:
    bare = dataclasses.replace(
        images, classes=(), train_labels=np.full(50, UNLABELED), test_labels=np.full(len(images.test), UNLABELED)
    )
    method = VICReg(TINY, images).eval()
    expected = {name: value for name, value in monitor.measure(method, images).items() if name != "knn/top1"}
    measured = monitor.measure(method, bare)
    assert 1 / 50 < measured.pop(monitor.INSTANCES) <= 1
    assert measured == pytest.approx(expected, rel=1e-3)  # of other batches, and so with other last bits
    assert set(monitor.glance(method, bare)) == set(monitor.CURVE) - {"curve/knn"}
    config = dataclasses.replace(TINY, epochs=2)

    def training() -> Training:
        stage: Any = Silent()
        return Training(VICReg(config, bare), stage, torch.device("cpu"))

    whole, second = continuation(training, tmp_path)
    scores = second.scores()
    assert not [name for name in scores.values if "knn" in name]
    assert "training/knn" not in scores.figures and "training/collapse" in scores.figures
    assert whole.epochs == second.epochs


def test_the_monitor_measures_the_collapse_of_the_projection_beside_the_representations(images: Images) -> None:
    method = VICReg(TINY, images).eval()
    healthy = monitor.measure(method, images)
    assert healthy["collapse/projection_rank"] > 2
    last = method.projector[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():  # all projections on a line
        last.weight.copy_(last.weight[:, :1].expand_as(last.weight).clone())
    collapsed = monitor.measure(method, images)
    assert collapsed["collapse/projection_rank"] == pytest.approx(1, abs=1e-3)
    assert collapsed["collapse/effective_rank"] == healthy["collapse/effective_rank"]


def test_a_training_is_glanced_at_eleven_times_whatever_its_epochs(images: Images, tmp_path: Path) -> None:
    for epochs, steps in ((2, 12), (5, 30)):
        stage: Any = Silent()
        training = Training(VICReg(dataclasses.replace(TINY, epochs=epochs), images), stage, torch.device("cpu"))
        training.run(tmp_path / f"{epochs}.safetensors")
        assert [entry["batch"] for entry in training.glances] == [round(i * steps / 10) for i in range(11)]
        assert len(training.epochs) == epochs + 1
        last = training.glances[-1]  # of so few images all that are held out
        assert last["curve/projection_rank"] == pytest.approx(training.epochs[-1]["collapse/projection_rank"], rel=1e-5)


def test_a_glance_lets_fewer_images_vote(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[tuple[int, int]] = []

    def accuracy(queries: torch.Tensor, labels: torch.Tensor, bank: torch.Tensor, voters: torch.Tensor) -> float:
        counts.append((len(queries), len(bank)))
        return 0.0

    monkeypatch.setattr(monitor, "knn_accuracy", accuracy)
    method = VICReg(TINY, images).eval()
    monitor.measure(method, images)
    monitor.glance(method, images)
    monkeypatch.setattr(monitor, "GLANCE", (4, 5))
    monitor.glance(method, images)
    assert counts == [(10, 40), (10, 13), (4, 5)]
