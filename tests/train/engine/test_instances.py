"""Telling views apart by their image: against scikit-learn, and where nothing can be told."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tests.train.engine.test_loop import TINY, dots
from train.data.images import UNLABELED
from train.engine.instances import reciprocal_rank
from train.engine.monitor import INSTANCES, MEASURES, OF_LABELS, measure
from train.methods.vicreg import VICReg


def clouds(views: int = 5, images: int = 40, dimensions: int = 6, spread: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Views (v, n, d) around a point for each image, in a basis in which the dimensions are correlated."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(images, dimensions)) + spread * random.normal(size=(views, images, dimensions))
    return torch.from_numpy(vectors @ random.normal(size=(dimensions, dimensions)) + 3)


@pytest.mark.parametrize("shrinkage", [1e-3, 0.5])
@pytest.mark.parametrize("learned", [2, 4])
def test_ranks_are_those_of_scikit_learns_discriminant(learned: int, shrinkage: float) -> None:
    views = clouds()
    _, count, _ = views.shape
    labels = np.tile(np.arange(count), learned)
    # Of its two summands scikit-learn weighs the scatter down as well; ranks do not see a common factor.
    model = LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage / (1 + shrinkage))
    model.fit(views[:learned].flatten(0, 1).numpy(), labels)
    scores = model.decision_function(views[learned:].flatten(0, 1).numpy())
    own = scores[np.arange(len(scores)), np.tile(np.arange(count), len(views) - learned)]
    expected = (1 / (scores >= own[:, None]).sum(axis=1)).mean()
    assert reciprocal_rank(views, learned, shrinkage) == pytest.approx(expected, rel=1e-9)


def test_images_that_lie_apart_are_told_apart() -> None:
    assert reciprocal_rank(clouds(spread=1e-4)) == 1


def test_what_has_collapsed_is_worth_one_image() -> None:
    assert reciprocal_rank(torch.full((4, 25, 3), 0.1)) == pytest.approx(1 / 25)
    assert reciprocal_rank(torch.zeros(4, 25, 3)) == pytest.approx(1 / 25)


def test_noise_has_the_rank_of_chance() -> None:
    count = 100
    ranks = reciprocal_rank(torch.from_numpy(np.random.default_rng(1).normal(size=(30, count, 4))))
    assert ranks == pytest.approx((1 / np.arange(1, count + 1)).mean(), rel=0.1)


def test_a_scale_and_a_shift_change_nothing() -> None:
    views = clouds()
    assert reciprocal_rank(1e3 * views - 7) == pytest.approx(reciprocal_rank(views), rel=1e-9)


def test_the_monitor_tells_instances_apart_where_there_are_no_labels_and_only_there() -> None:
    images = dots()
    method = VICReg(TINY, images).eval()
    none = np.full(len(images.train), UNLABELED)
    without = measure(method, dataclasses.replace(images, train_labels=none))
    labeled = measure(method, images)
    assert labeled.keys() == set(MEASURES)
    assert without.keys() == {INSTANCES, *MEASURES} - set(OF_LABELS)
    same = without.keys() - {INSTANCES}  # but for the last bits: images are encoded beside fewer others
    assert {name: without[name] for name in same} == pytest.approx({name: labeled[name] for name in same}, rel=1e-4)
    assert without == measure(method, dataclasses.replace(images, train_labels=none))  # the same views each time
