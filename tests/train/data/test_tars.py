"""Tar archives, plain and packed by gzip: they hold what the folder holds, and are hostile until checked."""

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import Files, load_set, pixels, png, same, two_classes, write_folder
from train import prepare
from train.data import datasets, pictures
from train.data.fingerprints import fingerprint
from train.tracking.store import home

FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}
packed = pytest.mark.parametrize("end", ["tar", "tar.gz", "tgz"])


def write_tar(at: Path, files: Files, kind: int = tarfile.PAX_FORMAT, encoding: str = "utf-8") -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    mode = "w" if at.suffix == ".tar" else "w:gz"
    with tarfile.open(at, mode, format=kind, encoding=encoding) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return at


@packed
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("wrapper", ["", "pets/", "./"])
def test_a_tar_holds_the_same_set_as_the_folder_that_it_was_made_from(
    tmp_path: Path, end: str, kind: str, wrapper: str
) -> None:
    deep = f"train/cat/{'x' * 120}/{'y' * 120}.png" if kind != "ustar" else "train/cat/y.png"  # a header of its own
    clutter = {
        "readme.txt": b"n" * 700,
        "train/cat/.hidden.png": b"",
        "__MACOSX/train/cat/._0.png": b"",
        "labels.csv": b"",
    }
    files = {**two_classes(), deep: png(pixels(8, 8, 3, seed=7))}
    plain = write_folder(tmp_path / "plain", files)
    source = write_tar(
        tmp_path / f"set.{end}", {f"{wrapper}{name}": c for name, c in {**clutter, **files}.items()}, FORMATS[kind]
    )
    assert same(load_set(source), load_set(plain))
    assert fingerprint(source) == fingerprint(plain)
    assert prepare.Config(str(source)).name == "set"
    assert {path.name for path in home().iterdir()} <= {"fingerprints"}


@packed
def test_what_gnu_tar_adds_from_a_folder_is_read(tmp_path: Path, end: str) -> None:
    plain = write_folder(tmp_path / "pets", two_classes())
    with tarfile.open(tmp_path / f"set.{end}", "w" if end == "tar" else "w:gz") as archive:
        archive.add(plain, "pets")  # with entries of folders
    assert same(load_set(tmp_path / f"set.{end}"), load_set(plain))


def test_names_in_another_encoding_are_asked_for(tmp_path: Path) -> None:
    files = {name.replace("cat", "猫"): content for name, content in two_classes().items()}
    source = write_tar(tmp_path / "set.tar", files, tarfile.GNU_FORMAT, "cp932")
    line = refusal(lambda: load_set(source))
    assert "cp932 reads 'train/猫/0.png'" in line and "--encoding" in line
    assert datasets.read(str(source), 8, encoding="cp932").classes == ("dog", "猫")
    assert "--encoding 'ascii'" in refusal(lambda: datasets.read(str(source), 8, encoding="ascii"))
    assert prepare.Config(str(source), "x", encoding="cp932").encoding == "cp932"


# -- hostile -----------------------------------------------------------------------------------------------------------


@packed
@pytest.mark.parametrize(
    "name", ["../evil.png", "train/cat/../../../evil.png", "/tmp/evil.png", "C:\\evil.png", "a/" * 99 + "x"]
)
def test_an_entry_that_leaves_its_folder_is_refused(tmp_path: Path, end: str, name: str) -> None:
    line = refusal(lambda: load_set(write_tar(tmp_path / f"set.{end}", {**two_classes(), name: b""})))
    assert "the entry '" in line and "without it" in line


@packed
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_is_refused(tmp_path: Path, end: str, kind: bytes) -> None:
    with tarfile.open(tmp_path / f"set.{end}", "w" if end == "tar" else "w:gz") as archive:
        about = tarfile.TarInfo("train/cat/link.png")
        about.type, about.linkname = kind, "/etc/passwd"
        archive.addfile(about)
    assert "'train/cat/link.png' is a link" in refusal(lambda: load_set(tmp_path / f"set.{end}"))


