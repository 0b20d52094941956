"""eval.index and its parts: the nearest training images, against scikit-learn and numpy."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from eval import index
from eval.evidence.neighbors import occurrences
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_embedded, publish_encoder, publish_images, refusal
from tests.parts.embeddings import blobs, publish_embeddings
from train.data.embeddings import Vectors
from train.data.neighbors import (
    Inverted,
    Neighbors,
    build,
    describe,
    exact_distances,
    find_neighbors,
    largest_code,
    nearest,
)
from train.tracking import Origin, Problem
from train.tracking.store import Store


def normal(n: int, d: int, seed: int = 0, mean: float = 0, std: float = 1) -> Vectors:
    return (mean + std * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


def by_scikit_learn(train: Vectors, queries: Vectors | None, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Without queries: of the training vectors, themselves excluded. Centered, since scikit-learn expands the square too."""
    center = train.mean(axis=0, dtype=np.float64)
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train - center)
    distances, ids = model.kneighbors(None if queries is None else queries - center)
    return distances, ids


@pytest.mark.parametrize("width", [3, 128])
def test_neighbors_agree_with_scikit_learn(width: int) -> None:
    embeddings = blobs(3, 400, width, seed=1, distance=2)
    neighbors = find_neighbors(embeddings, 10)
    for ids, distances, queries in (
        (neighbors.train_ids, neighbors.train_distances, None),
        (neighbors.test_ids, neighbors.test_distances, embeddings.test),
    ):
        expected_distances, expected_ids = by_scikit_learn(embeddings.train, queries, 10)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)


def test_neighbors_are_right_where_the_mean_drowns_the_spread() -> None:
    """A collapsed representation: FAISS alone, in float32, finds almost none of them."""
    vectors = normal(3000, 64, mean=100, std=1e-3)
    expected_distances, expected = by_scikit_learn(vectors, None, 10)
    distances, _ = nearest(build(vectors), vectors, vectors, 10, among_themselves=True)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)

    plain = faiss.IndexFlatL2(64)
    plain.add(vectors)
    _, approximate = plain.search(vectors, 11)
    assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(approximate, expected, strict=True)]) < 5


def test_distances_of_near_duplicates_are_exact() -> None:
    vectors = normal(300, 32, std=1000)
    twins = vectors + normal(300, 32, seed=1, std=1e-3)
    distances, ids = nearest(build(vectors), vectors, twins, 1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(300))
    expected = np.sqrt(((vectors.astype(np.float64) - twins.astype(np.float64)) ** 2).sum(axis=1))
    np.testing.assert_allclose(distances[:, 0], expected, rtol=1e-6)


def test_distances_are_roots_not_squares() -> None:
    vectors = np.array([[0, 0], [3, 4], [300, 400]], np.float32)
    distances, _ = nearest(build(vectors), vectors, vectors, 2, among_themselves=True)
    np.testing.assert_allclose(distances, [[5, 500], [5, 495], [495, 500]])


