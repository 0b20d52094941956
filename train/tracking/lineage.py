"""What made a variant, and the command that makes it again: read off the origins of artifacts."""

import shlex
from typing import TYPE_CHECKING

from train.tracking.command import stage_command
from train.tracking.declarations import stages
from train.tracking.origin import ORIGIN, Origin
from train.tracking.problem import Problem

if TYPE_CHECKING:
    from train.tracking.store import Store


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


def command_line(origin: Origin) -> str:
    """The shortest command that makes an artifact again, while the aliases in it name what they did.

    Raises Problem where its stage, or the stage's flags, are another version's: an origin may come from anywhere.
    """
    if origin.stage not in stages():
        raise Problem(f"no stage is called {origin.stage!r}")
    return shlex.join(["python", "-m", origin.stage, *stage_command(origin.stage).flags(origin.config)])
