"""Sets that do not lie as train/CLASS/* and test/CLASS/*: what becomes of them, and how one without test images is divided."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import Files, Pixels, load_set, pixels, png, same, two_classes, write_folder, write_zip
from train.data import datasets
from train.data.images import SPLITS, UNLABELED, Images
from train.data.splits import Division, Splits

Write = Callable[[Path, Files], Path]
both = pytest.mark.parametrize("write", [write_folder, write_zip])


def pictures(*names: str) -> Files:
    """Each another one, by its name alone."""
    return {name: png(picture(name)) for name in names}


def picture(name: str) -> Pixels:
    return pixels(8, 8, 3, seed=int.from_bytes(name.encode()[-12:]) % 2**63)


def read(source: Path, division: Division | None = None) -> Splits:
    return datasets.read(str(source), 8, division=division)


def content(images: Images, split: str) -> list[tuple[bytes, str | None]]:
    """The images of a split with their classes, in whatever order."""
    names = [None if label == UNLABELED else images.classes[label] for label in getattr(images, f"{split}_labels")]
    return sorted(zip((image.tobytes() for image in getattr(images, split)), names, strict=True), key=str)


def folders(*classes: str, each: int = 10, within: str = "") -> Files:
    return pictures(*(f"{within}{kind}/{i:02}.png" for kind in classes for i in range(each)))


# -- names of the splits -----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("test", ["test", "val", "Valid", "validation", "testing", "Test"])
@pytest.mark.parametrize("wrapper", ["", "pets/", "a/b/"])
def test_splits_may_be_called_as_people_call_them(
    tmp_path: Path, write: Write, train: str, test: str, wrapper: str
) -> None:
    files = two_classes()
    reference = load_set(write_folder(tmp_path / "plain", files))
    named = {
        f"{wrapper}{name.replace('train/', f'{train}/').replace('test/', f'{test}/')}": content
        for name, content in files.items()
    }
    source = write(tmp_path / "set", named)
    assert same(reference, load_set(source))
    assert str(read(source)) == f"{train}/CLASS/* and {test}/CLASS/*: 6 training and 6 test images of 2 classes"


def test_of_several_test_folders_one_is_taken_and_the_others_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = two_classes()
    more = {
        name.replace("test/", f"{word}/"): content for name, content in files.items() for word in ("val", "Testing")
    }
    reference = load_set(write_folder(tmp_path / "plain", files))
    assert same(reference, load_set(write_folder(tmp_path / "set", {**files, **more})))
    assert capsys.readouterr().out == "left out: 6 .png in 'Testing/', 6 .png in 'val/'\n"


def test_beside_other_classes_a_folder_of_trains_is_one(tmp_path: Path) -> None:
    images = load_set(write_folder(tmp_path / "set", folders("bus", "car", "train")))
    assert images.classes == ("bus", "car", "train")


# -- class folders without a split -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("within", ["", "pets/", "train/", "pets/Train/"])
def test_class_folders_are_divided_alike_wherever_they_lie(tmp_path: Path, write: Write, within: str) -> None:
    reference = load_set(write_folder(tmp_path / "plain", folders("cat", "dog", "eel")))
    files = {f"{within}{name}": content for name, content in reversed(folders("cat", "dog", "eel").items())}
    images = load_set(write(tmp_path / "elsewhere/set", files))
    assert same(images, reference)
    assert images.classes == ("cat", "dog", "eel")
    assert np.bincount(images.train_labels).tolist() == [8, 8, 8] and np.bincount(images.test_labels).tolist() == [
        2,
        2,
        2,
    ]
    whole = content(images, "train") + content(images, "test")
    assert Counter(whole) == Counter(
        (picture(name).tobytes(), name.split("/")[0]) for name in folders("cat", "dog", "eel")
    )


def test_share_and_seed_say_which_images_are_for_testing(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "set", folders("cat", "dog"))
    one, other = read(source), read(source, Division(0.5, 0))
    assert [len(one.arrays["test"]), len(other.arrays["test"])] == [4, 10]
    tested = [
        {image.tobytes() for image in part.arrays["test"]} for part in (one, other, read(source, Division(0.2, 1)))
    ]
    assert tested[0] < tested[1]
    assert tested[0] != tested[2] and len(tested[2]) == 4
    assert str(other).startswith("CLASS/*, divided by --test-share 0.5 and --seed 0: 10 training and 10 test images")
    line = refusal(lambda: read(write_folder(tmp_path / "split", two_classes()), Division(0.5, 0)))
    assert "--test-share" in line and "test images of its own" in line
    assert "--test-share" in refusal(lambda: datasets.read("digits", division=Division(0.5, 0)))


def test_one_image_more_moves_few_others() -> None:
    names = [f"{i}.png" for i in range(1000)]
    before, after = (Division().tests(part, [None] * len(part)) for part in (names, [*names, "more.png"]))
    assert before.sum() == after.sum() == 200
    assert (before != after[:1000]).sum() <= 1


def test_each_class_has_its_share_and_at_least_one_of_either_kind() -> None:
    counts = {"a": 2, "b": 3, "c": 10, "d": 99}
    labels = [name for name, count in counts.items() for _ in range(count)]
    for share, expected in ((0.2, [1, 1, 2, 20]), (0.01, [1, 1, 1, 1]), (0.99, [1, 2, 9, 98])):
        tests = Division(share).tests([f"{i}" for i in range(len(labels))], labels)
        assert [int(tests[[label == name for label in labels]].sum()) for name in counts] == expected


def test_seeds_draw_every_image_alike() -> None:
    """Over 400 seeds each of 50 images is tested about a fifth of the time: the standard deviation of its count is 8."""
    names = [f"{i}.png" for i in range(50)]
    counts = np.sum([Division(seed=seed).tests(names, [None] * 50) for seed in range(400)], axis=0)
    assert counts.sum() == 400 * 10
    assert (np.abs(counts - 80) < 5 * 8).all()


# -- without classes ---------------------------------------------------------------------------------------------------

FLAT = [f"IMG_{i:03}.png" for i in range(10)]


@both
@pytest.mark.parametrize("within", ["", "photos/", "a/b/c/", "train/", "x/TRAIN/only/"])
def test_images_without_classes_are_unlabeled_at_any_depth(tmp_path: Path, write: Write, within: str) -> None:
    source = write(tmp_path / "set", {f"{within}{name}": content for name, content in pictures(*FLAT).items()})
    images = load_set(source)
    assert images.classes == () and not images.labeled
    assert (images.train_labels == UNLABELED).all() and (images.test_labels == UNLABELED).all()
    assert (len(images.train), len(images.test)) == (8, 2)
    whole = {image.tobytes() for split in SPLITS for image in getattr(images, split)}
    assert whole == {picture(name).tobytes() for name in FLAT}
    assert str(read(source)).endswith(": 8 training and 2 test images, all unlabeled")


def test_a_flat_set_is_divided_alike_wherever_it_lies(tmp_path: Path) -> None:
    reference = load_set(write_folder(tmp_path / "photos", pictures(*FLAT)))
    for within in ("photos/", "a/b/", "train/"):
        files = {f"{within}{name}": content for name, content in pictures(*reversed(FLAT)).items()}
        assert same(reference, load_set(write_zip(tmp_path / f"{len(within)}.zip", files)))


@both
def test_flat_splits_keep_their_images(tmp_path: Path, write: Write) -> None:
    files = pictures(*(f"train/{i}.png" for i in range(5)), *(f"val/{i}.png" for i in range(3)))
    images = load_set(write(tmp_path / "set", files))
    assert images.classes == ()
    for split, place, count in (("train", "train", 5), ("test", "val", 3)):
        np.testing.assert_array_equal(getattr(images, split), [picture(f"{place}/{i}.png") for i in range(count)])


# -- with some labels --------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("within", ["", "train/"])
def test_loose_images_beside_class_folders_are_for_training_and_unlabeled(
    tmp_path: Path, write: Write, within: str
) -> None:
    files = {f"{within}{name}": content for name, content in {**folders("cat", "dog"), **pictures(*FLAT)}.items()}
    tested = {f"test/{name}": content for name, content in folders("cat", "dog").items()} if within else {}
    source = write(tmp_path / "set", {**files, **tested})
    images = load_set(source)
    assert images.classes == ("cat", "dog") and images.labeled
    loose = [image.tobytes() for image in images.train[images.train_labels == UNLABELED]]
    assert sorted(loose) == sorted(picture(name).tobytes() for name in FLAT)
    assert (images.test_labels != UNLABELED).all()
    assert str(read(source)).endswith("of 2 classes; 10 of the training images are unlabeled")


@both
def test_test_images_without_classes_are_unlabeled(tmp_path: Path, write: Write) -> None:
    files = {**folders("cat", "dog", within="train/"), **pictures("test/0.png", "test/1.png")}
    source = write(tmp_path / "set", files)
    images = load_set(source)
    assert images.classes == ("cat", "dog") and not images.labeled
    assert images.test_labels.tolist() == [UNLABELED] * 2
    assert str(read(source)) == (
        "train/CLASS/* and test/*: 20 training and 2 test images of 2 classes; 2 of the test images are unlabeled"
    )
