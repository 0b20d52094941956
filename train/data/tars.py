"""Tar archives, plain or packed by gzip: what lies in them, and the bytes of one file. They are hostile until checked."""

import contextlib
import gzip
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from train.data.archive import DEEPEST, readings, shown
from train.tracking.problem import Problem, naming, one_line
from train.tracking.store import home

GZIP, USTAR = b"\x1f\x8b", b"ustar"
HEADER = 1 << 20  # bytes of a name or of a record about a file: more are no name
STEP = 1 << 20  # bytes copied at a time
SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Entry:
    """Where the bytes of a file stand. count: how many they are. special: it is no file."""

    start: int
    count: int
    special: bool = False


class Limited:
    """A file of which nothing is read in one piece that is longer than a header may be: tarfile reads whatever length a
    header claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= HEADER:
            raise tarfile.ReadError(f"a header of {count:,} bytes")
        return self._file.read(count)


def is_tar(source: Path) -> bool:
    """Whether a file begins as a tar archive does, packed by gzip or not, or is called one."""
    try:
        with source.open("rb") as file:
            start = file.read(512)
        if start.startswith(GZIP):
            with gzip.open(source) as packed:
                start = packed.read(512)
    except (OSError, EOFError, zlib.error):
        return source.name.lower().endswith(SUFFIXES[1:])
    return start[257:262] == USTAR or source.name.lower().endswith(SUFFIXES)


@contextlib.contextmanager
def open_tar(
    source: Path, layout: str, encoding: str, wanted: Callable[[str], bool], most: int
) -> Iterator[tuple[list[tuple[str, Entry]], Callable[[Entry], bytes]]]:
    """Each file and folder by its path, `/` at a folder's end, and what reads a file. What is packed is unpacked once, into a
    nameless file on disk: of the files that are `wanted`, by their paths, and of `most` bytes at most.

    Raises Problem where `source` is no intact tar archive, or an entry leaves its folder.
    """
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(source.open("rb"))
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            stream: BinaryIO = held.enter_context(gzip.GzipFile(fileobj=file)) if packed else file  # type: ignore[assignment]
            unpacked = None
            if packed:
                home().mkdir(parents=True, exist_ok=True)
                unpacked = held.enter_context(tempfile.TemporaryFile(dir=home()))
            entries = _entries(source, stream, unpacked, encoding, wanted, most)
            if unpacked:
                unpacked.flush()
        except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, gzip.BadGzipFile) as error:
            raise Problem(
                f"{str(source)!r} is no intact tar archive ({one_line(error)}); pack it again, or unpack it and give a folder "
                f"that holds {layout}"
            ) from error
        except OSError as error:
            if error.filename != os.fspath(source):
                raise
            raise Problem(f"cannot read {str(source)!r}: {error.strerror}; make it readable") from error
        descriptor = (unpacked or file).fileno()

        def content(entry: Entry) -> bytes:
            data = os.pread(descriptor, entry.count, entry.start)
            if len(data) < entry.count:
                raise ValueError(f"it ends after {len(data):,} of {entry.count:,} bytes")
            return data

        yield entries, content


def _entries(
    source: Path,
    stream: BinaryIO,
    unpacked: BinaryIO | None,
    encoding: str,
    wanted: Callable[[str], bool],
    most: int,
) -> list[tuple[str, Entry]]:
    pairs = []
    with tarfile.open(
        fileobj=Limited(stream), mode="r:", encoding=encoding or "utf-8", errors="surrogateescape"
    ) as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile keeps them all
            if member.size < 0:
                raise tarfile.ReadError(f"a file of {member.size} bytes")
            name = _name(member.name, source, encoding)
            path = PurePosixPath(name)
            fault = "is a link" if member.issym() or member.islnk() else None
            if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
                fault = "leaves its folder"
            if name.count("/") > DEEPEST:
                fault = f"lies more than {DEEPEST} folders deep"
            if fault:
                raise Problem(f"{str(source)!r}: the entry {shown(name)} {fault}; pack the archive again without it")
            if not path.parts:
                continue
            if member.isdir():
                pairs.append((f"{path}/", Entry(0, 0)))
                continue
            entry = Entry(member.offset_data, member.size, not member.isreg() or member.issparse())
            if unpacked and not entry.special and wanted(str(path)) and entry.count <= most:
                entry = _unpack(stream, unpacked, entry)
            pairs.append((str(path), entry))
    return pairs


def _unpack(stream: BinaryIO, unpacked: BinaryIO, entry: Entry) -> Entry:
    """Where the bytes of an entry stand among what is unpacked."""
    stream.seek(entry.start)
    start, left = unpacked.tell(), entry.count
    while left:
        piece = stream.read(min(left, STEP))
        if not piece:
            raise tarfile.ReadError("unexpected end of data")
        with naming(home()):
            unpacked.write(piece)
        left -= len(piece)
    return Entry(start, entry.count)


def _name(text: str, source: Path, encoding: str) -> str:
    """A name with `/` between its parts. Raises Problem where its encoding is not that which was read."""
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        name = text.encode(encoding or "utf-8", "surrogateescape")
        if encoding:
            raise Problem(f"{str(source)!r}: its names cannot be read by --encoding {encoding!r}; give another one")
        raise Problem(
            f"{str(source)!r} does not state the encoding of its names: {', '.join(readings(name))}; "
            "give the right one as --encoding to train.prepare, or unpack it and give the folder"
        )
    return text.replace("\\", "/")
