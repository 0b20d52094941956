"""Zips as packers write them: names in any encoding, methods that are not read here, contents that lie about their size."""

import shutil
import struct
import subprocess
import tracemalloc
import unicodedata
import zipfile
import zlib
from pathlib import Path

import PIL.Image
import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import Files, encode, load_set, pixels, png, same, two_classes, write_folder, write_zip
from tests.parts.zips import raw_zip
from train import prepare
from train.data import archive, datasets
from train.data.images import SPLITS, Images
from train.tracking.origin import identity, settings


def named(*classes: bytes, encoding: str = "utf-8") -> dict[bytes, bytes]:
    """Files of classes whose names are given in bytes."""
    return {
        f"{split}/".encode() + kind + b"/0.png": png(pixels(8, 8, 3, seed=seed))
        for seed, kind in enumerate(classes)
        for split in SPLITS
    }


def load(source: Path, encoding: str = "") -> Images:
    return datasets.load(str(source), "own", 8, encoding=encoding)


# -- names -------------------------------------------------------------------------------------------------------------

# Pairs that a packer of that country writes, and what zipfile would have made of them as CP437.
FOREIGN = {
    "cp932": ("ソフト", "表"),  # their second bytes are backslashes
    "gbk": ("猫", "狗"),  # the first alone is sound UTF-8 for another letter
    "big5": ("貓", "狗"),
    "cp949": ("고양이", "개"),
    "cp866": ("кошка", "собака"),
    "cp437": ("Kätzchen", "Hündchen"),
}


@pytest.mark.parametrize("encoding", FOREIGN)
def test_names_that_do_not_state_their_encoding_are_asked_for_and_read_by_it(tmp_path: Path, encoding: str) -> None:
    names = FOREIGN[encoding]
    source = raw_zip(tmp_path / "set.zip", named(*(name.encode(encoding) for name in names)))
    line = refusal(lambda: load(source))
    assert "--encoding" in line and "folder" in line
    assert f"{encoding} reads" in line or names[0] in line
    assert load(source, encoding).classes == tuple(sorted(names))


def test_utf8_names_without_the_flag_are_read_as_such(tmp_path: Path) -> None:
    """As Info-ZIP on Linux and macOS's Finder write them."""
    source = raw_zip(tmp_path / "set.zip", named("猫".encode(), "Café".encode()))
    assert load(source).classes == ("Café", "猫")


def unicode_path(name: bytes, text: str, checksum: int | None = None) -> bytes:
    field = b"\1" + struct.pack("<I", zlib.crc32(name) if checksum is None else checksum) + text.encode()
    return struct.pack("<HH", archive.UNICODE_PATH, len(field)) + field


def test_the_unicode_path_field_counts_where_its_checksum_is_the_names(tmp_path: Path) -> None:
    """As Info-ZIP on Windows writes them."""
    files = named("Kätzchen".encode("cp850"), "猫".encode("gbk"))  # the second is also sound UTF-8
    texts = {name: name.decode("cp850" if b"zchen" in name else "gbk") for name in files}
    fields = {name: unicode_path(name, text) for name, text in texts.items()}
    assert load(raw_zip(tmp_path / "set.zip", files, extra=fields)).classes == ("Kätzchen", "猫")
    stale = {name: unicode_path(name, text, checksum=1) for name, text in texts.items()}
    assert "--encoding" in refusal(lambda: load(raw_zip(tmp_path / "stale.zip", files, extra=stale)))


def test_a_zip_is_in_one_encoding_and_flagged_names_are_in_theirs(tmp_path: Path) -> None:
    foreign, flagged = named("猫".encode("gbk"), "狗".encode("gbk")), named("鸟".encode())
    source = raw_zip(tmp_path / "set.zip", {**foreign, **flagged}, flags={name: archive.UTF8_FLAG for name in flagged})
    assert load(source, "gbk").classes == ("狗", "猫", "鸟")
    assert "--encoding 'ascii'" in refusal(lambda: load(source, "ascii"))


def test_an_encoding_is_checked_and_belongs_to_a_zip(tmp_path: Path) -> None:
    source = str(write_zip(tmp_path / "set.zip", two_classes()))
    for wrong in ("klingon", "rot13", "hex", "a\0b", "undefined"):
        assert repr(wrong) in refusal(lambda wrong=wrong: prepare.Config(source, encoding=wrong))  # type: ignore[misc]
    for other in ("digits", str(tmp_path)):
        assert "cp932" in refusal(lambda other=other: prepare.Config(other, "x", encoding="cp932"))  # type: ignore[misc]
    assert "encoding" not in identity(prepare.Config(source))
    assert settings("train.prepare", prepare.Config(source)) != settings(
        "train.prepare", prepare.Config(source, encoding="cp932")
    )


def test_names_are_composed_wherever_they_come_from(tmp_path: Path) -> None:
    """macOS decomposes them: the same class then has two names."""
    taken = unicodedata.normalize("NFD", "Café")
    files = {name.replace("cat", "Café"): content for name, content in two_classes().items()}
    apart = {
        name if name.startswith("test") else unicodedata.normalize("NFD", name): content
        for name, content in files.items()
    }
    assert taken != "Café" and any(taken in name for name in apart)
    source = write_zip(tmp_path / "mac.zip", apart)
    assert load(source).classes == ("Café", "dog")
    twice = {**files, f"train/{taken}/0.png": b""}
    assert "'train/Café/0.png' occurs twice" in refusal(lambda: load(write_zip(tmp_path / "twice.zip", twice)))


