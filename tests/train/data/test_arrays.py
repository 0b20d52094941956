"""numpy's files as MedMNIST, Keras and users write them: what becomes of them, and what is refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from tests.parts.artifacts import refusal
from tests.parts.pictures import pixels
from train.data import datasets
from train.data.fingerprints import fingerprint
from train.data.images import SPLITS, UNLABELED
from train.data.splits import Division, Splits

IMAGES, LABELS = pixels(40, 8, 8, 3), np.arange(40) % 4
TESTS, TEST_LABELS = pixels(12, 8, 8, 3, seed=1), np.arange(12) % 4


def read(source: Path, size: int = 8, division: Division | None = None) -> Splits:
    return datasets.read(str(source), size, division=division)


def agrees(splits: Splits) -> bool:
    """Whether these are the images and labels above, split as they are."""
    arrays = splits.arrays
    return all(
        np.array_equal(arrays[name], expected)
        for name, expected in (
            ("train", IMAGES), ("train_labels", LABELS), ("test", TESTS), ("test_labels", TEST_LABELS)
        )
    )  # fmt: skip


# -- the keys of others ------------------------------------------------------------------------------------------------


def test_medmnist_files_are_read_by_their_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its writer is numpy.savez_compressed; labels are (n, 1) uint8, and validation images are left out."""
    source = tmp_path / "bloodmnist.npz"
    column = LABELS[:, None].astype(np.uint8)
    np.savez_compressed(
        source, train_images=IMAGES, val_images=TESTS, test_images=TESTS, train_labels=column,
        val_labels=column[:12], test_labels=column[:12],
    )  # fmt: skip
    splits = read(source)
    assert agrees(splits) and splits.classes == ("0", "1", "2", "3")
    assert str(splits) == (
        "train_images, train_labels, test_images, test_labels: 40 training and 12 test images of 4 classes"
    )
    assert capsys.readouterr().out == "left out: the arrays 'val_images', 'val_labels'\n"


def test_validation_images_are_tested_on_where_there_are_no_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=IMAGES, val_images=TESTS, train_labels=LABELS, val_labels=TEST_LABELS)
    assert agrees(read(tmp_path / "a.npz"))


def test_keras_files_are_read_by_their_keys(tmp_path: Path) -> None:
    """As mnist.npz: (n, h, w) gray images, (n,) labels; x_test before x_train."""
    source = tmp_path / "mnist.npz"
    gray, gray_tests = IMAGES[..., 0], TESTS[..., 0]
    np.savez(
        source, x_test=gray_tests, x_train=gray, y_train=LABELS.astype(np.uint8), y_test=TEST_LABELS.astype(np.uint8)
    )
    splits = read(source)
    np.testing.assert_array_equal(splits.arrays["train"], np.repeat(gray[..., None], 3, axis=3))
    np.testing.assert_array_equal(splits.arrays["test"], np.repeat(gray_tests[..., None], 3, axis=3))
    np.testing.assert_array_equal(splits.arrays["train_labels"], LABELS)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_in_fortran_order_hold_the_same_images(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(tmp_path / "a.npz", x_train=np.asfortranarray(IMAGES), x_test=TESTS, y_train=LABELS, y_test=TEST_LABELS)
    assert agrees(read(tmp_path / "a.npz"))


def test_names_and_missing_labels_are_taken(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "", "dog"])[LABELS]
    np.savez(
        tmp_path / "a.npz",
        x_train=IMAGES,
        x_test=TESTS,
        y_train=names,
        y_test=np.array(["ant", "bee", "", "dog"])[TEST_LABELS],
    )
    splits = read(tmp_path / "a.npz")
    assert splits.classes == ("ant", "bee", "dog")
    np.testing.assert_array_equal(splits.arrays["train_labels"], np.array([0, 1, UNLABELED, 2])[LABELS])
    numbers = np.where(LABELS == 3, -1, LABELS)
    np.savez(tmp_path / "b.npz", x_train=IMAGES, x_test=TESTS[:3], y_train=numbers, y_test=TEST_LABELS[:3])
    np.testing.assert_array_equal(read(tmp_path / "b.npz").arrays["train_labels"], numbers)


def test_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    numbers = np.array([10, 9, 200, 3])
    np.savez(tmp_path / "a.npz", x_train=IMAGES, x_test=TESTS, y_train=numbers[LABELS], y_test=numbers[TEST_LABELS])
    splits = read(tmp_path / "a.npz")
    assert splits.classes == ("3", "9", "10", "200")
    assert [splits.classes[label] for label in splits.arrays["test_labels"]] == [
        str(numbers[label]) for label in TEST_LABELS
    ]


# -- without a split, without labels -----------------------------------------------------------------------------------


def test_one_array_is_divided_and_has_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez(tmp_path / "a.npz", IMAGES)
    for source in (tmp_path / "a.npy", tmp_path / "a.npz"):
        splits = read(source)
        assert splits.classes == () and (splits.arrays["train_labels"] == UNLABELED).all()
        assert [len(splits.arrays[split]) for split in SPLITS] == [32, 8]
        parts = Counter(image.tobytes() for split in SPLITS for image in splits.arrays[split])
        assert parts == Counter(image.tobytes() for image in IMAGES)
        assert "divided by --test-share 0.2 and --seed 0: 32 training and 8 test images, all unlabeled" in str(splits)
        assert len(read(source, division=Division(0.5, 3)).arrays["test"]) == 20


