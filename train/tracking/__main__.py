"""What is stored on this machine, what each version was made from, and whether it is all still whole.

REF is NAME:ALIAS or NAME:vN; a bare NAME is NAME:latest. With --json the answer is JSON, for a script.
Exit code 1 where `verify` finds a problem, 2 on bad input.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from train.tracking.command import answer
from train.tracking.declarations import declaration, declarations, listing, reference
from train.tracking.problem import Problem
from train.tracking.store import File, Run, Store, Version, hash_file, home

NAME = "train.tracking"
NOTHING = "nothing here yet: run make run"


@dataclass(frozen=True)
class Answer:
    """data: what --json prints. lines: the same for a person."""

    data: Any
    lines: Sequence[str]
    code: int = 0


# -- ls and show -------------------------------------------------------------------------------------------------------


def ls(store: Store, name: str | None) -> Answer:
    """Every version, or those of one artifact, in the order of the data flow."""
    order = list(declarations())
    versions = store.versions(name)
    if name and not versions:
        return Answer([], [_unmade(name)])
    versions.sort(key=lambda version: order.index(version.name) if version.name in order else len(order))
    entries = [_entry(store, version) for version in versions]
    rows = [
        [entry["reference"], _size(entry["size"]), _age(entry["created"]), _made_by(entry), _from(entry),
         ", ".join(entry["aliases"]) or "-"]
        for entry in entries
    ]  # fmt: skip
    return Answer(entries, _table(["VERSION", "SIZE", "AGE", "MADE BY", "FROM", "ALIASES"], rows, right={1, 2}))


def show(store: Store, ref: str) -> Answer:
    """Everything that is known of one version."""
    version = _find(store, ref)
    run = store.maker(version)
    files = store.files(version)
    readers = store.readers(version)
    data = {
        **_entry(store, version),
        "config": run and dict(run.config),
        "revision": run and run.revision,
        "seconds": run and run.seconds,
        "record": str(_record(run.id) or "") or None if run else None,
        "readers": [
            {"stage": reader.stage, "variant": reader.variant, "run": reader.id, "made": _references(store, reader)}
            for reader in readers
        ],
        "files": [{"path": path, "md5": content.md5, "size": content.size} for path, content in files.items()],
    }
    made = datetime.fromtimestamp(version.created).isoformat(" ", "seconds")
    facts = {
        "type": version.type,
        "aliases": ", ".join(version.aliases) or "none: superseded",
        "digest": version.digest,
        "size": f"{_size(version.size)} in {len(files)} files",
        "made": f"{made}, {_age(version.created)} ago",
    }
    if run:
        facts |= {
            "by": f"{_made_by(data)}, in {run.seconds:.1f} s",
            "code": run.revision,
            "run": f"{run.id}  {data['record'] or ''}".strip(),
            "config": " ".join(f"{key}={value}" for key, value in run.config.items()) or "-",
        }
    lines = [version.reference, *(f"  {key:<8} {value}" for key, value in facts.items()), "", "Made from"]
    inputs = [
        [asked, entry.reference, entry.digest] if entry else [asked, "was not there", "-"]
        for asked, entry in ((f"{name}:{alias}", entry) for (name, alias), entry in (run.inputs if run else {}).items())
    ]
    lines += _table(["ASKED FOR", "VERSION", "DIGEST"], inputs) if inputs else ["  nothing"]
    read = [[f"{reader.stage} {reader.variant or ''}".strip(), reader.id] for reader in readers]
    made_of = [", ".join(_references(store, reader)) or "-" for reader in readers]
    lines += ["", "Read by"]
    lines += _table(["STAGE", "RUN", "MADE"], [[*a, b] for a, b in zip(read, made_of, strict=True)]) or ["  nothing"]
    rows = [[path, _size(content.size), content.md5] for path, content in files.items()]
    return Answer(data, [*lines, "", "Files", *_table(["PATH", "SIZE", "MD5"], rows, right={1})])


def _entry(store: Store, version: Version) -> dict[str, Any]:
    run = store.maker(version)
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
        "inputs": {
            f"{name}:{alias}": made and made.reference for (name, alias), made in (run.inputs if run else {}).items()
        },
    }


def _references(store: Store, run: Run) -> list[str]:
    return [version.reference for version in store.outputs(run)]


def _record(run: str) -> Path | None:
    """The folder of W&B's own record of a run on this machine."""
    return next((home() / "wandb").glob(f"*run-*-{run}"), None)


