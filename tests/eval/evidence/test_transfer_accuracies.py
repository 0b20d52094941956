"""Statistics of accuracies over draws of few labels, against scipy and closed forms."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import betainc

from eval.evidence.transfer import guessing, paired, t_interval, turnover


def test_paired_differences_agree_with_scipys_paired_t_test() -> None:
    random = np.random.default_rng(0)
    draw = random.normal(0.5, 0.1, 20)
    a, b = draw + random.normal(0.03, 0.02, 20), draw + random.normal(0, 0.02, 20)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    difference = paired(a, b)
    assert difference.value == pytest.approx(a.mean() - b.mean())
    assert difference.interval == pytest.approx((expected.low, expected.high)) and difference.verdict == "higher"
    turned = paired(b[::-1], a[::-1])
    assert turned.interval == pytest.approx((-expected.high, -expected.low))


def test_a_single_draw_has_no_interval_and_unequal_numbers_of_draws_are_refused() -> None:
    assert paired([0.5], [0.3]).interval is None and t_interval([1.0]) is None
    assert paired([0.5, 0.75], [0.25, 0.5]).interval == (0.25, 0.25)
    with pytest.raises(ValueError, match="3 and 2 draws cannot be paired"):
        paired([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="0 and 0 draws"):
        paired([], [])


def test_a_difference_turns_over_where_its_line_in_the_logarithm_crosses_zero() -> None:
    counts, slope = [10, 40, 160], -0.05
    differences = [slope * np.log(n / 77) for n in counts]
    assert turnover(counts, differences) == pytest.approx(77)
    assert turnover(counts[::-1], differences[::-1]) == pytest.approx(77)
    assert turnover(counts, [-3 * d for d in differences]) == pytest.approx(77)
    expected = np.exp(np.interp(0, [-4.7, 1.3], np.log([40, 160])))
    assert turnover([10, 40, 160], [7.1, 4.7, -1.3]) == pytest.approx(expected)


def test_a_difference_that_keeps_its_sign_never_turns_over() -> None:
    assert turnover([10, 40, 160], [3, 2, 1]) is None and turnover([10, 40], [1, 0]) is None
    assert turnover([10, 40, 160], [1, 0, 1]) is None and turnover([10, 40], [0, 1]) is None
    assert turnover([10, 40, 160], [1, 0, -2]) == pytest.approx(40)
    assert turnover([10, 20, 40, 80], [1, -1, 1, 1]) == pytest.approx(np.sqrt(200))  # the first of two
    assert turnover([], []) is None and turnover([10], [1]) is None


@pytest.mark.parametrize("counts", [[10, 10], [0, 10], [10]])
def test_counts_that_are_no_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="one for each count above 0"):
        turnover(counts, [1, -1])


def figures(mean: float, deviation: float, n: int = 28) -> np.ndarray:
    """Values with exactly this mean and unbiased deviation."""
    values = np.random.default_rng(0).normal(size=n)
    return np.asarray(mean + deviation * (values - values.mean()) / values.std(ddof=1))


@pytest.mark.parametrize(("mean", "p"), [(11.2, 0.14), (8.8, 0.09)])
def test_the_reports_accuracies_are_those_of_guessing(mean: float, p: float) -> None:
    """28 results each: what is known are their mean and p, and from those the deviation."""
    error = abs(mean - 10) / stats.t.isf(p / 2, 27)
    deviation = error * np.sqrt(28)
    result = guessing(figures(mean, deviation), 10)
    assert result.p == pytest.approx(p) and result.mean == pytest.approx(mean)
    half = stats.t.isf(0.025, 27) * error
    assert result.interval == pytest.approx((mean - half, mean + half))
    assert result.interval[0] < 10 < result.interval[1]
    assert guessing(figures(mean, deviation / 3), 10).p < 0.001


def test_guessing_agrees_with_the_incomplete_beta_function() -> None:
    values = np.random.default_rng(3).normal(0.12, 0.04, 9)
    t = (values.mean() - 0.1) / (values.std(ddof=1) / 3)
    assert guessing(values, 0.1).p == pytest.approx(betainc(4, 0.5, 8 / (8 + t**2)))


def test_guesses_at_random_are_found_out_and_equal_accuracies_have_no_spread() -> None:
    random = np.random.default_rng(0)
    guesses = random.binomial(2000, 0.1, size=(400, 20)) / 2000
    refused = np.mean([guessing(row, 0.1).p < 0.05 for row in guesses])
    assert refused == pytest.approx(0.05, abs=0.035)
    assert (guessing([0.1] * 4, 0.1).p, guessing([0.3] * 4, 0.1).p) == (1, 0)
    assert guessing([0.3] * 4, 0.1).interval == (0.3, 0.3)
    with pytest.raises(ValueError, match="1 accuracies have no spread"):
        guessing([0.1], 0.1)
