"""train.eigenmaps and its parts: the graph and its eigenvectors against scikit-learn and dense solvers, and the stage."""

import json
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, kron
from sklearn.manifold import SpectralEmbedding
from sklearn.neighbors import kneighbors_graph

from eval import index, retrieve
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_embedded, publish_encoder, publish_images, refusal
from tests.parts.embeddings import blobs
from train import eigenmaps as stage
from train.data.embeddings import Embeddings, Vectors
from train.data.neighbors import build, nearest
from train.methods.eigenmaps import SMALL, Graph, component_labels, eigenmaps, neighbor_graph
from train.tracking import Origin
from train.tracking.store import Store

Doubles = NDArray[np.float64]


def cloud(n: int, width: int = 3, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def graph_of(vectors: Vectors, k: int) -> Graph:
    return neighbor_graph(nearest(build(vectors), vectors, vectors, k, among_themselves=True)[1])


def by_scikit_learn(vectors: Vectors, k: int) -> Graph:
    """Its SpectralEmbedding's graph for affinity="nearest_neighbors", without the diagonal, of which the Laplacian is free."""
    directed = kneighbors_graph(vectors, k)
    return (directed + directed.T) / 2


def generalised(graph: Graph) -> tuple[Doubles, Doubles]:
    """All eigenvalues and eigenvectors of L y = λ D y by LAPACK, scaled so that yᵀ D y = 1."""
    dense = graph.toarray()
    degrees = np.diag(dense.sum(axis=0))
    values, vectors = scipy.linalg.eigh(degrees - dense, degrees)
    return values, vectors


def torus(side: int) -> Graph:
    """A grid of side³ nodes closed in each direction: its eigenvalues repeat 6, 12, 8, 6 and 24 times."""
    steps = np.arange(side)
    forward = csr_array((np.ones(side), (steps, (steps + 1) % side)), shape=(side, side))
    ring, one = forward + forward.T, eye_array(side)
    return csr_array(kron(kron(ring, one), one) + kron(kron(one, ring), one) + kron(kron(one, one), ring))


def test_graph_is_scikit_learns_symmetric_connectivity() -> None:
    vectors = cloud(200)
    graph = graph_of(vectors, 7)
    np.testing.assert_array_equal(graph.toarray(), by_scikit_learn(vectors, 7).toarray())
    assert graph.nnz == np.count_nonzero(graph.toarray()), "stores no zeros: edges are counted by entries"


@pytest.mark.parametrize(("n", "width"), [(SMALL, 3), (SMALL + 1, 3), (900, 20)])
def test_vectors_of_a_connected_graph_are_scikit_learns_times_the_root_of_the_degrees(n: int, width: int) -> None:
    vectors = cloud(n, width)
    affinity = by_scikit_learn(vectors, 10)
    expected = SpectralEmbedding(8, affinity="precomputed", random_state=0).fit_transform(affinity)
    maps = eigenmaps(graph_of(vectors, 10), 8, seed=0)
    assert maps.components.tolist() == [n]
    np.testing.assert_allclose(maps.vectors, expected * np.sqrt(affinity.sum()), atol=1e-5)


def test_eigenvalues_agree_with_a_dense_solver_and_each_dimension_has_mean_0_and_variance_1() -> None:
    graph = graph_of(cloud(600), 6)
    maps = eigenmaps(graph, 40, seed=0)
    np.testing.assert_allclose(maps.eigenvalues, generalised(graph)[0][1:41], atol=1e-9)
    degrees = graph.sum(axis=0)
    weights = degrees / degrees.sum()
    np.testing.assert_allclose(weights @ maps.vectors, 0, atol=1e-6)
    np.testing.assert_allclose(maps.vectors.T * weights @ maps.vectors, np.eye(40), atol=1e-6)


def test_every_copy_of_a_repeated_eigenvalue_is_found() -> None:
    graph = torus(9)
    values, vectors = generalised(graph)
    values, vectors = values[1:57], vectors[:, 1:57] * np.sqrt(graph.sum())
    maps = eigenmaps(graph, 56, seed=0)
    np.testing.assert_allclose(maps.eigenvalues, values, atol=1e-9)
    groups = np.split(np.arange(56), np.flatnonzero(np.diff(values) > 1e-6) + 1)
    assert [len(group) for group in groups] == [6, 12, 8, 6, 24]
    for group in groups:
        spanned, expected = maps.vectors[:, group], vectors[:, group]
        np.testing.assert_allclose(spanned @ spanned.T, expected @ expected.T, atol=1e-4)


def test_components_are_counted_and_combination_before_all_else() -> None:
    sizes = (60, 400, 60, 100)
    parts = [cloud(size, seed=size + row) + 100 * row for row, size in enumerate(sizes)]
    graph = graph_of(np.concatenate(parts), 8)
    belongs = np.repeat([2, 0, 3, 1], sizes)  # from the largest to the smallest, of equal ones the first
    np.testing.assert_array_equal(component_labels(graph), belongs)
    maps = eigenmaps(graph, 12, seed=0)
    assert maps.components.tolist() == [400, 100, 60, 60]

    expected = np.sort(np.concatenate([generalised(graph_of(part, 8))[0] for part in parts]))
    assert (np.abs(expected[:4]) < 1e-9).all()
    np.testing.assert_allclose(maps.eigenvalues, expected[1:13], atol=1e-9)

    indicators = np.eye(4)[belongs]
    combination = np.linalg.lstsq(indicators, maps.vectors[:, :3], rcond=None)[0]
    np.testing.assert_allclose(indicators @ combination, maps.vectors[:, :3], atol=1e-5)
    assert (np.abs(combination[2:, 0]) < 1e-6).all(), (
        "the first dimension tells the second component from the first only"
    )
    weights = graph.sum(axis=0) / graph.sum()
    np.testing.assert_allclose(maps.vectors.T * weights @ maps.vectors, np.eye(12), atol=1e-5)
    np.testing.assert_allclose(weights @ maps.vectors, 0, atol=1e-5)


def test_the_same_graph_gives_the_same_bytes_with_the_largest_entries_positive() -> None:
    graph = graph_of(np.concatenate([cloud(500), cloud(50, seed=1) + 50]), 5)
    first, again = (eigenmaps(graph, 10, seed=3) for _ in range(2))
    assert first.vectors.tobytes() == again.vectors.tobytes()
    assert (first.vectors.max(axis=0) == np.abs(first.vectors).max(axis=0)).all()


def test_images_that_are_all_alike_are_embedded_too() -> None:
    """A complete graph has one eigenvalue, which Lanczos alone cannot fill."""
    complete = csr_array(np.ones((60, 60)) - np.eye(60))
    maps = eigenmaps(complete, 20, seed=0)
    np.testing.assert_allclose(maps.eigenvalues, 60 / 59)
    np.testing.assert_allclose(maps.vectors.T @ maps.vectors / 60, np.eye(20), atol=1e-5)


def test_memory_grows_with_the_number_of_images_and_not_with_its_square() -> None:
    peaks = {}
    for n in (1000, 2000, 4000):
        vectors = cloud(n, 8)
        _, ids = nearest(build(vectors), vectors, vectors, 10, among_themselves=True)
        tracemalloc.start()
        graph = neighbor_graph(ids)
        eigenmaps(graph, 16, seed=0)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert graph.nnz <= 2 * 10 * n
    assert peaks[2000] < 2.2 * peaks[1000] and peaks[4000] < 2.2 * peaks[2000], peaks


def test_too_few_images_and_too_many_components_are_refused() -> None:
    apart = np.concatenate([cloud(6, seed=row) + 100 * row for row in range(4)])
    graph = graph_of(apart, 3)
    assert "4 connected components" in refusal(lambda: eigenmaps(graph, 3, seed=0))
    assert eigenmaps(graph, 4, seed=0).eigenvalues[3] > 0
    assert "--dimension 24 is too large for 24 images; give 23" in refusal(lambda: eigenmaps(graph, 24, seed=0))
    np.testing.assert_allclose(eigenmaps(graph, 23, seed=0).eigenvalues, generalised(graph)[0][1:], atol=1e-9)


# -- the stage ---------------------------------------------------------------------------------------------------------


def publish_source(seed: int = 0, distance: float = 10) -> Embeddings:
    """Images `blobs` and their embeddings by an untrained encoder."""
    embeddings = blobs(3, 30, 8, seed=0, distance=distance)
    publish_images(pictures("blobs", embeddings))
    publish_encoder("blobs-untrained", "blobs", seed)
    publish_embedded(embeddings, "blobs-untrained" + (f"-s{seed}" if seed else ""), "blobs")
    return embeddings


def published(alias: str) -> Embeddings:
    return Embeddings.load(Store().folder(Store().get("embeddings", alias)))


def test_stage_embeds_the_representations_of_train_and_test_together() -> None:
    source = publish_source(seed=1)
    stage.main(stage.Config(embeddings="blobs-untrained-s1", k=9, dimension=8))
    embeddings = published("blobs-eigenmaps-k9-dimension8-s1")
    expected = eigenmaps(graph_of(np.concatenate([source.train, source.test]), 9), 8, seed=1).vectors
    np.testing.assert_array_equal(np.concatenate([embeddings.train, embeddings.test]), expected)
    np.testing.assert_array_equal(embeddings.train_labels, source.train_labels)
    np.testing.assert_array_equal(embeddings.test_labels, source.test_labels)
    assert not embeddings.has_head and embeddings.own and embeddings.transductive


def test_of_a_set_of_copies_the_default_takes_more_neighbors_and_a_number_that_was_asked_for_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With ten neighbors the twelve copies of each of fifteen vectors have none but each other."""
    source = blobs(3, 5, 8, seed=0)
    twelvefold: dict[str, Any] = {
        key: np.repeat(getattr(source, key), 12, axis=0) for key in ("train", "train_features", "train_labels")
    }
    copies = replace(source, **twelvefold)
    publish_images(pictures("blobs", copies))
    publish_encoder("blobs-untrained", "blobs")
    publish_embedded(copies, "blobs-untrained", "blobs")
    stage.main(stage.Config(embeddings="blobs-untrained", dimension=8))
    assert "--k 20: with fewer neighbors" in capsys.readouterr().out
    assert np.isfinite(published("blobs-eigenmaps-dimension8").train).all()
    line = refusal(lambda: stage.main(stage.Config(embeddings="blobs-untrained", dimension=8, k=9)))
    assert "components" in line and "give a larger --k" in line


def test_of_few_images_the_defaults_take_all_neighbors_and_all_dimensions() -> None:
    few = blobs(2, 2, 4, seed=0)
    publish_images(pictures("blobs", few))
    publish_encoder("blobs-untrained", "blobs")
    publish_embedded(few, "blobs-untrained", "blobs")
    stage.main(stage.Config(embeddings="blobs-untrained"))
    assert published("blobs-eigenmaps").train.shape == (4, 7)


def test_stage_takes_distances_between_normalised_pixels() -> None:
    images = pictures("blobs", blobs(3, 30, 8, seed=0))
    images = replace(images, std=(0.29, 0.29, 0.03))  # so that blue weighs ten times as much
    publish_images(images)
    stage.main(stage.Config(images="blobs", dimension=8))
    raw = np.concatenate([images.train, images.test]) / 255
    normalized = ((raw - images.mean) / images.std).reshape(len(raw), -1).astype(np.float32)
    affinity = by_scikit_learn(normalized, 10)
    expected = SpectralEmbedding(8, affinity="precomputed", random_state=0).fit_transform(affinity)
    embeddings = published("blobs-eigenmaps-dimension8-pixels")
    together = np.concatenate([embeddings.train, embeddings.test])
    np.testing.assert_allclose(together, expected * np.sqrt(affinity.sum()), atol=1e-5)
    assert Store().get("embeddings", "blobs-eigenmaps-dimension8-pixels-s0")


def test_evaluations_that_need_the_images_accept_what_the_stage_made() -> None:
    publish_source()
    stage.main(stage.Config(embeddings="blobs-untrained", dimension=8))
    folder = Store().folder(Store().get("embeddings", "blobs-eigenmaps-dimension8"))
    assert [entry.split("@")[0] for entry in Origin.load(folder).inputs] == ["embeddings", "images"]
    index.main(index.Config("blobs-eigenmaps-dimension8"))
    retrieve.main(retrieve.Config("blobs-eigenmaps-dimension8"))
    scores = Store().folder(Store().get("retrieve", "blobs-eigenmaps-dimension8")) / "scores.json"
    assert json.loads(scores.read_text())["retrieve/precision@5"] == 1  # three blobs far apart


def test_a_count_draws_training_images_and_keeps_labels_and_all_test_images() -> None:
    source = publish_source(distance=40)
    stage.main(stage.Config(embeddings="blobs-untrained", k=5, dimension=8, count=45))
    embeddings = published("blobs-eigenmaps-k5-dimension8-count45")
    np.testing.assert_array_equal(embeddings.test_labels, source.test_labels)
    labels = np.concatenate([embeddings.train_labels, embeddings.test_labels])
    assert embeddings.train.shape == (45, 8) and len(labels) == 135
    membership = np.concatenate([embeddings.train, embeddings.test])[:, :2]  # each class is a component
    centers = np.stack([membership[labels == label].mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(membership, centers[labels], atol=1e-5)
    assert np.linalg.norm(centers - np.roll(centers, 1, axis=0), axis=1).min() > 1


def test_fewer_images_are_among_more() -> None:
    few, more = stage.subset(1000, 40, seed=5), stage.subset(1000, 50, seed=5)
    assert len(few) == 40 and len(np.intersect1d(few, more)) == 40
    assert (np.diff(more) > 0).all() and more[-1] > 500, "drawn from all, in order"
    np.testing.assert_array_equal(stage.subset(1000, 0, seed=5), np.arange(1000))


@pytest.mark.parametrize(
    ("settings", "source", "name"),
    [
        ({"images": "x"}, None, "x-eigenmaps-pixels"),
        ({"embeddings": "x"}, "x-untrained", "x-eigenmaps"),
        ({"embeddings": "x"}, "x-untrained-fourconv", "x-eigenmaps-untrained-fourconv"),
        ({"embeddings": "x"}, "x-vicreg", "x-eigenmaps-vicreg"),
        ({"embeddings": "x", "k": 20, "dimension": 2}, "x-untrained", "x-eigenmaps-k20-dimension2"),
        ({"images": "x", "count": 500}, None, "x-eigenmaps-count500-pixels"),
    ],
)
def test_a_variant_is_named_after_its_settings_and_what_distances_were_taken_on(
    settings: dict[str, Any], source: str | None, name: str
) -> None:
    assert stage.variant_name(stage.Config(**settings), "x", source) == name


def test_bad_input_is_refused_in_one_line_and_publishes_nothing() -> None:
    def run(settings: dict[str, Any]) -> None:
        stage.main(stage.Config(**settings))

    publish_source()
    before = Store().versions("embeddings")
    for wrong, text in (
        (dict[str, Any](), "--images or --embeddings"),
        ({"images": "blobs", "embeddings": "blobs-untrained"}, "--images or --embeddings"),
        ({"images": "blobs", "k": 0}, "--k 0"),
        ({"images": "blobs", "k": 180}, "--k 179"),
        ({"images": "blobs", "dimension": 0}, "--dimension 0"),
        ({"images": "blobs", "dimension": 180}, "179 or less"),
        ({"images": "blobs", "count": 91}, "--count 91 is more than the 90"),
        ({"embeddings": "nothing"}, "embeddings:nothing"),
    ):
        assert text in refusal(partial(run, wrong)), wrong
    assert Store().versions("embeddings") == before


def test_embeddings_of_other_images_do_not_take_over_the_variant() -> None:
    embeddings = publish_source()
    publish_images(pictures("others", embeddings))
    publish_embedded(embeddings, "blobs-untrained", "others", on="others")
    line = refusal(lambda: stage.main(stage.Config(embeddings="blobs-untrained-on-others")))
    assert "blobs-untrained-on-others" in line and "name blobs-untrained itself" in line


def test_embeddings_made_from_other_images_than_their_name_says_now_are_refused() -> None:
    embeddings = publish_source()
    publish_images(pictures("blobs", embeddings, seed=9))
    assert "was not made from images:blobs" in refusal(lambda: stage.main(stage.Config(embeddings="blobs-untrained")))


def test_eigenmaps_of_eigenmaps_are_refused() -> None:
    publish_source()
    stage.main(stage.Config(embeddings="blobs-untrained", dimension=8, count=50))
    line = refusal(lambda: stage.main(stage.Config(embeddings="blobs-eigenmaps-dimension8-count50")))
    assert "already" in line


def test_embeddings_made_before_there_were_transductive_ones_are_an_encoders(tmp_path: Path) -> None:
    blobs(2, 5, 3, seed=0).save(tmp_path)
    about = json.loads((tmp_path / "embeddings.json").read_text())
    del about["transductive"]
    (tmp_path / "embeddings.json").write_text(json.dumps(about))
    assert not Embeddings.load(tmp_path).transductive


def test_a_source_with_a_vector_that_is_not_finite_is_refused_with_its_row() -> None:
    embeddings = publish_source()
    for value in (np.nan, np.float32(1e37)):
        train = embeddings.train.copy()
        train[4, 0] = value
        publish_embedded(replace(embeddings, train=train), "blobs-untrained", "blobs")
        line = refusal(lambda: stage.main(stage.Config(embeddings="blobs-untrained")))
        assert "1 of 90 vectors (row 4) hold NaN or values too large for a distance in float32" in line
    assert not [version for version in Store().versions("embeddings") if any("eigenmaps" in a for a in version.aliases)]
