"""What is taken of a folder or zip and what is said of the rest: suffixes, wrappers, clutter, flat sets, links, dark sets."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import Files, encode, load_set, pixels, png, same, two_classes, write_folder, write_zip
from train.data import folder, pictures
from train.data.images import SPLITS

Write = Callable[[Path, Files], Path]
both = pytest.mark.parametrize("write", [write_folder, write_zip])


# -- suffixes ----------------------------------------------------------------------------------------------------------


@both
def test_images_of_every_suffix_are_taken_whatever_their_case(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted(pictures.suffixes())
    files = two_classes() | {
        f"{split}/cat/{case('x')}{case(suffix)}": png(pixels(8, 8, 3, seed=seed))
        for split in SPLITS
        for seed, suffix in enumerate(images)
        for case in (str.lower, str.upper)
    }
    assert len(load_set(write(tmp_path / "set", files)).train) == 6 + 2 * len(images)
    assert capsys.readouterr().out == ""


@both
def test_every_file_that_is_left_out_is_counted_by_its_suffix(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clutter = (".DS_Store", "train/cat/Thumbs.db", "train/desktop.ini", "__MACOSX/train/cat/._0.png", "train/cat/.x.png",
               "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "Icon\r")  # fmt: skip
    others = ("README.txt", "train/a.TXT", "train/cat/a.psd", "test/dog/deeper/b.psd", "test/dog/c.pfm", "train/cat/LICENSE",
              "train/cat/raw.jxl", "val/cat/0.jpg", "val/cat/1.jpg", "loose.png", "train/cat/x.a\x07b", "train/cat/a. b c")  # fmt: skip
    monkeypatch.setattr(pictures, "suffixes", lambda: frozenset((".png", ".jpg")))
    monkeypatch.setattr(pictures, "formats", lambda: ("PNG", "JPEG"))
    files = {**dict.fromkeys((*clutter, *others), b""), **two_classes()}
    reference = load_set(write_folder(tmp_path / "plain", two_classes()))
    assert capsys.readouterr().out == ""
    assert same(reference, load_set(write(tmp_path / "set", files)))
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "left out: 3 without a suffix, 2 .jpg in 'val/', 2 .psd, 2 .txt, 1 .jxl (pip install pillow-jxl-plugin reads them), "
        "1 .pfm, 1 .png in no folder"
    )


def test_a_line_names_the_most_frequent_kinds_and_counts_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"train/cat/{i}.k{kind}": b"" for kind in range(20) for i in range(20 - kind)}
    load_set(write_zip(tmp_path / "set.zip", {**two_classes(), **files}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("left out: 20 .k0, 19 .k1, ") and line.endswith(", 55 of other kinds")


def test_links_that_lead_nowhere_and_what_is_no_file_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folder(tmp_path / "set", two_classes())
    (source / "train/cat/gone.png").symlink_to(tmp_path / "gone.png")
    (source / "train/cat/itself.png").symlink_to("itself.png")
    os.mkfifo(source / "train/cat/pipe.png")
    (source / "train/cat/others").symlink_to(source / "test")
    (source / "up").symlink_to(tmp_path)
    assert len(load_set(source).train) == 6
    assert capsys.readouterr().out.splitlines() == ["left out: 2 broken links, 2 linked folders, 1 special file"]


# -- where the set lies ------------------------------------------------------------------------------------------------

BESIDE = {"README.txt": b"", "__MACOSX/x/._train": b"", ".DS_Store": b"", "Thumbs.db": b""}


@both
@pytest.mark.parametrize("wrapper", ["photos/", "photos/photos/", "a/b/c/d/"])
def test_a_set_is_found_inside_folders_that_hold_nothing_else(tmp_path: Path, write: Write, wrapper: str) -> None:
    reference = load_set(write_folder(tmp_path / "plain", two_classes()))
    files = {f"{wrapper}{name}": content for name, content in two_classes().items()}
    beside = {f"{wrapper}{name}": content for name, content in BESIDE.items()}
    for number, more in enumerate(({}, BESIDE, beside, {"masks/cat.txt": b"", "notes/a/b.txt": b""})):
        if number == 3 and wrapper != "photos/":
            continue  # which of several folders is meant, train/ inside says, and nothing else does
        assert same(reference, load_set(write(tmp_path / f"set{number}", {**files, **more})))


@both
@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({f"{wrapper}/{name}": content for wrapper in "ab" for name, content in two_classes().items()},
         ("24 images in 8 folders", "'a', 'b' holds a set of its own", "train/CLASS")),
        ({f"test/{kind}/{i}.jpg": b"" for kind in ("cat", "dog") for i in range(4)},
         ("no folder train/", "beside test/: 8 images in 2 folders ('test/cat', 'test/dog')", "train/CLASS")),
        ({"Val/0.jpg": b"", "1.jpg": b"", "2.jpg": b""}, ("no folder train/", "beside Val/: 3 images in 1 folder ('Val')")),
        ({f"{split}/a/x.tga": b"" for split in SPLITS}, ("holds no images", "2 .tga")),
        ({"train/notes.txt": b"", "test/notes.txt": b""}, ("holds no images", "2 .txt")),
        ({"a/notes.txt": b"", "notes.txt": b""}, ("holds no images, but 2 .txt", "class folders")),
        ({"one.png": b""}, ("a single image",)),
    ],
)  # fmt: skip
def test_a_set_that_fits_no_layout_is_told_what_there_is(
    tmp_path: Path, write: Write, files: Files, parts: tuple[str, ...]
) -> None:
    line = refusal(lambda: load_set(write(tmp_path / "set", files)))
    for part in parts:
        assert part in line


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert "holds no images" in refusal(lambda: load_set(tmp_path / "set"))
    os.mkfifo(tmp_path / "pipe")
    assert "neither a folder nor a file" in refusal(lambda: load_set(tmp_path / "pipe"))


@both
@pytest.mark.parametrize("name", ["می‌خواهم", "क्‍ष", "猫 狗", "it's $5 #1 100%", "<b>", "Ω"])
def test_class_names_in_any_script_are_taken(tmp_path: Path, write: Write, name: str) -> None:
    """Persian and Indic words have joiners, which Python counts as not printable."""
    files = {path.replace("cat", name): content for path, content in two_classes().items()}
    assert name in load_set(write(tmp_path / "set", files)).classes


# -- what an image is not to blame for ---------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_no_damaged_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be skipped, and the set be another one whenever the disk has a bad moment."""
    source = write_folder(tmp_path / "set", two_classes())
    plain = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == "1.png":
            raise OSError(5, "Input/output error", str(path))
        return plain(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        line = refusal(lambda: folder.read(source, 8, skip_corrupt=True))
    assert "1.png" in line and "Input/output error" in line
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "fit", lambda *rest: (_ for _ in ()).throw(MemoryError))
        assert "memory" in refusal(lambda: folder.read(source, 8, skip_corrupt=True))


