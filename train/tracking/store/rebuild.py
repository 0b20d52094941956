"""Makes the registry of a store anew: from its journal; where that is damaged too, from what the registry still says;
where both are, from the folders that stages read and the origins in them. What was there before is set aside.
"""

import contextlib
import json
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.tracking.declarations import NAME, declarations
from train.tracking.origin import ORIGIN, Origin
from train.tracking.problem import Problem
from train.tracking.store.journal import Change, Entry, append, disk_cure, lock, parse, replay, sync_folder
from train.tracking.store.records import SCHEMA_VERSION, File, manifest_digest
from train.tracking.store.registry import (
    MAGIC,
    Damaged,
    errors_as_problem,
    faults,
    finish,
    migrate,
    mismatches,
    snapshot,
)
from train.tracking.store.store import Store, in_use

HISTORY = ("runs", "versions", "files")  # tables whose rows never change
MD5 = re.compile("[0-9a-f]{32}")
JOURNAL, REGISTRY, FOLDERS = "its journal", "what it still says", "the folders that stages have read"
FOLDER = re.compile(rf"({NAME.pattern})-v(\d{{1,18}})", re.ASCII)


@dataclass(frozen=True)
class Rebuilt:
    """What became of a registry. reason: why it was made anew. source: what from. aside: the folder with what was there.
    unclaimed: the number of stored files in `aside`, of which no version is left."""

    reason: str
    source: str
    versions: int
    runs: int
    aside: Path
    unclaimed: int


def rebuild(root: Path) -> Rebuilt | None:
    """Makes the registry of the store at `root` anew, or leaves it as it is where it agrees with its journal: None.

    Raises Problem where a stage is using the store, or the disk does not take it.
    """
    with in_use(root, "rebuild"):
        try:
            Store(root).close()
        except Damaged as damage:
            reason = str(damage).partition("; run:")[0]
        else:
            return None
        try:
            with errors_as_problem(root / "registry.sqlite"):
                return _rebuild(root, reason)
        except OSError as error:
            raise Problem(f"cannot write to {root}: {error.strerror}; {disk_cure(error)}") from error


def _rebuild(root: Path, reason: str) -> Rebuilt:
    path, draft = root / "registry.sqlite", root / f".draft-{time.time_ns()}"
    with lock(root / "journal", exclusively=True) as file:
        content = file.read()
    entries, end = parse(content)
    draft.mkdir()
    try:
        rows, size = _own_rows(path, draft)
        whole = bool(entries) and size <= end and (end == len(content) or rows is not None)
        database, source = _readable(entries) if whole else None, JOURNAL
        if database is None or (rows is not None and _goes_on_from(rows, database)):
            whole, database, source = False, rows, REGISTRY
        if database is None:
            database, source = _readable(entries) or replay([]), FOLDERS
            _add_folders(database, root)
        place = (entries[-1].end, entries[-1].head) if whole else _new_journal(draft / "journal", database)
        database.execute("UPDATE journal SET size = ?, head = ?", place)
        file_database = sqlite3.connect(draft / path.name, isolation_level=None)
        database.backup(file_database)
        finish(file_database)
        aside = _set_aside(root, draft, renew=not whole)
        unclaimed = _move_unclaimed(root, database, aside)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    with contextlib.closing(Store(root)) as store:
        (runs,) = store.rows("SELECT count(*) FROM runs")[0]
        return Rebuilt(reason, source, len(store.versions()), runs, aside, unclaimed)


def _readable(entries: Sequence[Entry]) -> sqlite3.Connection | None:
    with contextlib.suppress(sqlite3.Error, ValueError, TypeError, OverflowError):
        database = replay(entries)
        if not any(faults(database)):
            return database
    return None


def _goes_on_from(rows: sqlite3.Connection, database: sqlite3.Connection) -> bool:
    """Whether a registry has all runs, versions and files of its journal and more: a run of an older Peel, which knows no
    journal, ended after the registry had become of this format."""
    more, less = (
        {table: {tuple(row) for row in connection.execute(f"SELECT * FROM {table}")} for table in HISTORY}
        for connection in (rows, database)
    )
    return all(less[table] <= more[table] for table in HISTORY) and less["runs"] < more["runs"]


