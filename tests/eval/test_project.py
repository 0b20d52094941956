"""eval.project and its parts: maps and their purity."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval import project
from eval.evidence.maps import draw, lines, map_figure, pca, purities, rescale, tsne
from tests.parts.embeddings import blobs, numbers, publish_embeddings
from train.data.embeddings import Embeddings
from train.data.scores import Scores
from train.tracking import Problem
from train.tracking.store import Store


def brute_force_purities(points: NDArray[Any], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    between = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    np.fill_diagonal(between, np.inf)
    nearest = np.argsort(between, axis=1)[:, :k]
    shares: NDArray[np.float64] = (labels[nearest] == labels[:, None]).mean(axis=1)
    return shares


@pytest.mark.parametrize(("n", "k"), [(200, 10), (7, 6)], ids=["ten nearest", "all others"])
def test_purities_agree_with_brute_force(n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(n, 2)).astype(np.float32), rng.integers(0, 3, n)
    np.testing.assert_allclose(purities(points, labels, seed=0), brute_force_purities(points, labels, k))


def test_lines_agree_with_numpy() -> None:
    points = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    between = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = []
    for row in np.argsort(between, axis=1)[:, :50]:  # a point is the nearest to itself
        variances = np.linalg.eigvalsh(np.cov(points[row].T))
        expected.append(variances[1] / variances.sum())
    np.testing.assert_allclose(lines(points), expected, rtol=1e-5)


def test_a_map_of_lines_is_told_from_a_round_cloud() -> None:
    rng = np.random.default_rng(1)
    angles = rng.integers(0, 3, 3000) * 2 * np.pi / 3
    star = rng.uniform(0, 1, 3000)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    cloud = rng.normal(size=(3000, 2))
    assert lines(star.astype(np.float32)).mean() > 0.95
    # The share of 50 points of a round cloud is that of a 2 x 2 Wishart matrix; its mean comes from as many drawn anew.
    variances = np.linalg.eigvalsh([np.cov(rng.normal(size=(2, 50))) for _ in range(2000)])
    assert lines(cloud.astype(np.float32)).mean() == pytest.approx(
        (variances[:, 1] / variances.sum(axis=1)).mean(), abs=0.05
    )


def test_points_on_one_spot_leave_no_second_axis() -> None:
    assert lines(np.zeros((60, 2), np.float32)).tolist() == [1.0] * 60


def test_purity_is_one_for_separated_classes_and_chance_for_random_labels() -> None:
    embeddings = blobs(4, 250, 4, seed=0, distance=100)
    coordinates, _ = pca(embeddings.test, seed=0)
    assert (purities(coordinates, embeddings.test_labels, seed=0) == 1).all()
    random = np.random.default_rng(0).permutation(embeddings.test_labels)
    # 1,000 points of a share each with a standard deviation of about sqrt(.25 * .75 / 10).
    assert purities(coordinates, random, seed=0).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 10 / 1000))


def test_classes_on_one_spot_have_the_purity_of_chance_in_whatever_order_they_come() -> None:
    labels = np.repeat(np.arange(4), 250)
    assert purities(np.zeros((1000, 2), np.float32), labels, seed=0).mean() == pytest.approx(0.25, abs=0.01)


def test_pca_agrees_with_numpy() -> None:
    vectors = blobs(3, 60, 7, seed=1, distance=4).test
    coordinates, shares = pca(vectors, seed=0)
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    expected = left[:, :2] * singular[:2] / np.sqrt((centered**2).mean())
    np.testing.assert_allclose(np.abs(coordinates), np.abs(expected), atol=1e-4)  # an axis has no sign of its own
    np.testing.assert_allclose(shares, (singular**2 / (singular**2).sum())[:2], rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_maps_do_not_depend_on_the_scale_of_the_vectors(scale: float) -> None:
    vectors = blobs(2, 20, 5, seed=2).test
    multiples = (vectors * scale).astype(np.float32)
    np.testing.assert_array_equal(pca(vectors, seed=0)[0], pca(multiples, seed=0)[0])
    np.testing.assert_array_equal(tsne(vectors, seed=0), tsne(multiples, seed=0))


def test_tsne_keeps_separated_classes_apart() -> None:
    embeddings = blobs(3, 60, 20, seed=3, distance=20)
    assert (purities(tsne(embeddings.test, seed=0), embeddings.test_labels, seed=0) == 1).all()


def test_equal_vectors_lie_on_one_spot() -> None:
    same = np.full((50, 8), 0.1, np.float32)
    coordinates, shares = pca(same, seed=0)
    assert not coordinates.any()
    assert shares == (0, 0)
    assert not tsne(same, seed=0).any()


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("n", [4, 5, 40])
def test_small_sets_of_few_dimensions_have_finite_maps_of_distinct_points(n: int, dimensions: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, dimensions)).astype(np.float32)
    for coordinates in (tsne(vectors, seed=0), pca(vectors, seed=0)[0]):
        assert np.isfinite(coordinates).all()
        assert len(np.unique(coordinates, axis=0)) == n


def test_duplicates_among_the_vectors_leave_the_map_finite() -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(size=(2, 6)), 40, axis=0).astype(np.float32)
    assert np.isfinite(tsne(vectors, seed=0)).all()


def test_three_vectors_make_no_map() -> None:
    with pytest.raises(Problem, match="3 vectors"):
        tsne(np.eye(3, dtype=np.float32), seed=0)


def test_rescaled_vectors_have_mean_zero_and_mean_variance_one() -> None:
    points = rescale((1e6 + np.random.default_rng(0).normal(size=(500, 4)) * 1e3).astype(np.float32))
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-5)
    assert points.var(axis=0).mean() == pytest.approx(1, abs=1e-5)


def test_drawn_rows_are_distinct_and_all_where_there_are_few() -> None:
    assert draw(5, 10, seed=0).tolist() == [0, 1, 2, 3, 4]
    rows = draw(1000, 100, seed=0)
    assert len(set(rows.tolist())) == 100
    assert set(rows.tolist()) <= set(range(1000))
    assert rows.tolist() != draw(1000, 100, seed=1).tolist()


def test_a_figure_is_compact_and_the_same_bytes_each_time() -> None:
    embeddings = blobs(10, 100, 10, seed=0)

    def figure_text(n: int) -> str:
        coordinates, _ = pca(embeddings.test, seed=0)
        rows = np.arange(n)
        figure = map_figure("", ("", ""), coordinates[:n], embeddings.test_labels[:n], embeddings.classes, rows)
        return str(figure.to_json())

    assert figure_text(1000) == figure_text(1000)
    # Two float32 and a row in base64 are 14 bytes, as text they would be 25 at least.
    assert len(figure_text(1000)) - len(figure_text(0)) < 20 * 1000


def result(alias: str = "blobs-vicreg") -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("project", alias)))


def points(figure: Any, classes: tuple[str, ...]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Test rows, coordinates and class indices of all points of a published map."""
    parts = [
        (
            rows := numbers(trace.customdata),
            np.column_stack([numbers(trace.x), numbers(trace.y)]),
            np.full(len(rows), index),
        )
        for index, trace in enumerate(figure.data)
    ]
    assert [trace.name for trace in figure.data] == list(classes)
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]


