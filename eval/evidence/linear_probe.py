"""A linear probe: multinomial logistic regression with an L2 penalty on frozen, standardized vectors.

The objective is mean cross-entropy + regularization / 2 * |weights|^2, the bias free: scikit-learn's LogisticRegression
with C = 1 / (regularization * images). The penalty is chosen on held-out training labels; test labels are no input.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from train.data.embeddings import Vectors
from train.tracking.problem import Problem
from train.tracking.progress import Progress

GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # strongest first: each fit starts from the one before
WEAKER = (1e-5, 1e-6, 1e-7, 1e-8)  # tried after them, as long as the weakest so far is clearly the best
VALIDATION = 5_000
TOLERANCE = 3e-5  # converged: no entry of the gradient is larger (see `fit`)
STEPS = 500  # of L-BFGS at most; on CIFAR-10's pixels and on their random features 28 were the most that were needed
CHUNK = 4_096  # rows: float64 copies stay small
WIDE = 8_192  # dimensions up to which all principal axes are made; their time grows with the cube
AXES = 1_000  # of wider vectors


@dataclass(frozen=True)
class Standardisation:
    """mean, std: (d,) float64, of the training vectors; std is 1 where a dimension is constant to float32 precision."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Vectors) -> "Standardisation":
        chunks = [slice(start, start + CHUNK) for start in range(0, len(vectors), CHUNK)]
        mean = sum(vectors[chunk].sum(axis=0, dtype=np.float64) for chunk in chunks) / len(vectors)
        std = np.sqrt(sum(((vectors[chunk] - mean) ** 2).sum(axis=0) for chunk in chunks) / len(vectors))
        return cls(mean, np.where(std <= np.finfo(np.float32).eps * np.abs(mean), 1.0, std))

    def __call__(self, vectors: Vectors) -> Tensor:
        """(n, d) float32, a copy."""
        result = np.empty(vectors.shape, np.float32)
        for start in range(0, len(vectors), CHUNK):
            result[start : start + CHUNK] = (vectors[start : start + CHUNK] - self.mean) / self.std
        return torch.from_numpy(result)


@dataclass(frozen=True)
class Linear:
    """weights: (classes, d), bias: (classes,), float64; of standardized vectors."""

    weights: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """x: (n, d) float32. Returns (n, classes) float64; only the product is taken in float32."""
        # F.linear's gradient is a product over rows, error.T @ x; that of x @ weights.T takes ten times as long.
        return F.linear(x, self.weights.float()).double() + self.bias

    def predict(self, x: Tensor) -> NDArray[np.int64]:
        return np.asarray(self.logits(x).argmax(dim=1))


@dataclass(frozen=True)
class Probe:
    """regularization: the chosen penalty. validation: accuracy on held-out training labels by penalty, of those of GRID and
    then of WEAKER that were tried.
    layer: of all training labels. predictions: (n,) class of each test vector."""

    regularization: float
    validation: tuple[float, ...]
    layer: Linear
    predictions: NDArray[np.int64]


def linear_probe(
    train: Vectors, train_labels: NDArray[np.int64], test: Vectors, classes: int, seed: int, what: str = "probe"
) -> Probe:
    """Chooses the penalty with the highest held-out accuracy (of equals the strongest), refits on all training labels.

    train, test: (n, d). train_labels: (n,), each of `classes` present. `what` names the progress bar.
    """
    standardise = Standardisation.of(train)
    x, labels = standardise(train), torch.from_numpy(np.array(train_labels))
    basis = None
    if len(x) < x.shape[1]:
        # The optimum lies in the span of the training vectors; an orthonormal basis of it keeps the penalty as it is.
        basis = torch.linalg.qr(x.T).Q
        x = x @ basis
    curvature = Curvature.of(x)
    validation = torch.from_numpy(validation_rows(train_labels, seed))

    layers = [Linear(torch.zeros(classes, x.shape[1], dtype=torch.float64), torch.zeros(classes, dtype=torch.float64))]
    accuracies: list[float] = []
    with Progress(what, "fit", len(GRID) + 1, leave=False) as bar:
        for regularization in GRID + WEAKER:
            if accuracies and enough(accuracies, int(validation.sum())):
                break
            layer = fit(x, labels, (~validation).double(), regularization, layers[-1], curvature)
            layers.append(layer)
            right = torch.from_numpy(layer.predict(x[validation])) == labels[validation]
            accuracies.append(float(right.double().mean()))
            if len(accuracies) <= len(GRID):
                bar.update()
        best = int(np.argmax(accuracies))  # argmax returns the first of equals
        penalty = (GRID + WEAKER)[best]
        layer = fit(x, labels, torch.ones(len(x), dtype=torch.float64), penalty, layers[1:][best], curvature)
        bar.update()
    if basis is not None:
        layer = Linear(layer.weights @ basis.T.double(), layer.bias)
    return Probe(penalty, tuple(accuracies), layer, layer.predict(standardise(test)))


def enough(accuracies: Sequence[float], count: int) -> bool:
    """Whether a weaker penalty need not be tried: the last one's accuracy on `count` images is more than a standard error
    below the best, or GRID is done and it is not more than that above all others."""
    *others, last = accuracies
    best = max(accuracies)
    error = math.sqrt(best * (1 - best) / count)
    return best - last > error or (len(accuracies) >= len(GRID) and last - max(others) <= error)


