"""The linear probe: against scikit-learn's logistic regression."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from eval.evidence.linear_probe import (
    GRID,
    TOLERANCE,
    WEAKER,
    Curvature,
    Linear,
    Probe,
    Standardisation,
    enough,
    fit,
    linear_probe,
    validation_rows,
)
from tests.parts.embeddings import blobs, correlated
from train.data.embeddings import Embeddings
from train.tracking import Problem


def fit_probe(embeddings: Embeddings, seed: int = 0) -> Probe:
    return linear_probe(embeddings.train, embeddings.train_labels, embeddings.test, len(embeddings.classes), seed)


def reference(
    x: NDArray[Any], labels: NDArray[np.int64], regularization: float, solver: str = "lbfgs"
) -> LogisticRegression:
    """The same objective in scikit-learn's terms, in float64 and far past convergence."""
    model = LogisticRegression(C=1 / (regularization * len(x)), tol=1e-10, max_iter=10_000, solver=solver)
    return model.fit(x.astype(np.float64), labels)


def check_optimum(probe: Probe, x: NDArray[np.float64], labels: NDArray[np.int64], model: LogisticRegression) -> None:
    """That a probe stands where its tolerance lets it stop, and that nothing else parts it from scikit-learn's weights.

    How far it stands from them differs by processor: float32's last bits decide at which step the gradient falls below the
    tolerance, and where the penalty is weak a small gradient is a long way. On every processor the float64 gradient there is
    within the tolerance, and leads to scikit-learn's weights.
    """
    inputs, classes = torch.from_numpy(np.hstack([x, np.ones((len(x), 1))])), len(model.classes_)
    layer = torch.cat([probe.layer.weights, probe.layer.bias[:, None]], dim=1)
    gap = layer - torch.from_numpy(np.hstack([model.coef_, model.intercept_[:, None]]))

    def objective(flat: Tensor) -> Tensor:
        weights = flat.view(classes, -1)
        penalty = probe.regularization / 2 * weights[:, :-1].square().sum()
        return F.cross_entropy(inputs @ weights.T, torch.from_numpy(labels)) + penalty

    gradient = torch.autograd.functional.jacobian(objective, layer.flatten())
    # `fit` divides by the root of softness * variance + penalty along each axis; the softness is (1 - 1 / classes) / classes at most.
    variance, axes = np.linalg.eigh(x.T @ x / len(x))
    softness = (1 - 1 / classes) / classes
    curvature = np.append(softness * variance.clip(0) + probe.regularization, softness)
    steepness = gradient.view(classes, -1).numpy() @ block_diag(axes, 1)
    assert (np.abs(steepness) <= TOLERANCE * np.sqrt(curvature)).all()

    # The Hessian changes by a factor of exp(range) at most where an image's logits change by that range (the third cumulant of
    # a distribution is at most its variance times its range), and so a Newton step misses by exp(range) - 1 of the way.
    hessian = torch.autograd.functional.hessian(objective, layer.flatten())
    rest = gap.flatten() - torch.linalg.pinv(hessian, hermitian=True) @ gradient
    logits = inputs @ gap.T
    change = float((logits.amax(dim=1) - logits.amin(dim=1)).max())
    assert change < 0.01
    assert rest @ hessian @ rest <= np.expm1(change) ** 2 * (gap.flatten() @ hessian @ gap.flatten())


