"""Costs of training against closed forms and scipy."""

import numpy as np
import pytest
from scipy import stats

from eval.evidence.pace import cost_ratio, drift, per_thousand, steady


def test_drift_is_the_last_third_over_the_first() -> None:
    assert drift([2, 4, 100, 100, 3, 6]) == pytest.approx(1.5)
    assert drift([1, 2, 9, 9, 9, 9, 9, 2, 4]) == pytest.approx(15 / 12)
    assert drift([5.0] * 7) == 1 and drift([1, 9, 2, 7]) == 7  # of four epochs a third is one


def test_time_reversed_has_the_inverse_drift_and_another_unit_the_same() -> None:
    seconds = np.random.default_rng(0).random(11) + 0.5
    assert drift(seconds[::-1]) == pytest.approx(1 / drift(seconds))
    assert drift(60 * seconds) == pytest.approx(drift(seconds))


def test_a_drift_of_a_tenth_either_way_is_steady() -> None:
    assert [steady(ratio) for ratio in (0.89, 0.91, 1, 1.09, 1.11)] == [False, True, True, True, False]
    assert steady(1.4, tolerance=0.5)


def test_seconds_per_thousand_images() -> None:
    np.testing.assert_allclose(per_thousand([3, 6], 60_000), [0.05, 0.1])
    with pytest.raises(ValueError, match="0 images of an epoch"):
        per_thousand([1], 0)


def test_cost_ratio_agrees_with_scipys_bootstrap() -> None:
    random = np.random.default_rng(0)
    a, b = random.gamma(9, 0.4, 25), random.gamma(9, 0.1, 18)

    def ratio(one: np.ndarray, other: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(one.mean(axis) / other.mean(axis))

    expected = stats.bootstrap(
        (a, b), ratio, n_resamples=10_000, method="percentile", vectorized=True, rng=np.random.default_rng(1)
    )
    value, ends = cost_ratio(a, b, seed=0)
    assert value == pytest.approx(a.mean() / b.mean())
    assert ends == pytest.approx(tuple(expected.confidence_interval), abs=0.06 * expected.standard_error)


def test_equal_epochs_leave_no_doubt_of_their_ratio_and_a_single_one_has_no_interval() -> None:
    assert cost_ratio([6.0] * 4, [2.0] * 3, seed=0) == (3, (3, 3))
    assert cost_ratio([6.0], [2.0, 4.0], seed=0) == (2, None)


@pytest.mark.parametrize("seconds", [[], [1, 0, 2], [1, float("nan"), 1], [-1.0]])
def test_times_that_are_none_are_refused(seconds: list[float]) -> None:
    for measure in (drift, lambda sample: cost_ratio(sample, [1], 0), lambda sample: cost_ratio([1], sample, 0)):
        with pytest.raises(ValueError, match="give numbers above 0"):
            measure(seconds)


def test_two_epochs_have_no_thirds() -> None:
    with pytest.raises(ValueError, match="2 epochs have no thirds; train 3"):
        drift([1, 1])
