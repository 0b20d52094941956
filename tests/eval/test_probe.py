"""eval.probe and its parts: against scikit-learn's logistic regression."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix as reference_confusion
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from eval import probe
from eval.evidence.confusion import confusion_matrix, most_confused
from eval.evidence.linear_probe import (
    TOLERANCE,
    Curvature,
    Linear,
    Probe,
    Standardisation,
    fit,
    linear_probe,
    validation_rows,
)
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_embedded, publish_encoder, publish_images
from tests.parts.embeddings import blobs, numbers, publish_embeddings
from train.data.embeddings import Embeddings
from train.data.scores import Scores
from train.tracking import Origin, Problem, Stage
from train.tracking.store import Store


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


def correlated(classes: int, n: int, dimensions: int, seed: int) -> Embeddings:
    """Classes that overlap, in dimensions that are correlated and have means and scales of their own, as features do."""
    embeddings = blobs(classes, n, dimensions, seed, distance=2)
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions)) * np.geomspace(1, 100, dimensions)
    shift = rng.normal(size=dimensions) * 10
    train, test = ((vectors @ mixing + shift).astype(np.float32) for vectors in (embeddings.train, embeddings.test))
    return dataclasses.replace(embeddings, train=train, test=test)


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
    grid = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
    scores = [
        reference(x[~validation], embeddings.train_labels[~validation], value).score(
            x[validation], embeddings.train_labels[validation]
        )
        for value in grid
    ]
    assert result.validation == pytest.approx(scores)
    assert result.regularization == grid[int(np.argmax(scores))]


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


def test_confusion_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.permutation(np.arange(300) % 5), rng.integers(0, 4, 300)
    expected = reference_confusion(labels, predictions, normalize="true")
    np.testing.assert_allclose(confusion_matrix(labels, predictions, 5), expected)


def test_most_confused_are_the_largest_mistakes_in_order() -> None:
    confusion = np.array([[0.7, 0.3, 0.0], [0.1, 0.9, 0.0], [0.0, 0.4, 0.6]])
    expected = [("c", "b", 0.4), ("a", "b", 0.3), ("b", "a", 0.1)]
    assert most_confused(confusion, ("a", "b", "c")) == expected


def test_entangled_classes_are_ordered_by_what_both_are_taken_for_each_other() -> None:
    confusion = np.array([[0.7, 0.3, 0.0], [0.1, 0.9, 0.0], [0.0, 0.6, 0.4]])
    pairs = probe.class_pairs(confusion, ("a", "b", "c"))
    assert [pair[:2] for pair in pairs] == [("b", "c"), ("a", "b"), ("a", "c")]
    assert [rate for *_, rate in pairs] == pytest.approx([0.3, 0.2, 0.0])
    assert len(probe.class_pairs(np.eye(30), [str(i) for i in range(30)])) == 100


def result(alias: str = "blobs-vicreg") -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("probe", alias)))


def published_values() -> dict[str, Any]:
    return result().values


def test_stage_publishes_what_scikit_learn_measures() -> None:
    embeddings = correlated(4, 60, 8, seed=6)
    alias = publish_embeddings(embeddings)
    probe.main(probe.Config(alias))
    values = published_values()
    for path, (train, test) in {
        "probe": embeddings.layer("representation"),
        "probe/features": embeddings.layer("features"),
    }.items():
        scaler = StandardScaler().fit(train.astype(np.float64))
        regularization = values[f"{path}/regularisation"]
        assert isinstance(regularization, float)
        model = reference(scaler.transform(train), embeddings.train_labels, regularization)
        right = model.predict(scaler.transform(test)) == embeddings.test_labels
        expected = right.mean()
        assert values[f"{path}/top1"] == pytest.approx(expected)
        np.testing.assert_array_equal(result().samples[f"{path}/top1"], right)
        low, high = values[f"{path}/top1/interval"]
        error = np.sqrt(expected * (1 - expected) / 240)
        assert (low, high) == pytest.approx((expected - 1.96 * error, expected + 1.96 * error), abs=0.3 * error)
    assert np.mean(values["probe/per_class"]) == pytest.approx(values["probe/top1"])
    assert values["probe/classes"] == list(embeddings.classes)
    assert values["probe/counts"] == [60] * 4
    assert values["probe/chance"] == 0.25
    assert "probe/duplicates" not in values  # what is in the scores of clean sets stays what it was


def test_test_labels_change_no_choice_and_no_prediction() -> None:
    embeddings = correlated(4, 60, 8, seed=7)
    shuffled = np.random.default_rng(0).permutation(embeddings.test_labels)
    outcomes = []
    for variant, labels in (("blobs-a", embeddings.test_labels), ("blobs-b", shuffled)):
        publish_embeddings(dataclasses.replace(embeddings, test_labels=labels), variant)
        probe.main(probe.Config(variant))
        scores = result(variant)
        # Every class has as many test images: a column's sum says how many were taken for that class.
        heatmap = numbers(scores.figures["probe/confusion"].data[0].z)
        outcomes.append((scores.values["probe/regularisation"], heatmap.sum(axis=0).round(3).tolist()))
    assert outcomes[0] == outcomes[1]


def test_random_labels_give_chance_within_the_interval() -> None:
    embeddings = blobs(2, 500, 10, seed=8, distance=0)
    publish_embeddings(embeddings)
    probe.main(probe.Config("blobs-vicreg"))
    low, high = published_values()["probe/top1/interval"]
    assert low < 0.5 < high


def test_without_a_head_features_and_representation_have_the_same_numbers() -> None:
    publish_embeddings(blobs(3, 40, 6, seed=9, distance=2, head=False))
    probe.main(probe.Config("blobs-vicreg"))
    values = published_values()
    for name in ("top1", "top1/interval", "regularisation"):
        assert values[f"probe/{name}"] == values[f"probe/features/{name}"]


def test_a_rerun_makes_no_new_version() -> None:
    publish_embeddings(blobs(3, 40, 6, seed=9, distance=2))
    for _ in range(2):
        probe.main(probe.Config("blobs-vicreg"))
    assert len(Store().versions("probe")) == 1


def test_predictions_are_of_a_sample_with_its_pictures_and_agree_with_the_accuracy() -> None:
    embeddings = blobs(3, 200, 6, seed=4, distance=1)
    images = pictures("blobs", embeddings)
    fit = probe.probe(embeddings, "representation", 0)
    table = probe.predictions(embeddings, fit, np.arange(600), images.test)
    rows = table["row"].to_numpy()
    assert len(rows) == 500 == len(np.unique(rows)) and list(table.columns) == [
        "row",
        "image",
        "class",
        "prediction",
        "right",
    ]
    correct = fit.predictions == embeddings.test_labels
    np.testing.assert_array_equal(table["right"], correct[rows])
    assert table["class"].tolist() == [f"class {embeddings.test_labels[row]}" for row in rows]
    assert table["prediction"].tolist() == [f"class {fit.predictions[row]}" for row in rows]
    for row, image in zip(rows[:20], table["image"], strict=False):
        np.testing.assert_array_equal(np.asarray(image), images.test[row])
    other = probe.predictions(
        embeddings, dataclasses.replace(fit, predictions=fit.predictions[::-1]), np.arange(600), None
    )
    assert other["row"].tolist() == rows.tolist() and "image" not in other


def test_pictures_are_shown_of_the_images_that_take_part() -> None:
    embeddings = blobs(2, 10, 4, seed=4)
    images = pictures("blobs", embeddings)
    places = np.arange(0, 20, 2)
    part = dataclasses.replace(embeddings, test=embeddings.test[places], test_labels=embeddings.test_labels[places])
    table = probe.predictions(part, probe.probe(part, "representation", 0), places, images.test)
    assert table["row"].tolist() == places.tolist()
    for row, image in zip(places, table["image"], strict=True):
        np.testing.assert_array_equal(np.asarray(image), images.test[row])


def test_what_is_shown_is_no_part_of_what_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are looked at for a table; on a machine without them the probe is the same version."""
    embeddings = blobs(3, 40, 6, seed=9, distance=2)
    publish_images(pictures("blobs", embeddings))
    publish_encoder("blobs-vicreg", "blobs")
    publish_embedded(embeddings, "blobs-vicreg", "blobs")
    probe.main(probe.Config("blobs-vicreg"))
    store = Store()
    (before,) = store.versions("probe")
    assert Origin.load(store.folder(before)).inputs == (f"embeddings@{store.get('embeddings', 'latest').digest}",)
    monkeypatch.setattr(Stage, "beside", lambda stage, source, name: None)
    probe.main(probe.Config("blobs-vicreg"))
    assert [version.digest for version in store.versions("probe")] == [before.digest]


