"""A store under load, killed at random moments, on a full disk and with a clock set back."""

import contextlib
import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Count
from tests.parts import processes
from tests.parts.versions import put
from tests.train.tracking.store.test_faults import script
from train.tracking.cli import answers
from train.tracking.store import Store, housekeeping

ROOT = Path(__file__).parents[2]
SEED = 0


# -- many at once ------------------------------------------------------------------------------------------------------

WRITER = """
store = Store()
who = int(sys.argv[1])
for i in range(int(sys.argv[2])):
    put(store, "probe", {"own": f"{who}-{i}", "big": bytes([who, i]) * 50_000}, [f"own-{who}", "all"])
"""
READER = """
import time
store = Store()
reads = 0
while not store.find("probe", "all"):
    time.sleep(0.01)
end = Path(sys.argv[1])
while not end.exists():
    version = store.get("probe", "all")
    folder = store.folder(version)  # hashes every file
    assert {path.name for path in folder.iterdir()} == {"own", "big"}, version
    assert (folder / "big").stat().st_size == 100_000
    named = {alias: store.find("probe", alias) for alias in version.aliases}
    assert all(named.values()), "an alias points at a version that exists"
    reads += 1
print(reads)
"""


def test_eight_writers_lose_nothing_and_readers_never_see_a_half_written_version(
    scale: int, count: Count, tmp_path: Path
) -> None:
    each = 25 * scale // 10
    end = tmp_path / "end"
    readers = [script("from pathlib import Path\n" + READER, end) for _ in range(2)]
    writers = [script(WRITER, name, each) for name in range(8)]
    errors = [process.communicate()[1] for process in writers]
    end.touch()
    reads = [process.communicate() for process in readers]
    assert errors == [""] * 8 and [error for _, error in reads] == ["", ""]
    store = Store()
    versions = store.versions("probe")
    assert [version.number for version in versions] == list(range(8 * each))
    assert len({version.digest for version in versions}) == 8 * each
    texts = [(store.folder(version) / "own").read_text() for version in versions]
    assert sorted(texts) == sorted(f"{name}-{i}" for name in range(8) for i in range(each))
    for name in range(8):
        assert (store.folder(store.get("probe", f"own-{name}")) / "own").read_text() == f"{name}-{each - 1}"
    assert store.get("probe", "latest") == store.get("probe", "all") == versions[-1]
    assert housekeeping.verify(store) == []
    store.close()
    count("versions by 8 processes at once", 8 * each)
    count("reads beside them", sum(int(out) for out, _ in reads))


# -- killed ------------------------------------------------------------------------------------------------------------