# -- the range that a set uses -----------------------------------------------------------------------------------------


def shades(most: int, bits: int) -> Files:
    kind = np.uint16 if bits == 16 else np.uint8
    return {
        name: encode(PIL.Image.fromarray(np.random.default_rng(seed).integers(0, most + 1, (8, 8)).astype(kind)))
        for seed, name in enumerate(two_classes())
    }


@pytest.mark.parametrize(
    ("most", "bits", "line"),
    [(4095, 16, "the 12 images of mode I;16 lie between 0 and 16 of 0 to 255"), (1, 8, "the 12 images of mode L lie"),
     (65535, 16, ""), (9000, 16, ""), (40, 8, "")],
)  # fmt: skip
def test_a_set_that_uses_less_than_an_eighth_of_its_range_is_told(
    tmp_path: Path, most: int, bits: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load_set(write_folder(tmp_path / "set", shades(most, bits)))
    out = capsys.readouterr().out
    assert out.startswith(line) and bool(out) == bool(line)


def test_dark_images_are_told_of_among_others_of_another_mode_and_not_for_one_dark_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = {name.replace("/0.", "/d0."): content for name, content in shades(4095, 16).items()}
    load_set(write_zip(tmp_path / "set.zip", {**two_classes(each=5), **dark}))
    assert "of mode I;16" in capsys.readouterr().out
    night = encode(PIL.Image.new("L", (8, 8)))
    load_set(write_zip(tmp_path / "night.zip", {**two_classes(each=5), "train/cat/night.png": night}))
    assert capsys.readouterr().out == ""


@both
def test_several_frames_are_told_of(tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    film = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    load_set(write(tmp_path / "set", {**two_classes(), "train/cat/film.gif": film, "test/dog/film.gif": film}))
    assert capsys.readouterr().out == "of 2 files with several frames the first was taken, as of 'train/cat/film.gif'\n"
