"""What is damaged in a store and what that breaks, what nothing needs any more, and its removal.

The command line's `verify` and `gc` print what these functions return; `drop` alone changes the store.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.tracking.problem import Problem
from train.tracking.store import Store
from train.tracking.store.records import File, Version
from train.tracking.store.registry import Damaged
from train.tracking.traces import staged_copies

# -- damage ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """One thing wrong in a store. breaks: `NAME:vN (path)`; beyond: versions made from those, sound themselves."""

    what: str
    breaks: tuple[str, ...]
    beyond: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{self.what}; it breaks {', '.join(self.breaks)}" if self.breaks else self.what
        return f"{line}; made from that: {', '.join(self.beyond)}" if self.beyond else line


def contents(store: Store) -> dict[File, list[tuple[Version, str]]]:
    """Every stored file that a version holds -> the versions and the paths in them."""
    owners: dict[File, list[tuple[Version, str]]] = {}
    for version in store.versions():
        for path, content in store.files(version).items():
            owners.setdefault(content, []).append((version, path))
    return owners


def verify(store: Store, progress: Callable[[Collection[File]], Iterable[File]] = iter) -> list[Damage]:
    """Hashes every stored file again. What is damaged, what it breaks, and what was made from that.

    progress: wraps the files as they are hashed.
    """
    problems = []
    try:
        store.check()
    except Damaged as damage:
        problems.append(Damage(str(damage), (), ()))
    for version in mismatched(store):
        what = f"{store.database} lists files that do not match the digest {version.digest}"
        problems.append(Damage(what, (version.reference,), _dependents(store, [version])))
    owners = contents(store)
    for content in progress(owners):
        if problem := store.damage(content):
            breaks = tuple(f"{version.reference} ({path})" for version, path in owners[content])
            beyond = _dependents(store, [version for version, _ in owners[content]])
            problems.append(Damage(f"{store.object(content.md5)} {problem}", breaks, beyond))
    return problems


def mismatched(store: Store) -> list[Version]:
    """The versions whose list of files does not have their digest."""
    return store.by_id(store.mismatches())


def _dependents(store: Store, versions: Iterable[Version]) -> tuple[str, ...]:
    """References of all versions made from `versions`, directly or not, in the order made, without themselves."""
    start = [version.id for version in versions]
    rows = store.rows(
        f"WITH RECURSIVE made (id) AS (SELECT id FROM versions WHERE id IN ({','.join('?' * len(start))}) UNION"
        " SELECT outputs.version FROM made JOIN inputs ON inputs.version = made.id JOIN outputs USING (run)"
        " WHERE outputs.version IS NOT NULL) SELECT id FROM made",
        start,
    )
    return tuple(version.reference for version in store.by_id([row["id"] for row in rows if row["id"] not in start]))


# -- what nothing needs ------------------------------------------------------------------------------------------------


def superseded(store: Store, keep: int = 0) -> list[Version]:
    """Versions that no alias names, that are not among the `keep` newest of their name, and that no version which one
    of both holds was made from; newest first."""
    rows = store.rows(
        "WITH RECURSIVE newest (id, place) AS"
        " (SELECT id, row_number() OVER (PARTITION BY name ORDER BY number DESC) FROM versions),"
        " needed (id) AS (SELECT version FROM aliases UNION SELECT id FROM newest WHERE place <= ? UNION"
        " SELECT inputs.version FROM needed JOIN outputs ON outputs.version = needed.id JOIN inputs USING (run)"
        " WHERE inputs.version IS NOT NULL) SELECT id FROM needed",
        [keep],
    )
    required = {row["id"] for row in rows}
    return [version for version in reversed(store.versions()) if version.id not in required]


def orphans(store: Store, without: Iterable[Version] = ()) -> list[Path]:
    """What nothing refers to, once the versions in `without` are gone: stored files, folders, scratch, drafts."""
    absent = [version.id for version in without]
    marks = ",".join("?" * len(absent))
    rows = store.rows(f"SELECT DISTINCT md5 FROM files WHERE version NOT IN ({marks})", absent)
    contents = {row["md5"] for row in rows}
    folders = {version.folder for version in store.versions() if version.id not in absent}
    return [
        *(path for path in sorted(store.objects.glob("*/*")) if path.name not in contents),
        *(path for path in sorted(store.folders.iterdir()) if path.name not in folders),
        *sorted(store.scratch.iterdir()),
        *sorted(store.root.glob(".draft-*")),
    ]


@dataclass(frozen=True)
class Garbage:
    """What can go, of one kind. count: of the versions where these hold the paths, else of the paths."""

    kind: str
    paths: list[Path]
    count: int
    size: int  # in bytes, on the disk


def garbage(store: Store, superseded: Sequence[Version]) -> list[Garbage]:
    """All that can go, by kind: what the `superseded` versions alone hold, and what nothing refers to."""
    loose = orphans(store)
    others = set(loose)
    their_own = [path for path in orphans(store, superseded) if path not in others]
    killed = [path for path in loose if path.parent in (store.scratch, store.root)]
    rows = store.rows("SELECT id FROM runs WHERE stage != 'pull' AND id NOT IN (SELECT run FROM published)")
    unsent = [row["id"] for row in rows]  # their records are needed yet
    return [
        _garbage("superseded versions", their_own, len(superseded)),
        _garbage("files of no version", [path for path in loose if path.is_relative_to(store.objects)]),
        _garbage("folders of no version", [path for path in loose if path.is_relative_to(store.folders)]),
        _garbage("left by killed runs", killed),
        _garbage("left by W&B", staged_copies(unsent)),
    ]


def _garbage(kind: str, paths: list[Path], versions: int = 0) -> Garbage:
    return Garbage(kind, paths, versions or len(paths), sum(map(_disk, paths)))


def _disk(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def check(store: Store) -> None:
    """Raises Problem unless the registry is what its journal says and every list of files has its digest: what nothing
    needs can be read off no other."""
    store.check()
    if versions := mismatched(store):
        raise Problem(
            f"{versions[0].reference} lists files that do not match its digest, so nothing is freed;"
            " run: python -m train.tracking verify"
        )


def drop(store: Store, versions: Sequence[Version], paths: Iterable[Path]) -> None:
    """Removes versions from the registry, then what they alone held. A number is never given again.

    What nothing refers to goes first: on a full disk that makes room for the rest.
    """
    loose = set(orphans(store))
    later = []
    for path in paths:
        if path in loose or not path.is_relative_to(store.root):
            _remove(path)
        else:
            later.append(path)
    if versions:
        with store.transaction() as change:
            for version in versions:
                change.remove(version.id)
    for path in later:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
