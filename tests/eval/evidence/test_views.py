"""Measures of views against scikit-learn and against vectors whose answer is known."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors

from eval.evidence.views import contrast, distances, farther, matching, unit


def pair(noise: float = 0.5, n: int = 60, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.normal(size=(n, d))
    return tuple(unit(images + noise * random.normal(size=(n, d))) for _ in range(2))  # type: ignore[return-value]


def test_matching_agrees_with_scikit_learns_nearest_neighbor() -> None:
    one, other = pair(1.0)
    nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(other).kneighbors(one)[1][:, 0]
    expected = nearest == np.arange(len(one))
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(matching(one, other), expected)


def test_contrast_and_distances_agree_with_scikit_learns_cosine_distances() -> None:
    one, other = pair()
    table = cosine_distances(one, other)
    others = ~np.eye(len(one), dtype=bool)
    own = np.diagonal(table)
    np.testing.assert_allclose(contrast(one, other), table.sum(1, where=others) / others.sum(1) - own, atol=1e-12)
    np.testing.assert_allclose(distances(one, other), own / table[others].mean(), atol=1e-12)


def test_views_that_are_alike_are_matched_and_have_no_distance() -> None:
    one, _ = pair()
    assert matching(one, one).all()
    np.testing.assert_allclose(distances(one, one), 0, atol=1e-12)
    assert contrast(one, one).mean() == pytest.approx(1, abs=0.1)


def test_views_that_have_nothing_of_their_image_are_matched_by_chance() -> None:
    random = np.random.default_rng(1)
    one, other = (unit(random.normal(size=(500, 8))) for _ in range(2))
    assert matching(one, other).mean() < 0.02
    assert distances(one, other).mean() == pytest.approx(1, abs=0.05)
    assert contrast(one, other).mean() == pytest.approx(0, abs=0.05)


def test_one_point_has_no_distances_and_the_first_image_alone_is_matched() -> None:
    point = unit(np.ones((5, 3)))
    assert np.isnan(distances(point, point)).all()
    assert matching(point, point).tolist() == [True] + [False] * 4
    np.testing.assert_allclose(contrast(point, point), 0, atol=1e-12)


def test_a_view_between_the_core_and_a_harder_one_is_nearer() -> None:
    angles = np.linspace(0.1, 0.6, 6)
    core = np.tile([[1.0, 0.0]], (6, 1))
    standard, harder = (np.stack([np.cos(a), np.sin(a)], 1) for a in (angles, 2 * angles))
    assert farther(harder, standard, core).all() and not farther(standard, harder, 7 * core).any()


def test_lengths_do_not_count_and_a_vector_of_no_length_stays() -> None:
    np.testing.assert_allclose(np.linalg.norm(unit(np.random.default_rng(0).normal(size=(4, 3)) * 9), axis=1), 1)
    assert (unit(np.zeros((2, 3))) == 0).all()
