"""eval.retrieve and its parts: nearest and farthest images, against numpy."""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from eval import index, retrieve
from eval.evidence import retrieval
from eval.evidence.pictures import FRAME, GAP, TILE, grid
from eval.evidence.retrieval import (
    Retrieval,
    among_hubs,
    border_colors,
    color_ratios,
    farthest,
    farthest_of,
    mean_colors,
    precision,
    query_rows,
    query_values,
)
from eval.evidence.validity import check
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_embedded, publish_encoder, publish_images, refusal
from tests.parts.embeddings import blobs
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import find_neighbors
from train.data.scores import Scores
from train.tracking.store import Store


def distances(embeddings: Embeddings) -> NDArray[np.float64]:
    """Between all training vectors, in float64 from differences, nothing on the diagonal."""
    vectors = embeddings.train.astype(np.float64)
    between: NDArray[np.float64] = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(between, np.nan)
    return between


@pytest.mark.parametrize("block", [1, 7, 64, 5000])
def test_farthest_agrees_with_numpy_for_any_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.evidence.retrieval.BLOCK", block)
    embeddings = blobs(4, 16, 9, seed=0, distance=1)
    between = distances(embeddings)
    np.testing.assert_array_equal(farthest(embeddings.train), np.nanargmax(between, axis=1))
    rows = np.array([5, 0, 63])
    order = np.argsort(-np.nan_to_num(between[rows], nan=-1), axis=1, kind="stable")
    np.testing.assert_array_equal(farthest_of(embeddings.train, rows, 5), order[:, :5])


def test_farthest_is_right_where_the_mean_drowns_the_spread() -> None:
    vectors = (100 + 1e-3 * np.random.default_rng(0).standard_normal((80, 6))).astype(np.float32)
    embeddings = dataclasses.replace(blobs(2, 40, 6, seed=0), train=vectors)
    np.testing.assert_array_equal(farthest(vectors), np.nanargmax(distances(embeddings), axis=1))


def test_of_two_equally_far_the_first_is_farthest_and_no_image_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.evidence.retrieval.BLOCK", 2)
    line = np.array([[0], [0], [4], [0], [4], [4]], np.float32)
    assert farthest(line).tolist() == [2, 2, 0, 2, 0, 0]
    assert farthest(np.zeros((5, 3), np.float32)).tolist() == [1, 0, 0, 0, 0]


def test_precision_is_the_share_of_neighbors_of_the_same_class() -> None:
    labels = np.array([0, 0, 1, 1])
    ids = np.array([[1, 2], [2, 3], [3, 3], [0, 2]])
    np.testing.assert_allclose(precision(ids, labels), [0.5, 0, 1, 0.5])


def test_hubness_agrees_with_a_count() -> None:
    ids = np.random.default_rng(0).zipf(1.5, 500) % 60
    most = Counter(ids.tolist()).most_common(10)
    assert among_hubs(ids).sum() == sum(count for _, count in most)
    assert set(ids[among_hubs(ids)]) <= {row for row, times in Counter(ids.tolist()).items() if times >= most[-1][1]}
    assert among_hubs(np.full(30, 7)).all()


def test_shown_queries_share_what_is_farthest_of_several() -> None:
    far = np.array([[4, 5, 6], [4, 6, 7], [8, 4, 9], [1, 2, 3]])
    values = query_values(Retrieval(np.arange(4), far, far))
    assert values["retrieve/shown/farthest_distinct"] == len(set(far.ravel().tolist())) == 9
    assert values["retrieve/shown/farthest_places"] == 12
    assert values["retrieve/shown/farthest_shared"] == 3 / 4  # image 4


def mean_ratio(colors: NDArray[np.float64], ids: NDArray[np.int64], seed: int) -> float:
    ratios = color_ratios(colors, ids, seed)
    assert ratios is not None
    return float(ratios.mean())


