"""Versions put into a store as a stage would, without a run of W&B's."""

import itertools
import shutil
import time
from collections.abc import Iterable, Mapping

from train.tracking.store import Store, housekeeping
from train.tracking.store.records import Draft, Run, Version

_count = itertools.count()


def put(
    store: Store,
    name: str,
    files: Mapping[str, str | bytes],
    aliases: Iterable[str] = (),
    inputs: Iterable[tuple[str, str]] = (),
    kind: str = "t",
    stage: str = "test.stage",
    settings: str = "",
) -> Version:
    """One run of `stage` that asks for `inputs` (name, alias), there or not, and publishes `files` as `name`."""
    return put_all(store, {name: (files, aliases)}, inputs, kind, stage, settings)[0]


def put_all(
    store: Store,
    outputs: Mapping[str, tuple[Mapping[str, str | bytes], Iterable[str]]],
    inputs: Iterable[tuple[str, str]] = (),
    kind: str = "t",
    stage: str = "test.stage",
    settings: str = "",
) -> list[Version]:
    drafts = []
    for name, (files, aliases) in outputs.items():
        folder = store.scratch / f"{time.time_ns()}-{next(_count)}"
        folder.mkdir()
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
        drafts.append(Draft(name, kind, tuple(aliases), store.take(folder)))
        shutil.rmtree(folder)
    sources = {(name, alias): store.find(name, alias) for name, alias in inputs}
    run = f"{time.time_ns()}-{next(_count)}"
    return store.commit(Run(run, stage, "variant", settings, {"lr": 0.1}, "abc", time.time(), 1.0, sources), drafts)


def free(store: Store) -> None:
    """As `gc --yes` frees a store, though not what W&B left beside it."""
    superseded = housekeeping.superseded(store)
    housekeeping.drop(store, superseded, housekeeping.orphans(store, superseded))
