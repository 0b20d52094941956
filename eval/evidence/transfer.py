"""What a representation is worth where few images are labelled: learners, and what their accuracies over draws say.

Every way of learning gets the same draws of labels, so that differences are paired. Codes are (n, d) float32, standardized
with the statistics of the whole training set, which needs no labels (`linear_probe.Standardisation`). Networks and tensors are on the CPU.
"""

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeVar

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
Check = Callable[[], object]  # called before every step: what it raises ends the fit
T = TypeVar("T")

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


def stacked_layers(
    codes: Tensor, labels: Labels, draws: Ids, classes: int, seeds: Sequence[int], recipe: Recipe, hidden: int = 32
) -> tuple[Tensor, ...]:
    """Weights (k, hidden, d), (k, hidden), (k, classes, hidden) and (k, classes) of a layer of hidden units for each draw.

    codes: (n, d). labels: (n,). draws: (k, count) rows of them. seeds: (k,), one of each draw. All are trained at once, as
    each would be by itself: none is in the loss of another, and Adam treats every weight alone.
    """
    parts = [_begin(seed, lambda: _layers(codes.shape[1], hidden, classes)) for seed in seeds]
    both = zip(*(layers.parameters() for layers, _ in parts), strict=True)
    weights = tuple(torch.stack(same).detach().requires_grad_() for same in both)
    optimizer = torch.optim.Adam(weights, recipe.rate, fused=True)
    places, targets = torch.from_numpy(draws), torch.from_numpy(np.array(labels, np.int64))
    rows = places[:, :BATCH]
    inputs = codes[rows]
    for _ in range(recipe.steps):
        if draws.shape[1] > BATCH:
            few = [torch.randperm(draws.shape[1], generator=generator)[:BATCH] for _, generator in parts]
            rows = places.gather(1, torch.stack(few))
            inputs = codes[rows]
        logits = _logits(weights, inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets[rows].flatten(), reduction="sum") / rows.shape[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tuple(part.detach() for part in weights)


def mlps(
    codes: Tensor,
    labels: Labels,
    draws: Ids,
    test: Tensor,
    classes: int,
    seeds: Sequence[int],
    recipe: Recipe | None = None,
    hidden: int = 32,
) -> Labels:
    """Classes (k, m) of test codes (m, d), by a layer of hidden units on the frozen codes of each draw, of `stacked_layers`."""
    weights = stacked_layers(codes, labels, draws, classes, seeds, recipe or Recipe(), hidden)
    parts = [_logits(weights, part.expand(len(draws), -1, -1)).argmax(dim=2) for part in test.split(CHUNK)]
    return torch.cat(parts, dim=1).numpy()


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
    check: Check = lambda: None,
) -> Labels:
    """Classes (m,) of test images by a copy of the network that is trained whole, with the layers of `mlps` on its codes.

    network: images (n, ...) as it takes them -> codes (n, d), or a pair whose second they are; it stays as it is. standardise:
    of its codes of the whole training set. The copy stays in evaluation mode: the statistics of batch normalization are those
    of the whole training set, not of a few labelled images.
    """
    encoder = copy.deepcopy(network).eval().requires_grad_()
    layers, generator = _begin(seed, lambda: _layers(len(standardise.mean), hidden, classes))
    whole = nn.Sequential(_Codes(encoder), _Scale(standardise.mean, standardise.std), layers)
    _train(whole, layers, images, labels, recipe or Recipe(), generator, check)
    return _predict(whole, test, check)


def from_scratch(
    build: Callable[[], nn.Module],
    images: Tensor,
    labels: Labels,
    test: Tensor,
    classes: int,
    seed: int,
    recipe: Recipe | None = None,
    hidden: int = 32,
    check: Check = lambda: None,
) -> Labels:
    """Classes (m,) by a new network that only the labelled images trained: what pretraining is worth. Shapes as of `fine_tune`.

    build: makes an untrained network, whose weights follow `seed`. It is trained in training mode, and evaluated with the
    running statistics of its batch normalization: those need some 40 steps to forget where they started.
    """

    def begin() -> tuple[nn.Module, nn.Sequential]:
        encoder = build().train().requires_grad_()
        with torch.no_grad():
            dimension = _Codes(copy.deepcopy(encoder).eval())(images[:1]).shape[1]
        return encoder, _layers(dimension, hidden, classes)

    (encoder, layers), generator = _begin(seed, begin)
    whole = nn.Sequential(_Codes(encoder), layers)
    _train(whole, layers, images, labels, recipe or Recipe(), generator, check)
    return _predict(whole.eval(), test, check)


def side_by_side(fits: Sequence[Callable[[Check], T]], progress: Callable[[], object] = lambda: None) -> list[T]:
    """What each of the fits gives, in their order, on as many threads as torch has; `progress` is called after each.

    Every operation of a fit runs on one core, so that what it gives follows neither the number of threads nor their order. A
    fit must not draw from torch's own generator. It calls what it is handed at every step, which raises KeyboardInterrupt once
    an error or Ctrl-C has ended the others.
    """
    cores, over = torch.get_num_threads(), Event()

    def check() -> None:
        if over.is_set():
            raise KeyboardInterrupt

    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(fit, check) for fit in fits]
        for future in as_completed(futures):
            future.result()  # raises what the fit has raised
            progress()
        return [future.result() for future in futures]
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


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


_GENERATOR = Lock()  # torch's own, which the initial weights of layers are drawn from, is one for all threads


def _begin(seed: int, build: Callable[[], T]) -> tuple[T, torch.Generator]:
    """What `build` makes where torch's generator starts from `seed`, and a generator that goes on from there.

    Torch's own goes on afterwards as if nothing had been drawn.
    """
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = build()
        return start, torch.Generator().set_state(torch.get_rng_state())


def _layers(dimension: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dimension, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def _logits(weights: tuple[Tensor, ...], codes: Tensor) -> Tensor:
    """Logits (k, n, classes) of codes (k, n, d) by the weights of `stacked_layers`."""
    below, offset, above, bias = weights
    hidden = torch.baddbmm(offset[:, None], codes, below.mT).relu()
    return torch.baddbmm(bias[:, None], hidden, above.mT)


def _train(
    network: nn.Module,
    layers: nn.Module,
    inputs: Tensor,
    labels: Labels,
    recipe: Recipe,
    generator: torch.Generator,
    check: Check,
) -> None:
    """Cross-entropy by Adam, each step of BATCH random inputs, all of them where there are no more. layers: the last ones."""
    targets, above = torch.from_numpy(np.array(labels, np.int64)), set(layers.parameters())
    below = [weights for weights in network.parameters() if weights not in above]
    groups = [{"params": list(layers.parameters()), "lr": recipe.rate}, {"params": below, "lr": recipe.encoder_rate}]
    optimizer = torch.optim.Adam(groups, fused=True)
    few, answers = inputs, targets
    for _ in range(recipe.steps):
        check()
        if len(inputs) > BATCH:
            rows = torch.randperm(len(inputs), generator=generator)[:BATCH]
            few, answers = inputs[rows], targets[rows]
        loss = F.cross_entropy(network(few), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _predict(network: nn.Module, inputs: Tensor, check: Check) -> Labels:
    parts = []
    for part in inputs.split(CHUNK):
        check()
        parts.append(network(part).argmax(dim=1).numpy())
    return np.concatenate(parts)


# -- the choice of a recipe --------------------------------------------------------------------------------------------

# Predicts the classes (k, m) of the second rows (m,) after learning from each of the first (k, n), rows of training images.
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
    accuracies = tuple(float((learn(recipe, draws, rows) == labels[rows]).mean()) for recipe in recipes)
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