def _own_rows(path: Path, draft: Path) -> tuple[sqlite3.Connection | None, int]:
    """All that a registry says, read from a copy, and how much of the journal that is, in bytes. None where it is not
    whole in itself, or says nothing."""
    copy = draft / "copy.sqlite"
    for suffix in ("", "-wal"):
        if (source := path.with_name(path.name + suffix)).is_file():
            shutil.copyfile(source, copy.with_name(copy.name + suffix))
    if not copy.exists() or not copy.read_bytes().startswith(MAGIC):
        return None, 0
    with (
        contextlib.suppress(Damaged, sqlite3.IntegrityError, ValueError, TypeError),  # a full disk is no damage
        errors_as_problem(copy, sqlite3.IntegrityError),
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection,
    ):
        migrate(connection)
        (format_,) = connection.execute("PRAGMA user_version").fetchone()
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        sound = not any(faults(connection)) and not any(mismatches(connection))
        (size,) = connection.execute("SELECT size FROM journal").fetchone()
        if format_ == SCHEMA_VERSION and runs and sound and type(size) is int:
            database = replay([])
            change = Change(database)
            for table, row in snapshot(connection).rows:
                change.put(table, *row)
            return database, size
    return None, 0


def _new_journal(path: Path, database: sqlite3.Connection) -> tuple[int, str]:
    """Writes a journal that makes `database`. Returns its size and its last checksum."""
    change = snapshot(database)
    if not change.rows:
        path.touch()
        return 0, ""
    head, line = change.line("")
    with path.open("wb", buffering=0) as file:
        append(file, line)
    return len(line), head


def _set_aside(root: Path, draft: Path, renew: bool) -> Path:
    """Puts what `draft` holds in the place of what is there, which goes to a folder of its own. A kill on the way leaves
    a journal from which the rest is done again."""
    numbers = [path.name.removeprefix("set-aside-") for path in root.glob("set-aside-*")]
    number = 1 + max((int(text) for text in numbers if text.isdecimal()), default=0)
    aside = root / f"set-aside-{number}"
    aside.mkdir()
    if renew:
        shutil.copyfile(root / "journal", aside / "journal")
        (draft / "journal").replace(root / "journal")
    # The write-ahead log first: beside another registry it would become a part of that.
    for name in ("registry.sqlite-wal", "registry.sqlite-shm", "registry.sqlite"):
        if (path := root / name).exists():
            path.replace(aside / name)
    (draft / "registry.sqlite").replace(root / "registry.sqlite")
    sync_folder(root)
    return aside


def _move_unclaimed(root: Path, database: sqlite3.Connection, aside: Path) -> int:
    """Moves stored files that no version holds out of the reach of `gc`: what both lost is still there. Returns their number."""
    contents = {md5 for (md5,) in database.execute("SELECT md5 FROM files")}
    paths = [path for path in (root / "objects").glob("*/*") if path.name not in contents]
    for path in paths:
        target = aside / "objects" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    return len(paths)


# -- from folders and origins ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Folder:
    """A version as its folder shows it. created: when its origin was written."""

    name: str
    number: int
    files: Mapping[str, File]
    origin: Origin | None
    created: float

    @property
    def digest(self) -> str:
        return manifest_digest(self.files)