@packed
def test_devices_and_pipes_are_no_images(tmp_path: Path, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tar(tmp_path / f"set.{end}", two_classes())
    if end != "tar":
        content = gzip.decompress(source.read_bytes())
        source = tmp_path / "set.tar"
        source.write_bytes(content)
    with tarfile.open(source, "a") as archive:
        for name, kind in (("train/cat/pipe.png", tarfile.FIFOTYPE), ("train/cat/tty.png", tarfile.CHRTYPE)):
            about = tarfile.TarInfo(name)
            about.type, about.mode = kind, stat.S_IRUSR
            archive.addfile(about)
    if end != "tar":
        (tmp_path / "packed.tgz").write_bytes(gzip.compress(source.read_bytes()))
        source = tmp_path / "packed.tgz"
    assert len(load_set(source).train) == 6
    assert capsys.readouterr().out == "left out: 2 special files\n"


@packed
def test_an_archive_cut_short_is_refused_wherever_it_ends(tmp_path: Path, end: str) -> None:
    whole = write_tar(tmp_path / f"set.{end}", two_classes()).read_bytes()
    lengths = [0, 1, 20, 300, 512, 700, 1024, 1536, len(whole) // 3, len(whole) // 2, len(whole) // 2 + 100]
    for length in lengths if end == "tar" else [*lengths, len(whole) - 1]:
        (tmp_path / f"cut.{end}").write_bytes(whole[:length])
        line = refusal(lambda: load_set(tmp_path / f"cut.{end}"))
        assert f"cut.{end}" in line, length


def test_a_bit_that_turned_in_a_packed_archive_is_noticed(tmp_path: Path) -> None:
    """In a stored block, where nothing else would notice."""
    source = write_tar(tmp_path / "set.tar", two_classes())
    content = bytearray(gzip.compress(source.read_bytes(), 0))
    content[content.index(b"test/cat/1.png") + 700] ^= 1
    (tmp_path / "set.tgz").write_bytes(content)
    assert "CRC" in refusal(lambda: load_set(tmp_path / "set.tgz", skip_corrupt=True))


@packed
def test_a_damaged_header_is_no_end(tmp_path: Path, end: str) -> None:
    source = write_tar(tmp_path / "set.tar", two_classes())
    content = bytearray(source.read_bytes())
    content[content.index(b"test/cat/1.png") + 3] ^= 1
    (tmp_path / f"damaged.{end}").write_bytes(content if end == "tar" else gzip.compress(content))
    assert "breaks off" in refusal(lambda: load_set(tmp_path / f"damaged.{end}"))


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    """tarfile reads a name of whatever length: of zeros, which pack a thousandfold."""
    about = tarfile.TarInfo("././@LongLink")
    about.type, about.size = tarfile.GNUTYPE_LONGNAME, 1 << 29
    source = tmp_path / "set.tar.gz"
    with gzip.open(source, "wb", 1) as file:
        file.write(about.tobuf(tarfile.GNU_FORMAT))
        for _ in range(1 << 6):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    line = refusal(lambda: load_set(source))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "header" in line and peak < 20 << 20


@pytest.mark.parametrize("size", ["-1", "-4096", "99999999999999999999999", "x"])
def test_sizes_that_make_no_sense_are_refused(tmp_path: Path, size: str) -> None:
    source = tmp_path / "set.tar"
    with tarfile.open(source, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in two_classes().items():
            about = tarfile.TarInfo(name)
            about.size, about.pax_headers = len(content), {"size": size} if name.endswith("cat/1.png") else {}
            archive.addfile(about, io.BytesIO(content))
    (tmp_path / "set.tgz").write_bytes(gzip.compress(source.read_bytes()))
    for path in (source, tmp_path / "set.tgz"):
        assert str(path) in refusal(lambda path=path: load_set(path))  # type: ignore[misc]


@packed
def test_a_file_too_large_for_an_image_is_not_unpacked(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 1 << 20)
    source = write_tar(tmp_path / f"set.{end}", {**two_classes(), "test/dog/bomb.png": bytes(1 << 21)})
    assert "larger than 1 MB" in refusal(lambda: load_set(source))
    assert len(load_set(source, skip_corrupt=True).test) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_archive_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "set.tar", two_classes())
    source.chmod(0)
    assert "make it readable" in refusal(lambda: load_set(source))
