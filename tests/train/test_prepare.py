"""train.prepare: the names that it takes, and what it publishes and shows."""

import json
import os
import subprocess
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.parts import processes
from tests.parts.artifacts import refusal
from tests.parts.pictures import CUT, load_set, pixels, png, same, two_classes, write_folder, write_zip
from tests.parts.zips import raw_zip
from train import prepare
from train.data import datasets
from train.data.images import CHUNK, Images
from train.tracking.origin import identity, settings
from train.tracking.store import Store, home

# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*sorted(set(datasets.NAMES) - set(datasets.ADDED)), "latest", "v7"])
def test_names_that_stand_for_something_else_are_refused(tmp_path: Path, name: str) -> None:
    own = write_zip(tmp_path / f"{name}.zip", two_classes())
    assert "--name" in refusal(partial(prepare.Config, str(own)))
    assert prepare.Config(str(own), name="mine").name == "mine"
    other = "photos" if name == "digits" else "digits"
    assert "--name" in refusal(partial(prepare.Config, other, name))


@pytest.mark.parametrize("share", [-0.1, 0, 1, 1.5, float("nan")])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    assert f"--test-share {share:g}" in refusal(lambda: prepare.Config("digits", test_share=share))


def test_the_division_is_no_part_of_who_does_not_ask_for_one(tmp_path: Path) -> None:
    source = str(write_folder(tmp_path / "set", {f"{i}.png": png(pixels(8, 8, 3, seed=i)) for i in range(9)}))
    plain = prepare.Config(source, size=8)
    assert not {"test_share", "seed"} & identity(plain).keys()
    others = [prepare.Config(source, size=8, test_share=0.5), prepare.Config(source, size=8, seed=1)]
    assert len({settings("train.prepare", config) for config in (plain, *others)}) == 3


@pytest.mark.parametrize("size", [-1, 0, 7, 513])
def test_sizes_that_make_no_sense_are_refused(size: int) -> None:
    assert str(size) in refusal(lambda: prepare.Config("digits", size=size))


def test_a_path_is_called_by_its_last_part_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"my photos.zip": "my-photos", "set.v1.zip": "set.v1", "katzen & hunde.zip": "katzen-hunde"}
    for file, name in names.items():
        assert prepare.Config(str(write_zip(tmp_path / file, two_classes()))).name == name
    for form in ("NFC", "NFD"):  # macOS keeps file names decomposed
        accented = unicodedata.normalize(form, "Kätzchen.zip")
        assert prepare.Config(str(write_zip(tmp_path / form / accented, two_classes()))).name == "K-tzchen"
    assert prepare.Config(str(write_folder(tmp_path / "set.v2", two_classes()))).name == "set.v2"
    monkeypatch.chdir(tmp_path / "set.v2")
    assert prepare.Config(".") == prepare.Config("../set.v2/")
    assert "--name" in refusal(partial(prepare.Config, str(write_zip(tmp_path / "照片.zip", two_classes()))))


def test_settings_change_with_the_images_and_not_with_the_place(tmp_path: Path) -> None:
    def now(path: Path) -> str:
        return settings("train.prepare", prepare.Config(str(path), "own", 8))

    for write, name in ((write_folder, "set"), (write_zip, "set.zip")):
        source = write(tmp_path / name, two_classes())
        before = now(source)
        assert now(source) == before
        assert now(source.rename(tmp_path / f"moved-{name}")) == before
        more = {**two_classes(), "train/cat/more.png": png(pixels(8, 8, 3, seed=99))}
        assert now(write(tmp_path / name, more)) != before
    picture = tmp_path / "moved-set/train/cat/0.png"
    before = now(tmp_path / "moved-set")
    os.utime(picture, ns=(1, 1))
    assert now(tmp_path / "moved-set") == before
    picture.write_bytes(png(pixels(8, 8, 3, seed=99)))
    os.utime(picture, ns=(1, 1))
    assert now(tmp_path / "moved-set") != before
    assert len({settings("train.prepare", prepare.Config(name, "x")) for name in datasets.NAMES}) == len(datasets.NAMES)


def test_an_unknown_data_set_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    for name in ("imagenet", str(tmp_path / "missing"), "", "x" * 5000):
        line = refusal(partial(prepare.Config, name))
        assert "cifar10, cifar100, digits, eurosat, fashion-mnist, mnist, photos, stl10, svhn" in line
        assert "path" in line
    assert "PEEL_DATA" in refusal(lambda: with_data(tmp_path / "missing"))


def with_data(root: Path) -> Path | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_DATA", str(root))
        return datasets.own("mnist")


