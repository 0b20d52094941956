"""What is stored on this machine, what each version was made from, and whether it is all still whole.

REF is NAME:ALIAS or NAME:vN; a bare NAME is NAME:latest. With --json the answer is JSON, for a script.
Exit code 1 where `verify` finds a problem, 2 on bad input.
"""

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from train.tracking import housekeeping, remote, tables
from train.tracking import publish as publishing
from train.tracking.command import answer
from train.tracking.declarations import check_path, declaration, declarations, reference
from train.tracking.problem import Problem
from train.tracking.records import File, Run, Version
from train.tracking.store import Store, hash_file, home

NAME = "train.tracking"
NOTHING = "nothing here yet: run make run"


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
    record = run and _record(run.id)
    data = {
        **_entry(version, run),
        "config": run and dict(run.config),
        "revision": run and run.revision,
        "seconds": run and run.seconds,
        "record": str(record) if record else None,
        "readers": [
            {
                "stage": reader.stage,
                "variant": reader.variant,
                "run": reader.id,
                "made": [made.reference for made in store.outputs(reader)],
            }
            for reader in store.readers(version)
        ],
        "files": [{"path": path, **content._asdict()} for path, content in store.files(version).items()],
    }
    return Answer(data, tables.version(data, _inputs(run)))


def lineage(store: Store, ref: str) -> Answer:
    """All that a version was made from, down to what was made from nothing."""
    root = _find(store, ref)
    nodes: dict[str, dict[str, Any]] = {}
    edges = []
    open_ = [root]
    while open_:
        version = open_.pop()
        if version.reference not in nodes:
            run = store.maker(version)
            nodes[version.reference] = _node(version, run)
            inputs = {made.reference: made for made in _inputs(run).values() if made}
            edges += [{"from": made, "to": version.reference} for made in inputs]
            open_ += inputs.values()
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
        "inputs": {asked: made and made.reference for asked, made in _inputs(run).items()},
    }


def _node(version: Version, run: Run | None) -> dict[str, Any]:
    kept = ("reference", "type", "digest", "aliases", "stage", "variant")
    return {key: value for key, value in _entry(version, run).items() if key in kept}


def _inputs(run: Run | None) -> Mapping[str, Version | None]:
    """NAME:ALIAS as asked for -> what was there."""
    return {f"{name}:{alias}": version for (name, alias), version in run.inputs.items()} if run else {}


def _record(run: str) -> Path | None:
    """The folder of W&B's own record of a run on this machine."""
    return next((home() / "wandb").glob(f"*run-*-{run}"), None)


def _find(store: Store, ref: str) -> Version:
    name, alias = reference(ref)
    found = store.find(name, alias)
    if found is None and not store.versions(name):
        raise Problem(_unmade(name))
    return found or store.get(name, alias)


def _unmade(name: str) -> str:
    return f"no version of {name} yet; run: python -m {' or '.join(declaration(name).producers)}"


# -- pull --------------------------------------------------------------------------------------------------------------


def pull(store: Store, ref: str, to: Path) -> Answer:
    """Copies the files of a version into the folder `to`: all of them, checked, or none.

    Raises Problem where a file of another content stands in the way, or a path leads out of `to`.
    """
    version = _find(store, ref)
    files = store.files(version)
    try:
        copied = _copy(store, files, to)
    except OSError as error:
        cure = "free some space" if error.errno == errno.ENOSPC else "choose another --to"
        raise Problem(f"cannot copy to {to}: {error.strerror}; {cure}") from error
    data = {"reference": version.reference, "digest": version.digest, "to": str(to), "files": list(files)}
    kept = f", {len(files) - copied} were there" if copied < len(files) else ""
    return Answer(data, [f"{version.reference}  {copied} files{kept}, {tables.size(version.size)}  ->  {to}"])