def test_stage_publishes_maps_whose_purity_and_rows_are_right() -> None:
    embeddings = blobs(3, 40, 8, seed=4, distance=3)
    project.main(project.Config(publish_embeddings(embeddings)))
    scores = result()
    shares = {}
    for name in ("pca", "tsne"):
        rows, coordinates, classes = points(scores.figures[f"project/{name}"], embeddings.classes)
        assert sorted(rows.tolist()) == list(range(120))
        np.testing.assert_array_equal(embeddings.test_labels[rows], classes)
        shares[name] = brute_force_purities(coordinates, classes, 10)
        assert scores.values[f"project/{name}/purity"] == pytest.approx(shares[name].mean())
        np.testing.assert_allclose(scores.samples[f"project/{name}/purity"][rows], shares[name])
        if name == "pca":
            np.testing.assert_array_equal(coordinates, pca(embeddings.test, seed=0)[0][rows])
            first, second = np.sort(np.linalg.eigvalsh(np.cov(coordinates.T)))[::-1]
            assert scores.values["project/pca/elongation"] == pytest.approx(first / (first + second), rel=1e-5)
            assert scores.values["project/pca/line"] == pytest.approx(lines(coordinates).mean())
    gain = shares["tsne"].mean() - shares["pca"].mean()
    assert scores.values["project/purity/gain"] == pytest.approx(gain, abs=1e-6)
    test = embeddings.test.astype(np.float64)
    assert scores.values["collapse/std"] == pytest.approx(test.std(axis=0, ddof=1).mean(), rel=1e-5)
    share = np.linalg.svd(test - test.mean(axis=0), compute_uv=False)
    variances = share**2 / (share**2).sum()
    assert scores.values["project/pca/first"] == pytest.approx(variances[0], rel=1e-5)
    assert scores.values["project/pca/both"] == pytest.approx(variances[:2].sum(), rel=1e-5)
    share /= share.sum()
    assert scores.values["collapse/effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)


def test_sample_limits_the_points_and_no_point_has_another_images_row() -> None:
    embeddings = blobs(3, 40, 8, seed=5)
    project.main(project.Config(publish_embeddings(embeddings), sample=50))
    for figure in result().figures.values():
        rows, _, classes = points(figure, embeddings.classes)
        assert len(set(rows.tolist())) == 50
        np.testing.assert_array_equal(embeddings.test_labels[rows], classes)


def collapsed(embeddings: Embeddings) -> Embeddings:
    same = {name: np.full_like(getattr(embeddings, name), 0.1) for name in ("train", "test")}
    return dataclasses.replace(embeddings, **same)


def test_a_collapsed_representation_has_finite_scores_and_the_purity_of_chance() -> None:
    project.main(project.Config(publish_embeddings(collapsed(blobs(4, 50, 8, seed=6)))))
    values = result().values
    assert values["project/pca/purity"] == pytest.approx(0.25, abs=0.03)
    assert values["project/tsne/purity"] == pytest.approx(0.25, abs=0.03)
    assert values["collapse/std"] == pytest.approx(0, abs=1e-6)
    assert "project/pca/elongation" not in values


def test_every_seed_of_every_variant_is_drawn_from_the_same_images() -> None:
    maps = []
    for variant, seed in (("blobs-vicreg", 0), ("blobs-pixels", 0), ("blobs-pixels", 1)):
        alias = publish_embeddings(blobs(3, 20, 5, seed=7), variant, seed)
        project.main(project.Config(alias, sample=30))
        maps.append(points(result(alias).figures["project/pca"], ("class 0", "class 1", "class 2"))[0].tolist())
    assert maps[0] == maps[1] == maps[2]


def test_a_rerun_makes_no_new_version() -> None:
    publish_embeddings(blobs(3, 20, 5, seed=7))
    for _ in range(2):
        project.main(project.Config("blobs-vicreg"))
    assert len(Store().versions("project")) == 1


def test_what_cannot_be_drawn_is_refused_and_nothing_published() -> None:
    publish_embeddings(blobs(3, 1, 5, seed=0))
    with pytest.raises(Problem, match="3 vectors"):
        project.main(project.Config("blobs-vicreg"))
    assert not Store().versions("project")
    with pytest.raises(Problem, match="--sample 3"):
        project.Config("blobs-vicreg", sample=3)