# -- the stage ---------------------------------------------------------------------------------------------------------


def folder_of(name: str) -> Path:
    store = Store()
    try:
        return store.folder(store.get("images", name))
    finally:
        store.close()


def test_the_same_set_is_the_same_version_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = []
    for place in ("here", "there"):
        monkeypatch.setenv("PEEL_HOME", str(tmp_path / place / "home"))
        prepare.main(prepare.Config(str(write_folder(tmp_path / place / "pets", two_classes())), size=8))
        digests.append(capsys.readouterr().out.splitlines())
    assert digests[0] == digests[1]
    assert digests[0][0] == ("images:pets: train/CLASS/* and test/CLASS/*: 6 training and 6 test images of 2 classes")
    assert digests[0][1].split()[:2] == ["images:v0", "pets"]
    assert same(Images.load(folder_of("pets")), load_set(tmp_path / "here/pets"))
    for path in folder_of("pets").rglob("*"):
        assert str(tmp_path).encode() not in path.read_bytes()


def test_a_name_keeps_standing_for_the_source_that_it_was_given_to(tmp_path: Path) -> None:
    first = write_zip(tmp_path / "one/pets.zip", two_classes())
    second = write_zip(tmp_path / "two/pets.zip", two_classes(each=4))
    prepare.main(prepare.Config(str(first), size=8))
    line = refusal(lambda: prepare.main(prepare.Config(str(second), size=8)))
    assert "images:pets" in line
    assert "--name" in line
    assert str(first) in line
    prepare.main(prepare.Config(str(second), "more-pets", size=8))
    prepare.main(prepare.Config(str(write_zip(first, two_classes(each=5))), size=8))  # the source itself may change
    assert len(Images.load(folder_of("pets")).train) == 10
    assert len(Images.load(folder_of("more-pets")).train) == 8


def test_mean_and_deviation_of_many_images_agree_with_numpy() -> None:
    """More images than are counted at once, and not a multiple of that."""
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (CHUNK + 3, 2, 2, 3), dtype=np.uint8)
    train[-1] = 255
    labels = np.zeros(len(train), np.int64)
    images = Images.from_arrays(
        "x", ("a",), dict(train=train, train_labels=labels, test=train[:1], test_labels=labels[:1])
    )
    np.testing.assert_allclose(images.mean, (train / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(images.std, (train / 255).std(axis=(0, 1, 2)), rtol=1e-10)


def test_the_run_shows_samples_counts_and_a_table(tmp_path: Path) -> None:
    prepare.main(prepare.Config(str(write_folder(tmp_path / "pets", two_classes())), size=8))
    (run,) = (home() / "wandb").glob("offline-run-*")
    media = run / "files/media"
    with PIL.Image.open(next(media.rglob("samples_*.png"))) as sheet:
        files = Images.load(folder_of("pets"))
        assert sheet.size == prepare.sample_sheet(files, np.random.default_rng(0)).size
    counts = json.loads(next(media.rglob("classes_*.plotly.json")).read_text())
    assert [trace["name"] for trace in counts["data"]] == ["train", "test"]
    table = json.loads(next(media.rglob("table_*.table.json")).read_text())
    assert table["columns"] == ["image", "class", "split", "row"]
    for image, kind, split, row in table["data"]:
        assert image == "Image"  # offline, the table's own artifact holds the picture
        assert files.classes[getattr(files, f"{split}_labels")[row]] == kind
    for picture, _, split, row in prepare.sample_table(files, np.random.default_rng(0)).to_numpy(object).tolist():
        np.testing.assert_array_equal(np.asarray(picture), getattr(files, split)[row])


def test_unlabeled_images_are_published_counted_and_shown_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"IMG_{i}.png": png(pixels(32, 32, 3, seed=i)) for i in range(10)}
    prepare.main(prepare.Config(str(write_folder(tmp_path / "photos of mine", files)), size=32))
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "images:photos-of-mine: images without classes, divided by --test-share 0.2 and --seed 0:"
        " 8 training and 2 test images, all unlabeled"
    )
    images = Images.load(folder_of("photos-of-mine"))
    assert images.classes == () and (images.train_labels == -1).all()
    assert same(images, load_set(tmp_path / "photos of mine", 32))
    train, test = prepare.classes_figure(images).data
    assert (list(train.x), list(train.y), list(test.y)) == (["unlabeled"], [8], [2])
    assert set(prepare.sample_table(images, np.random.default_rng(0))["class"]) == {"unlabeled"}
    sheet = np.asarray(prepare.sample_sheet(images, np.random.default_rng(0), columns=4))
    tiles = {sheet[:32, 120 + 34 * column : 152 + 34 * column].tobytes() for column in range(4)}
    assert len(tiles) == 4 and tiles <= {image.tobytes() for image in images.train}