def test_color_ratio_is_one_for_random_neighbors_and_nothing_for_neighbors_of_one_color() -> None:
    rng = np.random.default_rng(0)
    colors = np.repeat(rng.uniform(0, 255, (500, 3)), 6, axis=0)
    rows = np.arange(3000)[:, None]
    assert mean_ratio(colors, rng.integers(3000, size=(3000, 5)), seed=1) == pytest.approx(1, abs=0.02)
    assert mean_ratio(colors, rows // 6 * 6 + (rows + np.arange(1, 6)) % 6, seed=1) == 0
    assert color_ratios(np.ones((10, 3)), np.zeros((10, 5), np.int64), seed=1) is None


def test_color_ratio_agrees_with_all_pairs() -> None:
    rng = np.random.default_rng(0)
    colors = rng.uniform(0, 255, (2000, 3))
    between = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    ids = np.argsort(between, axis=1)[:, 1:6]
    near = np.take_along_axis(between, ids, axis=1).mean(axis=1)
    pairs = between[~np.eye(2000, dtype=bool)].mean()
    ratios = color_ratios(colors, ids, seed=3)
    assert ratios is not None
    np.testing.assert_allclose(ratios, near / pairs, rtol=0.03)


def test_mean_colors_agree_with_pillow() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    expected = [[sum(channel.tobytes()) / 25 for channel in PIL.Image.fromarray(image).split()] for image in images]
    np.testing.assert_allclose(mean_colors(images), expected)


@pytest.mark.parametrize(("size", "margin"), [(32, 4), (8, 1), (5, 1)])
def test_border_colors_are_those_of_what_is_left_when_the_middle_is_cut_out(size: int, margin: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    middle = images[:, margin:-margin, margin:-margin].astype(np.int64)
    rest = images.sum(axis=(1, 2), dtype=np.int64) - middle.sum(axis=(1, 2))
    np.testing.assert_allclose(border_colors(images), rest / (size**2 - (size - 2 * margin) ** 2))


def test_queries_are_one_of_each_class_and_another_seed_draws_others() -> None:
    labels = blobs(7, 50, 8, seed=3).train_labels
    queries = query_rows(labels, seed=0)
    assert labels[queries].tolist() == list(range(7))
    assert queries.tolist() != query_rows(labels, seed=1).tolist()


def test_grid_shows_every_pixel_enlarged_and_frames_the_marked() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 200, (2, 3, 32, 32, 3), dtype=np.uint8)
    marks = [[False, True, False], [False, False, True]]
    picture = np.array(grid([list(row) for row in rows], marks, set_apart=1))
    step = TILE + 2 * FRAME + GAP
    for i in range(2):
        for j in range(3):
            top, left = GAP + i * step, GAP + j * step + (step // 4 if j else 0)
            inside = picture[top + FRAME : top + FRAME + TILE, left + FRAME : left + FRAME + TILE]
            np.testing.assert_array_equal(inside, rows[i, j].repeat(2, axis=0).repeat(2, axis=1))
            frame = picture[top, left : left + step - GAP]
            assert bool((frame != 255).any()) == marks[i][j]


def publish(variant: str, dataset: str, embeddings: Embeddings) -> None:
    publish_encoder(variant, dataset)
    publish_embedded(embeddings, variant, dataset)
    index.main(index.Config(variant, k=6))


@pytest.fixture
def lab() -> tuple[Images, Embeddings]:
    """Two variants of one image set, published with their neighbors. Returns the first."""
    embeddings = blobs(3, 20, 8, seed=0, distance=3)
    images = pictures("blobs", embeddings)
    publish_images(images)
    other = dataclasses.replace(embeddings, train=blobs(3, 20, 8, seed=5).train[::-1].copy())
    publish("blobs-vicreg", "blobs", embeddings)
    publish("blobs-vicreg-variance0", "blobs", other)
    return images, embeddings


@dataclass(frozen=True)
class Result:
    values: dict[str, Any]
    pictures: dict[str, PIL.Image.Image]
    samples: dict[str, NDArray[Any]]


def result(alias: str) -> Result:
    store = Store()
    scores = Scores.load(store.folder(store.get("retrieve", alias)))
    return Result(scores.values, scores.pictures, scores.samples)


def test_stage_publishes_what_numpy_computes(lab: tuple[Images, Embeddings]) -> None:
    images, embeddings = lab
    retrieve.main(retrieve.Config("blobs-vicreg"))
    values = result("blobs-vicreg").values
    by_path = result("blobs-vicreg").pictures

    between = distances(embeddings)
    near = np.argsort(between, axis=1)[:, :5]  # numpy sorts the nan of the diagonal last
    far = np.nanargmax(between, axis=1)
    same = embeddings.train_labels[near] == embeddings.train_labels[:, None]
    assert values["retrieve/precision@5"] == pytest.approx(same.mean())
    low, high = values["retrieve/precision@5/interval"]
    error = same.mean(axis=1).std() / np.sqrt(len(same))
    assert (low, high) == pytest.approx((same.mean() - 1.96 * error, same.mean() + 1.96 * error), abs=0.3 * error)
    assert values["retrieve/farthest_distinct"] == len(set(far.tolist()))
    most = sum(count for _, count in Counter(far.tolist()).most_common(10))
    assert values["retrieve/hubness"] == pytest.approx(most / len(far))
    colors = images.train.reshape(60, -1, 3).mean(axis=1)
    assert values["retrieve/color"] == pytest.approx(mean_ratio(colors, near, seed=0))
    assert values["retrieve/background"] == pytest.approx(mean_ratio(border_colors(images.train), near, seed=0))
    samples = result("blobs-vicreg").samples
    np.testing.assert_allclose(samples["retrieve/precision@5"], same.mean(axis=1), rtol=1e-6)
    assert set(samples) == {f"retrieve/{name}" for name in ("precision@5", "color", "background", "hubness")}
    for path, sample in samples.items():
        assert (len(sample), sample.mean(dtype=np.float64)) == (60, pytest.approx(values[path], rel=1e-6))

    queries = values["retrieve/queries"]
    order = np.argsort(-np.nan_to_num(between[queries], nan=-1), axis=1)[:, :5]
    for name, ids in (("nearest", near[queries]), ("farthest", order)):
        rows = np.column_stack([queries, ids])
        hits = images.train_labels[ids] == images.train_labels[queries][:, None]
        marks = np.column_stack([np.zeros(3, bool), hits])
        expected = grid([list(images.train[row]) for row in rows], marks.tolist(), set_apart=1)
        np.testing.assert_array_equal(np.array(by_path[f"retrieve/{name}"]), np.array(expected))


def test_two_variants_are_asked_the_same_queries_and_a_rerun_makes_no_new_version(
    lab: tuple[Images, Embeddings],
) -> None:
    for variant in ("blobs-vicreg", "blobs-vicreg-variance0", "blobs-vicreg"):
        retrieve.main(retrieve.Config(variant))
    first, second = (result(variant) for variant in ("blobs-vicreg", "blobs-vicreg-variance0"))
    assert first.values["retrieve/queries"] == second.values["retrieve/queries"]
    assert first.values["retrieve/precision@5"] != second.values["retrieve/precision@5"]
    assert len(Store().versions("retrieve")) == 2


def test_what_does_not_belong_together_is_refused(lab: tuple[Images, Embeddings]) -> None:
    _, embeddings = lab

    def error(embeddings: str, neighbors: str | None = None, images: str | None = None) -> str:
        return refusal(lambda: retrieve.main(retrieve.Config(embeddings, neighbors, images)))

    assert "not made from embeddings:blobs-vicreg;" in error("blobs-vicreg", "blobs-vicreg-variance0")
    publish_images(pictures("others", embeddings, seed=1))
    assert "not made from images:others" in error("blobs-vicreg", "blobs-vicreg", "others")
    index.main(index.Config("blobs-vicreg", k=3))
    assert "k = 3" in error("blobs-vicreg")
    publish(
        "blobs-pixels",
        "blobs",
        dataclasses.replace(
            embeddings,
            train=embeddings.train[:40],
            train_features=embeddings.train_features[:40],
            train_labels=embeddings.train_labels[:40],
        ),
    )
    assert "40 training vectors for the 60" in error("blobs-pixels")
    assert Store().versions("retrieve") == []


def test_a_class_without_a_training_image_and_an_index_of_other_images_are_one_line() -> None:
    embeddings = blobs(3, 10, 4, seed=0)
    neighbors = find_neighbors(embeddings, 5)
    without = dataclasses.replace(embeddings, train_labels=embeddings.train_labels % 2)
    assert "class 'class 2' has no train image" in refusal(lambda: check(without))
    fewer = dataclasses.replace(neighbors, train_ids=neighbors.train_ids[:20])
    assert "the index is of 20 images" in refusal(lambda: retrieval.retrieve(embeddings, fewer, 0))