def test_labeled_arrays_without_tests_are_divided_by_class(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS)
    splits = read(tmp_path / "a.npz")
    assert np.bincount(splits.arrays["test_labels"]).tolist() == [2, 2, 2, 2]
    classes = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for split in SPLITS:
        labels = [classes[image.tobytes()] for image in splits.arrays[split]]
        assert labels == splits.arrays[f"{split}_labels"].tolist()
    assert "--test-share" in refusal(lambda: read(with_tests(tmp_path / "b.npz"), division=Division(0.5)))


def with_tests(source: Path) -> Path:
    np.savez(source, x_train=IMAGES, y_train=LABELS, x_test=TESTS, y_test=TEST_LABELS)
    return source


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_other_sizes_and_channels_become_rgb_of_the_size(tmp_path: Path, channels: int) -> None:
    array = pixels(5, 16, 16, *([channels] if channels else []))
    if channels == 4:
        array[..., 3] = 255
    np.save(tmp_path / "a.npy", array)
    splits = read(tmp_path / "a.npy", size=8)
    color = np.repeat(array.reshape(5, 16, 16, 1), 3, axis=3) if channels < 3 else array[..., :3]
    planes = torch.from_numpy(color).permute(0, 3, 1, 2).float()
    expected = F.interpolate(planes, (8, 8), mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()
    rows = np.concatenate([splits.arrays["train"], splits.arrays["test"]]).astype(float)
    distance = np.abs(rows[:, None] - expected[None]).max(axis=(2, 3, 4))
    assert (distance.min(axis=1) <= 1).all() and sorted(distance.argmin(axis=1)) == list(range(5))


def test_clear_pixels_are_white(tmp_path: Path) -> None:
    array = np.zeros((4, 8, 8, 4), np.uint8)
    np.save(tmp_path / "a.npy", array)
    expected = PIL.Image.new("RGB", (8, 8), "white")
    np.testing.assert_array_equal(read(tmp_path / "a.npy").arrays["train"][0], np.asarray(expected))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_arrays_that_are_no_images_are_told_what_they_are(tmp_path: Path) -> None:
    for array, parts in (
        (IMAGES.transpose(0, 3, 1, 2), ("uint8 (40, 3, 8, 8)", "transpose(0, 2, 3, 1)")),
        (IMAGES / 255, ("float64 (40, 8, 8, 3)", "uint8")),
        (np.zeros((5, 8), np.uint8), ("(5, 8)", "height, width")),
        (np.zeros((0, 8, 8), np.uint8), ("(0, 8, 8)",)),
        (IMAGES[:1], ("single image",)),
        (np.array([{}], object), ("objects",)),
    ):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        line = refusal(lambda: read(tmp_path / "a.npy"))
        assert all(part in line for part in parts), line


def test_keys_and_labels_that_do_not_serve_are_named(tmp_path: Path) -> None:
    source = tmp_path / "a.npz"
    for arrays, parts in (
        ({"foo": IMAGES, "bar": LABELS}, ("'bar', 'foo'", "x_train", "train_images")),
        ({"x_train": IMAGES, "y_train": LABELS[:9]}, ("40 images", "9 labels")),
        ({"x_train": IMAGES, "y_train": np.eye(4)[LABELS]}, ("float64 (40, 4)",)),
        ({"x_train": IMAGES, "y_train": np.eye(4, dtype=int)[LABELS]}, ("(40, 4)", "each image")),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": TESTS, "y_test": TEST_LABELS % 3}, ("no test image", "'3'")),
        ({"x_train": IMAGES, "y_train": np.array(["a", "b\x07"])[LABELS % 2]}, ("cannot be printed",)),
        ({"x_train": IMAGES, "y_train": LABELS.astype(object)}, ("never unpickled",)),
        ({}, ("no arrays",)),
    ):
        np.savez(source, **arrays)
        line = refusal(lambda: read(source))
        assert all(part in line for part in parts), line


def test_damaged_files_are_refused_wherever_they_end(tmp_path: Path) -> None:
    whole = with_tests(tmp_path / "a.npz").read_bytes()
    np.save(tmp_path / "a.npy", IMAGES)
    plain = (tmp_path / "a.npy").read_bytes()
    for content, name in ((whole, "b.npz"), (plain, "b.npy")):
        for end in (0, 1, 5, 60, 100, 500, len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:end])
            assert name in refusal(lambda name=name: read(tmp_path / name))  # type: ignore[misc]
    flipped = bytearray(whole)
    flipped[700] ^= 1  # of a stored image
    (tmp_path / "b.npz").write_bytes(flipped)
    assert "CRC" in refusal(lambda: read(tmp_path / "b.npz"))


# -- which set it is ---------------------------------------------------------------------------------------------------


def test_a_file_is_the_same_set_wherever_it_lies_and_another_one_once_it_changes(tmp_path: Path) -> None:
    source = with_tests(tmp_path / "a.npz")
    before = fingerprint(source)
    assert fingerprint(source.rename(tmp_path / "elsewhere.npz")) == before
    np.savez(source, x_train=IMAGES, y_train=LABELS[::-1], x_test=TESTS, y_test=TEST_LABELS)
    assert fingerprint(source) != before
