"""Equal images of a set: counted, said, published where there are any, and carried to what they void."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import Files, encode, load_set, pixels, png, two_classes, write_folder, write_zip
from train import prepare
from train.data import datasets
from train.data.duplicates import Duplicates, overlap
from train.data.images import Images
from train.tracking.store import Store


def brute_force(images: Images) -> tuple[int, int, int, int]:
    """Across, mislabeled, train and test by comparing every image with every other."""
    pictures = [*images.train, *images.test]
    labels = [*images.train_labels, *images.test_labels]
    test = [False] * len(images.train) + [True] * len(images.test)
    equal = [[np.array_equal(one, other) for other in pictures] for one in pictures]
    rows = range(len(pictures))
    first, second = (
        sum(test[i] == split and any(equal[i][j] and test[j] == split for j in range(i)) for i in rows)
        for split in (False, True)
    )
    return (
        sum(test[i] and any(equal[i][j] and not test[j] for j in rows) for i in rows),
        sum(any(equal[i][j] and labels[i] != labels[j] for j in rows) for i in rows),
        first,
        second,
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_agree_with_a_comparison_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = pixels(12, 4, 4, 3)
    splits = {"train": some[rng.integers(0, 12, 14)], "test": some[rng.integers(0, 12, 9)]}
    labels = {f"{split}_labels": rng.integers(0, 3, len(images)) for split, images in splits.items()}
    images = Images.from_arrays("x", ("a", "b", "c"), splits | labels)
    counts = images.duplicates
    assert counts is not None and counts.tests == 9
    assert (counts.across, counts.mislabeled, counts.train, counts.test) == brute_force(images)
    (split, row), (other, other_row) = counts.example
    places = {"training": images.train, "test": images.test}
    np.testing.assert_array_equal(places[split][row], places[other][other_row])


def test_images_without_a_label_contradict_none() -> None:
    some = pixels(4, 4, 4, 3)
    rows, labels = [0, 0, 0, 1, 1, 2, 2, 3], [0, 1, -1, 0, -1, -1, -1, 1]
    arrays = {
        "train": some[rows],
        "train_labels": np.array(labels),
        "test": some[[1, 3]],
        "test_labels": np.array([-1, 0]),
    }
    counts = Images.from_arrays("x", ("a", "b"), arrays).duplicates
    assert counts is not None
    assert (counts.across, counts.mislabeled) == (2, 5)  # three of the first image, two of the last


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_the_sets_that_come_along_have_none_and_their_artifacts_no_file_of_it(name: str, tmp_path: Path) -> None:
    images = datasets.load(name, name)
    assert images.duplicates is None
    folder = tmp_path / "saved"
    folder.mkdir()
    images.save(folder)
    assert {path.name for path in folder.iterdir()} == {
        "images.json", "train.npy", "train_labels.npy", "test.npy", "test_labels.npy",
    }  # fmt: skip


def leaking() -> Files:
    """Both test cats are training images, one of them a dog; a training image is there twice, in another format."""
    files = two_classes(each=3)
    with_copies = {"test/cat/0.png": files["train/cat/1.png"], "test/cat/1.png": files["train/dog/0.png"]}
    picture = PIL.Image.fromarray(pixels(8, 8, 3, seed=99))
    return {**files, **with_copies, "train/dog/7.png": encode(picture), "train/dog/8.bmp": encode(picture, "BMP")}


def test_prepare_says_what_is_equal_and_publishes_the_counts(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.main(prepare.Config(str(write_folder(tmp_path / "pets", leaking())), size=8))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "equal" in line)
    for part in ("images:pets: 2 of the 6 test images equal a training image", "2 images equal one of another class",
                 "1 training images repeat", "pixel for pixel at 8 x 8",
                 "training image 1 and test image 0"):  # fmt: skip
        assert part in line
    folder = store.folder(store.get("images", "pets"))
    counts = json.loads((folder / "duplicates.json").read_text())
    assert (counts["across"], counts["mislabeled"], counts["train"], counts["test"]) == (2, 2, 1, 0)
    assert Images.load(folder).duplicates == load_set(tmp_path / "pets").duplicates


def test_images_that_differ_in_their_files_alone_are_equal_once_they_are_resized(tmp_path: Path) -> None:
    """Of another format, another size of one color, gray instead of RGB, with an opaque alpha."""
    gray = PIL.Image.fromarray(pixels(8, 8, seed=7))
    flat = {size: encode(PIL.Image.new("RGB", (size, size), (10, 20, 30))) for size in (8, 40)}
    own = {
        "train/cat/gray.png": encode(gray), "test/cat/rgb.png": encode(gray.convert("RGB")),
        "train/dog/flat.png": flat[8], "test/dog/large.png": flat[40],
        "train/cat/opaque.png": encode(gray.convert("RGBA")),
    }  # fmt: skip
    counts = load_set(write_zip(tmp_path / "set.zip", {**two_classes(), **own})).duplicates
    assert counts is not None and (counts.across, counts.mislabeled, counts.train) == (2, 0, 1)


def test_a_test_folder_that_is_a_link_to_the_training_folder_tests_nothing(tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "set", {name: data for name, data in two_classes().items() if "train" in name})
    (whole / "test").symlink_to(whole / "train")
    counts = load_set(whole).duplicates
    assert counts is not None and counts.across == counts.tests == 6


def test_one_pixel_is_enough_to_differ(tmp_path: Path) -> None:
    picture = pixels(8, 8, 3, seed=99)
    other = picture.copy()
    other[7, 7, 2] ^= 1
    files = {**two_classes(), "train/cat/a.png": png(picture), "test/cat/a.png": png(other)}
    assert load_set(write_folder(tmp_path / "set", files)).duplicates is None


def test_counts_that_are_none_are_refused(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    load_set(write_folder(tmp_path / "set", leaking())).save(saved)
    sound = json.loads((saved / "duplicates.json").read_text())
    for text in ("", "[]", json.dumps({**sound, "across": -1}), json.dumps({**sound, "example": [["moon", 0]] * 2})):
        (saved / "duplicates.json").write_text(text)
        assert "saved" in refusal(lambda: Images.load(saved))


def test_anomalies_that_are_normal_images_are_counted() -> None:
    normal, anomalies = pixels(6, 4, 4, 3), pixels(5, 4, 4, 3, seed=1)
    anomalies[3] = anomalies[4] = normal[2]
    assert overlap(normal, anomalies) == 2
    assert overlap(normal, pixels(5, 8, 8, 3)) == 0


def test_a_set_of_one_image_for_all_is_all_duplicates() -> None:
    ones = np.ones((4, 4, 4, 3), np.uint8)
    labels = np.array([0, 1, 0, 1])
    counts = Duplicates.of(ones, labels, ones[:2], labels[:2])
    assert counts is not None and (counts.across, counts.mislabeled, counts.train, counts.test) == (2, 6, 3, 1)