def broken(**arrays: Any) -> Embeddings:
    return dataclasses.replace(blobs(3, 10, 4, seed=0), **arrays)


@pytest.mark.parametrize(
    ("embeddings", "names"),
    [
        (broken(test=np.zeros((30, 7), np.float32)), r"train.npy is \(30, 4\), and test.npy is \(30, 7\)"),
        (broken(test_features=np.full((30, 4), np.nan, np.float32)), "test_features: 30 of 30 vectors .* hold NaN"),
        (broken(train_labels=np.arange(30) % 2), "'class 2' has no train image"),
        (broken(test_labels=np.arange(30) % 2), "'class 2' has no test image"),
        (broken(test_labels=np.arange(29) % 3), r"test_labels.npy is int64 \(29,\), not int64 \(30,\)"),
    ],
)
def test_what_cannot_be_probed_is_refused_and_nothing_published(embeddings: Embeddings, names: str) -> None:
    publish_embeddings(embeddings)
    with pytest.raises(Problem, match=names):
        probe.main(probe.Config("blobs-vicreg"))
    assert not Store().versions("probe")


def test_embeddings_of_another_image_set_are_refused() -> None:
    fields = {"variant": "blobs-vicreg", "seed": 0, "images": "mnist"}
    publish_embeddings(dataclasses.replace(blobs(3, 10, 4, seed=0), own=False), dataset="mnist", fields=fields)
    with pytest.raises(Problem, match="mnist"):
        probe.main(probe.Config("blobs-vicreg-on-mnist"))


def test_no_resamples_are_refused() -> None:
    with pytest.raises(Problem, match="--resamples 0"):
        probe.Config("blobs-vicreg", resamples=0)
