"""What a representation is worth where few images are labelled: learners, and what their accuracies over draws say.

Every way of learning gets the same draws of labels, so that differences are paired. Codes are (n, d) float32, standardized
with the statistics of the whole training set, which needs no labels (`linear_probe.Standardisation`). Networks and tensors are on the CPU.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from scipy.stats import ttest_1samp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from eval.evidence.comparison import Difference, Interval
from eval.evidence.intervals import LEAST
from eval.evidence.linear_probe import Standardisation
from eval.evidence.retrieval import squared_distances

Labels = NDArray[np.int64]
Ids = NDArray[np.int64]

LEVEL = 0.95
BATCH = 160  # labelled images of a step; all of them where there are no more
CHUNK = 512  # test images that go through a network at once


# -- draws -------------------------------------------------------------------------------------------------------------


def balanced_draws(labels: Labels, count: int, draws: int, random: np.random.Generator) -> Ids:
    """Random rows of labelled images, without repetition in a draw: (draws, count).

    labels: (n,), in any order. Classes have equally many, or differ by one at random; one with too few gives all, and the
    others more. Raises ValueError for fewer than `count` images.
    """
    if not 1 <= count <= len(labels):
        raise ValueError(f"{count} labels of {len(labels)} images; give 1 to {len(labels)}")
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(rows) for rows in members])
    result = np.empty((draws, count), np.int64)
    for draw in result:
        quotas = np.zeros(len(sizes), np.int64)
        while short := count - int(quotas.sum()):
            quotas[random.permutation(np.flatnonzero(quotas < sizes))[:short]] += 1
        parts = [random.choice(rows, quota, replace=False) for rows, quota in zip(members, quotas, strict=True)]
        draw[:] = random.permutation(np.concatenate(parts))
    return result


# -- learners ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """steps of Adam. rate: learning rate of the layers on the codes. encoder_rate: that of the network below them."""

    steps: int = 60
    rate: float = 1e-2
    encoder_rate: float = 1e-3


def mlp(
    codes: Tensor, labels: Labels, test: Tensor, classes: int, seed: int, recipe: Recipe | None = None, hidden: int = 32
) -> Labels:
    """Classes (m,) of test codes (m, d), by a layer of hidden units on frozen codes (n, d). labels: (n,)."""
    with _seeded(seed):
        layers = _layers(codes.shape[1], hidden, classes)
        _train(nn.Identity(), layers, codes, labels, recipe or Recipe())
        return _predict(layers, test)


def linear(codes: NDArray[np.floating], labels: Labels, test: NDArray[np.floating], strength: float = 1.0) -> Labels:
    """Classes (m,) by logistic regression with the inverse penalty `strength`, of codes or of flat pixels (n, p)."""
    if len(np.unique(labels)) == 1:
        return np.full(len(test), labels[0], np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable labels: the classes have long settled
        model = LogisticRegression(C=strength, max_iter=200).fit(codes, labels)
    predicted: Labels = model.predict(test)
    return predicted


def nearest(codes: NDArray[np.floating], labels: Labels, test: NDArray[np.floating]) -> Labels:
    """Class of the nearest labelled code, by L2, the first of equally near ones: (m,)."""
    mean = codes.mean(axis=0, dtype=np.float64)
    predicted: Labels = labels[squared_distances(test - mean, codes - mean).argmin(axis=1)]
    return predicted


def fine_tune(
    network: nn.Module,
    images: Tensor,
    labels: Labels,
    test: Tensor,
    classes: int,
    seed: int,
    standardise: Standardisation,
    recipe: Recipe | None = None,
    hidden: int = 32,
) -> Labels:
    """Classes (m,) of test images by a copy of the network that is trained whole, with the layers of `mlp` on its codes.

    network: images (n, ...) as it takes them -> codes (n, d), or a pair whose second they are; it stays as it is. standardise:
    of its codes of the whole training set. The copy stays in evaluation mode: the statistics of batch normalization are those
    of the whole training set, not of a few labelled images.
    """
    with _seeded(seed):
        encoder = copy.deepcopy(network).eval().requires_grad_()
        scale = _Scale(standardise.mean, standardise.std)
        layers = nn.Sequential(scale, *_layers(len(standardise.mean), hidden, classes))
        _train(encoder, layers, images, labels, recipe or Recipe())
        return _predict(nn.Sequential(_Codes(encoder), layers), test)


def from_scratch(
    build: Callable[[], nn.Module],
    images: Tensor,
    labels: Labels,
    test: Tensor,
    classes: int,
    seed: int,
    recipe: Recipe | None = None,
    hidden: int = 32,
) -> Labels:
    """Classes (m,) by a new network that only the labelled images trained: what pretraining is worth. Shapes as of `fine_tune`.

    build: makes an untrained network, whose weights follow `seed`. It is trained in training mode, and evaluated with the
    running statistics of its batch normalization: those need some 40 steps to forget where they started.
    """
    with _seeded(seed):
        encoder = build().train().requires_grad_()
        with torch.no_grad():
            dimension = _Codes(copy.deepcopy(encoder).eval())(images[:1]).shape[1]
        layers = _layers(dimension, hidden, classes)
        _train(encoder, layers, images, labels, recipe or Recipe())
        return _predict(nn.Sequential(_Codes(encoder), layers).eval(), test)


class _Codes(nn.Module):
    """The representation of an encoder that gives features too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        codes = self.network(images)
        return codes[-1] if isinstance(codes, tuple) else codes  # type: ignore[no-any-return]