def test_of_partly_labeled_images_the_last_row_is_of_those_without(tmp_path: Path) -> None:
    files = {
        **two_classes(size=32, each=5),
        **{f"train/{i}.png": png(pixels(32, 32, 3, seed=50 + i)) for i in range(6)},
    }
    images = load_set(write_folder(tmp_path / "set", files), 32)
    train, test = prepare.classes_figure(images).data
    assert list(train.x) == ["cat", "dog", "unlabeled"]
    assert (list(train.y), list(test.y)) == ([5, 5, 6], [5, 5, 0])
    sheet = np.asarray(prepare.sample_sheet(images, np.random.default_rng(0), columns=4))
    tiles = {sheet[68:100, 120 + 34 * column : 152 + 34 * column].tobytes() for column in range(4)}
    assert len(tiles) == 4 and tiles <= {image.tobytes() for image in images.train[images.train_labels == -1]}


def test_each_row_of_the_samples_shows_images_of_its_class(tmp_path: Path) -> None:
    files = two_classes(size=32, each=5)
    images = load_set(write_folder(tmp_path / "set", files), 32)
    sheet = np.asarray(prepare.sample_sheet(images, np.random.default_rng(0), columns=4))
    for label in range(2):
        own = {image.tobytes() for image in images.train[images.train_labels == label]}
        tiles = {
            sheet[34 * label : 34 * label + 32, 120 + 34 * column : 152 + 34 * column].tobytes() for column in range(4)
        }
        assert len(tiles) == 4
        assert tiles <= own


def test_the_figure_counts_the_images_of_each_class(tmp_path: Path) -> None:
    files = {**two_classes(each=3), "train/dog/more.png": png(pixels(8, 8, 3))}
    train, test = prepare.classes_figure(load_set(write_folder(tmp_path / "set", files))).data
    assert (list(train.x), list(train.y)) == (["cat", "dog"], [3, 4])
    assert list(test.y) == [3, 3]


def run_stage(*flags: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PEEL_DATA": str(data)} if data else dict(os.environ)
    return processes.run("-m", "train.prepare", *flags, env=environment)


def test_bad_input_ends_in_one_line_and_exit_code_2(tmp_path: Path, no_network: None) -> None:
    unsound = write_folder(tmp_path / "unsound", {**two_classes(), "train/cat/cut.png": CUT})
    for flags, part in (
        (["--dataset", "imagenet"], "'imagenet'"),
        (["--dataset", str(unsound)], "'train/cat/cut.png'"),
        (["--dataset", "mnist"], "DATA="),
    ):
        process = run_stage(*flags)
        (line,) = process.stderr.splitlines()
        assert process.returncode == 2
        assert line.startswith("train.prepare: ")
        assert part in line
        assert process.stdout == ""
    store = Store()
    assert store.versions() == []
    store.close()
    assert not list((home()).glob("wandb/offline-run-*"))


def test_the_command_makes_what_the_flags_ask_for(tmp_path: Path) -> None:
    unsound = write_folder(tmp_path / "unsound", {**two_classes(), "train/cat/cut.png": CUT})
    process = run_stage(f"--dataset={unsound}", "--name=pets", "--size=8", "--skip_corrupt=True")
    assert process.returncode == 0, process.stderr
    first, layout, images = process.stdout.splitlines()
    assert "'train/cat/cut.png'" in first
    assert layout == "images:pets: train/CLASS/* and test/CLASS/*: 6 training and 6 test images of 2 classes"
    assert "pets" in images
    assert same(Images.load(folder_of("pets")), load_set(unsound, skip_corrupt=True))


def test_names_of_an_unstated_encoding_are_read_by_the_flag_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a packer on a Japanese Windows writes them."""
    files = {name.replace("cat", "猫").encode("cp932"): content for name, content in two_classes().items()}
    source = str(raw_zip(tmp_path / "pets.zip", {**files, b"train/readme.txt": b""}))
    line = refusal(lambda: prepare.main(prepare.Config(source, size=8)))
    assert "cp932 reads 'train/猫/0.png'" in line
    prepare.main(prepare.Config(source, size=8, encoding="cp932"))
    assert Images.load(folder_of("pets")).classes == ("dog", "猫")
    assert "left out: 1 .txt" in capsys.readouterr().out