def _made_by(entry: dict[str, Any]) -> str:
    return " ".join(filter(None, (entry["stage"], entry["variant"]))) or "-"


def _from(entry: dict[str, Any]) -> str:
    made = {reference for reference in entry["inputs"].values() if reference}
    return listing(made, most=3) if made else "-"


def _find(store: Store, ref: str) -> Version:
    name, alias = reference(ref)
    if not store.versions(name):
        raise Problem(_unmade(name))
    return store.get(name, alias)


def _unmade(name: str) -> str:
    return f"no version of {name} yet; run: python -m {' or '.join(declaration(name).producers)}"


# -- lineage -----------------------------------------------------------------------------------------------------------


def lineage(store: Store, ref: str) -> Answer:
    """All that a version was made from, down to what was made from nothing."""
    root = _find(store, ref)
    found: dict[int, tuple[Version, Run | None, list[Version]]] = {}
    open_ = [root]
    while open_:
        version = open_.pop()
        if version.id not in found:
            run = store.maker(version)
            inputs = list({made.id: made for made in (run.inputs.values() if run else ()) if made}.values())
            found[version.id] = (version, run, inputs)
            open_ += inputs
    nodes = [
        {
            "reference": version.reference,
            "type": version.type,
            "digest": version.digest,
            "aliases": list(version.aliases),
            "stage": run and run.stage,
            "variant": run and run.variant,
        }
        for version, run, _ in found.values()
    ]
    edges = [
        {"from": made.reference, "to": version.reference} for version, _, inputs in found.values() for made in inputs
    ]
    printed: set[int] = set()
    rows: list[list[str]] = []

    def grow(version: Version, stem: str, branch: str) -> None:
        """stem: what stands before the branches of `version`; branch: what joins it to its own stem."""
        _, run, inputs = found[version.id]
        again = version.id in printed
        made_by = f"{run.stage} {run.variant or ''}".strip() if run else "-"
        rows.append(
            [f"{branch}{version.reference}", version.digest]
            + (["(above)", ""] if again else [made_by, ", ".join(version.aliases) or "-"])
        )
        if not again:
            printed.add(version.id)
            for i, made in enumerate(inputs):
                last = i == len(inputs) - 1
                grow(made, stem + ("   " if last else "│  "), stem + ("└─ " if last else "├─ "))

    grow(root, "", "")
    table = _table(["VERSION", "DIGEST", "MADE BY", "ALIASES"], rows)
    return Answer({"root": root.reference, "nodes": nodes, "edges": edges}, table)


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
        raise Problem(f"cannot write {error.filename or to}: {error.strerror}; choose another --to") from error
    data = {"reference": version.reference, "digest": version.digest, "to": str(to), "files": list(files)}
    kept = f", {len(files) - copied} were there" if copied < len(files) else ""
    return Answer(data, [f"{version.reference}  {copied} files{kept}, {_size(version.size)}  ->  {to}"])


def _copy(store: Store, files: dict[str, File], to: Path) -> int:
    """The number of files written; those that are there already stay."""
    wanted = {}
    for path, content in files.items():
        target = to / path
        if PurePosixPath(path).is_absolute() or not target.resolve().is_relative_to(to.resolve()):
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


# -- verify ------------------------------------------------------------------------------------------------------------


def verify(store: Store) -> Answer:
    """Hashes every stored file again."""
    with store.in_use():
        files, versions = len(store.contents()), len(store.versions())
        problems = store.verify(_progress)
    data = {"files": files, "versions": versions, "problems": [asdict(problem) for problem in problems]}
    total = f"{files} files, {versions} versions: {_count(len(problems), 'problem')}"
    return Answer(data, [*map(str, problems), total], code=1 if problems else 0)


