"""What every measure gives of one image, of two, of equal ones and of one class: a number, None or an error, never NaN."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.evidence.bootstrap import Seeds, compare
from eval.evidence.clustering import k_means, silhouettes
from eval.evidence.comparison import Estimate
from eval.evidence.confusion import confusion_matrix, most_confused
from eval.evidence.density import Detection, figures, most_anomalous, mutual_distance, values
from eval.evidence.distributions import histogram
from eval.evidence.intervals import accuracy_interval, auc_interval, mean_interval
from eval.evidence.linear_probe import Standardisation, linear_probe, validation_rows
from eval.evidence.maps import lines, pca, purities, tsne
from eval.evidence.retrieval import among_hubs, color_ratios, farthest, farthest_of, precision
from train.data.neighbors import build, nearest
from train.data.scores import Scores
from train.engine.collapse import dimension_std, effective_rank
from train.engine.monitor import knn_accuracy, monitor_split
from train.methods.eigenmaps import eigenmaps, neighbor_graph
from train.methods.ranges import fit_default
from train.models.patches import whitened_patches
from train.tracking import Problem


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """A division by zero is a warning before it is NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


ONE, TWO, EQUAL = np.ones((1, 3), np.float32), np.eye(2, 3, dtype=np.float32), np.full((6, 3), 0.3, np.float32)
LABELS = np.arange(6) % 2


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_a_single_image_has_no_interval_and_equal_ones_have_one_without_width() -> None:
    assert accuracy_interval([True], seed=0) is None and mean_interval([0.3], seed=0) is None
    assert mean_interval([0.0, 1.0], seed=0) == (0.0, 1.0)  # a quarter of the resamples is twice the same
    assert accuracy_interval([True] * 6, seed=0) == (1.0, 1.0)
    assert auc_interval([1.0], [2.0, 3.0], seed=0) is None and auc_interval([1.0, 2.0], [3.0], seed=0) is None
    assert auc_interval([1.0, 2.0], [3.0, 4.0], seed=0) == (1.0, 1.0)
    assert auc_interval(np.zeros(4), np.zeros(4), seed=0) == (0.5, 0.5)
    with pytest.raises(ValueError):
        mean_interval([], seed=0)
    with pytest.raises(ValueError):
        auc_interval([], [1.0], seed=0)


@pytest.mark.parametrize("sample", [(np.array([1.0]),), (np.array([1.0]), np.array([2.0, 3.0]))])
def test_two_variants_compared_on_one_image_show_no_difference(sample: tuple[np.ndarray, ...]) -> None:
    other = tuple(part - 1 for part in sample)
    measured = {"one": Seeds([1.0], [sample]), "other": Seeds([0.0], [other])}
    estimates, differences = compare("path", measured, 100, 0)
    assert estimates["one"].interval is None and estimates["one"].spread is None
    (difference,) = differences.values()
    assert (difference.value, difference.verdict) == (1.0, "not decided")


def test_two_images_and_equal_ones_are_compared() -> None:
    same = {name: Seeds([0.5, 0.5], [(np.array([0.0, 1.0]),)] * 2) for name in ("one", "other")}
    estimates, differences = compare("path", same, 200, 0)
    assert estimates["one"].interval == (0.0, 1.0) and estimates["one"].spread == 0
    assert next(iter(differences.values())).verdict == "no difference shown"
    assert Estimate.of([0.3]).spread is None


# -- classes -----------------------------------------------------------------------------------------------------------


