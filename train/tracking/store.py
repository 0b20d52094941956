"""Artifacts on this machine, with W&B's semantics: the same digest is the same version, aliases move, one type a name.

    objects/ab/abcd...    content-addressed files, named by their MD5 as in W&B's manifests, never written twice
    registry.sqlite       versions, aliases, runs, and which run read and made which version
    folders/NAME-vN/      links into objects/, what a stage reads
    scratch/              what is being written; after a kill, freed by `gc`
    lock                  held shared by stages, exclusively by `gc`

Files enter `objects/` by a rename, and a version becomes visible in one transaction: a kill at any moment leaves the
state before or the state after. What a killed run leaves in `objects/` is referenced by nothing and freed by `gc`.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from train.tracking.declarations import NUMBER, check_alias, check_name, listing
from train.tracking.problem import Problem

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE artifacts (name TEXT PRIMARY KEY, type TEXT NOT NULL, next INTEGER NOT NULL);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL REFERENCES artifacts, number INTEGER NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, created REAL NOT NULL, remote TEXT, UNIQUE (name, number), UNIQUE (name, digest));
CREATE TABLE files (
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE, path TEXT NOT NULL, md5 TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (version, path));
CREATE INDEX files_by_content ON files (md5);
CREATE TABLE aliases (
    name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    PRIMARY KEY (name, alias));
CREATE INDEX aliases_by_version ON aliases (version);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, variant TEXT, settings TEXT NOT NULL, config TEXT NOT NULL,
    revision TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL);
CREATE INDEX runs_by_settings ON runs (stage, settings);
CREATE TABLE inputs (
    run TEXT NOT NULL REFERENCES runs, name TEXT NOT NULL, alias TEXT NOT NULL,
    version INTEGER REFERENCES versions ON DELETE CASCADE, PRIMARY KEY (run, name, alias));
CREATE INDEX inputs_by_version ON inputs (version);
CREATE TABLE outputs (
    run TEXT NOT NULL REFERENCES runs, version INTEGER REFERENCES versions ON DELETE SET NULL,
    aliases TEXT NOT NULL, PRIMARY KEY (run, version));
CREATE INDEX outputs_by_version ON outputs (version);
"""


class File(NamedTuple):
    md5: str
    size: int


@dataclass(frozen=True)
class Version:
    """One version of an artifact, as the registry knows it."""

    id: int
    name: str
    number: int
    type: str
    digest: str
    size: int
    created: float
    aliases: tuple[str, ...]

    @property
    def reference(self) -> str:
        return f"{self.name}:v{self.number}"


@dataclass(frozen=True)
class Draft:
    """What is to become a version: its files are in `objects/` already, nothing refers to them yet.

    latest: whether that alias moves to it, as when W&B logs an artifact; not so for what is only pulled from there.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    files: Mapping[str, File]
    latest: bool = True

    @property
    def digest(self) -> str:
        return manifest_digest(self.files)


@dataclass(frozen=True)
class Run:
    """One run of a stage: what it was asked, when, by which code, and what it read.

    settings: hash of the stage's resolved configuration. inputs: (name, alias as asked) to a version, or to None where
    an optional input was asked for and missing.
    """

    id: str
    stage: str
    variant: str | None
    settings: str
    config: Mapping[str, Any]
    revision: str
    started: float
    seconds: float = 0.0
    inputs: Mapping[tuple[str, str], Version | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Damage:
    """One thing wrong in a store. breaks: `NAME:vN (path)`; beyond: versions made from those, sound themselves."""

    what: str
    breaks: tuple[str, ...]
    beyond: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{self.what}; it breaks {', '.join(self.breaks)}" if self.breaks else self.what
        return f"{line}; made from that: {', '.join(self.beyond)}" if self.beyond else line


def manifest_digest(files: Mapping[str, File]) -> str:
    """W&B's digest of a manifest (version 1): what `wandb.Artifact(...).digest` says of the same files."""
    digest = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
    for path in sorted(files):
        content = base64.b64encode(bytes.fromhex(files[path].md5)).decode()
        digest.update(f"{path}:{content}\n".encode())
    return digest.hexdigest()