def _progress(files: Collection[File]) -> Iterator[File]:
    from tqdm import tqdm

    total = sum(content.size for content in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", leave=False, disable=None) as bar:
        for content in files:
            yield content
            bar.update(content.size)


# -- gc ----------------------------------------------------------------------------------------------------------------


@dataclass
class Heap:
    """Things of one kind that can go."""

    what: str
    paths: list[Path]
    versions: list[Version] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(_disk(path) for path in self.paths)


def gc(store: Store, yes: bool) -> Answer:
    """What nothing needs: its sizes, and with `yes` its end."""
    with store.in_use(exclusively=True):
        superseded = store.superseded()
        loose = store.orphans()
        known = set(loose)
        with_them = [path for path in store.orphans(superseded) if path not in known]
        heaps = [
            Heap("superseded versions", with_them, superseded),
            Heap("files of no version", [path for path in loose if path.is_relative_to(store.objects)]),
            Heap("folders of no version", [path for path in loose if path.is_relative_to(store.folders)]),
            Heap("left by killed runs", [path for path in loose if path.is_relative_to(store.scratch)]),
            Heap("left by W&B", _staged()),
        ]
        paths = [path for heap in heaps for path in heap.paths]
        counts = {heap.what: len(heap.versions or heap.paths) for heap in heaps}
        sizes = {heap.what: heap.size for heap in heaps}
        if yes:
            store.drop(superseded, paths)
    size = sum(sizes.values())
    data = {
        "freed": yes,
        "size": size,
        "versions": [version.reference for version in superseded],
        "kinds": [{"kind": heap.what, "count": counts[heap.what], "size": sizes[heap.what]} for heap in heaps],
        "paths": [str(path) for path in paths],
    }
    if not any(counts.values()):
        return Answer(data, ["nothing to free"])
    rows = [[heap.what, str(counts[heap.what]), _size(sizes[heap.what])] for heap in heaps if counts[heap.what]]
    names = [f"  {version.reference}, {_age(version.created)} old" for version in superseded]
    table = _table(["WHAT", "COUNT", "SIZE"], rows, right={1, 2})
    total = f"{_size(size)}: {_count(len(superseded), 'version')}, {_count(len(paths), 'file or folder')}"
    lines = [*table[:2], *names, *table[2:]] if names else table
    return Answer(data, [*lines, f"freed {total}" if yes else f"would free {total}; --yes does it"])


def _staged() -> list[Path]:
    """Copies that wandb staged for upload and that no run on this machine refers to."""
    staging = home() / "wandb" / "data" / "artifacts" / "staging"
    staged = {path.name: path for path in sorted(staging.glob("tmp*")) if re.fullmatch(STAGED, path.name)}
    if staged:
        for record in (home() / "wandb").glob("*run-*/*.wandb"):
            for name in re.findall(f"staging/({STAGED})".encode(), _payload(record.read_bytes())):
                staged.pop(name.decode(), None)
    return list(staged.values())


STAGED = "tmp[a-z0-9_]{8}"  # tempfile's names
BLOCK = 32768


def _payload(log: bytes) -> bytes:
    """The content of a .wandb file without its framing: LevelDB's log format (blocks of 32 KiB; before each piece a
    checksum of 4 bytes, its length in 2, its kind in 1), after a header of 7 bytes."""
    pieces = []
    at = 7
    while at + 7 <= len(log):
        room = BLOCK - at % BLOCK
        if room < 7:  # the rest of a block is padding
            at += room
            continue
        length = int.from_bytes(log[at + 4 : at + 6], "little")
        pieces.append(log[at + 7 : at + 7 + length])
        at += 7 + length
    return b"".join(pieces)


def _disk(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(each.lstat().st_size for each in inside if each.is_symlink() or each.is_file())


# -- text --------------------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _age(created: float) -> str:
    seconds = max(0.0, time.time() - created)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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
    command("verify", "hash every stored file again; exit code 1 where one is damaged")
    command("gc", "what nothing needs any more, and its size").add_argument(
        "--yes", action="store_true", help="remove it"
    )
    return parser


def _ask(arguments: argparse.Namespace) -> Answer:
    if getattr(arguments, "ref", None):
        reference(arguments.ref)
    if arguments.command == "ls" and arguments.name:
        reference(arguments.name)
    if not (home() / "store" / "registry.sqlite").exists():  # looking must not make a store
        if getattr(arguments, "ref", None):
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
            case "verify":
                return verify(store)
            case _:
                return gc(store, arguments.yes)


def main(flags: Iterable[str]) -> None:
    arguments = _parser().parse_args(list(flags))
    told = _ask(arguments)
    print(json.dumps(told.data, indent=1) if arguments.json else "\n".join(told.lines))
    if told.code:
        sys.exit(told.code)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    answer(NAME, lambda: main(sys.argv[1:]))
