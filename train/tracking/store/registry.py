"""A store's registry.sqlite: founded, opened, migrated, checked, read, and changed in transactions.

records.py has its tables, journal.py the lines that it must agree with.
"""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from train.tracking.problem import Problem, one_line
from train.tracking.store.journal import (
    ACCESS,
    FREE,
    Change,
    Entry,
    append,
    disk_cure,
    lock,
    parse,
    replay,
    sync_folder,
)
from train.tracking.store.records import MIGRATIONS, SCHEMA, SCHEMA_VERSION, TABLES, File, manifest_digest

MAGIC = b"SQLite format 3\0"
REBUILD = "run: python -m train.tracking rebuild (it removes no file)"
AGAIN = "another process is writing to it; run again when that has ended"
CURES = {  # of what passes, by SQLite's code; all else is damage
    sqlite3.SQLITE_FULL: FREE,
    sqlite3.SQLITE_IOERR: f"see to its disk: {FREE}",
    sqlite3.SQLITE_CANTOPEN: f"{FREE}, or {ACCESS}",
    sqlite3.SQLITE_READONLY: ACCESS,
    sqlite3.SQLITE_PERM: ACCESS,
    sqlite3.SQLITE_BUSY: AGAIN,
    sqlite3.SQLITE_LOCKED: AGAIN,
    sqlite3.SQLITE_PROTOCOL: AGAIN,
    sqlite3.SQLITE_NOMEM: "free some memory and run again",
    sqlite3.SQLITE_CONSTRAINT: "nothing was changed; run the same command again",
}


class Damaged(Problem):
    """The registry is damaged, missing, or not what its journal says; `rebuild` makes it anew."""


