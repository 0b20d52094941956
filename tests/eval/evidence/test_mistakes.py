"""The surest mistakes beside scipy's softmax, and the probe's layer, fitted again, beside scikit-learn's."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from eval.evidence.linear_probe import linear_probe, refit
from eval.evidence.mistakes import certain_mistakes
from tests.parts.embeddings import blobs


def test_the_surest_mistakes_come_first_with_the_probability_of_the_wrong_class() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (40, 4)), rng.integers(0, 4, 40)
    probability = softmax(logits, axis=1)
    wrong = {row: probability[row].max() for row in range(40) if probability[row].argmax() != labels[row]}
    mistakes = certain_mistakes(logits, labels, 40)
    assert [one.row for one in mistakes] == sorted(wrong, key=lambda row: -wrong[row])
    assert [one.certainty for one in mistakes] == pytest.approx([wrong[one.row] for one in mistakes])
    assert all(one.true == labels[one.row] and one.taken == probability[one.row].argmax() for one in mistakes)
    assert certain_mistakes(logits, labels, 3) == mistakes[:3]


def test_an_image_without_a_label_is_no_mistake_and_large_logits_overflow_nothing() -> None:
    logits = np.array([[1e5, 0.0], [1e5, 0.0], [0.0, 1.0]])
    (mistake,) = certain_mistakes(logits, np.array([1, -1, 1]), 9)
    assert (mistake.row, mistake.certainty) == (0, 1.0)


@pytest.mark.parametrize("dimensions", [6, 90])  # fewer than images, and more
def test_the_layer_fitted_again_is_the_one_of_the_chosen_penalty(dimensions: int) -> None:
    data = blobs(3, 20, dimensions, seed=0, distance=1.5)
    probe = linear_probe(data.train, data.train_labels, data.test, 3, seed=0)
    logits = refit(data.train, data.train_labels, data.test, 3, probe.regularization)
    np.testing.assert_array_equal(logits.argmax(axis=1), probe.predictions)
    scaler = StandardScaler().fit(data.train.astype(np.float64))
    reference = LogisticRegression(C=1 / (probe.regularization * len(data.train)), tol=1e-8, max_iter=10_000)
    reference.fit(scaler.transform(data.train), data.train_labels)
    expected = reference.predict_proba(scaler.transform(data.test))
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=2e-3)
