"""Bootstrap intervals, against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from eval.evidence.intervals import accuracy_interval, auc_interval, auc_of_counts, mean_interval, two_sample


def test_accuracy_interval_is_that_of_the_binomial_distribution() -> None:
    # A resample of n images of which a share p is correct has a binomial number of correct ones.
    correct = np.arange(1000) < 630
    expected = stats.binom(1000, 0.63).ppf([0.025, 0.975]) / 1000
    assert accuracy_interval(correct, seed=0, resamples=100_000) == pytest.approx(expected, abs=0.0011)


@pytest.mark.parametrize(
    "values", [np.random.default_rng(1).integers(0, 6, 400) / 5, np.random.default_rng(2).exponential(size=400)]
)
def test_mean_interval_agrees_with_scipy(values: np.ndarray) -> None:
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    )
    interval = mean_interval(values, seed=0, resamples=20_000)
    assert interval == pytest.approx(tuple(expected.confidence_interval), abs=0.05 * expected.standard_error)


def test_interval_of_equal_values_is_that_value() -> None:
    assert accuracy_interval(np.ones(50, bool), seed=0) == (1.0, 1.0)
    assert mean_interval(np.full(7, 0.25), seed=0) == (0.25, 0.25)


@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_auc_of_counts_agrees_with_scikit_learn_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(0)
    scores, anomalous = rng.integers(0, levels, 300), rng.random(300) < 0.3
    distinct, rank = np.unique(scores, return_inverse=True)
    normal, anomalies = (np.bincount(rank[rows], minlength=len(distinct)) for rows in (~anomalous, anomalous))
    assert auc_of_counts(normal, anomalies) == pytest.approx(roc_auc_score(anomalous, scores), abs=1e-12)


def test_auc_interval_agrees_with_scikit_learn_on_explicit_resamples() -> None:
    rng = np.random.default_rng(0)
    normal, anomalies = rng.normal(size=80).round(1), rng.normal(1, 2, size=60).round(1)
    truth = np.repeat([0, 1], [80, 60])
    draws = np.random.default_rng(7)
    aucs = [
        roc_auc_score(truth, np.concatenate([draws.choice(normal, 80), draws.choice(anomalies, 60)]))
        for _ in range(300)
    ]
    interval = auc_interval(normal, anomalies, seed=7, resamples=300)
    assert interval == pytest.approx(np.percentile(aucs, [2.5, 97.5]), abs=1e-12)


def test_auc_interval_turns_over_when_the_sets_change_places() -> None:
    rng = np.random.default_rng(4)
    normal, anomalies = rng.normal(size=400), rng.normal(0.5, 1, 400)
    ends = auc_interval(normal, anomalies, seed=0, resamples=4000)
    assert ends is not None
    turned = auc_interval(anomalies, normal, seed=0, resamples=4000)
    assert turned == pytest.approx((1 - ends[1], 1 - ends[0]), abs=0.004)


def test_two_sample_interval_agrees_with_scipy_for_a_ratio_of_means() -> None:
    rng = np.random.default_rng(5)
    one, other = rng.exponential(size=60), rng.gamma(4, size=90)
    expected = stats.bootstrap(
        (one, other),
        lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(6),
    )
    result = two_sample(lambda a, b: float(a.mean() / b.mean()), one, other, 10_000, np.random.default_rng(7))
    assert result.value == pytest.approx(one.mean() / other.mean())
    assert result.interval == pytest.approx(tuple(expected.confidence_interval), abs=0.06 * expected.standard_error)


def test_two_sets_of_which_one_is_a_single_value_have_no_interval() -> None:
    result = two_sample(
        lambda a, b: float(a.mean() - b.mean()), np.ones(1), np.arange(5.0), 10, np.random.default_rng(0)
    )
    assert result.value == -1 and result.interval is None
