"""The environment as input: what Peel reads there, and what is wrong with it, said before anything is computed.

A variable that is set and empty counts as unset, for W&B's client too. remote.py checks what that reads by itself.
"""

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from train.tracking.declarations import declaration
from train.tracking.problem import Problem


def variable(name: str) -> str | None:
    """Its value; None where it is unset or empty."""
    return os.environ.get(name) or None


def folder(name: str) -> Path | None:
    """The folder that a variable names, `~` written out, absolute; None where it is unset. Raises Problem for no home."""
    value = variable(name)
    try:
        return Path(value).expanduser().absolute() if value else None
    except RuntimeError as error:  # ~somebody
        raise Problem(f"{name}={value!r}: {error}; give the whole path") from error


def home() -> Path:
    """The folder that holds everything: $PEEL_HOME, else .peel here."""
    return folder("PEEL_HOME") or Path(".peel").absolute()


@dataclass(frozen=True)
class Rank:
    """A process among those that torchrun has started: its number, from 0, among all and on its machine, and their count."""

    number: int = 0
    local: int = 0
    count: int = 1


def rank() -> Rank:
    """Raises Problem where WORLD_SIZE stands without what torchrun sets beside it. A RANK without a WORLD_SIZE is a
    scheduler's, of processes that know nothing of each other."""
    if variable("WORLD_SIZE") in (None, "1"):
        return Rank()
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if variable(name) is None:
            raise _not_torchrun("WORLD_SIZE", f"without {name}")
    count = _number("WORLD_SIZE", 1)
    number = _number("RANK", 0)
    if number >= count:
        raise _not_torchrun("RANK", f"beside WORLD_SIZE={count}")
    _number("MASTER_PORT", 0)
    return Rank(number, _number("LOCAL_RANK", 0), count)


def _number(name: str, least: int) -> int:
    text = variable(name) or "0"
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise _not_torchrun(name, "")
    return int(text)


def _not_torchrun(name: str, what: str) -> Problem:
    assignment = f"{name}={os.environ[name]!r} {what}".strip()
    return Problem(f"{assignment} is not from torchrun; unset WORLD_SIZE for one process, or see torchrun --help")


def lifetimes() -> dict[str, timedelta]:
    """How long W&B keeps what it is sent, by the name of the artifact: PEEL_TTL=embeddings=30,neighbors=30, in days. What
    it does not name is kept for good. Raises Problem where it names no artifact, or no days."""
    times = {}
    text = variable("PEEL_TTL")
    for entry in text.split(",") if text else ():
        match = re.fullmatch(r"([\w.-]+)=([1-9][0-9]{0,4})", entry.strip(), re.ASCII)
        if match is None:
            raise Problem(f"PEEL_TTL={text!r}: {entry!r} is no ARTIFACT=DAYS; write it as embeddings=30,neighbors=30")
        try:
            times[declaration(match[1]).name] = timedelta(days=int(match[2]))
        except Problem as problem:
            raise Problem(f"PEEL_TTL={text!r}: {problem}") from None
    return times


def check() -> None:
    """Removes the empty variables that W&B's client would read. Raises Problem where PEEL_HOME, PEEL_TTL or torchrun's are
    wrong."""
    for name in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]:
        del os.environ[name]
    rank()
    lifetimes()
    top = next(path for path in (home(), *home().parents) if os.path.lexists(path))
    if not top.is_dir():
        raise Problem(f"PEEL_HOME={variable('PEEL_HOME') or '.peel'!r}: {top} is no folder; set PEEL_HOME to one")
