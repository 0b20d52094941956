"""The journal of a store: every change of its registry in the order made, one line each.

A line holds a checksum, over the checksum before it too, and the rows that came and went, as JSON. It reaches the disk
before the registry commits the change: the registry is what the journal makes when it is replayed, at most some lines behind.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from train.tracking.problem import CURES, Problem, naming
from train.tracking.store.records import MOVABLE, SCHEMA, SCHEMA_VERSION, TABLES

PATIENCE = 60  # seconds that a process waits for another's change
FREE = "free some space and run again"
ACCESS = "make its folder writable, or set PEEL_HOME to a folder of yours"


def disk_cure(error: OSError) -> str:
    """What to do where a store cannot be written."""
    return f"{CURES[error.errno]} and run again" if error.errno in CURES else ACCESS


@dataclass
class Change:
    """Rows that come to the registry and versions that go from it, written to `connection` as they are named."""

    connection: sqlite3.Connection
    rows: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    removals: list[int] = field(default_factory=list)

    def put(self, table: str, *row: object) -> None:
        """A row with the values of its columns in order."""
        self.connection.execute(_insertion(table, len(row)), row)
        self.rows.append((table, row))

    def remove(self, version: int) -> None:
        """A version, with its files and aliases."""
        self.connection.execute("DELETE FROM versions WHERE id = ?", [version])
        self.removals.append(version)

    def line(self, head: str) -> tuple[str, bytes]:
        """Its checksum and its line. head: the checksum before it."""
        content = {"format": SCHEMA_VERSION, "put": self.rows, "remove": self.removals}
        text = json.dumps(content, separators=(",", ":")).encode()
        checksum = _checksum(head, text)
        return checksum, checksum.encode() + b" " + text + b"\n"


@dataclass(frozen=True)
class Entry:
    """A line of the journal. end: where it ends, in bytes. head: its checksum. format: of the registry."""

    end: int
    head: str
    format: int
    rows: Sequence[tuple[str, Sequence[Any]]]
    removals: Sequence[int]

    def apply(self, connection: sqlite3.Connection) -> None:
        change = Change(connection)
        for table, row in self.rows:
            change.put(table, *row)
        for version in self.removals:
            change.remove(version)


@functools.cache
def _insertion(table: str, columns: int) -> str:
    if table not in TABLES:
        raise ValueError(f"a registry has no table {table!r}")
    verb = "INSERT OR REPLACE" if table in MOVABLE else "INSERT"
    statement = f"{verb} INTO {table} VALUES ({','.join('?' * columns)})"
    if table == "artifacts":  # to replace what versions refer to would look at each of them
        return f"{statement} ON CONFLICT (name) DO UPDATE SET type = excluded.type, next = excluded.next"
    return statement


def parse(content: bytes, head: str = "", start: int = 0) -> tuple[list[Entry], int]:
    """The whole lines from the start on, and where the last of them ends. head, start: what stands before `content`."""
    entries: list[Entry] = []
    at = 0
    while (end := content.find(b"\n", at)) >= 0:
        checksum, _, text = content[at:end].partition(b" ")
        if checksum != _checksum(head, text).encode():
            break
        try:
            fields = json.loads(text)
            entry = Entry(start + end + 1, checksum.decode(), fields["format"], fields["put"], fields["remove"])
        except (ValueError, TypeError, KeyError, RecursionError):
            break  # whoever wrote it, it is none of ours
        entries.append(entry)
        head, at = entry.head, end + 1
    return entries, start + at


def _checksum(head: str, text: bytes) -> str:
    return hashlib.blake2b(head.encode() + text, digest_size=16).hexdigest()


def replay(entries: Iterable[Entry]) -> sqlite3.Connection:
    """A registry in memory. Raises sqlite3.Error, ValueError and the like where the entries make none."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("BEGIN")
    for entry in entries:
        entry.apply(connection)
    connection.execute("COMMIT")
    return connection


@contextlib.contextmanager
def lock(path: Path, exclusively: bool = False) -> Iterator[IO[bytes]]:
    """The journal at `path`, made where there is none, while nobody else writes it, or at all uses it.

    Raises Problem where another process takes longer than a minute, OSError where the file cannot be written.
    """
    with path.open("a+b", buffering=0) as file:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Problem(
                        f"another process is writing to {path.parent}; run again when that has ended"
                    ) from None
                time.sleep(0.002)
        file.seek(0)
        yield file


def append(file: IO[bytes], line: bytes) -> None:
    """Adds a line and waits until the disk has it. Raises OSError."""
    while line:
        line = line[file.write(line) :]  # a full disk takes a part
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
