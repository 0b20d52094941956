"""eval.probe: what it publishes, and that test labels choose nothing."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as reference_confusion
from sklearn.preprocessing import StandardScaler

from eval import probe
from eval.evidence.confusion import confusion_matrix, most_confused
from tests.eval.evidence.test_linear_probe import reference
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_embedded, publish_encoder, publish_images
from tests.parts.embeddings import blobs, correlated, numbers, publish_embeddings
from train.data.embeddings import Embeddings
from train.data.scores import Scores
from train.tracking import Origin, Problem, Stage
from train.tracking.store import Store


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