def probabilities(layer: Linear, standardise: Standardisation, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return layer.logits(standardise(vectors)).softmax(dim=1).numpy()


def test_probe_separates_two_blobs() -> None:
    embeddings = blobs(2, 100, 4, seed=0)
    np.testing.assert_array_equal(fit_probe(embeddings).predictions, embeddings.test_labels)


@pytest.mark.parametrize(("n", "dimensions"), [(120, 20), (15, 80)], ids=["more images", "more dimensions"])
def test_probe_is_the_optimum_that_scikit_learn_finds(n: int, dimensions: int) -> None:
    embeddings = correlated(4, n, dimensions, seed=1)
    result = fit_probe(embeddings)
    scaler = StandardScaler().fit(embeddings.train.astype(np.float64))
    x = scaler.transform(embeddings.train.astype(np.float64))
    model = reference(x, embeddings.train_labels, result.regularization, "newton-cholesky")  # to float64's last digits
    test = scaler.transform(embeddings.test)
    check_optimum(result, x, embeddings.train_labels, model)
    np.testing.assert_allclose(
        probabilities(result.layer, Standardisation.of(embeddings.train), embeddings.test),
        model.predict_proba(test),
        atol=5e-4,
    )
    np.testing.assert_array_equal(result.predictions, model.predict(test))


@pytest.mark.parametrize("regularization", [1.0, 1e-2, 1e-4])
def test_an_image_without_weight_is_left_out_of_the_fit(regularization: float) -> None:
    embeddings = correlated(3, 100, 12, seed=2)
    x = Standardisation.of(embeddings.train)(embeddings.train)
    used = np.random.default_rng(0).random(len(x)) < 0.7
    start = Linear(torch.zeros(3, 12, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    labels = torch.from_numpy(embeddings.train_labels)
    layer = fit(x, labels, torch.from_numpy(used).double(), regularization, start, Curvature.of(x))
    model = reference(x.numpy()[used], embeddings.train_labels[used], regularization)
    expected = model.predict_proba(x.numpy().astype(np.float64))
    np.testing.assert_allclose(layer.logits(x).softmax(dim=1), expected, atol=5e-4)


def test_held_out_accuracies_are_those_of_scikit_learn_and_the_best_is_chosen() -> None:
    embeddings = correlated(3, 60, 30, seed=3)
    result = fit_probe(embeddings, seed=5)
    validation = validation_rows(embeddings.train_labels, seed=5)
    x = StandardScaler().fit_transform(embeddings.train.astype(np.float64))
    grid = tuple(10.0**-i for i in range(len(result.validation)))
    scores = [
        reference(x[~validation], embeddings.train_labels[~validation], value).score(
            x[validation], embeddings.train_labels[validation]
        )
        for value in grid
    ]
    assert result.validation == pytest.approx(scores)
    assert result.regularization == grid[int(np.argmax(scores))]


def test_weaker_penalties_are_tried_as_long_as_the_weakest_is_clearly_the_best() -> None:
    """Classes that differ along a direction of little variance: only a large weight tells them apart."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 400).astype(np.int64)
    noise = random.normal(size=800)
    vectors = np.stack([noise + 0.003 * (2 * labels - 1), noise], axis=1).astype(np.float32)
    result = linear_probe(vectors, labels, vectors, 2, 0)
    best = int(np.argmax(result.validation))
    assert best >= len(GRID) and result.regularization == (GRID + WEAKER)[best]
    assert len(result.validation) == min(best + 2, len(GRID + WEAKER))
    assert (result.predictions == labels).mean() > 0.99
    assert len(fit_probe(correlated(3, 60, 30, seed=3), seed=5).validation) <= len(GRID)


def test_the_search_ends_where_a_weaker_penalty_is_clearly_worse_or_the_last_not_clearly_best() -> None:
    """Of 5,000 images a standard error is 0.6 points at 75 %."""
    assert not enough([0.6, 0.7], 5_000) and not enough([0.6, 0.75, 0.745], 5_000)
    assert enough([0.6, 0.75, 0.743], 5_000) and not enough([0.6, 0.75, 0.743], 500)
    assert not enough([0.1, 0.2, 0.3, 0.4, 0.5], 5_000)
    for weakest in (0.5, 0.499, 0.501):
        assert enough([0.1, 0.2, 0.3, 0.5, weakest], 5_000)
    assert not enough([0.1, 0.2, 0.3, 0.5, 0.51], 5_000) and enough([0.1, 0.2, 0.3, 0.5, 0.51], 287)
    assert not enough([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 5_000) and enough([0.1, 0.2, 0.3, 0.4, 0.5, 0.5], 5_000)


def test_wide_vectors_have_the_same_optimum_by_some_of_their_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = correlated(4, 120, 40, seed=1)
    whole = fit_probe(embeddings)
    monkeypatch.setattr("eval.evidence.linear_probe.WIDE", 39)
    monkeypatch.setattr("eval.evidence.linear_probe.AXES", 7)
    state = torch.random.get_rng_state()
    curvature = Curvature.of(Standardisation.of(embeddings.train)(embeddings.train))
    assert curvature.axes.shape == (40, 7) and curvature.rest is not None
    assert float(curvature.variance.sum() + 33 * curvature.rest) == pytest.approx(40, rel=1e-4)
    wide = fit_probe(embeddings)
    assert torch.equal(state, torch.random.get_rng_state())
    assert wide.regularization == whole.regularization
    standardise = Standardisation.of(embeddings.train)
    one, other = (probabilities(probe.layer, standardise, embeddings.test) for probe in (wide, whole))
    np.testing.assert_allclose(one, other, atol=3e-3)


def test_probe_ignores_scale_and_shift_of_dimensions() -> None:
    embeddings = blobs(4, 80, 6, seed=4, distance=1.5)
    rng = np.random.default_rng(0)
    scale, shift = 10.0 ** rng.integers(-4, 5, 6), rng.normal(size=6)
    moved = dataclasses.replace(
        embeddings,
        train=((embeddings.train + shift) * scale).astype(np.float32),
        test=((embeddings.test + shift) * scale).astype(np.float32),
    )
    one, other = fit_probe(embeddings), fit_probe(moved)
    assert one.regularization == other.regularization
    np.testing.assert_allclose(one.layer.weights, other.layer.weights, atol=5e-4)
    np.testing.assert_array_equal(one.predictions, other.predictions)


def test_a_constant_dimension_gets_no_weight_and_changes_nothing() -> None:
    embeddings = blobs(3, 60, 5, seed=5, distance=1.5)
    constant = np.full((180, 1), 0.1, np.float32)
    wider = dataclasses.replace(
        embeddings, train=np.hstack([embeddings.train, constant]), test=np.hstack([embeddings.test, constant])
    )
    one, other = fit_probe(embeddings), fit_probe(wider)
    np.testing.assert_allclose(other.layer.weights[:, -1], 0, atol=1e-12)
    np.testing.assert_array_equal(one.predictions, other.predictions)


def test_a_collapsed_representation_gives_chance() -> None:
    embeddings = blobs(3, 60, 5, seed=5)
    same = np.full((180, 5), 0.3, np.float32)
    result = fit_probe(dataclasses.replace(embeddings, train=same, test=same))
    assert (result.predictions == embeddings.test_labels).mean() == pytest.approx(1 / 3)


def test_held_out_is_a_stratified_fifth_of_a_small_set() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 100, 25]))
    assert np.bincount(labels[validation_rows(labels, seed=0)]).tolist() == [10, 20, 5]
    assert (validation_rows(labels, seed=0) != validation_rows(labels, seed=1)).any()


def test_held_out_is_five_thousand_of_a_large_set() -> None:
    labels = np.tile(np.arange(10), 5_000)
    assert np.bincount(labels[validation_rows(labels, seed=0)]).tolist() == [500] * 10


def test_no_class_is_held_out_whole() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2])
    assert np.bincount(labels[validation_rows(labels, seed=0)], minlength=3).tolist() == [0, 1, 1]
    with pytest.raises(Problem, match="two images"):
        validation_rows(np.array([0, 1, 2]), seed=0)
