"""artifacts.yaml: every artifact's name, type, producers, consumers and aliases, and the command that makes it, declared once."""

import difflib
import re
import string
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from train.tracking.problem import Problem, one_line

FILE = Path(__file__).parents[2] / "artifacts.yaml"

# What W&B takes for artifact names, made stricter: no blanks, so that a reference can stand in a command line.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

NUMBER = re.compile(r"v(\d{1,18})", re.ASCII)  # `v3` names the fourth version

LONGEST = 128  # characters of a name or an alias
# What stands beside a name in the longest aliases that later stages make of it, in characters: another set's name (as
# fashion-mnist), and what a method adds to that of its set (as -vicreg-exercise-neighbors).
ROOM = {"anomalies": 13, "images": 13, "study": 13, "sweep": 13, "seed": 3, "method": 30}

REGISTERED = "encoder"  # the artifact that --registry links

ALIAS_FIELDS = ("dataset", "variant", "seed", "images", "anomalies", "sweep", "study")
ALL = "*"  # the pattern of all paths
COMMAND_FIELDS = ("variant", "anomalies")


@dataclass(frozen=True)
class Declaration:
    """An entry of artifacts.yaml, which says what each key means."""

    name: str
    type: str
    holds: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    aliases: tuple[str, ...]
    command: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    absent: str | None = None

    def aliases_for(self, fields: Mapping[str, object]) -> list[str]:
        """The aliases under which a version with these `fields` is published, without `latest`.

        A template applies when its fields are those of `fields` that are not None, `seed` aside; a template without `seed`
        only for seed 0 or none. Raises Problem where an alias comes out as one that W&B gives by itself.
        """
        names = {field for field, value in fields.items() if value is not None} - {"seed"}
        seed = fields.get("seed")
        aliases = []
        for template in self.aliases:
            needed = fields_of(template)
            if needed - {"seed"} == names and (seed is not None if "seed" in needed else not seed):
                aliases.append(check_alias(template.format(**fields)))
        if not aliases:
            raise ValueError(f"no alias template of {self.name} in {FILE.name} takes the fields {sorted(names)}")
        return aliases

    def needs_labels(self, path: str | None = None) -> bool:
        """Whether what stands at `path`, or all of it, is there only of images with labels."""
        return any(pattern == ALL or (path is not None and fnmatchcase(path, pattern)) for pattern in self.labels)

    @property
    def fields(self) -> set[str]:
        """Those that its aliases are made of."""
        return {field for template in self.aliases for field in fields_of(template)}


def fields_of(template: str) -> set[str]:
    """The names in braces. Raises ValueError where a brace is not closed."""
    return {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}


@cache
def declarations() -> dict[str, Declaration]:
    """Every declared artifact by name, in the order made."""
    if not FILE.exists():
        raise Problem(f"{FILE} is missing; install Peel from its checkout with: pip install -e .")
    return read(FILE.read_text())


def read(text: str) -> dict[str, Declaration]:
    """The entries of an artifacts file, by name. Raises Problem with the entry and the key where one is wrong."""
    import pydantic  # late: it takes longer than all else that `python -m train.tracking` needs

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Problem(f"{FILE.name} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise Problem(
            f"{FILE.name} has no entries; write NAME: and below it type, holds, producers, consumers, aliases"
        )
    adapter = pydantic.TypeAdapter(Declaration)
    entries = {}
    for name, entry in content.items():
        if not isinstance(entry, dict):
            raise _wrong(name, "", f"{entry!r} is no entry", "give it type, holds, producers, consumers and aliases")
        _check_keys(name, entry)
        try:
            entries[str(name)] = adapter.validate_python({**_listed(entry), "name": str(name)})
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            what = f"{first['input']!r}: {first['msg'].lower()}" if first["type"] != "missing" else "is missing"
            raise _wrong(name, str(first["loc"][0]), what, f"see the head of {FILE.name}") from error
    for name, declared in entries.items():
        _check(name, declared, entries)
    return entries