# One process that has all imports; each case is a fork of it, killed after a random part of what the command takes.
DOOMED = """
import importlib, json, os, random, signal, time
from tests.parts.versions import free
import train.tracking.__main__ as cli
import train.prepare

def publish(i):
    put(Store(), "probe", {"own": f"own {i}", "same": b"s" * 300_000, "big": os.urandom(1) * 3_000_000}, ["one", f"at-{i}"])

def fetch(i):
    store = Store()
    for folder in store.folders.iterdir():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        folder.rmdir()
    for version in store.versions("probe")[-8:]:
        store.folder(version)

def gc(i):
    cli.main(["gc", "--yes", "--keep", "3"])

def prepare(i):
    train.prepare.COMMAND.run(["--dataset", "digits", "--name", f"digits-{i}"])

def forked(body, i, wait):
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            body(i)
        finally:
            os._exit(0)
    if wait is not None:
        time.sleep(wait)
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

dice = random.Random(int(sys.argv[2]))
for name in ("publish", "fetch", "gc", "prepare"):
    body = globals()[name]
    forked(body, "warm", None)
    start = time.monotonic()
    forked(body, "whole", None)
    takes = time.monotonic() - start
    case, killed = 0, 0
    while killed < int(sys.argv[1]):  # a command that ended before it was killed is no case
        case += 1
        store = Store()
        put(store, "probe", {"filler": f"{name} {case}"}, [])  # so that gc has something to do
        before = {v.reference: v.digest for v in store.versions()}
        named = {f"{v.name}:{a}" for v in store.versions() for a in v.aliases}
        needed = {v.reference for v in store.versions() if v not in housekeeping.superseded(store, 3)}
        store.close()
        dead = forked(body, case, dice.uniform(0, takes)) == signal.SIGKILL
        killed += dead
        store = Store()
        after = {v.reference: v.digest for v in store.versions()}
        lost = [r for r in (needed if name == "gc" else before) if after.get(r) != before[r]]
        dangling = [r for r in named if not store.find(*r.split(":"))]
        problems = [str(problem) for problem in housekeeping.verify(store)]
        next_ = put(store, "probe", {"next": f"{name} {case}"}, ["next"])  # the next command works
        served = store.folder(store.get("probe", "next")) / "next"
        works = served.read_text() == f"{name} {case}" and store.get("probe", "next") == next_
        store.close()
        print(json.dumps([name, dead, lost, dangling, problems, works]), flush=True)
store = Store()
free(store)
print(json.dumps([[str(path) for path in housekeeping.orphans(store)], [str(p) for p in housekeeping.verify(store)]]))
"""


def test_a_kill_at_a_random_moment_of_any_command_loses_nothing(scale: int, count: Count) -> None:
    each = 25 * scale // 10
    process = script(DOOMED, each, SEED)
    out, err = process.communicate()
    assert process.returncode == 0, err
    *cases, (orphans, problems_after) = [json.loads(line) for line in out.splitlines()]
    for name, _, losses, dangling, problems, works in cases:
        assert (losses, dangling, problems, works) == ([], [], [], True), name
    assert (orphans, problems_after) == ([], []), "what was left over is freed, nothing else"
    for name in ("publish", "fetch", "gc", "prepare"):
        killed = sum(dead for stage, dead, *_ in cases if stage == name)
        assert killed == each
        count(f"{name} killed at a random moment", killed)


