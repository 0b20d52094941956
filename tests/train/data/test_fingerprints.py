"""When a folder or zip counts as another one: by its images, wherever they lie and whatever their times say."""

import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.pictures import CUT, Files, pixels, png, two_classes, write_folder, write_zip
from train import prepare
from train.data import fingerprints
from train.data.fingerprints import fingerprint
from train.data.folder import Tree
from train.tracking.origin import settings
from train.tracking.store import Store, home

PICTURE = "train/cat/0.png"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written just now is remembered too."""
    monkeypatch.setattr(fingerprints, "SETTLED", -(10**12))


def another() -> bytes:
    """A picture whose file is as long as that of PICTURE."""
    length = len(two_classes()[PICTURE])
    return next(image for seed in range(1000, 2000) if len(image := png(pixels(8, 8, 3, seed=seed))) == length)


def replaced(path: Path, content: bytes) -> None:
    """With the size and the time that the file had."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.usefixtures("settled")
def test_an_image_replaced_by_one_of_equal_size_and_time_is_noticed(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "set", two_classes())
    before = fingerprint(source)
    assert list((home() / "fingerprints").iterdir())
    replaced(source / PICTURE, another())
    assert fingerprint(source) != before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("way", ["in place", "renamed over", "link turned"])
def test_however_it_is_replaced(tmp_path: Path, way: str) -> None:
    source, path = write_folder(tmp_path / "set", two_classes()), tmp_path / "set" / PICTURE
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(path.read_bytes())
    new.write_bytes(another())
    for file in (old, new, path):
        os.utime(file, ns=(10**18, 10**18))
    if way == "link turned":
        path.unlink()
        path.symlink_to(old)
    before = fingerprint(source)
    if way == "in place":
        replaced(path, another())
    elif way == "renamed over":
        new.replace(path)
    else:
        path.unlink()
        path.symlink_to(new)
    assert path.stat().st_mtime_ns == 10**18
    assert fingerprint(source) != before


@pytest.mark.usefixtures("settled")
def test_times_and_places_are_no_part_of_it(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "set", two_classes())
    before = fingerprint(source)
    os.utime(source / PICTURE, ns=(1, 1))
    assert fingerprint(source) == before
    assert fingerprint(Path(shutil.copytree(source, tmp_path / "elsewhere/set"))) == before
    assert fingerprint(write_zip(tmp_path / "set.zip", two_classes())) == before
    backwards = dict(reversed(two_classes().items()))
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:  # another order, no compression, a folder around all
        for name, content in backwards.items():
            archive.writestr(f"set/{name}", content)
    assert fingerprint(tmp_path / "stored.zip") == before


CHANGES: dict[str, Callable[[Files], Files]] = {
    "one more": lambda files: {**files, "train/cat/9.png": png(pixels(8, 8, 3, seed=99))},
    "one less": lambda files: {name: content for name, content in files.items() if name != PICTURE},
    "one replaced": lambda files: {**files, PICTURE: another()},
    "one renamed": lambda files: {name.replace("cat/0", "cat/00"): content for name, content in files.items()},
    "two swapped": lambda files: {**files, PICTURE: files["train/dog/0.png"], "train/dog/0.png": files[PICTURE]},
    "one damaged": lambda files: {**files, PICTURE: CUT},
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("packed", [False, True])
def test_whatever_changes_the_images_changes_it(tmp_path: Path, change: str, packed: bool) -> None:
    before = write_folder(tmp_path / "set", two_classes())
    after = CHANGES[change](two_classes())
    shutil.copytree(before, tmp_path / "other/set")
    (tmp_path / "other/set" / PICTURE).unlink()
    other = write_zip(tmp_path / "set.zip", after) if packed else write_folder(tmp_path / "fresh/set", after)
    assert fingerprint(other) != fingerprint(before)


@pytest.mark.usefixtures("settled")
def test_what_was_hashed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = write_folder(tmp_path / "set", two_classes()), write_zip(tmp_path / "set.zip", two_classes())
    before = [fingerprint(source) for source in sources]
    reads: list[str] = []
    content = fingerprints._content

    def watched(tree: Tree, path: str) -> str | None:
        reads.append(path)
        return content(tree, path)

    monkeypatch.setattr(fingerprints, "_content", watched)
    assert [fingerprint(source) for source in sources] == before and not reads
    os.utime(sources[0] / PICTURE, ns=(1, 1))
    assert fingerprint(sources[0]) == before[0] and reads == [PICTURE]


def test_what_was_written_within_two_seconds_is_read_again(tmp_path: Path) -> None:
    """Its times may be those that it has after the next write."""
    source = write_folder(tmp_path / "set", two_classes())
    fingerprint(source)
    assert not (home() / "fingerprints").exists() or "cat" not in next((home() / "fingerprints").iterdir()).read_text()
    assert time.time_ns() - (source / PICTURE).stat().st_ctime_ns < fingerprints.SETTLED


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b"[1, 2]", b'{"train/cat/0.png": 7}', "cut", "forged", "folder"]
)
def test_a_damaged_memory_is_passed_over_and_written_anew(tmp_path: Path, damage: bytes | str) -> None:
    source = write_folder(tmp_path / "set", two_classes())
    before = fingerprint(source)
    (memory,) = (home() / "fingerprints").iterdir()
    sound = memory.read_bytes()
    if damage == "folder":
        memory.unlink()
        memory.mkdir()
    elif damage == "forged":  # of other marks than the file has
        entries = {path: [entry[0] + 1, *entry[1:4], "0" * 64] for path, entry in json.loads(sound).items()}
        memory.write_text(json.dumps(entries))
    else:
        memory.write_bytes(sound[: len(sound) // 2] if isinstance(damage, str) else damage)
    assert fingerprint(source) == before
    assert damage == "folder" or memory.read_bytes() == sound


def test_a_home_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, peel_home: Path) -> None:
    source = write_folder(tmp_path / "set", two_classes())
    peel_home.write_text("a file where the folder should be")
    assert fingerprint(source) == fingerprint(source)


def test_a_set_prepared_before_is_prepared_once_more_and_nothing_after_it(tmp_path: Path, store: Store) -> None:
    """Its settings had sizes and times in them; what later stages are reused by is the digest."""
    source = write_folder(tmp_path / "pets", two_classes())
    with pytest.MonkeyPatch.context() as before:
        before.setattr(fingerprints, "fingerprint", lambda source, encoding: "sizes and times")
        prepare.main(prepare.Config(str(source), size=8))
    first = store.get("images", "pets")
    config = prepare.Config(str(source), size=8)
    assert store.reuse("train.prepare", settings("train.prepare", config)) is None
    prepare.main(config)
    assert store.get("images", "pets") == first and len(store.versions("images")) == 1


def test_the_same_folder_elsewhere_is_the_same_set_and_no_other_source(tmp_path: Path, store: Store) -> None:
    one = write_folder(tmp_path / "one/pets", two_classes())
    other = Path(shutil.copytree(one, tmp_path / "other/pets"))
    prepare.main(prepare.Config(str(one), size=8))
    copied = prepare.Config(str(other), size=8)
    assert store.reuse("train.prepare", settings("train.prepare", copied)) == [store.get("images", "pets")]
    prepare.main(prepare.Config(str(other)))  # of another size: the images are still the same
    assert len(store.versions("images")) == 2
