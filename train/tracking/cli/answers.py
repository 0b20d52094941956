"""What the command line answers about a store: every command returns an `Answer`."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.tracking import remote, traces, upload
from train.tracking.cli import tables
from train.tracking.contents import read_json
from train.tracking.declarations import check_path, check_registry, declaration, declarations, reference
from train.tracking.problem import CURES, ELSEWHERE, Problem
from train.tracking.progress import Progress
from train.tracking.store import Store, hash_file, housekeeping
from train.tracking.store.rebuild import FOLDERS
from train.tracking.store.rebuild import rebuild as rebuild_registry
from train.tracking.store.records import File, Run, Version
from train.tracking.store.registry import Damaged
from train.tracking.store.store import CHANGED


@dataclass(frozen=True)
class Answer:
    """data: what --json prints. lines: the same for a person."""

    data: Any
    lines: Sequence[str]
    code: int = 0


# -- ls, show and lineage ----------------------------------------------------------------------------------------------


def ls(store: Store, name: str | None) -> Answer:
    """Every version, or those of one artifact, in the order of the data flow."""
    order = list(declarations())
    versions = store.versions(name)
    if name and not versions:
        return Answer([], [_unmade(name)])
    versions.sort(key=lambda version: order.index(version.name) if version.name in order else len(order))
    entries = [_entry(version, store.maker(version)) for version in versions]
    return Answer(entries, tables.versions(entries))


def show(store: Store, ref: str) -> Answer:
    """Everything that is known of one version."""
    version = _find(store, ref)
    run = store.maker(version)
    record = run and traces.record(run.id)
    data = {
        **_entry(version, run),
        "config": run and dict(run.config),
        "revision": run and run.revision,
        "seconds": run and run.seconds,
        "record": str(record) if record else None,
        "finding": traces.notes(record / f"run-{run.id}.wandb") if run and record else None,
        "numbers": _numbers(store, version),
        "readers": [
            {
                "stage": reader.stage,
                "variant": reader.variant,
                "run": reader.id,
                "made": [output.reference for output in store.outputs(reader)],
            }
            for reader in store.readers(version)
        ],
        "files": [{"path": path, **content._asdict()} for path, content in store.files(version).items()],
    }
    return Answer(data, tables.version(data, _inputs(run)))


def _numbers(store: Store, version: Version) -> dict[str, Any]:
    """What a scores artifact has measured, by path; nothing of other artifacts, or where the file is damaged."""
    content = store.files(version).get("scores.json")
    with contextlib.suppress(OSError, ValueError):
        return read_json(store.object(content.md5), dict[str, Any]) if content else {}
    return {}


def lineage(store: Store, ref: str) -> Answer:
    """All that a version was made from, down to what was made from nothing."""
    root = _find(store, ref)
    nodes: dict[str, dict[str, Any]] = {}
    edges = []
    stack = [root]
    while stack:
        version = stack.pop()
        if version.reference not in nodes:
            run = store.maker(version)
            nodes[version.reference] = _node(version, run)
            inputs = {source.reference: source for source in _inputs(run).values() if source}
            edges += [{"from": source, "to": version.reference} for source in inputs]
            stack += inputs.values()
    graph = {"root": root.reference, "nodes": list(nodes.values()), "edges": edges}
    return Answer(graph, tables.tree(graph))


def _entry(version: Version, run: Run | None) -> dict[str, Any]:
    """A version and the run that made it, as --json tells them."""
    return {
        "reference": version.reference,
        "type": version.type,
        "digest": version.digest,
        "aliases": list(version.aliases),
        "size": version.size,
        "created": version.created,
        "stage": run and run.stage,
        "variant": run and run.variant,
        "run": run and run.id,
        "inputs": {request: source and source.reference for request, source in _inputs(run).items()},
    }


def _node(version: Version, run: Run | None) -> dict[str, Any]:
    keys = ("reference", "type", "digest", "aliases", "stage", "variant")
    return {key: value for key, value in _entry(version, run).items() if key in keys}


def _inputs(run: Run | None) -> Mapping[str, Version | None]:
    """NAME:ALIAS as asked for -> what was there."""
    return {f"{name}:{alias}": version for (name, alias), version in run.inputs.items()} if run else {}


def _find(store: Store, ref: str) -> Version:
    name, alias = reference(ref)
    version = store.find(name, alias)
    if version is None and not store.versions(name):
        raise Problem(_unmade(name))
    return version or store.get(name, alias)


def _unmade(name: str) -> str:
    return f"no version of {name} yet; run: python -m {' or '.join(declaration(name).producers)}"


# -- pull --------------------------------------------------------------------------------------------------------------


def copy_files(store: Store, ref: str, to: Path) -> Answer:
    """Copies the files of a version into the folder `to`: all of them, checked, or none.

    Raises Problem where a file of another content stands in the way, or a path leads out of `to`.
    """
    version = _find(store, ref)
    files = store.files(version)
    try:
        count = _copy(store, version, files, to)
    except OSError as error:
        if error.errno in CURES.keys() - ELSEWHERE:
            raise
        raise Problem(f"cannot copy to {to}: {error.strerror}; choose another --to") from error
    data = {"reference": version.reference, "digest": version.digest, "to": str(to), "files": list(files)}
    rest = f", {len(files) - count} already there" if count < len(files) else ""
    return Answer(
        data, [f"{version.reference}  {tables.count(count, 'file')}{rest}, {tables.size(version.size)}  ->  {to}"]
    )


def _copy(store: Store, version: Version, files: dict[str, File], to: Path) -> int:
    """The number of files written; those that are there already stay."""
    absent = {}
    for path, content in files.items():
        target = to / check_path(path, version.reference)
        if not target.resolve().is_relative_to(to.resolve()):  # through a link that stands there
            raise Problem(f"{path!r} leads out of {to}; choose another --to (nothing was written)")
        if target.is_file() and hash_file(target) == content.md5:
            continue
        if os.path.lexists(target):
            raise Problem(f"{target} exists with other content; move it away, or choose another --to")
        absent[path] = content
    to.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".pull-", dir=to))
    try:
        for path, content in absent.items():
            source = store.object(content.md5)
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not source.is_file():
                raise store.damage_problem(version, path, content, "is missing")
            shutil.copyfile(source, target)
            if hash_file(target) != content.md5:
                raise store.damage_problem(version, path, content, CHANGED)
        for path in absent:
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).rename(to / path)
    finally:
        shutil.rmtree(draft)
    return len(absent)


# -- verify and gc -----------------------------------------------------------------------------------------------------


def verify(root: Path) -> Answer:
    """Compares the registry of the store at `root` with its journal, and hashes every stored file again."""
    try:
        with contextlib.closing(Store(root)) as store, store.in_use():
            files, versions = len(housekeeping.contents(store)), len(store.versions())
            problems = housekeeping.verify(store, _hashing_progress)
    except Damaged as damage:  # no file can be told from another
        files, versions, problems = 0, 0, [housekeeping.Damage(str(damage), (), ())]
    data = {"files": files, "versions": versions, "problems": [asdict(problem) for problem in problems]}
    counts = f"{tables.count(files, 'file')}, {tables.count(versions, 'version')}"
    total = f"{counts}: {tables.count(len(problems), 'problem')}"
    return Answer(data, [*map(str, problems), total], code=1 if problems else 0)


def _hashing_progress(files: Collection[File]) -> Iterator[File]:
    total = sum(content.size for content in files) / 1e6
    with Progress("verify", "MB", total, leave=False) as progress:
        for content in files:
            yield content
            progress.update(content.size / 1e6)


def gc(store: Store, yes: bool, keep: int) -> Answer:
    """What nothing needs: its sizes, and with `yes` its end. keep: so many newest versions of each name stay besides."""
    with store.in_use(exclusively=True):
        housekeeping.check(store)
        superseded = housekeeping.superseded(store, keep)
        garbage = housekeeping.garbage(store, superseded)
        paths = [path for part in garbage for path in part.paths]
        if yes:
            housekeeping.drop(store, superseded, paths)
    data = {
        "freed": yes,
        "size": sum(part.size for part in garbage),
        "versions": [version.reference for version in superseded],
        "kinds": [{"kind": part.kind, "count": part.count, "size": part.size} for part in garbage],
        "paths": [str(path) for path in paths],
    }
    return Answer(data, tables.garbage(data, superseded))


def rebuild(root: Path) -> Answer:
    """Makes the registry of the store at `root` anew where it is damaged or missing."""
    result = rebuild_registry(root)
    if result is None:
        return Answer({"rebuilt": False}, ["the registry agrees with its journal; nothing was changed"])
    data = {"rebuilt": True, **asdict(result), "aside": str(result.aside)}
    counts = f"{tables.count(result.versions, 'version')} of {tables.count(result.runs, 'run')}"
    lines = [result.reason, f"made anew from {result.source}: {counts}; what was there before is in {result.aside}"]
    if result.source == FOLDERS:
        lines.append("other aliases and optional inputs are lost; gc frees none of these versions (alias rebuilt-vN)")
    if result.unclaimed:
        lines.append(f"with it {tables.count(result.unclaimed, 'stored file')} of no version")
    return Answer(data, lines)


# -- publish -----------------------------------------------------------------------------------------------------------


def publish_runs(store: Store, refs: Sequence[str], dry: bool, registry: str | None = None) -> Answer:
    """Brings to W&B what was made here without it, or with `refs` what they were made from. Exit code 1 where some failed.
    registry: where encoders are linked; those that `refs` name, or all."""
    if registry is not None:
        check_registry(registry)
    targets = [_find(store, ref) for ref in refs]
    with store.in_use():
        plan = upload.uploads(store, targets or None)
        if dry:
            return _dry_run(store, plan)
        project = upload.Project.of_account()
        result = upload.upload_all(store, project, plan, _upload_progress)
        links = upload.link_all(store, project, targets or [v for entry in plan for v in entry.outputs], registry)
    data = {
        "to": project.place,
        "published": [success.run.id for success in result.successes],
        "there": result.present,
        "failed": {failure.run.id: reason for failure, reason in result.failures},
        "incomplete": [entry.run.id for entry in result.incomplete],
        "aliases": {"moved": result.moves, "not moved": result.failed_moves},
        "linked": links,
    }
    lines = [f"not published: {failure.title}: {reason}" for failure, reason in result.failures]
    lines += [
        f"incomplete: {entry.title}: its curves and panels are missing; put the folder *run-*-{entry.run.id}, W&B's record"
        f" of it, into {traces.places()[0]} and run the same command again"
        for entry in result.incomplete
    ]
    if result.failed_moves:
        lines.append(
            f"{tables.count(result.failed_moves, 'alias', 'aliases')} could not be moved; run the same command again"
        )
    total = (
        f"{len(result.successes)} published, {result.present} there already, {len(result.failures)} failed,"
        + (f" {len(result.incomplete)} incomplete," if result.incomplete else "")
        + f" {tables.count(result.moves, 'alias', 'aliases')} moved"
        + (f", {tables.count(len(links), 'encoder')} linked to {registry}" if registry else "")
        + f"  ->  {project.place}"
    )
    return Answer(data, [*lines, total], code=1 if result.failures or result.incomplete or result.failed_moves else 0)


def _dry_run(store: Store, plan: Sequence[upload.Upload]) -> Answer:
    """Without an account everything counts as not there."""
    place, artifacts = "", {}
    if remote.online():
        project = upload.Project.of_account()
        outputs = [version for entry in plan for version in entry.outputs]
        place, artifacts = project.place, upload.remote_artifacts(project.api, project.path, outputs)
    rest = upload.pending(store, place, plan, artifacts)
    images = sorted({v.reference for entry in rest for v in entry.outputs if v.type == "dataset"})
    size = sum(entry.size for entry in rest)
    data = {
        "to": place or None,
        "runs": [{"run": e.run.id, "makes": [v.reference for v in e.outputs], "size": e.size} for e in rest],
        "size": size,
        "images": images,
    }
    lines = [f"{tables.size(entry.size):>8}  {entry.title}" for entry in rest]
    note = [f"images are sent too: {', '.join(images)}"] if images else []
    count = f"would send {tables.count(len(rest), 'run')}, {tables.size(size)}, and their records"
    return Answer(data, [*lines, *note, f"{count}  ->  {place or 'your W&B project'}"])


def _upload_progress(uploads: Sequence[upload.Upload]) -> Iterator[upload.Upload]:
    with Progress("publish", "run", len(uploads)) as progress:
        for entry in uploads:
            progress.note(entry.title)
            yield entry
            progress.update()