def test_a_class_without_images_is_taken_for_nothing() -> None:
    labels = np.array([0, 0])
    confusion = confusion_matrix(labels, np.array([0, 1]), 3)
    np.testing.assert_array_equal(confusion, [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    assert most_confused(confusion, ("a", "b", "c")) == [("a", "b", 0.5)]
    assert confusion_matrix(labels[:1], labels[:1], 1).tolist() == [[1.0]]


def test_a_probe_of_equal_vectors_or_of_four_images_is_finite() -> None:
    for vectors, labels in ((EQUAL, LABELS), (np.eye(4, 3, dtype=np.float32), np.array([0, 0, 1, 1]))):
        probe = linear_probe(vectors, labels, vectors[:1], 2, seed=0)
        assert torch.isfinite(probe.layer.weights).all() and np.isfinite(probe.validation).all()
        assert probe.predictions.shape == (1,)
    assert validation_rows(np.array([0, 0]), seed=0).sum() == 1  # of one class, one of two
    for labels in (np.array([0]), np.array([0, 1])):
        with pytest.raises(Problem, match="two images of a class"):
            validation_rows(labels, seed=0)
    np.testing.assert_array_equal(Standardisation.of(ONE)(ONE), np.zeros((1, 3)))


def test_silhouettes_are_none_of_one_group_and_of_single_vectors_and_0_of_equal_ones() -> None:
    assert silhouettes(ONE, np.array([0])) is None and silhouettes(TWO, np.array([0, 1])) is None
    assert silhouettes(EQUAL, np.zeros(6, int)) is None
    np.testing.assert_array_equal(silhouettes(EQUAL, LABELS), np.zeros(6))
    alone = silhouettes(np.array([[0, 0], [0, 1], [9, 9]], np.float32), np.array([0, 0, 1]))
    assert alone is not None and alone[2] == 0 and (alone[:2] > 0.8).all()


def test_k_means_of_equal_vectors_has_one_cluster_and_fewer_vectors_than_clusters_are_an_error() -> None:
    assert len(np.unique(k_means(EQUAL, 2, seed=0)[0])) == 1
    assert sorted(k_means(TWO, 2, seed=0)[0]) == [0, 1]
    with pytest.raises(ValueError):
        k_means(ONE, 2, seed=0)


# -- maps --------------------------------------------------------------------------------------------------------------


def test_maps_of_few_points() -> None:
    for vectors in (ONE, EQUAL):
        coordinates, shares = pca(vectors, seed=0)
        assert not coordinates.any() and shares == (0.0, 0.0)
        np.testing.assert_array_equal(lines(coordinates), np.ones(len(vectors)))
    np.testing.assert_allclose(pca(TWO, seed=0)[1], (1, 0), atol=1e-6)
    assert not tsne(EQUAL, seed=0).any()
    assert np.isfinite(tsne(np.eye(4, 3, dtype=np.float32), seed=0)).all()
    for vectors in (ONE, TWO, TWO[[0, 1, 0]]):
        with pytest.raises(Problem, match="give 4 or more"):
            tsne(vectors, seed=0)


def test_purities_of_few_points() -> None:
    points = np.zeros((2, 2), np.float32)
    assert purities(points, np.array([0, 0]), seed=0).tolist() == [1, 1]
    assert purities(points, np.array([0, 1]), seed=0).tolist() == [0, 0]
    with pytest.raises(ValueError):
        purities(points[:1], np.array([0]), seed=0)


# -- neighbors ---------------------------------------------------------------------------------------------------------


def test_neighbors_of_few_images() -> None:
    assert nearest(build(TWO), TWO, TWO, 1, among_themselves=True)[1].tolist() == [[1], [0]]
    distances, ids = nearest(build(EQUAL), EQUAL, EQUAL, 5, among_themselves=True)
    assert not distances.any() and all(i not in row and len(set(row)) == 5 for i, row in enumerate(ids.tolist()))
    for vectors, cure in ((ONE, "--k 0"), (TWO, "--k 1")):
        with pytest.raises(Problem, match=cure):
            nearest(build(vectors), vectors, vectors, 2, among_themselves=True)


def test_retrieval_of_few_images() -> None:
    ids = np.array([[1], [0]])
    assert precision(ids, np.array([0, 0])).tolist() == [1, 1] and precision(ids, np.array([0, 1])).tolist() == [0, 0]
    assert farthest(TWO).tolist() == [1, 0] and farthest(EQUAL).tolist() == [1, 0, 0, 0, 0, 0]
    assert farthest_of(TWO, np.array([0]), 1).tolist() == [[1]]
    assert color_ratios(np.full((6, 3), 7.0), np.array([[1], [0], [0], [0], [0], [0]]), seed=0) is None
    np.testing.assert_array_equal(color_ratios(np.array([[0.0] * 3, [9.0] * 3]), ids, seed=0), [1, 1])
    assert among_hubs(np.array([0])).all()


def test_anomalies_among_few_images(tmp_path: Path) -> None:
    for normal, anomalies, auc in (([1.0], [2.0], 1.0), ([1.0, 1.0], [1.0, 1.0], 0.5)):
        scores = np.array(normal), np.array(anomalies)
        detection = Detection(*scores, auc, auc_interval(*scores, seed=0))
        most = most_anomalous(detection, 2)
        published = Scores(values(detection, most, 1, ("x", "y")), figures(detection, "x", ("x", "y")))
        (folder := tmp_path / str(auc)).mkdir()
        published.save(folder)
        assert Scores.load(folder).values["anomaly/auc/interval"] == (None if len(normal) == 1 else [0.5, 0.5])
        assert mutual_distance(most[:1], *scores, seed=0) is None
    with pytest.raises(Problem, match="--most 3"):
        most_anomalous(Detection(np.ones(1), np.ones(1), 0.5, None), 3)


def test_a_histogram_of_one_value_and_of_equal_ones_has_them_in_one_bin() -> None:
    for sample in ([0.3], [0.3] * 5):
        bars = histogram("t", "x", {"all": sample, "none": []}).data
        assert len(bars) == 1 and np.asarray(bars[0].y).sum() == 1 and np.asarray(bars[0].y).max() == 1


@pytest.mark.parametrize("count", [2, 3])
def test_eigenmaps_of_few_images(count: int) -> None:
    ids = np.array([[j for j in range(count) if j != i] for i in range(count)])
    maps = eigenmaps(neighbor_graph(ids), count - 1, seed=0)
    assert np.isfinite(maps.vectors).all() and maps.components.tolist() == [count]
    with pytest.raises(Problem, match=f"give {count - 1} or less"):
        eigenmaps(neighbor_graph(ids), count, seed=0)


# -- training ----------------------------------------------------------------------------------------------------------


def test_collapse_of_one_image_and_of_equal_ones_is_0() -> None:
    for vectors in (ONE, EQUAL):
        z_nd = torch.from_numpy(vectors)
        assert dimension_std(z_nd).item() == pytest.approx(0, abs=1e-7) and effective_rank(z_nd).item() == 0
    two = torch.from_numpy(TWO)
    assert dimension_std(two).item() == pytest.approx(TWO.std(axis=0, ddof=1).mean())
    assert effective_rank(two).item() == pytest.approx(1)


@pytest.mark.parametrize(("count", "held"), [(3, 2), (4, 2), (6, 2), (8, 2), (10, 2), (15, 3), (30_000, 5_000)])
def test_two_images_at_least_are_held_out_of_a_training_set(count: int, held: int) -> None:
    rows, others = monitor_split(np.zeros(count, int))
    assert len(rows) == held and sorted([*rows, *others]) == list(range(count))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_training_sets_of_which_nothing_can_be_held_out_are_refused(count: int) -> None:
    with pytest.raises(Problem, match=f"^{count} training images are too few.*give 3 or more"):
        monitor_split(np.zeros(count, int))


def test_votes_of_few_neighbors() -> None:
    one, two, label = torch.from_numpy(ONE), torch.from_numpy(TWO), torch.tensor([1])
    assert knn_accuracy(one, label, two, torch.tensor([1, 1])) == 1
    assert knn_accuracy(one, label, two, torch.tensor([0, 1])) == 0  # a tie goes to the lower class
    for queries, bank in ((one[:0], two), (one, two[:0])):
        with pytest.raises(ValueError, match="no accuracy"):
            knn_accuracy(queries, label[: len(queries)], bank, torch.zeros(len(bank), dtype=torch.int64))


def test_images_of_one_color_have_no_patches() -> None:
    with pytest.raises(Problem, match="not flat, and 4 are needed"):
        whitened_patches(np.zeros((2, 3, 8, 8), np.float32), 4, np.random.default_rng(0), sample=500)


# -- what is published -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.5, float("nan")], [["a", "b", -float("inf")]]])
def test_scores_that_are_no_number_are_refused_by_name(value: object, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="probe/top1 came out as"):
        Scores({"probe/ok": 0.5, "probe/top1": value}).save(tmp_path)  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())
    Scores({"probe/top1": None, "probe/list": [None, 0.5]}).save(tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text())["probe/top1"] is None


def test_a_default_fits_few_images_and_what_was_asked_for_is_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit_default("k", 10, 10, most=40) == 10 and not capsys.readouterr().out
    assert fit_default("k", 10, 10, most=4) == 4
    assert capsys.readouterr().out == "--k 4: the images are too few for 10, the default\n"
    assert fit_default("k", 11, 10, most=4) == 11 and fit_default("k", 10, 10, most=0) == 10
