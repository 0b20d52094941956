"""Measures of codes against numpy, scipy, scikit-learn and closed forms; images are sorted by class where it is not said."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import block_diag
from scipy.stats import ortho_group, spearmanr
from sklearn.feature_selection import f_classif

from eval.evidence.latents import (
    active_units,
    agreement,
    class_means,
    class_share,
    explained,
    flattening,
    redundancy,
    rotations,
    standardized,
    top_units,
    trend,
    varying,
)


def mixture(n: int = 400, d: int = 6, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, d)) @ random.normal(size=(d, d)) * np.geomspace(1e-3, 1e3, d) + 5).astype(np.float32)


def white(n: int, d: int) -> np.ndarray:
    """Codes whose correlations are exactly 0."""
    centered = np.random.default_rng(0).normal(size=(n, d))
    return np.linalg.qr(centered - centered.mean(axis=0))[0]


def exact(covariance: np.ndarray, n: int = 300) -> np.ndarray:
    """Codes that have exactly this covariance."""
    return white(n, len(covariance)) @ np.linalg.cholesky(covariance).T


def classed(per: int = 60, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes of four classes, sorted: class c is far out in units c and c + 4, nothing is in the rest."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per)
    codes = random.normal(size=(4 * per, d))
    for c in range(4):
        codes[labels == c, c] += 6
        codes[labels == c, c + 4] -= 4
    return codes, labels


# -- redundancy --------------------------------------------------------------------------------------------------------


def test_correlations_off_the_diagonal_and_of_the_whole_matrix_agree_with_numpy() -> None:
    codes = mixture()
    matrix = np.abs(np.corrcoef(codes.astype(float).T))
    measured = redundancy(codes)
    assert measured.correlation == pytest.approx((matrix.sum() - 6) / 30, abs=1e-10)
    assert measured.whole_matrix == pytest.approx(matrix.mean(), abs=1e-10) and measured.constant == 0


def test_codes_without_correlation_have_one_over_d_in_the_whole_matrix_and_a_full_rank() -> None:
    for d in (2, 6, 30):
        measured = redundancy(white(200, d))
        assert measured.correlation == pytest.approx(0, abs=1e-12)
        assert measured.whole_matrix == pytest.approx(1 / d) and measured.rank_share == pytest.approx(1)


def test_rank_of_equal_correlations_agrees_with_the_closed_form() -> None:
    d, r = 5, 0.3  # eigenvalues 1 + (d - 1) r, once, and 1 - r
    shares = np.array([1 + (d - 1) * r] + [1 - r] * (d - 1)) / d
    measured = redundancy(exact(np.full((d, d), r) + (1 - r) * np.eye(d)))
    assert measured.correlation == pytest.approx(r)
    assert measured.rank_share == pytest.approx(np.prod(shares**-shares) / d)


def test_two_copies_of_every_dimension_fill_half_of_them() -> None:
    codes = np.repeat(white(100, 4), 2, axis=1)
    measured = redundancy(codes * np.array([1, -3] * 4))
    assert measured.rank_share == pytest.approx(0.5) and measured.correlation == pytest.approx(1 / 7)


def test_constant_dimensions_are_left_out_and_counted() -> None:
    codes = mixture()
    padded = np.insert(codes, [0, 3, 6], np.array([0.1, 0, 1e6], np.float32), axis=1)
    assert varying(padded).tolist() == [False, True, True, True, False, True, True, True, False]
    full, left = redundancy(codes), redundancy(padded)
    assert left.constant == 3
    assert (left.correlation, left.whole_matrix) == pytest.approx((full.correlation, full.whole_matrix), abs=1e-12)
    assert not standardized(padded)[:, [0, 4, 8]].any() and np.isfinite(standardized(padded)).all()


@pytest.mark.parametrize("codes", [np.ones((5, 3)), np.ones((1, 3)), np.full((7, 3), 0.1, np.float32)])
def test_codes_that_do_not_vary_have_no_redundancy(codes: np.ndarray) -> None:
    measured = redundancy(codes)
    assert (measured.correlation, measured.whole_matrix, measured.rank_share, measured.constant) == (
        None,
        None,
        None,
        3,
    )
    assert rotations(codes, 3, np.random.default_rng(0)) is None


def test_one_dimension_that_varies_correlates_with_nothing() -> None:
    measured = redundancy(np.array([[0.0], [1], [3]]))
    assert (measured.correlation, measured.whole_matrix, measured.rank_share) == (None, 1, 1)


def test_redundancy_depends_neither_on_order_nor_on_scale_and_sign() -> None:
    codes = mixture().astype(float)
    other = np.random.default_rng(1).permutation(codes)[:, ::-1] * [1, -2, 3e4, 1e-4, 1, -1] + 7
    for name in ("correlation", "whole_matrix", "rank_share"):
        assert getattr(redundancy(other), name) == pytest.approx(getattr(redundancy(codes), name), abs=1e-9)


def test_rotations_agree_with_numpy_on_rotated_codes() -> None:
    codes = mixture(d=4).astype(float)
    z = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    axes = np.random.default_rng(5)
    expected = []
    for _ in range(6):
        matrix = np.abs(np.corrcoef((z @ ortho_group.rvs(4, random_state=axes)).T))
        expected.append((matrix.sum() - 4) / 12)
    values = rotations(codes, 6, np.random.default_rng(5))
    assert values is not None
    np.testing.assert_allclose(values, expected, atol=1e-10)


def test_rotations_of_two_dimensions_average_to_the_integral_over_all_angles() -> None:
    r = 0.6
    values = rotations(exact(np.array([[1, r], [r, 1]])), 4000, np.random.default_rng(0))
    assert values is not None

    def rotated(angle: float) -> float:
        return float(abs(r * np.cos(2 * angle)) / np.sqrt(1 - (r * np.sin(2 * angle)) ** 2))

    expected = quad(rotated, 0, np.pi / 4)[0] / (np.pi / 4)
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / np.sqrt(4000))
    assert values.max() == pytest.approx(r, abs=1e-3) and values.min() < 0.01


def test_rotations_of_uncorrelated_codes_stay_uncorrelated_and_those_of_copies_are_finite() -> None:
    for codes, low, high in ((white(100, 5), 0, 1e-12), (np.repeat(white(100, 1), 3, axis=1), 1 - 1e-6, 1 + 1e-9)):
        values = rotations(codes, 5, np.random.default_rng(0))
        assert values is not None and (low <= values).all() and (values <= high).all()


# -- against the number of dimensions ----------------------------------------------------------------------------------

FALLING = {2: [0.9, 0.8, 0.85], 6: [0.5, 0.7, 0.45], 14: [0.6, 0.5, 0.55], 30: [0.2, 0.1, 0.3]}


def test_trend_agrees_with_scipy_over_means_and_over_resampled_ones() -> None:
    dimensions = sorted(FALLING)
    value, ends = trend(FALLING, seed=4, resamples=300)
    assert value == pytest.approx(spearmanr(dimensions, [np.mean(FALLING[d]) for d in dimensions]).statistic)
    draws = {d: np.random.default_rng([4, d]).integers(3, size=(300, 3)) for d in dimensions}
    expected = [
        spearmanr(dimensions, [np.mean(np.array(FALLING[d])[draws[d][i]]) for d in dimensions]).statistic
        for i in range(300)
    ]
    assert len(set(expected)) > 2
    assert ends == pytest.approx(np.percentile(expected, [2.5, 97.5]), abs=1e-12)


def test_trend_does_not_depend_on_the_order_of_dimensions_and_turns_over_with_the_values() -> None:
    value, ends = trend(FALLING, seed=0)
    assert trend(dict(reversed(FALLING.items())), seed=0) == (value, ends)
    assert ends is not None
    turned, others = trend({d: [-v for v in values] for d, values in FALLING.items()}, seed=0)
    assert turned == pytest.approx(-value) and others == pytest.approx((-ends[1], -ends[0]))


def test_trend_of_single_seeds_has_no_interval_and_one_of_equal_values_is_0() -> None:
    value, ends = trend({2: [3], 6: [2], 30: [1]}, seed=0)
    assert value == pytest.approx(-1) and ends is None
    assert trend({2: [1, 1], 6: [1, 1], 30: [1, 1]}, seed=0) == (0, (0, 0))
    with pytest.raises(ValueError, match=r"no trend over d = \[2, 6\]; give three"):
        trend({2: [1], 6: [2]}, seed=0)


def test_the_diagonal_alone_flattens_and_a_straight_fall_does_not() -> None:
    diagonal = {d: [1 / d] * 3 for d in (2, 6, 30)}
    difference = flattening(diagonal, seed=0)
    expected = (1 / 2 - 1 / 6) / 4 - (1 / 6 - 1 / 30) / 24
    assert difference.value == pytest.approx(expected) and difference.verdict == "higher"
    assert difference.interval == pytest.approx((expected, expected))
    assert flattening({d: [-0.01 * d] for d in (2, 6, 30)}, seed=0).value == pytest.approx(0, abs=1e-15)


def test_flattening_is_not_shown_where_seeds_differ_more_than_dimensions() -> None:
    difference = flattening({2: [0.1, 0.9], 6: [0.2, 0.7], 30: [0.4, 0.3]}, seed=0)
    # The means are 0.5, 0.45 and 0.35.
    assert difference.value == pytest.approx(0.05 / 4 - 0.1 / 24) and difference.verdict == "no difference shown"
    assert flattening({2: [1], 6: [1], 30: [1]}, seed=0).verdict == "not decided"
    with pytest.raises(ValueError, match=r"at d = \[6\]; known are \[2, 8, 30\]"):
        flattening({2: [1], 8: [1], 30: [1]}, seed=0)


# -- units and classes -------------------------------------------------------------------------------------------------


def test_active_units_are_those_whose_means_vary_by_more_than_a_hundredth() -> None:
    codes = white(400, 4) * np.sqrt(400 * np.array([1, 0.0101, 0.0099, 0])) + 3
    assert active_units(codes).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(active_units(codes[::-1]), np.var(codes, axis=0) > 0.01)


def test_class_means_agree_with_a_loop_over_classes_and_units() -> None:
    codes, labels = classed()
    means = class_means(codes * 9 + 2, labels, 4)
    for c in range(4):
        for unit in range(12):
            column = codes[:, unit]
            assert means[c, unit] == pytest.approx((column[labels == c].mean() - column.mean()) / column.std())
    with pytest.raises(ValueError, match="class 4 has no image"):
        class_means(codes, labels, 5)


def test_share_of_the_largest_units_agrees_with_the_closed_form() -> None:
    means = np.array([[3.0, 4, 0, 0, 0], [-1, 1, 1, -1, 1], [0, 0, 0, 0, 7]])
    all_active = np.ones(5, bool)
    np.testing.assert_allclose(class_share(means, all_active, 1), [16 / 25, 1 / 5, 1])
    np.testing.assert_allclose(class_share(means, all_active, 4), [1, 4 / 5, 1])
    some = np.array([True, True, True, True, False])
    np.testing.assert_allclose(class_share(means, some, 2), [1, 1 / 2, 0])
    np.testing.assert_array_equal(class_share(means, ~all_active), [0, 0, 0])


def test_a_class_has_a_larger_share_in_its_units_than_random_groups_have() -> None:
    codes, labels = classed(per=200, d=30)
    active = np.ones(30, bool)
    share = class_share(class_means(codes, labels, 4), active, 8)
    random = class_share(class_means(codes, np.random.default_rng(0).permutation(labels), 4), active, 8)
    assert share.min() > 0.95 and random.max() < 0.85


def test_top_units_are_those_of_the_class_whatever_their_sign() -> None:
    codes, labels = classed()
    codes[:, 0] *= -1
    expected = [[c, c + 4] for c in range(4)]
    assert top_units(codes, labels, 4, 2).tolist() == expected
    order = np.random.default_rng(0).permutation(len(labels))
    assert top_units(codes[order] * 5 - 1, labels[order], 4, 2).tolist() == expected


def test_units_that_are_not_active_are_no_top_units() -> None:
    codes, labels = classed()
    active = np.arange(12) >= 4
    assert top_units(codes, labels, 4, 1, active)[:, 0].tolist() == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="3 units of each class, and 2 count"):
        top_units(codes, labels, 4, 3, np.arange(12) < 2)


def test_halves_agree_where_classes_have_units_and_by_chance_where_they_have_none() -> None:
    codes, labels = classed()
    assert agreement(codes, labels, 4, 2, np.random.default_rng(0)).tolist() == [1] * 4
    noise = np.random.default_rng(1)
    chance = [
        agreement(noise.normal(size=(80, 10)), np.repeat(np.arange(4), 20), 4, 3, noise).mean() for _ in range(100)
    ]
    assert np.mean(chance) == pytest.approx(0.3, abs=4 * np.std(chance) / 10)
    with pytest.raises(ValueError, match="class 1 has 1 images; give two"):
        agreement(codes[:3], np.array([0, 0, 1]), 2, 1, noise)


def test_explained_variance_agrees_with_scikit_learns_analysis_of_variance() -> None:
    codes, labels = classed()
    statistics, _ = f_classif(codes, labels)
    n, classes = len(labels), 4
    expected = statistics * (classes - 1) / (statistics * (classes - 1) + n - classes)
    np.testing.assert_allclose(explained(codes, labels), expected, atol=1e-12)
    order = np.random.default_rng(0).permutation(n)
    np.testing.assert_allclose(explained(codes[order], labels[order]), expected, atol=1e-12)


def test_a_unit_that_is_the_class_is_explained_and_a_constant_one_is_not() -> None:
    labels = np.repeat([0, 1, 5], [3, 4, 2])
    codes = np.stack([labels * 2.0, np.ones(9)], axis=1)
    np.testing.assert_allclose(explained(codes, labels), [1, 0], atol=1e-12)


def test_blocks_of_copies_are_as_many_dimensions_as_there_are_blocks() -> None:
    covariance = block_diag(*[np.full((3, 3), 0.999999) + 1e-6 * np.eye(3)] * 4)
    share = redundancy(exact(covariance)).rank_share
    assert share is not None and 12 * share == pytest.approx(4, abs=1e-3)
