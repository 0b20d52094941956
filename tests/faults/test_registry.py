"""A registry with one byte of it, of its write-ahead log or of its journal damaged, cut short, or gone: no command loses,
crashes or lies. Every command either answers what it would have answered, or says in one line what to do."""

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.faults.conftest import Count
from tests.parts.versions import put
from train.tracking import __main__ as command_line
from train.tracking.problem import Problem
from train.tracking.store import Store, home, housekeeping

SEED = 0
REGISTRY, LOG, JOURNAL = "registry.sqlite", "registry.sqlite-wal", "journal"
READS: tuple[tuple[str, ...], ...] = (
    ("ls",), ("ls", "encoder"), ("show", "embeddings:x"), ("lineage", "report"), ("verify",), ("gc",), ("gc", "--keep", "2"),
    ("pull", "embeddings:x", "--to", "out"), ("publish", "--dry-run"),
)  # fmt: skip


def fill(store: Store) -> None:
    """Versions that an alias names, that those were made from, and that nothing needs; half of it in the log alone."""
    put(store, "images", {"x": "1", "same": "same"}, ["digits"], stage="train.prepare")
    put(store, "encoder", {"w": "old"}, ["x", "x-s0"], [("images", "digits")], stage="train.pretrain")
    put(store, "images", {"x": "2", "same": "same"}, ["digits"], stage="train.prepare")
    put(store, "encoder", {"w": "new"}, ["x", "x-s0"], [("images", "v0")], stage="train.pretrain", settings="s")
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._connection.execute("PRAGMA wal_autocheckpoint = 0")
    sources = [("images", "v0"), ("encoder", "x"), ("neighbors", "none")]
    put(store, "embeddings", {"e/train": "a", "e/test": "b"}, ["x"], sources, stage="eval.embed")
    put(store, "probe", {"p": "1"}, ["x"], [("embeddings", "x")], stage="eval.probe")
    put(store, "probe", {"p": "2"}, ["x"], [("embeddings", "x")], stage="eval.probe")
    put(store, "report", {"page": "p"}, ["digits"], [("probe", "x"), ("probe", "v0")], stage="eval.report")
    put(store, "probe", {"p": "3"}, ["x"], [("embeddings", "x")], stage="eval.probe")
    store.remember("https://w/b", {store.get("images", "digits").id: "w/b/images:v0"})
    put(store, "images", {"x": "3", "same": "same"}, ["photos"], stage="train.prepare")
    housekeeping.drop(store, [store.get("encoder", "v0")], [])


class Lab:
    """A store whose files can be brought back to what they were, at the same place."""

    def __init__(self, log: bool) -> None:
        with contextlib.closing(Store()) as store:
            fill(store)
            if not log:
                store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.root, self.copy = store.root, home() / "copy"
            self.needed = {
                store.object(content.md5)
                for version in store.versions()
                if version not in housekeeping.superseded(store)
                for content in store.files(version).values()
            }
            shutil.copytree(store.root, self.copy, symlinks=True)
        self.changed = False
        self.files = {name: (self.copy / name).read_bytes() for name in (REGISTRY, LOG, JOURNAL)}
        self.answers = {command: self.ask(*command) for command in READS}
        self.ls = self.answers["ls",]

    def reset(self, **files: bytes | None) -> None:
        """Everything as it was, but for these files. None: gone."""
        if self.changed:
            self.changed = False
            shutil.rmtree(self.root)
            shutil.copytree(self.copy, self.root, symlinks=True)
        (self.root / f"{REGISTRY}-shm").unlink(missing_ok=True)
        shutil.rmtree(home() / "out", ignore_errors=True)
        for name, content in {**self.files, **files}.items():
            if content is None:
                (self.root / name).unlink(missing_ok=True)
            else:
                (self.root / name).write_bytes(content)

    def ask(self, *command: str, **files: bytes | None) -> tuple[int, str]:
        """Exit code and JSON of a command on a store with these files; of a Problem 2 and its line."""
        self.reset(**files)
        return self.again(*command)

    def again(self, *command: str) -> tuple[int, str]:
        self.changed |= command not in READS
        output = io.StringIO()
        command = tuple(str(home() / "out") if word == "out" else word for word in command)
        try:
            with contextlib.redirect_stdout(output):
                command_line.main([*command, "--json"])
        except Problem as problem:
            assert "\n" not in str(problem)
            return 2, str(problem)
        except SystemExit as end:
            return int(str(end.code)), output.getvalue()
        return 0, output.getvalue()

    def try_all(self, **files: bytes | None) -> tuple[list[str], list[str]]:
        """What was lost or told wrongly, and what crashed."""
        wrong: list[str] = []
        crashes: list[str] = []

        def attempt(name: str, body: Callable[[], str | None]) -> None:
            try:
                if what := body():
                    wrong.append(f"{name}: {what}")
            except Exception as error:
                crashes.append(f"{name}: {error!r}")

        for command in READS:
            attempt(" ".join(command), lambda command=command: self.read(command, files))  # type: ignore[misc]
        attempt("gc --yes", lambda: self.free(files))
        attempt("publish", lambda: self.publish(files))
        attempt("rebuild", lambda: self.rebuild(files))
        return wrong, crashes

    def read(self, command: tuple[str, ...], files: dict[str, bytes | None]) -> str | None:
        code, text = self.ask(*command, **files)
        if code == 2 or (command == ("verify",) and code == 1):
            return None if "run: python -m train.tracking rebuild" in text else text
        return None if (code, text) == self.answers[command] else f"{code} {text}"

    def free(self, files: dict[str, bytes | None]) -> str | None:
        code, text = self.ask("gc", "--yes", **files)
        lost = [path.name for path in self.needed if not path.exists()]
        return f"lost {lost}" if lost else None if code in (0, 2) else text

    def publish(self, files: dict[str, bytes | None]) -> str | None:
        """A stage commits: all of that or nothing, and all else stays."""
        self.reset(**files)
        self.changed = True
        try:
            with contextlib.closing(Store()) as store:
                assert store.get("encoder", "x").reference == "encoder:v1"
                put(store, "encoder", {"w": "newest"}, ["x"], [("images", "digits")])
                numbers = [version.number for version in store.versions("encoder")]
            return None if numbers == [1, 2] else f"encoders {numbers}"
        except Problem as problem:
            return None if "rebuild" in str(problem) else str(problem)

    def rebuild(self, files: dict[str, bytes | None]) -> str | None:
        code, text = self.ask("rebuild", **files)
        after = [self.again("ls"), self.again("verify"), self.again("gc", "--yes")]
        if code or [code for code, _ in after] != [0, 0, 0] or after[0] != self.ls:
            return f"{text} {after}"
        return self.free_after()

    def free_after(self) -> str | None:
        lost = [path.name for path in self.needed if not path.exists()]
        return f"gc --yes then lost {lost}" if lost else None