def _add_folders(database: sqlite3.Connection, root: Path) -> None:
    """Adds the versions whose folders are whole, the runs that made them, and the aliases that follow from the origins.

    Every version gets an alias `rebuilt-vN` besides: which were superseded is not known, and `gc` shall free none.
    """
    change = Change(database)
    versions = database.execute("SELECT id, name, number, digest FROM versions").fetchall()
    ids = {(name, digest): id_ for id_, name, _, digest in versions}
    numbers = {(name, number) for _, name, number, _ in versions}
    folders = []
    for folder in sorted(_folders(root), key=lambda folder: (folder.created, folder.name, folder.number)):
        if (folder.name, folder.number) not in numbers and (folder.name, folder.digest) not in ids:
            ids[folder.name, folder.digest] = _add_version(change, folder, max(ids.values(), default=0) + 1)
            folders.append(folder)
    origins = {(folder.name, folder.digest): folder.origin for folder in folders if folder.origin}
    repeats: Counter[tuple[str, str]] = Counter()
    runs = {run for (run,) in database.execute("SELECT id FROM runs")}
    for folder in folders:
        version = ids[folder.name, folder.digest]
        aliases = _aliases(folder, origins)
        for alias in (*aliases, "latest"):
            change.put("aliases", folder.name, alias, version)
        if folder.origin:
            md5 = folder.files[ORIGIN].md5  # the same for all that a run made
            run = f"rebuilt-{md5}-{repeats[folder.name, md5]}"
            repeats[folder.name, md5] += 1
            if run not in runs:
                runs.add(run)
                _add_run(change, folder, folder.origin, run, ids)
            change.put("outputs", run, version, json.dumps(aliases))
    for id_, name, number in database.execute("SELECT id, name, number FROM versions").fetchall():
        change.put("aliases", name, f"rebuilt-v{number}", id_)


def _add_version(change: Change, folder: _Folder, id_: int) -> int:
    entry = declarations().get(folder.name)
    artifact = change.connection.execute("SELECT type, next FROM artifacts WHERE name = ?", [folder.name]).fetchone()
    type_, number = artifact or (entry.type if entry else "unknown", 0)
    size = sum(content.size for content in folder.files.values())
    change.put("artifacts", folder.name, type_, max(number, folder.number + 1))
    change.put("versions", id_, folder.name, folder.number, folder.digest, size, folder.created)
    for path, content in folder.files.items():
        change.put("files", id_, path, *content)
    return id_


def _add_run(change: Change, folder: _Folder, origin: Origin, run: str, ids: Mapping[tuple[str, str], int]) -> None:
    """Without a hash of its settings: an origin does not say which optional inputs were missing, so none is reused."""
    config = json.dumps(origin.config)
    change.put(
        "runs", run, str(origin.stage), origin.variant or origin.dataset, "", config, "unknown", folder.created, 0.0
    )
    for reference in origin.inputs:
        name, _, digest = reference.partition("@")
        if (name, digest) in ids:
            change.put("inputs", run, name, digest, ids[name, digest])


def _aliases(folder: _Folder, origins: Mapping[tuple[str, str], Origin]) -> list[str]:
    """Those that artifacts.yaml declares, as far as an origin and those of its inputs say what fills them."""
    origin, entry = folder.origin, declarations().get(folder.name)
    if origin is None or entry is None:
        return []
    keys = [(name, digest) for name, _, digest in (reference.partition("@") for reference in origin.inputs)]
    inputs = [origins[key] for key in keys if key in origins]
    elsewhere = {source.dataset for source in inputs} - {origin.dataset}
    home = {source.dataset for source in inputs if (source.variant, source.seed) == (origin.variant, origin.seed)}
    fields: dict[str, object] = {"variant": origin.variant, "seed": origin.seed}
    if origin.variant is None:
        fields = {"dataset": origin.dataset}
    elif "anomalies" in entry.fields and len(elsewhere) == 1:
        fields["anomalies"] = elsewhere.pop()
    elif "images" in entry.fields and home and origin.dataset not in home:
        fields["images"] = origin.dataset
    try:
        return entry.aliases_for(fields)
    except (ValueError, Problem):
        return []


def _folders(root: Path) -> Iterator[_Folder]:
    for path in (root / "folders").iterdir():
        match = FOLDER.fullmatch(path.name)
        files = {}
        for link in path.rglob("*"):
            if link.is_symlink() and link.is_file() and MD5.fullmatch(link.readlink().name):
                files[link.relative_to(path).as_posix()] = File(link.readlink().name, link.stat().st_size)
            elif not link.is_dir():
                match = None  # a stored file is gone, or this is no folder of ours
        if match and files:
            origin, created = None, path.stat().st_mtime
            if ORIGIN in files:
                created = (path / ORIGIN).stat().st_mtime
                with contextlib.suppress(Problem):
                    origin = Origin.load(path)
            yield _Folder(match[1], int(match[2]), files, origin, created)