def home() -> Path:
    """The folder that holds everything: $PEEL_HOME, else .peel here."""
    return Path(os.environ.get("PEEL_HOME") or ".peel").absolute()


class Store:
    """Opens `root`, made on first use. Any number of processes may use it at once.

    Raises Problem where the folder cannot be written or was made by a newer Peel.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home() / "store"
        self.objects, self.folders, self.scratch = (self.root / part for part in ("objects", "folders", "scratch"))
        try:
            for folder in (self.objects, self.folders, self.scratch):
                folder.mkdir(parents=True, exist_ok=True)
            self.registry = self.root / "registry.sqlite"
            if not self.registry.exists():
                self._found()
            self._connection = sqlite3.connect(self.registry, timeout=60, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA foreign_keys = ON")
            format_ = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except OSError as error:
            raise Problem(
                f"cannot write to {self.root}: {error.strerror}; set PEEL_HOME to a folder of yours"
            ) from error
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if format_ != SCHEMA_VERSION:
            self.close()
            raise Problem(
                f"{self.root} was written by a newer Peel (format {format_}); update Peel or set PEEL_HOME"
                if format_ > SCHEMA_VERSION
                else f"{self.registry} is no registry of Peel's; move it away or set PEEL_HOME"
            )

    def _found(self) -> None:
        """Writes an empty registry and links it into place: of several first processes one wins, none sees half."""
        draft = self.scratch / f"registry-{os.getpid()}-{time.time_ns()}"
        connection = sqlite3.connect(draft, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(draft, self.registry)
        draft.unlink()
        _sync(self.root)

    def _unusable(self, error: sqlite3.Error) -> Problem:
        cures = {
            "readonly": "make its folder writable, or set PEEL_HOME",
            "unable to open": "make its folder writable, or set PEEL_HOME",
            "locked": "another process is writing; run again when it has ended",
            "full": "free some space and run again",
        }
        cure = next((cure for sign, cure in cures.items() if sign in str(error)), "move it away or set PEEL_HOME")
        return Problem(f"cannot use {self.registry}: {error}; {cure}")

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

    @contextlib.contextmanager
    def in_use(self, exclusively: bool = False) -> Iterator[None]:
        """Held by a stage for as long as it runs, so that `gc`, which takes it exclusively, frees nothing under it."""
        path = self.root / "lock"
        try:
            path.touch()
            lock = path.open()
        except OSError as error:
            raise Problem(f"cannot write {path}: {error.strerror}; set PEEL_HOME to a folder of yours") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusively else fcntl.LOCK_SH)
            except BlockingIOError as error:
                raise Problem(f"a stage is using {self.root}; run gc again when it has ended") from error
            yield

    # -- reading -------------------------------------------------------------------------------------------------------

    def versions(self, name: str | None = None) -> list[Version]:
        """Every version, or those of one artifact, oldest first."""
        where, values = ("WHERE versions.name = ?", [name]) if name else ("", [])
        return self._versions(where, values)

    def _versions(self, where: str, values: Sequence[object]) -> list[Version]:
        rows = self._rows(
            "SELECT versions.*, type, (SELECT json_group_array(alias) FROM aliases WHERE version = versions.id) AS known"
            f" FROM versions JOIN artifacts USING (name) {where} ORDER BY versions.id",
            values,
        )
        return [
            Version(
                id=row["id"],
                name=row["name"],
                number=row["number"],
                type=row["type"],
                digest=row["digest"],
                size=row["size"],
                created=row["created"],
                aliases=tuple(sorted(json.loads(row["known"]))),
            )
            for row in rows
        ]

    def _by_id(self, ids: Sequence[int | None]) -> list[Version]:
        return self._versions(f"WHERE versions.id IN ({','.join('?' * len(ids))})", ids)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def find(self, name: str, alias: str) -> Version | None:
        """The version that `alias` (or `vN`) names, or None."""
        if number := NUMBER.fullmatch(alias):
            found = self._versions("WHERE versions.name = ? AND number = ?", [name, int(number[1])])
        else:
            where = "WHERE versions.id = (SELECT version FROM aliases WHERE name = ? AND alias = ?)"
            found = self._versions(where, [name, alias])
        return found[0] if found else None

    def get(self, name: str, alias: str, cure: str = "") -> Version:
        """As `find`; raises Problem with the known aliases where there is none."""
        found = self.find(name, alias)
        if found is None:
            rows = self._rows("SELECT alias FROM aliases WHERE name = ?", [name])
            known = listing(row["alias"] for row in rows)
            raise Problem(f"no artifact '{name}:{alias}'; known aliases of {name}: {known}." + (cure and f" {cure}"))
        return found

    def files(self, version: Version) -> dict[str, File]:
        """Path inside the artifact -> content."""
        rows = self._rows("SELECT * FROM files WHERE version = ? ORDER BY path", [version.id])
        return {row["path"]: File(row["md5"], row["size"]) for row in rows}

    def object(self, md5: str) -> Path:
        return self.objects / md5[:2] / md5

    def folder(self, version: Version) -> Path:
        """A folder with the files of `version`, each checked against its digest. Raises Problem on a damaged file."""
        files = self.files(version)
        for path, content in files.items():
            if problem := self._damage(content):
                raise Problem(
                    f"{version.reference} is damaged: {path} {problem} ({self.object(content.md5)}); remake it with FRESH=1"
                )
        target = self.folders / f"{version.name}-v{version.number}"
        if not target.is_dir():
            draft = self.scratch / f"folder-{os.getpid()}-{time.time_ns()}"
            draft.mkdir()
            for path, content in files.items():
                link = draft / path
                link.parent.mkdir(parents=True, exist_ok=True)
                # Relative to where it will stand, at the same depth, so that the store can be moved.
                link.symlink_to(os.path.relpath(self.object(content.md5), link.parent))
            try:
                draft.rename(target)
            except OSError:
                shutil.rmtree(draft)
                if not target.is_dir():  # else another process was faster
                    raise
        return target

    def _damage(self, content: File) -> str | None:
        path = self.object(content.md5)
        if not path.is_file():
            return "is missing"
        try:
            return None if hash_file(path) == content.md5 else "has other bytes than it was stored with"
        except Problem:
            return "cannot be read"

    def maker(self, version: Version) -> Run | None:
        """The latest run that made `version`; where none did here, the one that pulled it from W&B."""
        rows = self._rows(
            "SELECT runs.* FROM outputs JOIN runs ON runs.id = run WHERE version = ?"
            " ORDER BY stage = 'pull', started DESC LIMIT 1",
            [version.id],
        )
        return self._run(rows[0]) if rows else None

    def outputs(self, run: Run) -> list[Version]:
        """What `run` made, as far as it is still there."""
        return self._by_id(
            [row["version"] for row in self._rows("SELECT version FROM outputs WHERE run = ?", [run.id])]
        )

    def readers(self, version: Version) -> list[Run]:
        """The runs that read `version`, oldest first."""
        rows = self._rows(
            "SELECT DISTINCT runs.* FROM inputs JOIN runs ON runs.id = run WHERE version = ? ORDER BY started",
            [version.id],
        )
        return [self._run(row) for row in rows]

    def _run(self, row: sqlite3.Row) -> Run:
        asked = self._rows("SELECT * FROM inputs WHERE run = ? ORDER BY rowid", [row["id"]])
        known = {version.id: version for version in self._by_id([entry["version"] for entry in asked])}
        return Run(
            id=row["id"],
            stage=row["stage"],
            variant=row["variant"],
            settings=row["settings"],
            config=json.loads(row["config"]),
            revision=row["revision"],
            started=row["started"],
            seconds=row["seconds"],
            inputs={(entry["name"], entry["alias"]): known.get(entry["version"]) for entry in asked},
        )

    # -- writing -------------------------------------------------------------------------------------------------------

    def take(self, folder: Path) -> dict[str, File]:
        """Moves every file of `folder` (on the store's own disk) into `objects/` and says what they are."""
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
            if path.is_symlink():
                raise ValueError(f"{path} is a link, whose content is not the artifact's own; copy the file")
            content = File(hash_file(path), path.stat().st_size)
            target = self.object(content.md5)
            target.parent.mkdir(exist_ok=True)
            path.chmod(0o444)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = content
            path.replace(target)  # also over an equal or a damaged copy: these bytes are the right ones
        for shelf in {self.object(content.md5).parent for content in files.values()} | {self.objects}:
            _sync(shelf)  # a registry that survives a power cut must find the names, not only the bytes
        return files

    def commit(self, run: Run, drafts: Iterable[Draft]) -> list[Version]:
        """Records `run` and makes its drafts versions with aliases, in one transaction.

        Returns them in the order of `drafts`. Raises Problem where a name already has another type.
        """
        ids = []
        with self.transaction() as registry:
            registry.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    run.id,
                    run.stage,
                    run.variant,
                    run.settings,
                    json.dumps(run.config, default=str),
                    run.revision,
                    run.started,
                    run.seconds,
                ],
            )
            for (name, alias), version in run.inputs.items():
                registry.execute(
                    "INSERT INTO inputs VALUES (?, ?, ?, ?)", [run.id, name, alias, version and version.id]
                )
            for draft in drafts:
                ids.append(self._insert(registry, draft))
                registry.execute("INSERT INTO outputs VALUES (?, ?, ?)", [run.id, ids[-1], json.dumps(draft.aliases)])
        known = {version.id: version for version in self._by_id(ids)}
        return [known[number] for number in ids]

    def _insert(self, registry: sqlite3.Connection, draft: Draft) -> int:
        check_name(draft.name, "artifact name")
        registry.execute("INSERT OR IGNORE INTO artifacts VALUES (?, ?, 0)", [draft.name, draft.type])
        artifact = registry.execute("SELECT * FROM artifacts WHERE name = ?", [draft.name]).fetchone()
        if artifact["type"] != draft.type:
            raise Problem(
                f"{draft.name} has the type {artifact['type']!r}, not {draft.type!r}; publish under another name"
            )
        row = registry.execute(
            "SELECT id FROM versions WHERE name = ? AND digest = ?", [draft.name, draft.digest]
        ).fetchone()
        if row is None:
            row = registry.execute(
                "INSERT INTO versions (name, number, digest, size, created) VALUES (?, ?, ?, ?, ?) RETURNING id",
                [
                    draft.name,
                    artifact["next"],
                    draft.digest,
                    sum(file.size for file in draft.files.values()),
                    time.time(),
                ],
            ).fetchone()
            registry.execute("UPDATE artifacts SET next = next + 1 WHERE name = ?", [draft.name])
            entries = [(row["id"], path, *content) for path, content in draft.files.items()]
            registry.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", entries)
        for alias in draft.aliases:
            check_alias(alias)
        self._point(registry, draft.name, [*draft.aliases, *["latest"] * draft.latest], row["id"])
        return int(row["id"])

    def _point(self, registry: sqlite3.Connection, name: str, aliases: Iterable[str], version: int) -> None:
        registry.executemany(
            "INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", [(name, alias, version) for alias in aliases]
        )

    # -- reuse ---------------------------------------------------------------------------------------------------------

    def made(self, stage: str, settings: str) -> list[Version] | None:
        """What an earlier run of `stage` with these settings made, if all that it asked for would be the same today.

        Its aliases are pointed at it again, as if it had been logged once more. None where the stage must run.
        """
        rows = self._rows(
            "SELECT * FROM runs WHERE stage = ? AND settings = ? ORDER BY started DESC", [stage, settings]
        )
        for row in rows:
            if any(self.find(*asked) != version for asked, version in self._run(row).inputs.items()):
                continue
            outputs = self._rows("SELECT * FROM outputs WHERE run = ?", [row["id"]])
            aliases = {entry["version"]: json.loads(entry["aliases"]) for entry in outputs}
            if not aliases or None in aliases:  # it made nothing, or gc has freed a part of it
                continue
            versions = self._by_id(list(aliases))
            if any({*aliases[version.id], "latest"} - set(version.aliases) for version in versions):
                with self.transaction() as registry:
                    for version in versions:
                        self._point(registry, version.name, [*aliases[version.id], "latest"], version.id)
            return versions
        return None

    # -- keeping house -------------------------------------------------------------------------------------------------

    def contents(self) -> dict[File, list[tuple[Version, str]]]:
        """Every stored file that a version holds -> the versions and the paths in them."""
        owners: dict[File, list[tuple[Version, str]]] = {}
        for version in self.versions():
            for path, content in self.files(version).items():
                owners.setdefault(content, []).append((version, path))
        return owners

    def verify(self, each: Callable[[Collection[File]], Iterable[File]] = iter) -> list[Damage]:
        """Hashes every stored file again. What is damaged, what it breaks, and what was made from that.

        each: wraps the files as they are hashed, to show progress.
        """
        problems = []
        for row in self._rows("PRAGMA integrity_check"):
            if row[0] != "ok":
                problems.append(Damage(f"{self.registry}: {row[0]}", (), ()))
        for version in self.versions():
            if manifest_digest(self.files(version)) != version.digest:
                what = f"{self.registry} lists other files than the digest {version.digest} stands for"
                problems.append(Damage(what, (version.reference,), self._made_from([version])))
        owners = self.contents()
        for content in each(owners):
            if problem := self._damage(content):
                breaks = tuple(f"{version.reference} ({path})" for version, path in owners[content])
                beyond = self._made_from([version for version, _ in owners[content]])
                problems.append(Damage(f"{self.object(content.md5)} {problem}", breaks, beyond))
        return problems

    def _made_from(self, versions: Iterable[Version]) -> tuple[str, ...]:
        """References of all versions made from `versions`, directly or not, in the order made, without themselves."""
        start = [version.id for version in versions]
        rows = self._rows(
            f"WITH RECURSIVE made (id) AS (SELECT id FROM versions WHERE id IN ({','.join('?' * len(start))}) UNION"
            " SELECT outputs.version FROM made JOIN inputs ON inputs.version = made.id JOIN outputs USING (run)"
            " WHERE outputs.version IS NOT NULL) SELECT id FROM made",
            start,
        )
        found = self._by_id([row["id"] for row in rows if row["id"] not in start])
        return tuple(version.reference for version in found)

    def superseded(self) -> list[Version]:
        """Versions that no alias names and that no version with an alias was made from, newest first."""
        needed = {row["version"] for row in self._rows("SELECT DISTINCT version FROM aliases")}
        frontier = needed
        while frontier:
            marks = ",".join("?" * len(frontier))
            rows = self._rows(
                "SELECT DISTINCT inputs.version FROM outputs JOIN inputs USING (run)"
                f" WHERE outputs.version IN ({marks}) AND inputs.version IS NOT NULL",
                list(frontier),
            )
            frontier = {row["version"] for row in rows} - needed
            needed = needed | frontier
        return [version for version in reversed(self.versions()) if version.id not in needed]

    def orphans(self, without: Iterable[Version] = ()) -> list[Path]:
        """What nothing refers to, once the versions in `without` are gone: stored files, folders, scratch."""
        dropped = [version.id for version in without]
        marks = ",".join("?" * len(dropped))
        rows = self._rows(f"SELECT DISTINCT md5 FROM files WHERE version NOT IN ({marks})", dropped)
        known = {row["md5"] for row in rows}
        folders = {f"{version.name}-v{version.number}" for version in self.versions() if version.id not in dropped}
        return [
            *(path for path in sorted(self.objects.glob("*/*")) if path.name not in known),
            *(path for path in sorted(self.folders.iterdir()) if path.name not in folders),
            *sorted(self.scratch.iterdir()),
        ]

    def drop(self, versions: Iterable[Version], paths: Iterable[Path]) -> None:
        """Removes versions from the registry, then what they alone held. A number is never given again."""
        with self.transaction() as registry:
            registry.executemany("DELETE FROM versions WHERE id = ?", [(version.id,) for version in versions])
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """MD5 in hexadecimal. Raises Problem where the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}; make it readable") from error


def _sync(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