class _Scale(nn.Module):
    """Standardized codes. mean, std: (d,)."""

    def __init__(self, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        super().__init__()
        self.mean, self.std = (torch.from_numpy(part).float() for part in (mean, std))

    def forward(self, codes: Tensor) -> Tensor:
        return (codes - self.mean) / self.std


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's generator starts from `seed`, and goes on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _layers(dimension: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dimension, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def _train(encoder: nn.Module, layers: nn.Module, inputs: Tensor, labels: Labels, recipe: Recipe) -> None:
    """Cross-entropy by Adam, each step of BATCH random inputs, all of them where there are no more."""
    network, targets = _Codes(encoder), torch.from_numpy(np.array(labels, np.int64))
    groups = [{"params": list(layers.parameters()), "lr": recipe.rate}]
    if weights := list(encoder.parameters()):
        groups.append({"params": weights, "lr": recipe.encoder_rate})
    optimizer = torch.optim.Adam(groups)
    for _ in range(recipe.steps):
        rows = torch.randperm(len(inputs))[:BATCH]
        loss = F.cross_entropy(layers(network(inputs[rows])), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _predict(network: nn.Module, inputs: Tensor) -> Labels:
    return np.concatenate([network(part).argmax(dim=1).numpy() for part in inputs.split(CHUNK)])


# -- the choice of a recipe --------------------------------------------------------------------------------------------

# Predicts the classes of the second rows after learning from the first, all of them rows of training images.
Learner = Callable[[Recipe, Ids, Ids], Labels]


@dataclass(frozen=True)
class Choice:
    """accuracies: mean over draws of each recipe on held-out training images, in the order of the recipes."""

    recipe: Recipe
    accuracies: tuple[float, ...]


def choose(
    recipes: Sequence[Recipe], learn: Learner, labels: Labels, draws: Ids, count: int, random: np.random.Generator
) -> Choice:
    """The recipe with the highest accuracy, of equals the first, on `count` random training images that are in no draw.

    labels: (n,) of the training images. draws: (k, m) rows, of `balanced_draws`. Test images are no input. The held-out
    labels are more help than a draw has: a way that is not tuned and wins all the same wins fairly. Raises ValueError where
    fewer than `count` images are left.
    """
    left = np.setdiff1d(np.arange(len(labels)), draws)
    if not 1 <= count <= len(left):
        raise ValueError(f"{count} held-out images, and {len(left)} are in no draw; give 1 to {len(left)}")
    rows = random.choice(left, count, replace=False)
    accuracies = tuple(
        float(np.mean([(learn(recipe, draw, rows) == labels[rows]).mean() for draw in draws])) for recipe in recipes
    )
    return Choice(recipes[int(np.argmax(accuracies))], accuracies)  # argmax returns the first of equals


# -- accuracies over draws ---------------------------------------------------------------------------------------------


def paired(a: ArrayLike, b: ArrayLike) -> Difference:
    """Mean of `a` minus `b` over draws, and its 95 % interval by Student's t; None of a single draw.

    a, b: (draws,), accuracies of two ways on the same draws in the same order.
    """
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if one.shape != other.shape or not one.size:
        raise ValueError(f"{one.size} and {other.size} draws cannot be paired; give the same ones of both")
    return Difference(float((one - other).mean()), t_interval(one - other))


def t_interval(values: ArrayLike) -> Interval | None:
    """95 % interval of a mean over draws, (draws,), by Student's t; None of a single one. The bootstrap of ten or twenty draws
    would be too narrow."""
    sample = np.asarray(values, np.float64)
    if sample.size < LEAST:
        return None
    half = float(student.ppf((1 + LEVEL) / 2, sample.size - 1) * sample.std(ddof=1) / math.sqrt(sample.size))
    return float(sample.mean()) - half, float(sample.mean()) + half


def turnover(counts: Sequence[int], differences: Sequence[float]) -> float | None:
    """The number of labels at which a difference first changes its sign, None where it never does.

    counts: numbers of labels, each once, in any order. differences: one for each. Between two counts the difference is taken
    to be linear in the logarithm of the number of labels.
    """
    if len(counts) != len(differences) or len(set(counts)) < len(counts) or min(counts, default=1) < 1:
        raise ValueError(f"counts {list(counts)} with {len(differences)} differences; give one for each count above 0")
    curve = sorted(zip(counts, differences, strict=True))
    for place, (count, difference) in enumerate(curve[:-1]):
        later = next((value for _, value in curve[place + 1 :] if value), 0.0)  # a zero has no sign
        if difference * later < 0:
            following, value = curve[place + 1]
            return float(count * (following / count) ** (difference / (difference - value)))
    return None


@dataclass(frozen=True)
class Guessing:
    """mean: of the accuracies. p: two-sided probability of a mean as far from chance, by Student's t. interval: 95 %."""

    mean: float
    p: float
    interval: Interval


def guessing(accuracies: ArrayLike, chance: float) -> Guessing:
    """One-sample t test of accuracies, (n,) with n >= 2, against those of guessing. Both as shares or both in percent.

    Of equal accuracies p is 1 where they are chance, and else 0.
    """
    sample = np.asarray(accuracies, np.float64)
    ends = t_interval(sample)
    if ends is None:
        raise ValueError(f"{sample.size} accuracies have no spread to test; give 2 or more")
    mean = float(sample.mean())
    if np.ptp(sample) == 0:
        return Guessing(float(sample[0]), float(sample[0] == chance), (float(sample[0]), float(sample[0])))
    return Guessing(mean, float(ttest_1samp(sample, chance).pvalue), ends)