def refit(
    train: Vectors, train_labels: NDArray[np.int64], test: Vectors, classes: int, regularization: float
) -> NDArray[np.float64]:
    """The logits (n, classes) of the test vectors by the layer of all training labels, with a penalty that was chosen
    before: to the tolerance of the fit those of `linear_probe`."""
    standardise = Standardisation.of(train)
    x, test_x = standardise(train), standardise(test)
    if len(x) < x.shape[1]:  # as in `linear_probe`
        basis = torch.linalg.qr(x.T).Q
        x, test_x = x @ basis, test_x @ basis
    zeros = Linear(torch.zeros(classes, x.shape[1], dtype=torch.float64), torch.zeros(classes, dtype=torch.float64))
    weights = torch.ones(len(x), dtype=torch.float64)
    labels = torch.from_numpy(np.array(train_labels))
    return np.asarray(fit(x, labels, weights, regularization, zeros, Curvature.of(x)).logits(test_x))


def validation_rows(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which training images to choose the penalty on: (n,) bool, 5,000 or a fifth of a small set, stratified.

    Each class gives its share, rounded down, but at least one image where it has two, and never its last one.
    """
    share = min(VALIDATION, len(labels) / 5) / len(labels)
    rng = np.random.default_rng(seed)
    rows = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(int(len(members) * share + 1e-9), min(1, len(members) - 1))
        rows[rng.permutation(members)[:count]] = True
    if not rows.any():
        raise Problem(
            f"each of the {len(labels)} training images has a class of its own, so none can be held out; give two images of a class"
        )
    return rows


@dataclass(frozen=True)
class Curvature:
    """Principal axes (d, k) of the vectors and the variance (k,) along each, float64: what L-BFGS is preconditioned with.

    The Hessian of the cross-entropy is, in these axes, roughly diagonal and proportional to the variances. Rescaled by
    it, correlated dimensions (pixels) take as few iterations as independent ones. rest: the mean variance along all other
    directions, of more than WIDE dimensions, where k is AXES; None where k = d.
    """

    axes: Tensor
    variance: Tensor
    rest: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor) -> "Curvature":
        n, d = x.shape
        if d <= WIDE:
            variance, axes = torch.linalg.eigh((x.T @ x).double() / n)
            return cls(axes, variance.clamp_min(0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, values, axes = torch.svd_lowrank(x, AXES)
        variance = values.double().square() / n
        total = sum(part.square().sum(dtype=torch.float64) for part in x.split(CHUNK)) / n
        return cls(axes.double(), variance, (total - variance.sum()).clamp_min(0) / (d - AXES))

    def scale(self, softness: Tensor, regularization: float) -> Tensor:
        """One over the root of the curvature along each axis, then along the rest where there is one, then of the bias."""
        rest = [] if self.rest is None else [softness * self.rest[None] + regularization]
        return torch.cat([softness * self.variance + regularization, *rest, softness[None]]).rsqrt()

    def coordinates(self, layer: Linear, scale: Tensor) -> Tensor:
        """Those of a layer in which the curvature is about 1: (classes, d + 1), the bias last."""
        if self.rest is None:
            return torch.cat([layer.weights @ self.axes, layer.bias[:, None]], dim=1) / scale
        return torch.cat([self._stretch(layer.weights, 1 / scale), layer.bias[:, None] / scale[-1]], dim=1)

    def layer(self, coordinates: Tensor, scale: Tensor) -> Linear:
        """The layer of such coordinates."""
        if self.rest is None:
            coefficients = coordinates * scale
            return Linear(coefficients[:, :-1] @ self.axes.T, coefficients[:, -1])
        return Linear(self._stretch(coordinates[:, :-1], scale), coordinates[:, -1] * scale[-1])

    def _stretch(self, weights: Tensor, scale: Tensor) -> Tensor:
        """Weights (classes, d) by the scale along each axis, and by the next to last of them along all other directions."""
        rest = scale[-2]
        return weights * rest + ((weights @ self.axes) * (scale[:-2] - rest)) @ self.axes.T


def fit(
    x: Tensor, labels: Tensor, weights: Tensor, regularization: float, start: Linear, curvature: Curvature
) -> Linear:
    """The minimum of the weighted mean cross-entropy + regularization / 2 * |weights|^2, by full-batch L-BFGS.

    x: (n, d) float32. labels: (n,). weights: (n,) float64, 0 leaves an image out. Converged when no entry of the gradient
    is above TOLERANCE, in coordinates in which the objective's curvature is about 1.
    """
    weights = weights / weights.sum()
    # The softmax's own curvature at the start, averaged over images and classes.
    softness = weights @ (1 - start.logits(x).softmax(dim=1).square().sum(dim=1)) / start.bias.numel()
    softness = softness.clamp_min(1e-6)
    scale = curvature.scale(softness, regularization)
    z = curvature.coordinates(start, scale).requires_grad_()

    def objective() -> Tensor:
        optimizer.zero_grad()
        at = curvature.layer(z, scale)
        loss = weights @ F.cross_entropy(at.logits(x), labels, reduction="none")
        loss = loss + regularization / 2 * at.weights.square().sum()
        loss.backward()
        return loss.detach()

    optimizer = torch.optim.LBFGS(
        [z], max_iter=STEPS, tolerance_grad=TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    optimizer.step(objective)
    assert z.grad is not None
    if (steepest := float(z.grad.abs().max())) > 10 * TOLERANCE:
        warnings.warn(f"the probe stopped at a gradient of {steepest:.1g}, above {TOLERANCE:g}", stacklevel=2)
    with torch.no_grad():
        return curvature.layer(z, scale)