@contextlib.contextmanager
def errors_as_problem(database: Path, other: type[sqlite3.Error] = sqlite3.ProgrammingError) -> Iterator[None]:
    """Turns SQLite's errors into a Problem with a cure, and what only damage explains into Damaged.

    Mistakes of this code and the `other` pass.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, other):
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", None)  # none where a text is no UTF-8
        passing = CURES.get(code & 0xFF) if code and code != sqlite3.SQLITE_IOERR_SHORT_READ else None
        if passing:
            raise Problem(f"cannot use {database}: {one_line(error)}; {passing}") from error
        raise Damaged(f"{database} is damaged ({one_line(error)}); {REBUILD}") from error


class Registry:
    """The database at `path`, founded on first use where nothing is stored beside it.

    Raises Problem where it cannot be used or was made by a newer Peel, Damaged where it is not what its journal says,
    OSError where its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.database, self.journal = path, path.with_name("journal")
        if not path.exists():
            self._found()
        with errors_as_problem(path):
            check_header(path)
            self._file = path.stat().st_ino
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            try:
                self._connection.row_factory = sqlite3.Row
                self._connection.execute("PRAGMA foreign_keys = ON")
                # The journal is on the disk before any commit, so that the registry may fall behind in a power cut.
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self.check()
            except BaseException:
                self.close()
                raise

    # -- founding and formats ------------------------------------------------------------------------------------------

    def _found(self) -> None:
        """Moves an empty registry into place: of several first processes one wins, none sees half."""
        with lock(self.journal, exclusively=True) as file:
            if self.database.exists():
                return
            if what := remains(self.database.parent):
                raise Damaged(f"{self.database} is missing, and {what} there; {REBUILD}")
            file.truncate(0)
            draft = self.database.with_name(f".draft-{os.getpid()}-{time.time_ns()}")
            connection = sqlite3.connect(draft, isolation_level=None)
            connection.executescript(SCHEMA)
            finish(connection)
            draft.rename(self.database)
            sync_folder(self.database.parent)

    def _format(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        """Brings a registry of an older Peel up to date, all of it or nothing, whoever else is at it, and begins its
        journal with what it holds."""
        with lock(self.journal, exclusively=True) as file:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                if self._format() == SCHEMA_VERSION:  # another process was faster
                    connection.execute("ROLLBACK")
                    return
                migrate(connection)
                if fault := next(faults(connection), None):
                    raise self._damaged(fault)
                if any(mismatches(connection)):
                    raise self._damaged("it lists files that do not match their digest")
                empty = connection.execute("SELECT 1 FROM runs").fetchone() is None
                if empty and any((self.database.parent / "objects").glob("*/*")):
                    raise self._damaged("it lists nothing, and stored files are there")
                file.truncate(0)  # what a killed migration wrote
                self._append(file, snapshot(connection), 0, "")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    # -- the check -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Compares the registry with its journal, and brings it up to date where a kill has left it behind, or an older
        Peel has made it.

        Raises Damaged where they differ, or where SQLite finds a fault, Problem for the format of a newer Peel.
        """
        with errors_as_problem(self.database):
            with lock(self.journal) as file:
                content = file.read()
                entries, _ = parse(content)
                format_ = self._check_format(entries)
                size = self._check(entries) if format_ == SCHEMA_VERSION else 0
            if format_ < SCHEMA_VERSION:
                self._migrate()
            elif size < len(content):
                with self.transaction():
                    pass

    def _check_format(self, entries: Sequence[Entry]) -> int:
        format_ = self._format()
        newest = max((entry.format for entry in entries), default=format_)
        if newest > SCHEMA_VERSION:
            raise Problem(
                f"{self.database.parent} was written by a newer Peel (format {newest}); update Peel,"
                " or set PEEL_HOME to another folder"
            )
        if format_ not in (*MIGRATIONS, SCHEMA_VERSION):
            raise Damaged(f"{self.database} is not a registry of Peel; {REBUILD}")
        return format_

    def _check(self, entries: Sequence[Entry]) -> int:
        """How much of the journal the registry holds, in bytes."""
        if fault := next(faults(self._connection), None):
            raise self._damaged(fault)
        size, head = self._position()
        past = [entry for entry in entries if entry.end <= size]
        if (size, head) != ((past[-1].end, past[-1].head) if past else (0, "")):
            raise self._damaged("its journal is another or damaged")
        with contextlib.closing(self._replay(past)) as replica:
            for query in ("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name", *map(_dump, TABLES)):
                if _values(self._connection, query) != _values(replica, query):
                    raise self._damaged(f"{query.rpartition('FROM ')[2].split()[0]} is not what the journal says")
        return size

    def _replay(self, entries: Sequence[Entry]) -> sqlite3.Connection:
        try:
            return replay(entries)
        except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError) as error:
            raise self._damaged(f"its journal makes none: {one_line(error)}") from error

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"{self.database} is damaged ({one_line(what)}); {REBUILD}")

    def _position(self) -> tuple[int, str]:
        """How many bytes of the journal are in the registry, and the checksum there."""
        rows = _values(self._connection, "SELECT size, head FROM journal")
        if [tuple(map(type, row)) for row in rows] != [(int, str)]:
            raise self._damaged("its place in the journal is lost")
        size, head = rows[0]
        return size, head

    # -- use -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Change]:
        """All or nothing, one writer at a time: a line in the journal, then the registry.

        Raises Problem where neither can be written.
        """
        try:
            with errors_as_problem(self.database), lock(self.journal, exclusively=True) as file:
                if not self.database.exists() or self.database.stat().st_ino != self._file:
                    raise Problem(f"{self.database} was replaced while this command ran; run it again")
                size, head = self._catch_up(file)
                try:
                    self._connection.execute("BEGIN IMMEDIATE")
                    change = Change(self._connection)
                    yield change
                    if change.rows or change.removals:
                        self._append(file, change, size, head)
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:  # SQLite ends it by itself when the disk is full
                        self._connection.execute("ROLLBACK")
                    with contextlib.suppress(OSError, sqlite3.Error, Problem):  # else the line counts as made
                        file.truncate(self._position()[0])
                    raise
        except OSError as error:
            raise Problem(f"cannot write {self.journal}: {error.strerror}; {disk_cure(error)}") from error

    def _append(self, file: IO[bytes], change: Change, size: int, head: str) -> None:
        head, line = change.line(head)
        append(file, line)
        self._connection.execute("UPDATE journal SET size = ?, head = ?", [size + len(line), head])

    def _catch_up(self, file: IO[bytes]) -> tuple[int, str]:
        """Brings into the registry what the journal alone has, and cuts off a line that a kill has left half written.
        Returns their common place."""
        size, head = self._position()
        file.seek(size)
        tail = file.read()
        if file.tell() < size:
            raise self._damaged("its journal is shorter than it was")
        entries, end = parse(tail, head, size)
        if b"\n" in tail[end - size :]:
            raise self._damaged("its journal is damaged")
        if entries:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for entry in entries:
                    entry.apply(self._connection)
                size, head = entries[-1].end, entries[-1].head
                self._connection.execute("UPDATE journal SET size = ?, head = ?", [size, head])
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.IntegrityError | ValueError | TypeError | OverflowError):
                    raise self._damaged(f"its journal does not go on from it: {one_line(error)}") from error
                raise
        if end < size + len(tail):
            file.truncate(end)
        return size, head

    def mismatches(self) -> list[int]:
        """Ids of the versions whose list of files does not have their digest."""
        with errors_as_problem(self.database):
            return list(mismatches(self._connection))

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """What the registry answers; records.py has its tables."""
        with errors_as_problem(self.database):
            return self._connection.execute(query, values).fetchall()


def unpack(text: str) -> Any:
    """The JSON in a column. Raises Damaged where it is none."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"the registry is damaged ({one_line(error)}); {REBUILD}") from error


# -- of any connection to a registry -----------------------------------------------------------------------------------


def remains(root: Path) -> str:
    """What the store at `root` holds beside a registry, in words; empty where that is nothing."""
    count = sum(1 for _ in (root / "objects").glob("*/*"))
    parts = [f"{count} stored file{'' if count == 1 else 's'}"] if count else []
    for name, what in {"journal": "a journal", "registry.sqlite-wal": "a write-ahead log"}.items():
        path = root / name
        if path.is_file() and path.stat().st_size:
            parts.append(what)
    return f"{' and '.join(parts)} {'are' if count > 1 or len(parts) > 1 else 'is'}" if parts else ""


def check_header(database: Path) -> None:
    """Raises Damaged where SQLite would take the file for one that may not be written, or that has no write-ahead log."""
    with database.open("rb") as file:
        header = file.read(100)
    if not header.startswith(MAGIC) or header[18:20] != b"\x02\x02":
        raise Damaged(f"{database} is damaged (file is not a database of Peel's); {REBUILD}")


def migrate(connection: sqlite3.Connection) -> None:
    while (format_ := int(connection.execute("PRAGMA user_version").fetchone()[0])) in MIGRATIONS:
        for statement in MIGRATIONS[format_]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {format_ + 1}")


def faults(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong in a registry by itself: its pages, and references between rows."""
    yield from (row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok")
    yield from (f"{row[0]} refers to no {row[2]}" for row in connection.execute("PRAGMA foreign_key_check"))


def mismatches(connection: sqlite3.Connection) -> Iterator[int]:
    """Ids of the versions whose list of files does not have their digest."""
    files: dict[int, dict[str, File]] = {}
    for version, path, md5, size in connection.execute("SELECT version, path, md5, size FROM files"):
        files.setdefault(version, {})[path] = File(md5, size)
    for id_, digest in connection.execute("SELECT id, digest FROM versions ORDER BY id").fetchall():
        try:
            same = manifest_digest(files.get(id_, {})) == digest
        except (ValueError, TypeError, AttributeError):  # a damaged MD5, or a number in place of a text
            same = False
        if not same:
            yield id_


def snapshot(connection: sqlite3.Connection) -> Change:
    """All that a registry holds, as one change."""
    return Change(connection, [(table, row) for table in TABLES for row in _values(connection, _dump(table))])


def _dump(table: str) -> str:
    return f"SELECT * FROM {table} ORDER BY rowid"


def _values(connection: sqlite3.Connection, query: str) -> list[Any]:
    """Rows as tuples."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(query).fetchall()


def finish(connection: sqlite3.Connection) -> None:
    """Makes a database with the tables one that this Peel opens, and closes it."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.close()