def _copy(store: Store, files: dict[str, File], to: Path) -> int:
    """The number of files written; those that are there already stay."""
    wanted = {}
    for path, content in files.items():
        target = to / check_path(path, "this version")
        if not target.resolve().is_relative_to(to.resolve()):  # through a link that stands there
            raise Problem(f"{path!r} leads out of {to}; nothing was written, choose another --to")
        if target.is_file() and hash_file(target) == content.md5:
            continue
        if os.path.lexists(target):
            raise Problem(f"{target} exists with other content; move it away or choose another --to")
        wanted[path] = content
    to.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".pull-", dir=to))
    try:
        for path, content in wanted.items():
            source = store.object(content.md5)
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not source.is_file():
                raise Problem(f"{path} is damaged: {source} is missing; remake it with FRESH=1")
            shutil.copyfile(source, target)
            if hash_file(target) != content.md5:
                raise Problem(f"{path} is damaged: {source} has other bytes than it was stored with; remake it")
        for path in wanted:
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).rename(to / path)
    finally:
        shutil.rmtree(draft)
    return len(wanted)


# -- verify and gc -----------------------------------------------------------------------------------------------------


def verify(store: Store) -> Answer:
    """Hashes every stored file again."""
    with store.in_use():
        files, versions = len(housekeeping.contents(store)), len(store.versions())
        problems = housekeeping.verify(store, _progress)
    data = {"files": files, "versions": versions, "problems": [asdict(problem) for problem in problems]}
    total = f"{files} files, {versions} versions: {tables.count(len(problems), 'problem')}"
    return Answer(data, [*map(str, problems), total], code=1 if problems else 0)


def _progress(files: Collection[File]) -> Iterator[File]:
    from tqdm import tqdm

    total = sum(content.size for content in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", leave=False, disable=None) as bar:
        for content in files:
            yield content
            bar.update(content.size)


def gc(store: Store, yes: bool, keep: int) -> Answer:
    """What nothing needs: its sizes, and with `yes` its end. keep: so many newest versions of each name stay besides."""
    with store.in_use(exclusively=True):
        superseded = housekeeping.superseded(store, keep)
        heaps = housekeeping.heaps(store, superseded)
        paths = [path for heap in heaps for path in heap.paths]
        if yes:
            housekeeping.drop(store, superseded, paths)
    data = {
        "freed": yes,
        "size": sum(heap.size for heap in heaps),
        "versions": [version.reference for version in superseded],
        "kinds": [{"kind": heap.what, "count": heap.count, "size": heap.size} for heap in heaps],
        "paths": [str(path) for path in paths],
    }
    return Answer(data, tables.heaps(data, superseded))


# -- publish -----------------------------------------------------------------------------------------------------------


def publish(store: Store, refs: Sequence[str], dry: bool) -> Answer:
    """Brings to W&B what was made here without it, or with `refs` what they were made from. Exit code 1 where some failed."""
    wanted = [_find(store, ref) for ref in refs]
    with store.in_use():
        planned = publishing.parcels(store, wanted or None)
        if dry:
            return _would_publish(store, planned)
        to = publishing.Destination.here()
        told = publishing.publish(store, to, planned, _sending)
    data = {
        "to": to.place,
        "published": [parcel.run.id for parcel in told.published],
        "there": told.present,
        "failed": {parcel.run.id: why for parcel, why in told.failed},
        "aliases": {"moved": told.moved, "not moved": told.unpointed},
    }
    lines = [f"not published: {parcel.title}: {why}" for parcel, why in told.failed]
    bare = [parcel.title for parcel in told.published if not parcel.record and parcel.run.stage != "pull"]
    lines += [f"published without curves and panels, whose record is gone from here: {title}" for title in bare]
    if told.unpointed:
        lines.append(
            f"{tables.count(told.unpointed, 'alias', 'aliases')} could not be moved; run the same command again"
        )
    total = (
        f"{len(told.published)} published, {told.present} there already, {len(told.failed)} failed,"
        f" {tables.count(told.moved, 'alias', 'aliases')} moved  ->  {to.place}"
    )
    return Answer(data, [*lines, total], code=1 if told.failed or told.unpointed else 0)


def _would_publish(store: Store, planned: Sequence[publishing.Parcel]) -> Answer:
    """Without an account everything counts as not there."""
    place, there = "", {}
    if remote.online():
        to = publishing.Destination.here()
        place, there = to.place, publishing.standing(to.api, to.path, [v for p in planned for v in p.outputs])
    left = publishing.missing(store, place, planned, there)
    images = sorted({v.reference for parcel in left for v in parcel.outputs if v.type == "dataset"})
    size = sum(parcel.size for parcel in left)
    data = {
        "to": place or None,
        "runs": [{"run": p.run.id, "makes": [v.reference for v in p.outputs], "size": p.size} for p in left],
        "size": size,
        "images": images,
    }
    lines = [f"{tables.size(parcel.size):>8}  {parcel.title}" for parcel in left]
    note = [f"images go too: {', '.join(images)}"] if images else []
    count = f"would publish {tables.count(len(left), 'run')}, {tables.size(size)}, and their records"
    return Answer(data, [*lines, *note, f"{count}  ->  {place or 'your W&B project'}"])


def _sending(parcels: Sequence[publishing.Parcel]) -> Iterator[publishing.Parcel]:
    from tqdm import tqdm

    with tqdm(parcels, unit="run", desc="publish") as bar:
        for parcel in bar:
            bar.set_postfix_str(parcel.title)
            yield parcel


# -- the command line --------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message}; see python -m {NAME} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=f"python -m {NAME}", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    command("ls", "versions, sizes, ages, aliases, what made them from what").add_argument(
        "name", nargs="?", metavar="NAME", help="one artifact only"
    )
    for name, summary in (
        ("show", "everything about one version: files, digests, config, code, inputs, readers"),
        ("lineage", "all that a version was made from, down to the images"),
        ("pull", "copy the files of a version into a folder"),
    ):
        added = command(name, summary)
        added.add_argument("ref", metavar="REF", help="NAME:ALIAS, NAME:vN or NAME")
        if name == "pull":
            added.add_argument("--to", metavar="DIR", type=Path, required=True, help="the folder to copy into")
    added = command("publish", "bring what was made here to W&B, with its lineage; what is there already stays")
    added.add_argument("refs", metavar="REF", nargs="*", help="only these and what they were made from")
    added.add_argument(
        "--dry-run", action="store_true", help="say what would go, how many bytes, and whether images do"
    )
    command("verify", "hash every stored file again; exit code 1 where one is damaged")
    added = command("gc", "what nothing needs any more, and its size")
    added.add_argument("--yes", action="store_true", help="remove it")
    added.add_argument(
        "--keep",
        metavar="N",
        type=int,
        default=0,
        help="keep the N newest versions of each artifact, and what they were made from, though no alias names them",
    )
    return parser


