"""Zips: the names in them, in whatever encoding they were written, and what cannot be unpacked. They are hostile until checked."""

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from train.tracking.problem import Problem, one_line

UTF8_FLAG, ENCRYPTED_FLAG = 0x800, 0x1
UNICODE_PATH = 0x7075  # Info-ZIP's field: version, checksum of the name that it stands for, the name in UTF-8
METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 98: "PPMd", 99: "AES"}
CODECS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
CANDIDATES = ("cp437", "cp1252", "cp932", "gbk", "big5", "cp949", "cp866", "cp1251")  # of packers that state none
DEEPEST = 64  # folders one in another: each costs the length of its path
PIECE = 32  # bytes unpacked at a time where forty can become a bzip2 block of 46 MB
SIGNATURES = {b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!": "a RAR archive", b"\x1f\x8b": "packed by gzip",
              b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz", b"\x28\xb5\x2f\xfd": "packed by Zstandard"}  # fmt: skip


def open_zip(source: Path, layout: str) -> zipfile.ZipFile:
    """Raises Problem where `source` is no intact zip."""
    try:
        with source.open("rb") as file:
            start = file.read(8)
        for signature, kind in SIGNATURES.items():
            if start.startswith(signature):
                raise Problem(f"{str(source)!r} is {kind} and no zip; unpack it and give the folder")
        return zipfile.ZipFile(source)
    except OSError as error:
        if error.filename is not None:
            raise Problem(f"cannot read {str(source)!r}: {error.strerror}; make it readable") from error
        raise _no_zip(source, layout, error) from error
    except Problem:
        raise
    except Exception as error:  # zipfile trusts the numbers that it reads
        raise _no_zip(source, layout, error) from error


def _no_zip(source: Path, layout: str, error: Exception) -> Problem:
    return Problem(
        f"{str(source)!r} is neither a folder nor an intact zip ({one_line(error)}); give one that holds {layout}"
    )


def check_encoding(encoding: str) -> None:
    """Raises Problem where Python has no encoding of that name for texts."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise Problem(
            f"--encoding {encoding!r} is not an encoding ({one_line(error)}); give one such as cp932"
        ) from error


# -- names -------------------------------------------------------------------------------------------------------------


def entries(archive: zipfile.ZipFile, source: Path, encoding: str) -> list[tuple[str, zipfile.ZipInfo]]:
    """Each entry by its path, `/` between its parts and at a folder's end. Raises Problem where one leaves its folder."""
    pairs = []
    for text, entry in zip(_names(archive.infolist(), source, encoding), archive.infolist(), strict=True):
        name = text.replace("\\", "/")  # some packers on Windows write those
        path = PurePosixPath(name)
        fault = "is a link" if stat.S_ISLNK(entry.external_attr >> 16) else None
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            fault = "leaves its folder"
        if name.count("/") > DEEPEST:
            fault = f"lies more than {DEEPEST} folders deep"
        if fault:
            raise Problem(f"{str(source)!r}: the entry {shown(text)} {fault}; pack the zip again without it")
        entry.filename = str(path)  # what zipfile calls it when it cannot be read
        if path.parts:
            pairs.append((f"{path}/" if name.endswith("/") else str(path), entry))
    return pairs


def shown(name: str) -> str:
    """In quotes, and of a length that fits a line."""
    return repr(name if len(name) <= 200 else f"{name[:100]}...{name[-97:]}")


def _names(infos: Sequence[zipfile.ZipInfo], source: Path, encoding: str) -> list[str]:
    """What states its encoding is read by it. The others were written by one packer, and are read alike: by `encoding`,
    else as UTF-8 where all of them are. Raises Problem where that does not do."""
    names = [_stated(entry) for entry in infos]
    if encoding:
        try:
            return [name if isinstance(name, str) else name.decode(encoding) for name in names]
        except (LookupError, ValueError) as error:
            raise Problem(
                f"{str(source)!r}: its names cannot be read by --encoding {encoding!r} ({one_line(error)}); give another one"
            ) from error
    try:
        return [name if isinstance(name, str) else name.decode() for name in names]
    except UnicodeDecodeError as error:
        lines = ", ".join(readings(error.object))
        raise Problem(
            f"{str(source)!r} does not state the encoding of its names: {lines}; "
            "give the right one as --encoding to train.prepare, or unpack it and give the folder"
        ) from error


def _stated(entry: zipfile.ZipInfo) -> str | bytes:
    """The name, or its bytes where the entry does not say how to read them."""
    if entry.flag_bits & UTF8_FLAG:
        return entry.orig_filename.partition("\0")[0]
    name = entry.orig_filename.encode("cp437").partition(b"\0")[0]  # as which zipfile has read them
    if name.isascii():
        return name.decode()
    extra = entry.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == UNICODE_PATH and field[:1] == b"\1" and field[1:5] == struct.pack("<I", zlib.crc32(name)):
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return name
    return name


def readings(name: bytes) -> list[str]:
    """How some encodings read a name: who sees them knows the right one."""
    texts: dict[str, str] = {}
    for encoding in CANDIDATES:
        try:
            text = name.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            texts.setdefault(text, encoding)
    readings = [f"{encoding} reads {shown(text)}" for text, encoding in texts.items()]
    return readings or [f"no common one reads {name!r}"]


def check_unpackable(entry: zipfile.ZipInfo, source: Path) -> None:
    """Raises Problem where an entry is encrypted, or packed by a method that Python lacks."""
    fault = None
    if entry.flag_bits & ENCRYPTED_FLAG:
        fault = "is encrypted"
    elif entry.compress_type not in CODECS:
        fault = (
            f"is packed by {METHODS.get(entry.compress_type, f'method {entry.compress_type}')}, which is not read here"
        )
    if fault:
        raise Problem(f"{str(source)!r}: the entry {shown(entry.filename)} {fault}; unpack the zip and give the folder")


# -- contents ----------------------------------------------------------------------------------------------------------


def content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry, as many as it says that it has. Raises what zipfile does where it is damaged."""
    with archive.open(entry) as file:
        if entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return file.read(entry.file_size)
        assert isinstance(file, zipfile.ZipExtFile)
        file.MIN_READ_SIZE = PIECE  # of these, zipfile unpacks whatever a piece holds
        return b"".join(iter(lambda: file.read(PIECE), b""))