@pytest.mark.parametrize("copies", [2, 5, 40])
def test_no_image_is_its_own_neighbor_and_its_duplicates_are(copies: int) -> None:
    vectors = np.repeat(normal(20, 16), copies, axis=0)
    k = 4
    distances, ids = nearest(build(vectors), vectors, vectors, k, among_themselves=True)
    rows = np.arange(len(vectors))[:, None]
    assert not (ids == rows).any()
    duplicates = min(k, copies - 1)
    assert (ids[:, :duplicates] // copies == rows // copies).all()
    assert (distances[:, :duplicates] == 0).all() and (distances[:, duplicates:] > 0).all()
    assert all(len(set(row)) == k for row in ids.tolist())


def test_equally_near_neighbors_come_in_the_order_of_their_ids() -> None:
    around = np.array([[0, 1], [1, 0], [0, -1], [-1, 0], [0, 0], [2, 2]], np.float32)
    _, ids = nearest(build(around), around, around[4:5], 4)
    assert ids.tolist() == [[4, 0, 1, 2]]
    _, ids = nearest(build(around), around, around, 4, among_themselves=True)
    assert ids[4].tolist() == [0, 1, 2, 3]


def test_results_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = normal(500, 24), normal(90, 24, seed=1)
    whole = nearest(build(vectors), vectors, queries, 5)
    monkeypatch.setattr("train.data.neighbors.BATCH", 37)
    monkeypatch.setattr("train.data.neighbors.CHUNK", 999)
    for expected, result in zip(whole, nearest(build(vectors), vectors, queries, 5), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_exact_distances_agree_with_numpy() -> None:
    vectors, queries = normal(50, 7), normal(9, 7, seed=1)
    ids = np.random.default_rng(2).integers(50, size=(9, 4))
    expected = np.linalg.norm(vectors.astype(np.float64)[ids] - queries[:, None].astype(np.float64), axis=2)
    np.testing.assert_allclose(exact_distances(vectors, ids, queries), expected, rtol=1e-12)


def test_with_k_as_large_as_possible_everyone_else_is_a_neighbor() -> None:
    vectors = normal(12, 4)
    _, ids = nearest(build(vectors), vectors, vectors, 11, among_themselves=True)
    assert all(sorted([row, *others]) == list(range(12)) for row, others in enumerate(ids.tolist()))
    with pytest.raises(Problem, match=r"k = 12.*11 to choose from"):
        nearest(build(vectors), vectors, vectors, 12, among_themselves=True)


def test_every_neighbor_is_counted_once() -> None:
    ids = np.array([[1, 2], [2, 0], [1, 0], [2, 1]])
    assert occurrences(ids, 5).tolist() == [2, 3, 3, 0, 0]


def test_stage_publishes_the_neighbors_and_an_index_that_answers() -> None:
    embeddings = blobs(3, 30, 8, seed=0)
    publish_embeddings(embeddings, seed=1)
    index.main(index.Config("blobs-vicreg-s1", k=4))
    index.main(index.Config("blobs-vicreg-s1", k=4))

    store = Store()
    (version,) = store.versions("neighbors")  # the second run made the same version
    assert version.aliases == ("blobs-vicreg-s1", "latest")
    folder = store.folder(version)
    assert Origin.load(folder).inputs == (f"embeddings@{store.get('embeddings', 'latest').digest}",)
    neighbors = Neighbors.load(folder)
    expected_distances, expected_ids = by_scikit_learn(embeddings.train, None, 4)
    np.testing.assert_array_equal(neighbors.train_ids, expected_ids)
    np.testing.assert_allclose(neighbors.train_distances, expected_distances, rtol=1e-6)
    expected_distances, expected_ids = by_scikit_learn(embeddings.train, embeddings.test, 3)
    distances, ids = neighbors.search(embeddings.test, 3)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-4)


def test_bad_input_is_refused_in_one_line_and_publishes_nothing() -> None:
    embeddings = blobs(2, 10, 4, seed=0)
    publish_embeddings(embeddings)
    assert "k = 20" in refusal(lambda: index.main(index.Config("blobs-vicreg", k=20)))
    assert "--k 0" in refusal(lambda: index.main(index.Config("blobs-vicreg", k=0)))
    assert "blobs-vicreg" in refusal(lambda: index.main(index.Config("nonsense")))
    assert "'encoder:blobs-vicreg'" in refusal(lambda: index.main(index.Config("encoder:blobs-vicreg")))
    assert Store().versions("neighbors") == []


def test_embeddings_of_other_images_do_not_take_over_the_variants_index() -> None:
    embeddings = blobs(2, 10, 4, seed=0)
    for name in ("blobs", "others"):
        publish_images(pictures(name, embeddings))
    publish_encoder("blobs-vicreg", "blobs")
    publish_embedded(embeddings, "blobs-vicreg", "others", on="others")
    line = refusal(lambda: index.main(index.Config("blobs-vicreg-on-others", k=3)))
    assert "others" in line and "blobs-vicreg" in line
    assert Store().versions("neighbors") == []


# -- the inverted file -------------------------------------------------------------------------------------------------


def test_an_inverted_file_that_probes_every_list_finds_what_the_exact_index_finds() -> None:
    embeddings = blobs(3, 400, 16, seed=1, distance=2)
    exact, inverted = find_neighbors(embeddings, 10), find_neighbors(embeddings, 10, Inverted(lists=20, probes=20))
    np.testing.assert_array_equal(inverted.train_ids, exact.train_ids)
    np.testing.assert_array_equal(inverted.test_ids, exact.test_ids)
    assert (exact.recall, inverted.recall) == (None, 1.0)


def test_the_recall_that_is_published_is_that_of_its_own_ids_against_scikit_learn(tmp_path: Path) -> None:
    embeddings = blobs(3, 300, 16, seed=1, distance=1)
    assert len(embeddings.test) <= 1000, "then every test vector is in the sample"
    neighbors = find_neighbors(embeddings, 10, Inverted(lists=30, probes=2))
    _, expected = by_scikit_learn(embeddings.train, embeddings.test, 10)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(neighbors.test_ids, expected, strict=True)]
    assert neighbors.recall is not None and 0.3 < neighbors.recall < 1
    assert neighbors.recall == pytest.approx(np.mean(shares))
    neighbors.save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    assert about == {"recall": neighbors.recall, "lists": 30, "probes": 2}
    assert Neighbors.load(tmp_path).recall == neighbors.recall