def _ask(arguments: argparse.Namespace) -> Answer:
    refs = getattr(arguments, "refs", None) or [ref for ref in [getattr(arguments, "ref", None)] if ref is not None]
    for asked in refs or [name for name in [getattr(arguments, "name", None)] if name is not None]:
        reference(asked)
    if getattr(arguments, "keep", 0) < 0:
        raise Problem(f"--keep {arguments.keep} is not at least 0")
    if not (home() / "store" / "registry.sqlite").exists():  # looking must not make a store
        if refs or arguments.command == "publish":
            raise Problem(NOTHING)
        empty = {"ls": [], "verify": {"files": 0, "versions": 0, "problems": []}}
        return Answer(empty.get(arguments.command, {"freed": False, "size": 0, "versions": []}), [NOTHING])
    with closing(Store()) as store:
        match arguments.command:
            case "ls":
                return ls(store, arguments.name)
            case "show":
                return show(store, arguments.ref)
            case "lineage":
                return lineage(store, arguments.ref)
            case "pull":
                with store.in_use():
                    return pull(store, arguments.ref, arguments.to)
            case "publish":
                return publish(store, arguments.refs, arguments.dry_run)
            case "verify":
                return verify(store)
            case _:
                return gc(store, arguments.yes, arguments.keep)


def main(flags: Iterable[str]) -> None:
    arguments = _parser().parse_args(list(flags))
    told = _ask(arguments)
    print(json.dumps(told.data, indent=1) if arguments.json else "\n".join(told.lines))
    if told.code:
        sys.exit(told.code)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    answer(NAME, lambda: main(sys.argv[1:]))
