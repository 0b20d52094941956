"""What made a variant, and the command that makes it again: read off the origins of artifacts."""

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from train.tracking.command import stage_command
from train.tracking.declarations import stages
from train.tracking.origin import ORIGIN, Origin
from train.tracking.problem import Problem

if TYPE_CHECKING:
    from train.tracking.store import Store
    from train.tracking.store.records import Version


def maker(store: "Store", origin: Origin) -> Origin:
    """Of all that an artifact was made from, the first that belongs to its variant and seed: that of the encoder, or of
    embeddings without one. What is not in this store is left out."""
    for reference in origin.inputs:
        source = _origin(store, *reference.split("@", 1))
        if source and (source.variant, source.seed) == (origin.variant, origin.seed):
            return maker(store, source)
    return origin


def _origin(store: "Store", name: str, digest: str) -> Origin | None:
    for version in store.versions(name):
        content = store.files(version).get(ORIGIN) if version.digest == digest else None
        if content and (file := store.object(content.md5)).is_file():
            return Origin.load(file.parent, file.name)
    return None


def ancestors(store: "Store", origins: Iterable[Origin]) -> dict[str, tuple["Version | None", tuple[str, ...]]]:
    """By `name@digest` all that artifacts were made from, however many steps before: which version that is, and what it was
    made from itself; of what is not in this store None and nothing."""
    versions = {f"{version.name}@{version.digest}": version for version in store.versions()}
    waiting = [reference for origin in origins for reference in origin.inputs]
    steps: dict[str, tuple[Version | None, tuple[str, ...]]] = {}
    while waiting:
        reference = waiting.pop()
        if reference not in steps:
            origin = _origin(store, *reference.split("@", 1)) if reference in versions else None
            steps[reference] = versions.get(reference), origin.inputs if origin else ()
            waiting += steps[reference][1]
    return steps


def command_line(origin: Origin) -> str:
    """The shortest command that makes an artifact again, while the aliases in it name what they did.

    Raises Problem where its stage, or the stage's flags, are another version's: an origin may come from anywhere.
    """
    if origin.stage not in stages():
        raise Problem(f"no stage is called {origin.stage!r}")
    return shlex.join(["python", "-m", origin.stage, *stage_command(origin.stage).flags(origin.config)])