def test_codes_find_nearly_what_whole_vectors_find_and_their_distances_are_exact(tmp_path: Path) -> None:
    embeddings = blobs(3, 400, 16, seed=1, distance=1)
    whole = find_neighbors(embeddings, 5, Inverted(lists=20, probes=20))
    coded = find_neighbors(embeddings, 5, Inverted(lists=20, probes=20, code=4))
    assert coded.recall is not None and 0.9 < coded.recall < 1 and whole.recall == 1
    assert describe(coded.index) == {"lists": 20, "probes": 20, "code": 4}
    exact = exact_distances(embeddings.train, coded.test_ids, embeddings.test)
    np.testing.assert_allclose(coded.test_distances, exact, rtol=1e-6)
    for name, neighbors in (("whole", whole), ("coded", coded)):
        (tmp_path / name).mkdir()
        neighbors.save(tmp_path / name)
    again = Neighbors.load(tmp_path / "coded")
    assert describe(again.index) == describe(coded.index) and again.recall == coded.recall
    for one, other in zip(again.search(embeddings.test, 5), coded.search(embeddings.test, 5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_code_has_the_most_bytes_up_to_32_that_divide_the_dimensions() -> None:
    assert [largest_code(dimensions) for dimensions in (128, 96, 50, 37, 7, 1)] == [32, 32, 25, 1, 7, 1]
    assert describe(build(normal(300, 50), Inverted(code=largest_code(50))))["code"] == 25


def test_lists_that_hold_too_few_are_followed_by_more() -> None:
    """One list is probed, and holds about 4 of the 18 candidates: FAISS alone fills up with -1."""
    embeddings = blobs(2, 200, 8, seed=3, distance=1)
    index = build(embeddings.train, Inverted(lists=100, probes=1))
    assert (index.search(embeddings.train, 18)[1] < 0).any()
    neighbors = find_neighbors(embeddings, 10, Inverted(lists=100, probes=1))
    for ids in (neighbors.train_ids, neighbors.test_ids):
        assert ids.min() >= 0 and all(len(set(row)) == 10 for row in ids)
    assert not (neighbors.train_ids == np.arange(len(embeddings.train))[:, None]).any()
    assert neighbors.search(embeddings.test, 18)[1].min() >= 0
    assert describe(neighbors.index) == {"lists": 100, "probes": 1}


@pytest.mark.parametrize("code", [0, 8])
def test_an_inverted_file_is_the_same_bytes_each_time(code: int, tmp_path: Path) -> None:
    embeddings = blobs(3, 400, 16, seed=1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        find_neighbors(embeddings, 5, Inverted(code=code)).save(tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} and "index.json" in files


def test_lists_and_probes_that_cannot_be_are_one_line() -> None:
    vectors = normal(50, 4)
    assert "--lists 51 are more than the 50 vectors" in refusal(lambda: build(vectors, Inverted(lists=51)))
    assert "--probes 6 are more than the 5 lists" in refusal(lambda: build(vectors, Inverted(lists=5, probes=6)))
    assert "--kind ivf" in refusal(lambda: index.Config("blobs", lists=5))
    assert "--probes -1" in refusal(lambda: index.Config("blobs", kind="ivf", probes=-1))
    assert "--code 4 needs --kind ivfpq" in refusal(lambda: index.Config("blobs", kind="ivf", code=4))
    assert "256 vectors or more, not from 50" in refusal(lambda: build(vectors, Inverted(code=4)))
    assert "--code 3 does not divide the 4 dimensions; give --code 4" in refusal(
        lambda: build(normal(300, 4), Inverted(code=3))
    )