def test_two_images_of_one_name_are_refused_and_other_entries_are_not(tmp_path: Path) -> None:
    files = [(name.encode(), content) for name, content in two_classes().items()]
    note = (b"train/cat/notes.txt", b"")
    load(raw_zip(tmp_path / "notes.zip", [*files, note, note]))
    assert "occurs twice" in refusal(lambda: load(raw_zip(tmp_path / "twice.zip", [*files, files[0]])))


# -- packers of the real world -----------------------------------------------------------------------------------------

PACKERS = {
    "Info-ZIP": ("zip -qr", ""),
    "Info-ZIP, bzip2": ("zip -qr -Z bzip2", ""),
    "Info-ZIP, zip64": ("zip -qr -fz", ""),
    "Info-ZIP, encrypted": ("zip -qr -P x", "encrypted"),
    "7-Zip": ("7z a", ""),
    "7-Zip, LZMA": ("7z a -mm=LZMA", ""),
    "7-Zip, Deflate64": ("7z a -mm=Deflate64", "Deflate64"),
    "7-Zip, PPMd": ("7z a -mm=PPMd", "PPMd"),
    "7-Zip, AES": ("7z a -px -mem=AES256", "encrypted"),
    "7-Zip, no zip": ("7z a -t7z", "7z"),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_what_packers_write_is_read_or_named(tmp_path: Path, packer: str) -> None:
    command, fault = PACKERS[packer]
    program, *flags = command.split()
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    gray = [
        encode(PIL.Image.new("RGB", (64, 64), (i, i, 9 * i)), "BMP") for i in range(4)
    ]  # stored, where it does not shrink
    files = {f"{split}/{kind}/{i}.bmp": gray[i] for split in SPLITS for kind in ("猫", "Café") for i in range(4)}
    write_folder(tmp_path / "set", files)
    place = tmp_path / "set.zip"
    subprocess.run([program, *flags, place.name, "set"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    if fault:
        line = refusal(lambda: load(place))
        assert (
            fault in line and ("'set/train/猫/" in line or "'set/test/" in line or fault == "7z") and "unpack" in line
        )
    else:
        assert same(load(place), load(tmp_path / "set"))


# -- what cannot be unpacked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (98, "PPMd"), (93, "Zstandard"), (77, "method 77")])
def test_a_method_that_is_not_read_is_named_before_anything_is_decoded(tmp_path: Path, method: int, name: str) -> None:
    files = {path.encode(): content for path, content in two_classes().items()}
    source = raw_zip(tmp_path / "set.zip", files, methods={b"train/cat/1.png": method})
    for skip in (False, True):
        line = refusal(lambda skip=skip: load_set(source, skip_corrupt=skip))  # type: ignore[misc]
        assert name in line and "'train/cat/1.png'" in line and "folder" in line
    text = {**files, b"train/cat/notes.txt": b"no image"}
    load(raw_zip(tmp_path / "text.zip", text, methods={b"train/cat/notes.txt": method}))  # nobody unpacks it


@pytest.mark.parametrize("flags", [1, 0x41, 0x801])
def test_an_encrypted_zip_is_called_so(tmp_path: Path, flags: int) -> None:
    files = {path.encode(): content for path, content in two_classes().items()}
    source = raw_zip(tmp_path / "set.zip", files, flags={b"test/dog/0.png": flags})
    line = refusal(lambda: load_set(source, skip_corrupt=True))
    assert "encrypted" in line and "'test/dog/0.png'" in line


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_any_method_that_zipfile_reads_holds_the_same_set(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w", method) as packed:
        for name, content in two_classes().items():
            packed.writestr(name, content)
    assert (
        load(tmp_path / "set.zip").train.tobytes() == load(write_zip(tmp_path / "x.zip", two_classes())).train.tobytes()
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_unpacks_to_no_more_than_it_says(tmp_path: Path, method: int) -> None:
    """100 MB that say that they are 100 bytes."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("x.png", bytes(100 << 20))
    with zipfile.ZipFile(path) as packed:
        (entry,) = packed.infolist()
        entry.file_size = 100
        tracemalloc.start()
        with pytest.raises(zipfile.BadZipFile):
            archive.content(packed, entry)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 95 << 20  # a block of bzip2 is 46 MB, joined from parts; unpacked whole, all of it is 200 MB


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07\x01\0", "RAR"), (b"\x1f\x8b\x08\0", "gzip"), (b"BZh9", "bzip2"),
     (b"\xfd7zXZ\0", "xz"), (b"\0" * 257 + b"ustar\0", "tar")],
)  # fmt: skip
def test_another_archive_called_zip_is_named_for_what_it_is(tmp_path: Path, start: bytes, kind: str) -> None:
    source = tmp_path / "set.zip"
    source.write_bytes(start + bytes(500))
    line = refusal(lambda: load_set(source))
    assert kind in line and "unpack" in line


def test_a_path_of_endless_folders_is_refused(tmp_path: Path) -> None:
    files: Files = {**two_classes(), "train/cat/" + "a/" * 30_000 + "x.png": b""}
    line = refusal(lambda: load_set(write_zip(tmp_path / "set.zip", files)))
    assert "deep" in line and len(line) < 1000
