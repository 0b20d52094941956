"""Artifacts whose files are whole and whose values are wrong: each is refused as it is read, in one line that names the value."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import refusal
from tests.parts.embeddings import blobs
from train.data.embeddings import Embeddings, row_list
from train.data.images import UNLABELED, Images
from train.data.neighbors import Inverted, Neighbors, build, find_neighbors, nearest
from train.data.scores import Scores
from train.methods.eigenmaps import neighbor_graph
from train.methods.partners import Partners
from train.tracking.contents import parse

DATA = blobs(3, 55, 8, seed=0)
IMAGES = pictures("blobs", DATA)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# -- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[NaN]", "'NaN' is no number"),
        ("[1e400]", "'1e400' is no number"),
        (f"[{10**400}]", "is no number up to 1e+150"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 70 + "]" * 70, "nested too deeply"),
        ("[true]", "0 is True: input should be a valid number"),
        ("{}", "it is {}: input should be a valid array"),
    ],
)
def test_json_of_values_that_no_code_can_work_with_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text, list[float])


def test_json_is_read_as_pythons_own_reader_does() -> None:
    random = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    numbers = [number for number in random.tolist() if abs(number) < 1e150]
    content = {"numbers": numbers, "whole": [0, -7, 2**53 + 1], "text": "ä 猫", "none": None}
    again = parse(json.dumps(content), dict[str, Any])
    assert again == content and list(map(type, again["whole"])) == [int] * 3


# -- images and embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"std": [0, 0.2, 0.2]}, "std.0 is 0"),
        ({"std": [-0.1, 0.2, 0.2]}, "std.0 is -0.1"),
        ({"std": [1e-300, 0.2, 0.2]}, "std.0 is 1e-300"),
        ({"mean": [0.5, float("nan"), 0.5]}, "'NaN'"),
        ({"mean": [0.5, 0.5]}, "mean.2"),
        ({"classes": ["a", "b", "a"]}, "two classes are called 'a'"),
        ({"classes": ["a", "b", 3]}, "classes.2 is 3"),
        ({"classes": ["a", "", "b"]}, "classes.1 is ''"),
        ({"classes": []}, "train_labels.npy has labels and there are no classes"),
        ({"name": "../x"}, "'../x'"),
    ],
)
def test_images_of_other_values_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    IMAGES.save(tmp_path)
    rewrite(tmp_path / "images.json", **changes)
    assert words in refusal(lambda: Images.load(tmp_path))


@pytest.mark.parametrize("count", [0, 100, 165])
def test_images_and_vectors_without_labels_come_back_as_they_were(count: int, tmp_path: Path) -> None:
    labels = np.where(np.arange(165) < count, DATA.test_labels, UNLABELED)
    classes = DATA.classes if count else ()
    for part in (IMAGES, DATA):
        again = replace(part, classes=classes, test_labels=labels, train_labels=labels)
        (folder := tmp_path / type(part).__name__).mkdir()
        again.save(folder)
        loaded = type(again).load(folder)
        np.testing.assert_array_equal(loaded.test_labels, labels)
        assert loaded.classes == classes and loaded.labeled == bool(count)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (165, 0, 0, 3), (165, 7, 7, 3), (165, 12, 12, 3)])
def test_images_without_any_or_of_two_sizes_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    IMAGES.save(tmp_path)
    np.save(tmp_path / "test.npy", np.zeros(shape, np.uint8))
    np.save(tmp_path / "test_labels.npy", np.zeros(shape[0], np.int64))
    line = refusal(lambda: Images.load(tmp_path))
    assert f"test.npy is {shape}" in line or "train images have 8 pixels, test 12" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e37])
def test_vectors_that_are_not_finite_are_named_by_their_rows(value: float, tmp_path: Path) -> None:
    test = DATA.test_features.copy()
    test[[3, 164], 2] = value
    Embeddings(
        DATA.classes, DATA.train, DATA.test, DATA.train_features, test, DATA.train_labels, DATA.test_labels
    ).save(tmp_path)
    assert "2 of 165 vectors (rows 3, 164) hold NaN or values too large" in refusal(lambda: Embeddings.load(tmp_path))


def test_only_the_first_rows_are_listed() -> None:
    assert row_list(np.arange(7), 9) == "7 of 9 vectors (rows 0, 1, 2, 3, 4, ...)"
    assert row_list(np.array([4]), 9) == "1 of 9 vectors (row 4)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": np.empty((165, 0), np.float32)}, "test.npy is (165, 0)"),
        (
            {"train": np.empty((0, 8), np.float32), "train_features": np.empty((0, 8), np.float32)},
            "train.npy is (0, 8)",
        ),
        ({"train": np.zeros((165, 7), np.float32)}, "train.npy is (165, 7), and test.npy is (165, 8)"),
    ],
)
def test_embeddings_without_vectors_or_of_two_widths_are_refused(
    changes: dict[str, NDArray[Any]], words: str, tmp_path: Path
) -> None:
    DATA.save(tmp_path)
    for name, array in changes.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert words in refusal(lambda: Embeddings.load(tmp_path))


# -- neighbors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e37])
def test_vectors_that_float32_holds_no_distance_of_reach_no_native_code(value: float) -> None:
    vectors = DATA.train.copy()
    vectors[4, 1] = value
    line = "1 of 165 vectors (row 4) hold NaN or values too large for a distance in float32"
    assert line in refusal(lambda: build(vectors))
    index = build(DATA.train)
    assert line in refusal(lambda: nearest(index, vectors, vectors, 3, among_themselves=True))
    assert line in refusal(lambda: nearest(index, DATA.train, vectors, 3))


def test_the_longest_vectors_that_are_taken_have_the_neighbors_that_short_ones_have() -> None:
    factor = np.float32(2.0**55)  # exact
    _, ids = nearest(build(DATA.train), DATA.train, DATA.train, 5, among_themselves=True)
    long = DATA.train * factor
    distances, again = nearest(build(long), long, long, 5, among_themselves=True)
    assert np.isfinite(distances).all()
    np.testing.assert_array_equal(again, ids)


def test_an_index_of_other_vectors_is_refused() -> None:
    for vectors in (DATA.train[:, :5], np.concatenate([DATA.train, DATA.train])):
        index = build(vectors)
        assert "the index is of" in refusal(lambda: nearest(index, DATA.train, DATA.test, 3))  # noqa: B023


def test_an_index_that_names_rows_that_there_are_not_is_refused() -> None:
    index = build(DATA.train, Inverted(4, 4))
    inner: Any = faiss.downcast_index(index.index)
    lists = inner.invlists
    faiss.rev_swig_ptr(lists.get_ids(0), lists.list_size(0))[:] = 10**12
    assert "or others than those" in refusal(lambda: nearest(index, DATA.train, DATA.test, 3))


@pytest.mark.parametrize("ids", [np.full((5, 2), -1), np.full((5, 2), 5)])
def test_a_graph_takes_no_neighbor_that_is_no_image(ids: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="of 5 images"):
        neighbor_graph(ids)


def others() -> dict[str, Any]:
    """Indexes of the same vectors that eval.index does not build."""
    centered = faiss.CenteringTransform(8)
    indexes = {
        "no centering": faiss.IndexFlatL2(8),
        "products": faiss.IndexPreTransform(centered, faiss.IndexFlatIP(8)),
        "graph": faiss.IndexHNSWFlat(8, 4),
        "bits": faiss.IndexLSH(8, 16),
        "rotated": faiss.IndexPreTransform(faiss.PCAMatrix(8, 8), faiss.IndexFlatL2(8)),
        "quantized": faiss.IndexPreTransform(faiss.CenteringTransform(8), faiss.IndexScalarQuantizer(8, faiss.ScalarQuantizer.QT_8bit)),
        "fewer": faiss.IndexPreTransform(faiss.CenteringTransform(8), faiss.IndexFlatL2(8)),
    }  # fmt: skip
    for name, index in indexes.items():
        index.train(DATA.train)
        index.add(DATA.train[:100] if name == "fewer" else DATA.train)
    return indexes


@pytest.mark.parametrize("name", ["no centering", "products", "graph", "bits", "rotated", "quantized", "fewer"])
def test_only_an_index_that_the_stage_builds_is_read(name: str, tmp_path: Path) -> None:
    find_neighbors(DATA, 3).save(tmp_path)
    Neighbors.load(tmp_path)
    faiss.write_index(others()[name], str(tmp_path / "index.faiss"))
    assert "index.faiss is" in refusal(lambda: Neighbors.load(tmp_path))


def test_an_index_whose_center_is_not_trained_is_refused(tmp_path: Path) -> None:
    find_neighbors(DATA, 3).save(tmp_path)
    index = build(DATA.train)
    index.chain.at(0).is_trained = False  # a byte of the file
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    assert "put together" in refusal(lambda: Neighbors.load(tmp_path))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train_distances", np.zeros((165, 2), np.float32)),
        ("test_distances", np.full((165, 3), np.nan, np.float32)),
        ("test_distances", np.zeros((165, 3))),
        ("test_ids", np.full((165, 3), 165)),
        ("train_ids", np.empty((165, 0), np.int64)),
    ],
)
def test_neighbors_of_other_values_are_refused(name: str, array: NDArray[Any], tmp_path: Path) -> None:
    find_neighbors(DATA, 3).save(tmp_path)
    np.save(tmp_path / f"{name}.npy", array)
    refusal(lambda: Neighbors.load(tmp_path))


def test_partners_of_fewer_neighbors_of_test_images_are_refused(tmp_path: Path) -> None:
    find_neighbors(DATA, 3).save(tmp_path)
    np.save(tmp_path / "test_ids.npy", np.zeros((165, 1), np.int64))
    assert "holds 1 of each image, not 2" in refusal(lambda: Partners.load(tmp_path, IMAGES, 2, "blobs"))


# -- scores ------------------------------------------------------------------------------------------------------------


def broken(folder: Path, path: str, content: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def sample(array: NDArray[Any]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        (folder / "samples").mkdir()
        np.save(folder / "samples" / "x.npy", array)

    return save


@pytest.mark.parametrize(
    "change",
    [
        sample(np.array([0.5, np.nan])),
        sample(np.array([1e200])),
        sample(np.empty(0)),
        sample(np.ones((2, 2))),
        sample(np.array(["a"])),
        lambda folder: broken(folder, "pictures/x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
        lambda folder: broken(folder, "pictures/x.png", b"\x89PNG\r\n\x1a\n"),
        lambda folder: broken(folder, "figures/x.json", b'{"data": [{"type": "scatter", "name": "\\ud800"}], "layout": {}}'),
        lambda folder: broken(folder, "figures/x.json", b'{"data": "x"}'),
        lambda folder: broken(folder, "scores.json", b"[1]"),
    ],
)  # fmt: skip
def test_scores_of_other_values_are_refused(change: Callable[[Path], None], tmp_path: Path) -> None:
    Scores({"probe/top1": 0.5}).save(tmp_path)
    change(tmp_path)
    assert tmp_path.name in refusal(lambda: Scores.load(tmp_path))