def flips(lab: Lab, name: str, number: int) -> Iterator[dict[str, bytes | None]]:
    dice = random.Random(f"{SEED} {name}")
    places = [place for place, byte in enumerate(lab.files[name]) if byte]  # most of a small registry is empty
    for _ in range(number):
        content = bytearray(lab.files[name])
        content[dice.choice(places)] ^= dice.randrange(1, 256)
        yield {name: bytes(content)}


def cuts(lab: Lab, name: str, number: int) -> Iterator[dict[str, bytes | None]]:
    dice = random.Random(f"{SEED} {name}")
    for _ in range(number):
        yield {name: lab.files[name][: dice.randrange(len(lab.files[name]))]}


@pytest.mark.parametrize(
    ("name", "log", "number"),
    [(REGISTRY, False, 300), (REGISTRY, True, 50), (LOG, True, 250), (JOURNAL, True, 100)],
)
def test_a_damaged_byte_loses_nothing_crashes_nothing_and_no_command_lies(
    scale: int, count: Count, name: str, log: bool, number: int
) -> None:
    lab = Lab(log)
    each = number * scale // 10
    wrong, crashes = [], []
    for files in flips(lab, name, each):
        more = lab.try_all(**files)
        wrong += more[0]
        crashes += more[1]
    count(f"a byte of {name} damaged, {'with' if log else 'without'} a log", each, len(wrong), len(crashes))
    assert (wrong, crashes) == ([], [])


@pytest.mark.parametrize("name", [REGISTRY, LOG, JOURNAL])
def test_a_file_that_was_cut_short_or_is_gone_loses_nothing(scale: int, count: Count, name: str) -> None:
    lab = Lab(log=name == LOG)
    each = 20 * scale // 10
    wrong, crashes = lab.try_all(**{name: None})
    for files in cuts(lab, name, each):
        more = lab.try_all(**files)
        wrong += more[0]
        crashes += more[1]
    count(f"{name} cut short or gone", each + 1, len(wrong), len(crashes))
    assert (wrong, crashes) == ([], [])


def test_registry_and_journal_damaged_together_lose_no_stored_file(scale: int, count: Count) -> None:
    lab = Lab(log=False)
    contents = {path.read_bytes() for path in lab.needed}
    each = 50 * scale // 10
    lost, crashes = 0, []
    for one, other in zip(flips(lab, REGISTRY, each), flips(lab, JOURNAL, each), strict=True):
        try:
            lab.ask("rebuild", **one, **other)
            verdict = lab.again("verify")
            lab.again("gc", "--yes")
            assert verdict[0] == 0, verdict
        except Exception as error:
            crashes.append(repr(error))
        lost += not contents <= {path.read_bytes() for path in lab.root.rglob("*") if path.is_file()}
    count("registry and journal damaged together", each, lost, len(crashes))
    assert (lost, crashes) == (0, [])
