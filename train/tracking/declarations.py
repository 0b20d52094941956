"""artifacts.yaml: every artifact's name, type, producers, consumers and aliases, declared once."""

import difflib
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from train.tracking.problem import Problem

FILE = Path(__file__).parents[2] / "artifacts.yaml"

# What W&B takes for artifact names, made stricter: no blanks, so that a reference can stand in a command line.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

NUMBER = re.compile(r"v(\d{1,18})", re.ASCII)  # `v3` names the fourth version


@dataclass(frozen=True)
class Declaration:
    name: str
    type: str
    holds: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    aliases: tuple[str, ...]

    def aliases_for(self, fields: Mapping[str, object]) -> list[str]:
        """The aliases under which a version with these `fields` is published, without `latest`.

        A template applies when its fields are those given, `seed` aside; a template without `seed` only for seed 0
        or none. Raises Problem where an alias comes out as one that W&B gives by itself.
        """
        given = {field for field, value in fields.items() if value is not None} - {"seed"}
        seed = fields.get("seed")
        aliases = []
        for template in self.aliases:
            needed = {field for _, field, _, _ in string.Formatter().parse(template) if field}
            if needed - {"seed"} == given and (seed is not None if "seed" in needed else not seed):
                aliases.append(check_alias(template.format(**fields)))
        if not aliases:
            raise ValueError(f"no alias template of {self.name} in {FILE.name} takes the fields {sorted(given)}")
        return aliases


@cache
def declarations() -> dict[str, Declaration]:
    """Every declared artifact by name, in the order made."""
    if not FILE.exists():
        raise Problem(f"{FILE} is missing; install Peel from its checkout with: pip install -e .")
    declared = yaml.safe_load(FILE.read_text())
    return {
        name: Declaration(
            name, entry["type"], entry["holds"], *(tuple(entry[key]) for key in ("producers", "consumers", "aliases"))
        )
        for name, entry in declared.items()
    }


def declaration(name: str) -> Declaration:
    if name not in declarations():
        raise Problem(f"no artifact is called {name!r}; artifacts.yaml declares: {', '.join(declarations())}")
    return declarations()[name]


def stages() -> list[str]:
    """Every stage that makes an artifact, in the order of the data flow."""
    return list(dict.fromkeys(producer for entry in declarations().values() for producer in entry.producers))


def check_name(text: str, what: str) -> str:
    if not NAME.fullmatch(text):
        raise Problem(
            f"{text!r} is no {what}: use 1 to 128 letters, digits, '.', '_' and '-', not starting with . or -"
        )
    return text


def check_alias(text: str) -> str:
    """An alias that a version can be given: `latest` and `vN` are W&B's own."""
    if text == "latest" or NUMBER.fullmatch(text):
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
    """`text` with everything that a name cannot hold replaced by a hyphen."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-")[:128]


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
