"""The registry and its journal: what passes is no damage, a change is made or not, and what is behind catches up."""

import contextlib
import json
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts.versions import free, put
from train.tracking.problem import Problem
from train.tracking.store import Store, housekeeping
from train.tracking.store import journal as journal_module
from train.tracking.store.journal import parse
from train.tracking.store.records import Draft, Run
from train.tracking.store.registry import Damaged

# -- what passes -------------------------------------------------------------------------------------------------------


def full(store: Store) -> Iterator[None]:
    """SQLite's own error on a full disk."""
    (pages,) = store.rows("PRAGMA page_count")[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    store._connection.execute("PRAGMA max_page_count = 1000000")


def locked(store: Store) -> Iterator[None]:
    store._connection.execute("PRAGMA busy_timeout = 1")
    with contextlib.closing(sqlite3.connect(store.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def read_only(store: Store) -> Iterator[None]:
    store._connection.execute("PRAGMA query_only = ON")
    yield
    store._connection.execute("PRAGMA query_only = OFF")


def unwritable(limited: Callable[[Store], int]) -> Callable[[Store], Iterator[None]]:
    """A limit on the size of files, in bytes: a write that crosses it fails in the middle."""

    def fault(store: Store) -> Iterator[None]:
        before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limited(store), before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    return fault


def in_the_journal(store: Store) -> int:
    return store.journal.stat().st_size + 50


def in_the_log(store: Store) -> int:
    """The journal takes the line, and the registry's commit fails."""
    return store.database.with_name("registry.sqlite-wal").stat().st_size + 5000


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (full, "database or disk is full; free some space and run again"),
        (locked, "database is locked; another process is writing to it"),
        (read_only, "readonly database; make its folder writable"),
        (unwritable(in_the_journal), "cannot write .*journal: File too large"),
        (unwritable(in_the_log), "disk I/O error; see to its disk: free some space and run again"),
    ],
)
def test_what_passes_is_one_line_without_a_word_of_damage_and_changes_nothing(
    store: Store, fault: Callable[[Store], Iterator[None]], line: str
) -> None:
    names = [f"{i}" for i in range(400)]  # pages of rows
    with contextlib.closing(Store()) as keeper:  # so that the log stays
        put(store, "probe", {"x": "1"}, ["a"])
        before = store.versions()
        folder = store.scratch / "new"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
        files = store.take(folder)
        text = store.journal.read_bytes()
        with contextlib.contextmanager(fault)(store), pytest.raises(Problem, match=line) as problem:
            store.commit(Run("r", "test.stage", None, "", {}, "", 0.0), [Draft("probe", "t", ("a",), files)])
        assert not isinstance(problem.value, Damaged) and "rebuild" not in str(problem.value)
        assert store.versions() == before == keeper.versions()
        assert store.journal.read_bytes() == text
        assert put(store, "probe", {"x": "2"}, ["a"]).number == 1
        assert keeper.get("probe", "a").number == 1
    with contextlib.closing(Store()) as again:
        assert [version.number for version in again.versions()] == [0, 1]


def test_a_log_that_cannot_be_opened_is_no_damage(store: Store) -> None:
    put(store, "probe", {"x": "1"}, ["a"])
    store.close()
    log = store.database.with_name("registry.sqlite-wal")
    log.mkdir()
    with pytest.raises(Problem, match="unable to open database file; free some space") as problem:
        Store()
    assert not isinstance(problem.value, Damaged)
    log.rmdir()
    with contextlib.closing(Store()) as again:
        assert again.find("probe", "a")


def test_a_run_that_is_there_already_advises_no_destruction(store: Store) -> None:
    run = Run("same", "test.stage", None, "", {}, "", 0.0)
    store.commit(run, [])
    with pytest.raises(Problem, match=r"UNIQUE constraint failed: runs.id; nothing was changed") as problem:
        store.commit(run, [])
    assert not isinstance(problem.value, Damaged) and "move" not in str(problem.value)


def test_a_writer_that_takes_too_long_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PATIENCE", 0.05)
    with contextlib.closing(Store()) as other, store.transaction():
        with pytest.raises(Problem, match="another process is writing"):
            put(other, "probe", {"x": "1"})
        with pytest.raises(Problem, match="another process is writing"):
            Store()


# -- behind the journal ------------------------------------------------------------------------------------------------


def die_at(statement: str, body: Callable[[Store], object]) -> None:
    """A fork is killed as it sends the statement to SQLite."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            store = Store()
            store._connection.set_trace_callback(
                lambda text: os.kill(os.getpid(), signal.SIGKILL) if text.startswith(statement) else None
            )
            body(store)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize(("statement", "numbers"), [("UPDATE journal", [0, 1]), ("COMMIT", [0, 1]), ("INSERT", [0])])
def test_what_is_in_the_journal_and_not_in_the_registry_is_made_up_for(
    store: Store, statement: str, numbers: list[int]
) -> None:
    put(store, "probe", {"x": "1"}, ["a"])
    die_at(statement, lambda own: put(own, "probe", {"x": "2"}, ["a"]))
    with contextlib.closing(Store()) as other:
        assert [version.number for version in other.versions()] == numbers
    put(store, "probe", {"x": "3"}, ["a"])  # a connection from before goes on
    assert [version.number for version in store.versions()] == [*numbers, len(numbers)]
    assert housekeeping.verify(store) == []


def test_gc_that_was_killed_after_its_line_is_finished(store: Store) -> None:
    put(store, "probe", {"x": "1"}, ["a"])
    put(store, "probe", {"x": "2"}, ["a"])
    die_at("COMMIT", free)
    with contextlib.closing(Store()) as other:
        assert [version.number for version in other.versions()] == [1]
        assert len(housekeeping.orphans(other)) == 1
        free(other)
        assert (other.folder(other.get("probe", "a")) / "x").read_text() == "2"
        assert put(other, "probe", {"x": "1"}).number == 2


@pytest.mark.parametrize("torn", [b"0123", b"0" * 5000, b"\0" * 100])
def test_a_half_written_line_is_cut_off(store: Store, torn: bytes) -> None:
    put(store, "probe", {"x": "1"}, ["a"])
    text = store.journal.read_bytes()
    store.journal.write_bytes(text + torn)
    with contextlib.closing(Store()) as other:
        assert other.journal.read_bytes() == text
    store.journal.write_bytes(text + torn)
    put(store, "probe", {"x": "2"}, ["a"])
    assert [version.number for version in store.versions()] == [0, 1]
    assert housekeeping.verify(store) == []


def test_a_log_that_is_gone_takes_nothing_with_it(store: Store) -> None:
    for text in "123":
        put(store, "probe", {"x": text}, ["a"])
    database = store.database.read_bytes()  # the log holds what this does not
    store.close()
    store.database.write_bytes(database)
    with contextlib.closing(Store()) as again:
        assert [version.number for version in again.versions()] == [0, 1, 2]
        assert again.get("probe", "a").number == 2


def test_a_registry_that_was_replaced_under_a_command_takes_nothing_more(store: Store) -> None:
    put(store, "probe", {"x": "1"})
    copy = store.database.with_name("copy")
    copy.write_bytes(store.database.read_bytes())
    copy.replace(store.database)
    with pytest.raises(Problem, match="was replaced while this command ran; run it again"):
        put(store, "probe", {"x": "2"})


def test_readers_and_writers_at_once_see_no_difference(store: Store) -> None:
    """Opening compares registry and journal while others write both."""
    errors: list[BaseException] = []
    end = time.monotonic() + 1

    def write() -> None:
        with contextlib.closing(Store()) as own:
            while time.monotonic() < end:
                own.remember("place", {1: f"{time.monotonic_ns()}"})

    def read() -> None:
        try:
            while time.monotonic() < end:
                Store().close()
        except BaseException as error:
            errors.append(error)

    put(store, "probe", {"x": "1"})
    threads = [threading.Thread(target=body) for body in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert housekeeping.verify(store) == []


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 2, 4, 99, 2**31 - 1])
def test_a_changed_number_of_the_format_is_damage_and_no_newer_peel(store: Store, version: int) -> None:
    put(store, "probe", {"x": "1"})
    store._connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(Damaged):
        Store()


def test_a_newer_format_is_told_from_the_journal(store: Store) -> None:
    put(store, "probe", {"x": "1"})
    entries, _ = parse(store.journal.read_bytes())
    body = json.dumps({"format": 4, "put": [], "remove": []}).encode()
    checksum = journal_module._checksum(entries[-1].head, body).encode()
    store.journal.write_bytes(store.journal.read_bytes() + checksum + b" " + body + b"\n")
    with pytest.raises(Problem, match=r"written by a newer Peel \(format 4\)") as problem:
        Store()
    assert not isinstance(problem.value, Damaged)


# -- objects on another disk -------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(store: Store) -> Iterator[Path]:
    """A new folder on another disk than the store's."""
    for parent in (Path("/tmp"), Path("/dev/shm"), Path.cwd(), Path("/var/tmp")):
        if parent.is_dir() and os.access(parent, os.W_OK) and parent.stat().st_dev != store.root.stat().st_dev:
            folder = parent / f"peel-{os.getpid()}-{time.time_ns()}"
            folder.mkdir()
            yield folder
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            folder.rmdir()
            return
    pytest.skip("there is one disk")


@pytest.mark.parametrize("parts", [["objects"], ["folders"], ["scratch"], ["objects", "folders", "scratch"]])
def test_a_part_of_the_store_may_lie_on_another_disk(store: Store, elsewhere: Path, parts: list[str]) -> None:
    put(store, "probe", {"x": "1"}, ["a"])
    store.close()
    for part in parts:
        for path in sorted((store.root / part).rglob("*")):
            target = elsewhere / part / path.relative_to(store.root / part)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.write_bytes(path.read_bytes())
                path.unlink()
        (elsewhere / part).mkdir(exist_ok=True)
        for path in sorted((store.root / part).rglob("*"), reverse=True):
            path.rmdir()
        (store.root / part).rmdir()
        (store.root / part).symlink_to(elsewhere / part)
    with contextlib.closing(Store()) as moved:
        put(moved, "probe", {"x": "2", "deep/y": "3"}, ["a"])
        put(moved, "cluster", {"x": "1"}, ["a"])
        folder = moved.folder(moved.get("probe", "a"))
        assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == {"x": "2", "y": "3"}
        assert [version.reference for version in housekeeping.superseded(moved)] == ["probe:v0"]
        free(moved)
        assert not housekeeping.verify(moved) and not housekeeping.orphans(moved)
        assert (moved.folder(moved.get("cluster", "a")) / "x").read_text() == "1"


def test_a_disk_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    put(store, "probe", {"x": "1"}, ["a"])
    store.close()
    store.objects.rename(tmp_path / "disk")
    store.objects.symlink_to(tmp_path / "unplugged")
    with pytest.raises(Problem, match=r"objects leads to .*unplugged, which is not there; mount that disk"):
        Store()
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    with contextlib.closing(Store()) as again:
        assert housekeeping.verify(again) == []
