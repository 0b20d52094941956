"""A store's registry.sqlite: created, opened, migrated, read, and changed in transactions. records.py has its tables."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.tracking.problem import Problem, naming
from train.tracking.store.records import MIGRATIONS, SCHEMA, SCHEMA_VERSION


class Registry:
    """The database at `path`, created on first use, by way of a draft in `scratch` on the same disk.

    Raises Problem where it cannot be used or was made by a newer Peel, OSError where its folder cannot be written.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        self.database, self._scratch = path, scratch
        try:
            if not path.exists():
                self._create()
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA foreign_keys = ON")
            format_ = self._format()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if format_ in MIGRATIONS:
            self._migrate()
        elif format_ != SCHEMA_VERSION:
            self.close()
            raise Problem(
                f"{path.parent} was written by a newer Peel (format {format_}); update Peel, or set PEEL_HOME to another folder"
                if format_ > SCHEMA_VERSION
                else f"{path} is not a registry of Peel; move it away, or set PEEL_HOME to another folder"
            )

    def _create(self) -> None:
        """Writes an empty registry and links it into place: of several first processes one wins, none sees half."""
        draft = self._scratch / f"registry-{os.getpid()}-{time.time_ns()}"
        connection = sqlite3.connect(draft, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(draft, self.database)
        draft.unlink()
        sync_folder(self.database.parent)

    def _format(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        """Brings a registry of an older Peel up to date, all of it or nothing, whoever else is at it."""
        with self.transaction() as registry:
            while (format_ := self._format()) in MIGRATIONS:
                for statement in MIGRATIONS[format_]:
                    registry.execute(statement)
                registry.execute(f"PRAGMA user_version = {format_ + 1}")

    def _unusable(self, error: sqlite3.Error) -> Problem:
        cures = {
            "readonly": "make its folder writable, or set PEEL_HOME to another folder",
            "unable to open": "make its folder writable, or set PEEL_HOME to another folder",
            "locked": "another process is writing to it; run again when that has ended",
            "full": "free some space and run again",
        }
        cure = next(
            (cure for sign, cure in cures.items() if sign in str(error)),
            "move it away, or set PEEL_HOME to another folder",
        )
        return Problem(f"cannot use {self.database}: {error}; {cure}")

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one writer at a time."""
        try:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends it by itself when the disk is full
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """What the registry answers; records.py has its tables."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
