"""Whether a folder or file holds the same images as before: a hash of their contents, not of sizes and times.

What was hashed is remembered in PEEL_HOME/fingerprints, a file for each of them; without it all is hashed again.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from train.data import tables
from train.data.arrays import is_array
from train.data.folder import Tree, mark, open_tree
from train.data.pictures import MOST_BYTES
from train.tracking.problem import Problem
from train.tracking.progress import over
from train.tracking.store import home, write_whole

# A change within two seconds of the last one can leave the times as they were: FAT counts no finer.
SETTLED = 2_000_000_000  # nanoseconds
WHOLE = ""  # where a zip's own hash stands among those of paths

Memory = dict[str, tuple[int, int, int, int, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]]  # path: mark and hash


def fingerprint(source: Path, encoding: str = "") -> str:
    """Changes when an image of `source` is added, removed, renamed or replaced; the same wherever it lies, as a folder or packed.

    encoding: of the names in a zip that does not say.
    """
    before = time.time_ns() - SETTLED
    entries: list[tuple[str, str | int]] = []
    place = home() / "fingerprints" / f"{_hash(os.fsencode(source) + encoding.encode())[:16]}.json"
    memory, kept = _load(place), Memory()

    def keep(path: str, state: tuple[int, ...], content: str) -> None:
        if max(state[1:3]) < before:
            kept[path] = (state[0], state[1], state[2], state[3], content)

    for table in [source] if is_array(source) else tables.files(source):
        name = "" if table == source else table.relative_to(source).as_posix()
        about = mark(table.stat())
        whole = memory[name][-1] if name in memory and memory[name][:-1] == about else _hash_file(table)
        keep(name, about, whole)
        entries.append((name, whole))
    if entries:
        return _keep(place, kept, memory, _hash(json.dumps(entries).encode()))
    archive = mark(source.stat()) if source.is_file() else None
    if archive and WHOLE in memory and memory[WHOLE][:-1] == archive:
        return memory[WHOLE][-1]
    with open_tree(source, encoding) as tree:
        files = {**tree.images, **tree.tables}
        for path in over(sorted(files), "fingerprint", "image", delay=1, leave=False):
            state = files[path]
            content = memory[path][-1] if path in memory and memory[path][:-1] == state else _content(tree, path)
            if content and not archive:
                keep(path, state, content)
            entries.append((path, content or state[0]))
    whole = _hash(json.dumps(entries).encode())
    if archive:
        keep(WHOLE, archive, whole)
    return _keep(place, kept, memory, whole)


def _keep(place: Path, kept: Memory, memory: Memory, whole: str) -> str:
    if kept != memory:
        with contextlib.suppress(OSError):  # it saves time, and no more
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, json.dumps(kept).encode())
    return whole


def _hash_file(path: Path) -> str:
    """Raises Problem where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Problem(f"cannot read {str(path)!r}: {error.strerror}; make it readable and run again") from error


def _content(tree: Tree, path: str) -> str | None:
    """The hash of an image, or of a table; None where it cannot be read, or is one of those that no set takes."""
    if (tree.images.get(path) or tree.tables[path])[0] > MOST_BYTES:
        return None
    with contextlib.suppress(Exception):  # zipfile raises whatever it comes upon
        return _hash(tree.content(path))
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _load(place: Path) -> Memory:
    """Nothing where the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return TypeAdapter(Memory).validate_json(place.read_bytes())
    return {}
