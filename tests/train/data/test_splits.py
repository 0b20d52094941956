"""Sets that do not lie as train/CLASS/* and test/CLASS/*: what becomes of them, and how one without test images is divided."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import CUT, Files, Pixels, load_set, pixels, png, same, two_classes, write_folder, write_zip
from train.data import datasets
from train.data.fingerprints import fingerprint
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


@both
@pytest.mark.parametrize(
    "within", [("2023/05/", "2024/11/"), ("train/2023/", "train/2024/"), ("train/cat/", "test/dog/")]
)
def test_folders_are_no_classes_where_one_says_so(tmp_path: Path, write: Write, within: tuple[str, str]) -> None:
    names = [f"{within[i % 2]}IMG_{i:03}.png" for i in range(10)]
    source = write(
        tmp_path / "set", {**pictures(*names), "labels.csv": b"file,label\nIMG_000.png,cat\nIMG_002.png,dog\n"}
    )
    splits = datasets.read(str(source), 8, unlabeled=True)
    assert splits.classes == () and all((splits.arrays[f"{split}_labels"] == UNLABELED).all() for split in SPLITS)
    whole = {image.tobytes() for split in SPLITS for image in splits.arrays[split]}
    assert whole == {picture(name).tobytes() for name in names}
    assert "labels left out" in str(splits) and str(splits).endswith("test images, all unlabeled")


def test_the_labels_of_arrays_are_left_out_where_one_says_so(tmp_path: Path) -> None:
    pictures, labels = np.zeros((6, 8, 8, 3), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "set.npz", x_train=pictures, y_train=labels, x_test=pictures, y_test=labels)
    splits = datasets.read(str(tmp_path / "set.npz"), 8, unlabeled=True)
    assert splits.classes == () and (splits.arrays["train_labels"] == UNLABELED).all()
    assert datasets.read(str(tmp_path / "set.npz"), 8).classes == ("0", "1")


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


@both
@pytest.mark.parametrize("word", ["val", "Validation"])
def test_where_the_test_images_have_no_classes_those_to_validate_on_are_tested(
    tmp_path: Path, write: Write, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name.replace("test/", f"{word}/"): content for name, content in two_classes().items()}
    source = write(tmp_path / "set", {**files, **pictures("test/0.png", "test/1.png")})
    assert same(load_set(source), load_set(write_folder(tmp_path / "plain", two_classes())))
    assert capsys.readouterr().out == "left out: 2 .png in 'test/'\n"
    assert str(read(source)).startswith(f"train/CLASS/* and {word}/CLASS/*: ")


# -- a table of labels -------------------------------------------------------------------------------------------------

KINDS = ["ant", "bee", "ant", "bee", "ant", "bee", "ant", "bee", "ant", ""]


def table(names: Sequence[str], delimiter: str = ",", mark: bytes = b"", header: str = "file,label") -> bytes:
    rows = [header, *(f"{name},{kind}" for name, kind in zip(names, KINDS, strict=True))]
    return mark + "\r\n".join(rows).replace(",", delimiter).encode()


@both
@pytest.mark.parametrize(
    ("within", "names"),
    [("", FLAT), ("photos/", FLAT), ("", [f"images/{name}" for name in FLAT]), ("train/", FLAT)],
)
def test_labels_beside_flat_images_are_theirs(tmp_path: Path, write: Write, within: str, names: list[str]) -> None:
    files = {f"{within}{name}": content for name, content in pictures(*names).items()}
    source = write(tmp_path / "set", {**files, f"{within}labels.csv": table(names)})
    images = load_set(source)
    assert images.classes == ("ant", "bee")
    expected = {picture(name).tobytes(): kind or None for name, kind in zip(names, KINDS, strict=True)}
    assert dict(content(images, "train") + content(images, "test")) == expected
    assert images.labeled and (len(images.train), len(images.test)) == (8, 2)
    assert str(read(source)).startswith("labels.csv beside ")
    assert str(read(source)).endswith(
        "8 training and 2 test images of 2 classes; 1 of the training images is unlabeled"
    )


@pytest.mark.parametrize(
    "content",
    [table(FLAT, ";"), table(FLAT, "\t"), table(FLAT, mark=b"\xef\xbb\xbf"), table(FLAT, header="File,LABEL"),
     b"id,label,file\n" + b"".join(b"%d,%s,%s\n" % (i, KINDS[i].encode(), FLAT[i].encode()) for i in range(10))],
)  # fmt: skip
def test_a_table_is_read_as_programs_write_it(tmp_path: Path, content: bytes) -> None:
    """As Excel does of several countries, with a mark of UTF-8, and with other columns."""
    reference = load_set(write_folder(tmp_path / "plain", {**pictures(*FLAT), "labels.csv": table(FLAT)}))
    assert same(reference, load_set(write_folder(tmp_path / "set", {**pictures(*FLAT), "labels.csv": content})))


def test_each_split_may_have_its_table(tmp_path: Path) -> None:
    files = {f"{split}/{name}": content for split in SPLITS for name, content in pictures(*FLAT).items()}
    tables = {f"{split}/labels.csv": table(FLAT) for split in SPLITS}
    whole = {"labels.csv": table([f"train/{name}" for name in FLAT]) + table([f"test/{name}" for name in FLAT])[10:]}
    expected = [{"ant": 0, "bee": 1, "": UNLABELED}[kind] for kind in KINDS]
    for number, more in enumerate((tables, whole)):
        images = load_set(write_folder(tmp_path / f"{number}", {**files, **more}))
        assert images.train_labels.tolist() == expected and images.test_labels.tolist() == expected


def test_a_table_changes_which_set_it_is(tmp_path: Path) -> None:
    files = {**pictures(*FLAT), "labels.csv": table(FLAT)}
    before = fingerprint(write_folder(tmp_path / "set", files))
    assert fingerprint(write_zip(tmp_path / "set.zip", files)) == before
    more = {**files, "labels.csv": table(FLAT).replace(b"ant", b"bee", 1)}
    assert fingerprint(write_folder(tmp_path / "other", more)) != before


def test_a_table_in_a_set_of_class_folders_is_no_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = load_set(write_folder(tmp_path / "plain", two_classes()))
    files = {**two_classes(), "labels.csv": b"nonsense", "train/labels.csv": b"nonsense"}
    source = write_folder(tmp_path / "set", files)
    assert same(reference, load_set(source)) and fingerprint(source) == fingerprint(tmp_path / "plain")
    assert capsys.readouterr().out == "left out: 2 .csv\n"


def test_what_a_table_lacks_or_has_too_much_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_folder(tmp_path / "set", {**pictures(*FLAT), "labels.csv": table(FLAT) + b"\ngone.png,ant"})
    assert len(load_set(source).train) == 8
    assert capsys.readouterr().out == "labels.csv names files that are not here, or several: 1, such as 'gone.png'\n"


@both
@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "columns file and label"), (b"name,kind\n0.png,a\n", "columns file and label"),
     (b"file,label\nx.png,a\ny.png,b\n", "none of the 2 files"), (b"\xff\xfe\x00", "UTF-8"),
     (b"file,label\nIMG_000.png,a\nIMG_001.png,a\n", "a single label"),
     (b"file,label\nIMG_000.png,a\x07\nIMG_001.png,b\n", "cannot be printed"),
     (b"file,label\nIMG_000.png,a\nIMG_001.png,b\n", "'a' has a single image")],
)  # fmt: skip
def test_a_table_that_does_not_serve_is_refused(tmp_path: Path, write: Write, content: bytes, part: str) -> None:
    assert part in refusal(lambda: load_set(write(tmp_path / "set", {**pictures(*FLAT), "labels.csv": content})))


# -- links -------------------------------------------------------------------------------------------------------------


def test_class_folders_without_a_split_may_be_links_but_not_to_what_holds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_folder(tmp_path / "elsewhere/plain", folders("cat", "dog"))
    (tmp_path / "home/set").mkdir(parents=True)
    for name in ("cat", "dog"):
        (tmp_path / "home/set" / name).symlink_to(plain / name)
    (tmp_path / "home/set/up").symlink_to(tmp_path / "home")
    (tmp_path / "home/set/itself").symlink_to(tmp_path / "home/set")
    assert same(load_set(plain), load_set(tmp_path / "home/set"))
    assert capsys.readouterr().out == "left out: 2 linked folders\n"


# -- images that cannot be decoded -------------------------------------------------------------------------------------


def test_what_is_skipped_moves_no_other_image(tmp_path: Path) -> None:
    names = pictures(*(f"{i:02}.png" for i in range(30)))
    whole = load_set(write_folder(tmp_path / "set", names))
    damaged = {**names, "07.png": CUT, "11.png": CUT}
    source = write_folder(tmp_path / "damaged", damaged)
    assert "'07.png' cannot be decoded" in refusal(lambda: load_set(source)) or "'11.png'" in refusal(
        lambda: load_set(source)
    )
    images = load_set(source, skip_corrupt=True)
    gone = {picture("07.png").tobytes(), picture("11.png").tobytes()}
    for split in SPLITS:
        assert [image.tobytes() for image in getattr(images, split)] == [
            image.tobytes() for image in getattr(whole, split) if image.tobytes() not in gone
        ]