def _listed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A single command may stand without a list around it, and `true` for the labels of all."""
    command, labels = entry.get("command", []), entry.get("labels", [])
    return {
        **entry,
        "command": [command] if isinstance(command, str) else command,
        "labels": [ALL] if labels is True else labels,
    }


def _check_keys(name: object, entry: Mapping[Any, Any]) -> None:
    keys = [key for key in Declaration.__dataclass_fields__ if key != "name"]
    for key in entry:
        if key not in keys:
            likely = difflib.get_close_matches(str(key), keys, n=1) or [listing(keys)]
            raise _wrong(name, str(key), "there is no such key", f"did you mean {likely[0]}?")


def _check(name: str, declared: Declaration, entries: Mapping[str, Declaration]) -> None:
    """Raises Problem where an entry names a stage or an artifact that there is not, or has a template that cannot be filled."""
    if not NAME.fullmatch(name):
        raise _wrong(name, "", "this is no name of an artifact", "use letters, digits, '.', '_' and '-'")
    stages = [("producers", stage) for stage in declared.producers]
    stages += [("consumers", stage) for stage in declared.consumers]
    stages += [("command", (line.split() or [line])[0]) for line in declared.command]
    for key, stage in stages:
        if not re.fullmatch(r"\w+(\.\w+)+", stage) or not (FILE.parent / f"{stage.replace('.', '/')}.py").is_file():
            raise _wrong(name, key, f"{stage!r} is no stage", "give the path of a module, such as eval.probe")
    if declared.command and (last := declared.command[-1].split()[0]) not in declared.producers:
        raise _wrong(name, "command", f"{last} does not make it", "end with one of its producers")
    for key, templates, known in (
        ("aliases", declared.aliases, ALIAS_FIELDS),
        ("command", declared.command, COMMAND_FIELDS),
    ):
        for template in templates:
            try:
                unknown = fields_of(template) - {*known, ""}
                example = template.format(**dict.fromkeys([*known, *unknown], "0"))
            except (ValueError, IndexError, KeyError) as error:
                raise _wrong(name, key, f"{template!r} is no template ({one_line(error)})", "close each {") from error
            if unknown:
                raise _wrong(name, key, f"{template!r} has the field {sorted(unknown)[0]!r}", f"use {', '.join(known)}")
            if key == "aliases" and not NAME.fullmatch(example):
                raise _wrong(name, key, f"{template!r} makes no alias", "use letters, digits, '.', '_', '-' and fields")
    for need in declared.needs:
        if need not in entries:
            raise _wrong(name, "needs", f"{need!r} is no artifact", f"name one of {listing(entries, near=need)}")


def _wrong(name: object, key: str, what: str, cure: str) -> Problem:
    return Problem(f"{FILE.name}, {name}{f', {key}' if key else ''}: {what}; {cure}")


def declaration(name: str) -> Declaration:
    if name not in declarations():
        raise Problem(f"no artifact is called {name!r}; artifacts.yaml declares: {', '.join(declarations())}")
    return declarations()[name]


def stages() -> list[str]:
    """Every stage that makes an artifact, in the order of the data flow."""
    return list(dict.fromkeys(producer for entry in declarations().values() for producer in entry.producers))


def check_aliases(stage: str, fields: Mapping[str, object]) -> None:
    """Raises Problem where an alias is none that `stage` gives what it makes; as far as its `fields` say."""
    for entry in declarations().values():
        for template in entry.aliases if stage in entry.producers else ():
            if fields_of(template) <= fields.keys():
                check_alias(template.format(**fields))


def check_room(stage: str, fields: Mapping[str, object]) -> None:
    """Raises Problem where an alias would be too long that a stage after `stage` makes of these new names."""
    name = str(fields.get("variant") or fields["dataset"])
    blanks = {field: "x" * count for field, count in ROOM.items()}
    values = {**blanks, "dataset": name, "variant": name + blanks["method"], **fields}
    aliases = [(f"{entry.name}:{template}", template) for entry in _made_from(stage) for template in entry.aliases]
    beyond, longest = max((len(template.format(**values)) - LONGEST, words) for words, template in aliases)
    if beyond > 0:
        raise Problem(
            f"the name {name!r} has {len(name)} characters, and leaves no room for others in {longest};"
            f" give the image set a --name (make run: NAME=) that is {beyond} shorter"
        )


def _made_from(stage: str) -> list[Declaration]:
    """What `stage` makes, and what later stages make from that."""
    names: list[str] = []
    stages = [stage]
    for producer in stages:  # grows
        for name, entry in declarations().items():
            if producer in entry.producers and name not in names:
                names.append(name)
                stages += entry.consumers
    return [declarations()[name] for name in names]


def check_name(text: str, what: str) -> str:
    if not NAME.fullmatch(text):
        raise Problem(
            f"{text!r} is no {what}: use 1 to 128 letters, digits, '.', '_' and '-', not starting with . or -"
        )
    return text


def check_registry(text: str) -> str:
    """A registry of W&B's, as its users call it. Raises Problem where none can be called so."""
    if not NAME.fullmatch(text) or text.startswith("wandb-registry-"):
        raise Problem(f"--registry {text!r} is no registry's name; give it as W&B shows it, such as encoders")
    return text


def check_alias(text: str) -> str:
    """An alias that a version can be given: `latest` and `vN` are W&B's own."""
    if text == "latest" or re.fullmatch(r"v\d+", text, re.ASCII):
        raise Problem(f"{text!r} cannot be an alias: W&B gives it by itself; choose another name")
    return check_name(text, "alias")


def check_path(text: str, artifact: str) -> str:
    """A path inside an artifact: relative, downwards, with `/` between its parts. Raises Problem for any other.

    artifact: what the message calls it. As W&B does, and Windows' separators, drives and reserved signs besides.
    """
    parts = text.split("/")
    if not text or any(part in ("", ".", "..") for part in parts) or re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', text):
        raise Problem(f"{artifact} holds the path {text!r}, which could lead out of its folder; nothing was written")
    return text


def clean_name(text: str) -> str:
    """`text` with everything that a name cannot hold replaced by a hyphen; the same for both Unicode forms of an accent."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", unicodedata.normalize("NFC", text)).strip(".-")[:128]


def reference(text: str, name: str | None = None) -> tuple[str, str]:
    """Name and alias of `NAME:ALIAS`, of a bare `ALIAS` where a stage knows the name, of a bare `NAME` where none is.

    A stage's own flag may spell the name out too; another artifact's name is refused.
    """
    first, colon, second = text.partition(":")
    if colon:
        if name and first != name:
            raise Problem(f"{text!r} is not of the artifact {name!r} that is needed here; give an alias of {name}")
        name, alias = first, second
    elif name:
        alias = first
    else:
        name, alias = first, "latest"
    return check_name(name, "artifact name"), check_name(alias, "alias")


def listing(values: Iterable[str], near: str = "", most: int = 12) -> str:
    """Values for an error line: all in order, or the `most` that are the most like `near`, and how many more."""
    ordered = sorted(values, key=lambda value: (-difflib.SequenceMatcher(None, near, value).ratio(), value))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return (", ".join(ordered[:most] if more else sorted(ordered)) + more) or "none"
