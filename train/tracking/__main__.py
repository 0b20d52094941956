"""Shows what is stored on this machine, what each version was made from, and whether its files are intact.

It also publishes versions to W&B, frees the space of those that nothing needs, and makes a damaged registry anew.

REF is NAME:ALIAS or NAME:vN; a bare NAME is NAME:latest. With --json the answer is JSON, for a script.
Exit code 1 where `verify` finds a problem or `publish` cannot send a run or its record, 2 on bad input.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from train.tracking import environment
from train.tracking.cli.answers import Answer, copy_files, gc, lineage, ls, publish_runs, rebuild, show, verify
from train.tracking.command import answer
from train.tracking.declarations import reference
from train.tracking.problem import Problem, one_line
from train.tracking.store import Store, home
from train.tracking.store.registry import remains

NAME = "train.tracking"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message}; see python -m {NAME} --help")


def _folder(text: str) -> Path:
    """`~` is written out here, since a shell leaves it alone in --to=~/DIR."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {one_line(error)}") from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=f"python -m {NAME}", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=summary, description=summary)
        parser.add_argument("--json", action="store_true", help="print JSON")
        return parser

    command("ls", "list the versions: size, age, aliases, the stage that made them and its inputs").add_argument(
        "name", nargs="?", metavar="NAME", help="only the versions of this artifact"
    )
    for name, summary in (
        (
            "show",
            "show one version: what it found, its numbers, files, digests, configuration, code revision, inputs, readers",
        ),
        ("lineage", "show everything that a version was made from, down to the images"),
        ("pull", "copy the files of a version into a folder"),
    ):
        subparser = command(name, summary)
        subparser.add_argument("ref", metavar="REF", help="NAME:ALIAS, NAME:vN or NAME")
        if name == "pull":
            subparser.add_argument("--to", metavar="DIR", type=_folder, required=True, help="folder to copy into")
    publish = command(
        "publish", "send what was made here to W&B, with its lineage; what is there already is not sent again"
    )
    publish.add_argument("refs", metavar="REF", nargs="*", help="send only these versions and what they were made from")
    publish.add_argument(
        "--dry-run", action="store_true", help="show what would be sent, its size, and whether images are in it"
    )
    publish.add_argument("--registry", metavar="NAME", help="link the encoders among them to this registry of W&B's")
    command("verify", "hash every stored file again, and name the damaged ones with what they break")
    command("rebuild", "make the registry anew where it is damaged or missing; removes no file")
    gc_ = command("gc", "show what nothing needs any more, and its size; --yes removes it")
    gc_.add_argument("--yes", action="store_true", help="remove it")
    gc_.add_argument(
        "--keep",
        metavar="N",
        type=int,
        default=0,
        help="keep the N newest versions of each artifact and what they were made from, even without an alias",
    )
    return parser


def _answer(arguments: argparse.Namespace) -> Answer:
    environment.check()
    refs = getattr(arguments, "refs", None) or [ref for ref in [getattr(arguments, "ref", None)] if ref is not None]
    for text in refs or [name for name in [getattr(arguments, "name", None)] if name is not None]:
        reference(text)
    if getattr(arguments, "keep", 0) < 0:
        raise Problem(f"--keep {arguments.keep} is below 0; give 0 or more")
    root = home() / "store"
    if not (root / "registry.sqlite").exists() and not remains(root):  # looking must not make a store
        nothing = f"nothing is stored in {home()} yet; run make run, or set PEEL_HOME to another folder"
        if refs or arguments.command == "publish":
            raise Problem(nothing)
        empty = {"ls": [], "verify": {"files": 0, "versions": 0, "problems": []}, "rebuild": {"rebuilt": False}}
        return Answer(empty.get(arguments.command, {"freed": False, "size": 0, "versions": []}), [nothing])
    if arguments.command == "verify":
        return verify(root)
    if arguments.command == "rebuild":
        return rebuild(root)
    with closing(Store(root)) as store:
        match arguments.command:
            case "ls":
                return ls(store, arguments.name)
            case "show":
                return show(store, arguments.ref)
            case "lineage":
                return lineage(store, arguments.ref)
            case "pull":
                with store.in_use():
                    return copy_files(store, arguments.ref, arguments.to)
            case "publish":
                return publish_runs(store, arguments.refs, arguments.dry_run, arguments.registry)
            case _:
                return gc(store, arguments.yes, arguments.keep)


def main(flags: Iterable[str]) -> None:
    arguments = _parser().parse_args(list(flags))
    response = _answer(arguments)
    print(json.dumps(response.data, indent=1) if arguments.json else "\n".join(response.lines))
    if response.code:
        sys.exit(response.code)


if __name__ == "__main__":
    answer(NAME, lambda: main(sys.argv[1:]))
