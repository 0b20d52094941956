"""Artifacts on this machine, with W&B's semantics: the same digest is the same version, aliases move, one type a name.

    objects/ab/abcd...    content-addressed files, named by their MD5 as in W&B's manifests, never written twice
    registry.sqlite       versions, aliases, runs, and which run read and made which version
    journal               every change of the registry, from which `rebuild` makes it anew
    folders/NAME-vN/      links into objects/, what a stage reads
    scratch/              what is being written; after a kill, freed by `gc`
    lock                  held shared by stages, exclusively by `gc` and `rebuild`
    set-aside-N/          what a `rebuild` put away

registry.py opens the registry and compares it with the journal, records.py has its tables, housekeeping.py what `verify`
and `gc` do, rebuild.py what `rebuild` does.

Files enter `objects/` by a rename, and a version becomes visible in one transaction: a kill at any moment leaves the
state before or the state after. What a killed run leaves in `objects/` is referenced by nothing and freed by `gc`.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from train.tracking.declarations import NUMBER, check_alias, check_name, check_path, listing
from train.tracking.environment import home
from train.tracking.problem import CURES, Incident, Problem, incident, naming
from train.tracking.store.journal import Change, disk_cure, sync_folder
from train.tracking.store.records import Draft, File, Run, Version
from train.tracking.store.registry import Registry, unpack

CHANGED = "has changed since it was stored"  # what is wrong with a file that has another digest


@contextlib.contextmanager
def in_use(root: Path, command: str | None = None) -> Iterator[None]:
    """Held by a stage for as long as it runs, so that a `command` that holds the store alone changes nothing under it."""
    path = root / "lock"
    try:
        path.touch()
        lock = path.open()
    except OSError as error:
        raise incident(error) or Problem(f"cannot write {path}: {error.strerror}; {disk_cure(error)}") from error
    with lock:
        try:
            with naming(path):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if command else fcntl.LOCK_SH)
        except BlockingIOError as error:
            raise Problem(f"a stage is using {root}; run {command} again when it has ended") from error
        yield


class Store(Registry):
    """Opens `root`, made on first use. Any number of processes may use it at once.

    Raises Problem where the folder cannot be written or was made by a newer Peel, Damaged where its registry is damaged.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home() / "store"
        self.objects, self.folders, self.scratch = (self.root / part for part in ("objects", "folders", "scratch"))
        try:
            for folder in (self.objects, self.folders, self.scratch):
                if folder.is_symlink() and not folder.exists():
                    raise Problem(f"{folder} leads to {folder.readlink()}, which is not there; mount that disk")
                folder.mkdir(parents=True, exist_ok=True)
            super().__init__(self.root / "registry.sqlite")
        except OSError as error:
            raise incident(error) or Problem(
                f"cannot write to {self.root}: {error.strerror}; {disk_cure(error)}"
            ) from error

    def in_use(self, exclusively: bool = False) -> contextlib.AbstractContextManager[None]:
        """Held by a stage for as long as it runs, so that `gc`, which takes it exclusively, frees nothing under it."""
        return in_use(self.root, "gc" if exclusively else None)

    # -- reading -------------------------------------------------------------------------------------------------------

    def versions(self, name: str | None = None) -> list[Version]:
        """Every version, or those of one artifact, oldest first."""
        where, values = ("WHERE versions.name = ?", [name]) if name else ("", [])
        return self._versions(where, values)

    def _versions(self, where: str, values: Sequence[object]) -> list[Version]:
        rows = self.rows(
            "SELECT versions.*, type, (SELECT json_group_array(alias) FROM aliases WHERE version = versions.id) AS names"
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
                aliases=tuple(sorted(unpack(row["names"]))),
            )
            for row in rows
        ]

    def by_id(self, ids: Sequence[int | None]) -> list[Version]:
        """Those of the versions that are still there, in the order published."""
        return self._versions(f"WHERE versions.id IN ({','.join('?' * len(ids))})", ids) if ids else []

    def find(self, name: str, alias: str) -> Version | None:
        """The version that `alias` (or `vN`) names, or None."""
        if number := NUMBER.fullmatch(alias):
            versions = self._versions("WHERE versions.name = ? AND number = ?", [name, int(number[1])])
        else:
            where = "WHERE versions.id = (SELECT version FROM aliases WHERE name = ? AND alias = ?)"
            versions = self._versions(where, [name, alias])
        return versions[0] if versions else None

    def get(self, name: str, alias: str, cure: str = "") -> Version:
        """As `find`; raises Problem with the known aliases where there is none."""
        version = self.find(name, alias)
        if version is None:
            rows = self.rows("SELECT alias FROM aliases WHERE name = ?", [name])
            aliases = listing((row["alias"] for row in rows), near=alias)
            raise Problem(f"no artifact '{name}:{alias}'; known aliases of {name}: {aliases}." + (cure and f" {cure}"))
        return version

    def files(self, version: Version) -> dict[str, File]:
        """Path inside the artifact -> content."""
        rows = self.rows("SELECT * FROM files WHERE version = ? ORDER BY path", [version.id])
        return {row["path"]: File(row["md5"], row["size"]) for row in rows}

    def with_digest(self, name: str, digest: str) -> Version | None:
        return next(iter(self._versions("WHERE versions.name = ? AND digest = ?", [name, digest])), None)

    def sound(self, name: str, digest: str) -> dict[str, File] | None:
        """The files of the version of `name` with this digest, where it is here and none of them is damaged."""
        version = self.with_digest(name, digest)
        files = self.files(version) if version else None
        return None if files is None or any(map(self.damage, files.values())) else files

    def object(self, md5: str) -> Path:
        return self.objects / md5[:2] / md5

    def folder(self, version: Version) -> Path:
        """A folder with the files of `version`, each checked against its digest. Raises Problem on a damaged file."""
        files = self.files(version)
        check_name(version.name, "artifact name")  # a registry that somebody else made may say anything
        for path, content in files.items():
            check_path(path, version.reference)
            if fault := self.damage(content):
                raise self.damage_problem(version, path, content, fault)
        target = self.folders / version.folder
        if not target.is_dir():
            draft = self.folders / f".draft-{os.getpid()}-{time.time_ns()}"
            draft.mkdir()
            for path, content in files.items():
                link = draft / path
                link.parent.mkdir(parents=True, exist_ok=True)
                source = self.object(content.md5)
                # Relative, so that the store can be moved, unless `folders` is a link to elsewhere.
                link.symlink_to(source if self.folders.is_symlink() else os.path.relpath(source, link.parent))
            try:
                draft.rename(target)
            except OSError:
                shutil.rmtree(draft)
                if not target.is_dir():  # else another process was faster
                    raise
        return target

    def damage_problem(self, version: Version, path: str, content: File, fault: str) -> Problem:
        """What to tell whoever wants a version with a damaged file: which file it is, and what brings it back."""
        maker = self.maker(version)
        cures = []
        if maker and maker.stage != "pull":
            cures.append(f"make it again with python -m {maker.stage}, or everything with make run FRESH=1")
        cures += [f"run a stage that reads it online, which fetches {copy}" for copy in self.remotes(version).values()]
        file = f"{path} {fault} ({self.object(content.md5)})"
        return Problem(f"{version.reference} is damaged: {file}; {'; or '.join(cures) or 'name another version'}")

    def damage(self, content: File) -> str | None:
        """What is wrong with a stored file, whose bytes are hashed again; None where nothing is."""
        path = self.object(content.md5)
        if not path.is_file():
            return "is missing"
        try:
            return None if hash_file(path) == content.md5 else CHANGED
        except Incident:
            raise
        except Problem:
            return "cannot be read"

    def maker(self, version: Version) -> Run | None:
        """The latest run that made `version`; where none did here, the one that pulled it from W&B."""
        rows = self.rows(
            "SELECT runs.* FROM outputs JOIN runs ON runs.id = run WHERE version = ?"
            " ORDER BY stage = 'pull', runs.rowid DESC LIMIT 1",  # the registry's order: clocks are set back
            [version.id],
        )
        return self._run(rows[0]) if rows else None

    def run(self, name: str) -> Run:
        (row,) = self.rows("SELECT * FROM runs WHERE id = ?", [name])
        return self._run(row)

    def outputs(self, run: Run) -> list[Version]:
        """What `run` made, as far as it is still there."""
        rows = self.rows("SELECT version FROM outputs WHERE run = ?", [run.id])
        return self.by_id([row["version"] for row in rows])

    def readers(self, version: Version) -> list[Run]:
        """The runs that read `version`, oldest first."""
        rows = self.rows(
            "SELECT DISTINCT runs.* FROM inputs JOIN runs ON runs.id = run WHERE version = ? ORDER BY runs.rowid",
            [version.id],
        )
        return [self._run(row) for row in rows]

    def _run(self, row: sqlite3.Row) -> Run:
        inputs = self.rows("SELECT * FROM inputs WHERE run = ? ORDER BY rowid", [row["id"]])
        versions = {version.id: version for version in self.by_id([entry["version"] for entry in inputs])}
        return Run(
            id=row["id"],
            stage=row["stage"],
            variant=row["variant"],
            settings=row["settings"],
            config=unpack(row["config"]),
            revision=row["revision"],
            started=row["started"],
            seconds=row["seconds"],
            inputs={(entry["name"], entry["alias"]): versions.get(entry["version"]) for entry in inputs},
        )

    # -- writing -------------------------------------------------------------------------------------------------------

    def take(self, folder: Path) -> dict[str, File]:
        """Moves every file of `folder` (on the store's own disk) into `objects/` and says what they are."""
        files = {}
        for path in files_below(folder):
            if path.is_symlink():
                raise ValueError(f"{path} is a link, whose content is not the artifact's own; copy the file")
            content = File(hash_file(path), path.stat().st_size)
            target = self.object(content.md5)
            target.parent.mkdir(exist_ok=True)
            path.chmod(0o444)
            with naming(path), path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = content
            _move(path, target)  # also over an equal or a damaged copy: these bytes are the right ones
        for parent in {self.object(content.md5).parent for content in files.values()} | {self.objects}:
            sync_folder(parent)  # a registry that survives a power cut must find the names, not only the bytes
        return files

    def commit(self, run: Run, drafts: Iterable[Draft]) -> list[Version]:
        """Records `run` and makes its drafts versions with aliases, in one transaction.

        Returns them in the order of `drafts`. Raises Problem where a name already has another type.
        """
        ids = []
        config = json.dumps(run.config, default=str)
        with self.transaction() as change:
            change.put(
                "runs", run.id, run.stage, run.variant, run.settings, config, run.revision, run.started, run.seconds
            )
            for (name, alias), version in run.inputs.items():
                change.put("inputs", run.id, name, alias, version and version.id)
            for draft in drafts:
                ids.append(self._insert(change, draft))
                change.put("outputs", run.id, ids[-1], json.dumps(draft.aliases))
        versions = {version.id: version for version in self.by_id(ids)}
        return [versions[id_] for id_ in ids]

    def _insert(self, change: Change, draft: Draft) -> int:
        check_name(draft.name, "artifact name")
        (type_, number), *_ = [
            *self.rows("SELECT type, next FROM artifacts WHERE name = ?", [draft.name]),
            (draft.type, 0),
        ]
        if type_ != draft.type:
            raise Problem(f"{draft.name} has the type {type_!r}, not {draft.type!r}; publish under another name")
        same = self.rows("SELECT id FROM versions WHERE name = ? AND digest = ?", [draft.name, draft.digest])
        if same:
            id_ = int(same[0]["id"])
        else:
            ((id_,),) = self.rows("SELECT coalesce(max(id), 0) + 1 FROM versions")
            size = sum(content.size for content in draft.files.values())
            change.put("artifacts", draft.name, type_, number + 1)
            change.put("versions", id_, draft.name, number, draft.digest, size, time.time())
            for path, content in draft.files.items():
                change.put("files", id_, check_path(path, draft.name), *content)
        for alias in draft.aliases:
            check_alias(alias)
        self._point(change, draft.name, [*draft.aliases, *(["latest"] if draft.latest else [])], id_)
        return id_

    def _point(self, change: Change, name: str, aliases: Iterable[str], version: int) -> None:
        for alias in aliases:
            change.put("aliases", name, alias, version)

    # -- what is at W&B ------------------------------------------------------------------------------------------------

    def remember(self, place: str, references: Mapping[int, str], run: str | None = None) -> None:
        """That versions (by id) are at W&B under these references, and that all of `run` is.

        place: BASE_URL/ENTITY/PROJECT.
        """
        with self.transaction() as change:
            for version, reference in references.items():
                change.put("remotes", place, version, reference)
            if run is not None:
                change.put("published", place, run)

    def remotes(self, version: Version) -> dict[str, str]:
        """Place -> reference there."""
        rows = self.rows("SELECT place, reference FROM remotes WHERE version = ?", [version.id])
        return {row["place"]: row["reference"] for row in rows}

    # -- reuse ---------------------------------------------------------------------------------------------------------

    def reuse(self, stage: str, settings: str) -> list[Version] | None:
        """What an earlier run of `stage` with these settings made, if all that it asked for would be the same today.

        Its aliases are pointed at it again, as if it had been logged once more. None where the stage must run.
        """
        rows = self.rows("SELECT * FROM runs WHERE stage = ? AND settings = ? ORDER BY rowid DESC", [stage, settings])
        for row in rows:
            if any(self.find(*request) != version for request, version in self._run(row).inputs.items()):
                continue
            outputs = self.rows("SELECT * FROM outputs WHERE run = ?", [row["id"]])
            aliases = {entry["version"]: unpack(entry["aliases"]) for entry in outputs}
            if not aliases or None in aliases:  # it made nothing, or gc has freed a part of it
                continue
            versions = self.by_id(list(aliases))
            if any({*aliases[version.id], "latest"} - set(version.aliases) for version in versions):
                with self.transaction() as change:
                    for version in versions:
                        self._point(change, version.name, [*aliases[version.id], "latest"], version.id)
                versions = self.by_id(list(aliases))
            return versions
        return None


def _move(path: Path, target: Path) -> None:
    """As a rename, also where `objects` lies on another disk."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = target.with_name(f".{target.name}-{os.getpid()}-{time.time_ns()}")
        try:
            shutil.copy(path, copy)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            copy.replace(target)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        path.unlink()


def files_below(folder: Path) -> list[Path]:
    """Every file and link in a folder and those in it, sorted. Raises OSError where one cannot be read: Path.rglob passes
    over it in silence, and an artifact would be published without what is in it."""

    def refuse(error: OSError) -> None:
        raise error

    files: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=refuse):
        files += [Path(top) / name for name in names]
        files += [path for path in (Path(top) / name for name in folders) if path.is_symlink()]
    return sorted(files)


def write_whole(path: Path, content: bytes) -> None:
    """Whoever reads `path` meanwhile sees the old content or the new one."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def hash_file(path: Path) -> str:
    """MD5 in hexadecimal. Raises Problem where the file cannot be read, Incident where no file could be."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        kind = Problem if error.errno in (None, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR) else Incident
        raise kind(
            f"cannot read {path}: {error.strerror}; {CURES.get(error.errno or 0, 'make it readable')}"
        ) from error