# -- a full disk -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[str]:
    """A disk of `size` bytes at `path` where one can be mounted; else a limit on each file. Says which."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if mounted.returncode == 0:
        try:
            yield "tmpfs"
        finally:
            subprocess.run(["umount", "-l", path], check=True)
    else:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, before[1]))
        try:
            yield "RLIMIT_FSIZE"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "command",
    [
        "train.prepare --dataset digits",
        "train.prepare --dataset photos --size 64",
        "train.tracking gc --yes",
        "train.tracking pull images:digits --to out",
    ],
)
def test_a_full_disk_is_one_line_and_what_was_there_stays(command: str, count: Count, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 40_000_000) as how:
        home = tmp_path / "disk" / "peel"
        environment = {**os.environ, "PEEL_HOME": str(home), "PYTHONPATH": str(ROOT)}

        def run(line: str) -> "subprocess.CompletedProcess[str]":
            return processes.run("-m", *line.split(), env=environment, cwd=tmp_path / "disk")

        first = run(
            "train.prepare --dataset digits --name other" if "prepare" in command else "train.prepare --dataset digits"
        )
        assert first.returncode == 0, first.stderr
        store = Store(home / "store")
        before = [(version.reference, version.digest, version.aliases) for version in store.versions()]
        filler = tmp_path / "disk" / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        process = run(command)
        assert [(version.reference, version.digest, version.aliases) for version in store.versions()] == before
        assert housekeeping.verify(store) == []
        store.close()
        filler.unlink()
        again = run(command)
    assert "Traceback" not in process.stderr
    if "gc" not in command:  # which may well need no space
        assert process.returncode == 2, process.stderr
        assert "free some space" in process.stderr.splitlines()[-1]
    assert again.returncode == 0, again.stderr
    count(f"a full disk ({how})", 1)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_clock_set_back_changes_no_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "images", {"x": "1"}, ["digits"], settings="s", stage="train.prepare")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e6)
    later = put(store, "images", {"x": "2"}, ["digits"], settings="s", stage="train.prepare")
    again = put(store, "images", {"x": "2"}, ["digits"], settings="t", stage="train.prepare")
    assert store.get("images", "latest") == store.get("images", "digits") == later == again
    assert store.reuse("train.prepare", "s") == [later], "what was committed last is reused, whatever its clock said"
    maker = store.maker(later)
    assert maker is not None and maker.settings == "t"
    ages = [re.split(r"\s{2,}", line)[2] for line in answers.ls(store, "images").lines[1:]]
    assert ages == ["0 s", "0 s"], "what was made before the clock was set back is not of a negative age"


# -- a thousand versions -----------------------------------------------------------------------------------------------


def statements(store: Store, body: Callable[[], object]) -> list[str]:
    """What is asked of the registry while `body()` runs."""
    queries: list[str] = []
    store._connection.set_trace_callback(queries.append)
    body()
    store._connection.set_trace_callback(None)
    return queries


def test_a_thousand_versions_cost_a_look_up_no_more_than_one(store: Store) -> None:
    put(store, "images", {"x": "pixels"}, ["digits"])
    commands = {
        "ls": lambda: answers.ls(store, "images"),
        "show": lambda: answers.show(store, "images:digits"),
        "fetch": lambda: store.folder(store.get("images", "digits")),
    }
    empty = {name: (len(statements(store, body)), cost(body)) for name, body in commands.items()}
    for i in range(1000):
        put(store, "probe", {"scores.json": str(i), "same": "shared by all"}, [f"variant-{i}"], [("images", "none")])
    full = {name: (len(statements(store, body)), cost(body)) for name, body in commands.items()}
    for name in commands:
        assert full[name][0] == empty[name][0], f"{name} asks the registry more often"
    for query in {statement for body in commands.values() for statement in statements(store, body)}:
        plan = [row["detail"] for row in store.rows(f"EXPLAIN QUERY PLAN {query}")]
        assert not [line for line in plan if line.startswith("SCAN")], (query, plan)
    shared = [path for path in store.objects.glob("*/*") if path.read_bytes() == b"shared by all"]
    assert len(shared) == 1, "content is stored once"
    for name in commands:
        print(f"{name}: {1e3 * empty[name][1]:.2f} ms with 1 version, {1e3 * full[name][1]:.2f} ms with 1,001")


def cost(body: Callable[[], object]) -> float:
    """Seconds of the processor, the least of some."""
    took = []
    for _ in range(15):
        start = time.process_time()
        body()
        took.append(time.process_time() - start)
    return min(took)


def test_gc_keeps_the_newest_of_each_name_when_asked(store: Store) -> None:
    for i in range(4):
        put(store, "images", {"x": str(i)}, ["digits"])
        put(store, "probe", {"x": str(i)}, ["a"], [("images", f"v{i}")])

    def superseded(keep: int) -> set[str]:
        return {version.reference for version in housekeeping.superseded(store, keep)}

    old = {f"{name}:v{i}" for name in ("images", "probe") for i in range(3)}
    assert superseded(0) == superseded(1) == old, "an alias names the newest of each"
    assert superseded(2) == old - {"images:v2", "probe:v2"}
    assert superseded(4) == set()
    put(store, "cluster", {"x": "1"}, ["b"], [("images", "v0")])
    assert superseded(0) == old - {"images:v0"}, "what a kept version was made from stays"
    process = processes.run("-m", "train.tracking", "gc", "--keep", "2", "--yes")
    assert process.returncode == 0, process.stderr
    references = {version.reference for version in store.versions()}
    assert references == {"images:v0", "images:v2", "images:v3", "probe:v2", "probe:v3", "cluster:v0"}
    assert housekeeping.verify(store) == []
