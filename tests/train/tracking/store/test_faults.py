"""A store among many processes, killed, interrupted, damaged, of another format or without permissions."""

import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.parts.processes import Process, start
from tests.parts.versions import free, put, put_all
from train.tracking.problem import Problem
from train.tracking.store import Store, housekeeping
from train.tracking.store import store as store_module
from train.tracking.store.records import File, manifest_digest

ROOT = Path(__file__).parents[4]


def script(body: str, *arguments: object) -> Process:
    """A process that has all that tests/parts/versions.py has."""
    return start("-c", f"import sys\nfrom tests.parts.versions import *\n{body}", *arguments)


# -- many processes, and their deaths ----------------------------------------------------------------------------------


def test_four_processes_that_publish_at_once_lose_nothing() -> None:
    body = """
store = Store()
for i in range(12):
    put(store, "probe", {"own": f"{sys.argv[1]}-{i}"}, [f"own-{sys.argv[1]}", "all"])
    put(store, "probe", {"shared": str(i)}, ["shared"])
"""
    processes = [script(body, name) for name in range(4)]  # the first of them makes the store
    for process in processes:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    store = Store()
    versions = store.versions("probe")
    own = {manifest_digest({"own": _file(f"{name}-{i}")}) for name in range(4) for i in range(12)}
    shared = {manifest_digest({"shared": _file(str(i))}) for i in range(12)}
    assert sorted(version.digest for version in versions) == sorted(own | shared)
    assert [version.number for version in versions] == list(range(60))
    for name in range(4):
        assert store.get("probe", f"own-{name}").digest == manifest_digest({"own": _file(f"{name}-11")})
    assert store.get("probe", "all").digest in own
    assert store.get("probe", "shared").digest == manifest_digest({"shared": _file("11")})
    assert housekeeping.verify(store) == []
    store.close()


def _file(text: str) -> File:
    return File(hashlib.md5(text.encode()).hexdigest(), len(text))


def test_a_kill_at_any_moment_leaves_the_state_before_or_after() -> None:
    """A fork is killed at each file that it opens, makes or moves, and at each statement that it sends to SQLite."""
    body = """
import json, os, signal
WATCHED = {"open", "os.mkdir", "os.chmod", "os.rename", "os.link", "os.remove", "sqlite3.connect"}
for moment in itertools.count():
    child = os.fork()
    if not child:
        counter = itertools.count()
        def bomb(*_):
            if next(counter) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(lambda event, _: bomb() if event in WATCHED else None)
        store = Store()
        store._connection.set_trace_callback(bomb)
        put(store, "probe", {"a": f"{moment}", "b/c": f"{moment} too", "same": "same"}, ["one", "two"])
        os._exit(0)
    dead = os.waitpid(child, 0)[1] == signal.SIGKILL
    store = Store()
    versions = store.versions()
    aliases = {alias: found.number for alias in ("one", "two", "latest") if (found := store.find("probe", alias))}
    problems = [str(problem) for problem in housekeeping.verify(store)]
    runs = store._connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
    store.close()
    print(json.dumps([dead, len(versions), aliases, problems, runs]), flush=True)
    if not dead:
        break
"""
    process = script(body)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    states: list[tuple[bool, int, dict[str, int], list[str], int]] = [json.loads(line) for line in out.splitlines()]
    assert len(states) > 30  # moments
    count = 0
    for dead, versions, aliases, problems, runs in states:
        assert problems == []
        assert versions in ((count, count + 1) if dead else (count + 1,))
        assert runs == versions
        assert aliases == ({} if versions == 0 else dict.fromkeys(("one", "two", "latest"), versions - 1))
        count = versions
    store = Store()
    assert housekeeping.orphans(store)  # what the killed ones left
    free(store)
    assert housekeeping.orphans(store) == []
    assert len(store.versions()) == 1
    assert housekeeping.verify(store) == []
    store.close()


def test_ctrl_c_at_any_line_leaves_the_state_before_or_after_and_a_store_in_order(store: Store) -> None:
    count = 0
    for moment in itertools.count():
        before = sys.gettrace()
        sys.settrace(_pressing_ctrl_c_at(moment))
        try:
            put_all(store, {"encoder": ({"e": f"{moment}"}, ["a"]), "training": ({"t": f"{moment}"}, ["a"])})
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        finally:
            sys.settrace(before)
        versions = {name: [version.number for version in store.versions(name)] for name in ("encoder", "training")}
        assert versions["encoder"] == versions["training"]
        assert len(versions["encoder"]) in ((count, count + 1) if stopped else (count + 1,))
        count = len(versions["encoder"])
        if not stopped:
            break
    assert moment > 30


def _pressing_ctrl_c_at(moment: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that raises at one of the lines which the store runs to commit."""
    counter = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if code.co_filename != store_module.__file__ or code.co_name not in (
            "commit",
            "_insert",
            "_point",
            "transaction",
        ):
            return None
        if event == "line" and next(counter) == moment:
            raise KeyboardInterrupt
        return trace

    return trace


def test_gc_waits_for_no_stage_and_a_stage_goes_on_after_gc(store: Store) -> None:
    other = Store()
    with store.in_use():
        with other.in_use():  # many stages at once
            pass
        with pytest.raises(Problem, match="run gc again when it has ended"), other.in_use(exclusively=True):
            pass
    with store.in_use(exclusively=True):
        pass
    other.close()


# -- damage ------------------------------------------------------------------------------------------------------------


def damage(store: Store, md5: str) -> Path:
    """Flips one bit of a stored file."""
    path = store.object(md5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    return path


def test_one_flipped_bit_is_found_with_all_that_it_breaks_and_the_good_bytes_heal_it(store: Store) -> None:
    put(store, "images", {"x": "shared", "y": "1"}, ["digits"])
    put(store, "encoder", {"deep/z": "shared"}, ["a"], [("images", "digits")])
    put(store, "embeddings", {"e": "sound"}, ["a"], [("encoder", "a")])
    put(store, "probe", {"p": "sound too"}, ["a"], [("embeddings", "a")])
    put(store, "images", {"q": "another"}, ["photos"])
    assert housekeeping.verify(store) == []
    path = damage(store, hashlib.md5(b"shared").hexdigest())
    (problem,) = housekeeping.verify(store)
    assert problem.what.startswith(f"{path} ")
    assert problem.breaks == ("images:v0 (x)", "encoder:v0 (deep/z)")
    assert problem.beyond == ("embeddings:v0", "probe:v0")
    for name in ("images", "encoder"):
        with pytest.raises(Problem, match=rf"{name}:v0 is damaged: .*{path}.*FRESH=1"):
            store.folder(store.get(name, "v0"))
    assert (store.folder(store.get("embeddings", "a")) / "e").read_text() == "sound"
    assert put(store, "cluster", {"same bytes": "shared"}).number == 0
    assert housekeeping.verify(store) == []
    assert (store.folder(store.get("encoder", "a")) / "deep/z").read_text() == "shared"


def test_a_missing_file_is_a_problem_and_so_is_a_registry_that_lies(store: Store) -> None:
    put(store, "images", {"x": "1"})
    put(store, "probe", {"x": "2", "y": "3"})
    store.object(hashlib.md5(b"1").hexdigest()).unlink()
    store._connection.execute("DELETE FROM files WHERE path = 'y'")
    journal, lists, absent = housekeeping.verify(store)
    assert "files is not what the journal says" in journal.what
    assert lists.breaks == ("probe:v0",)
    assert absent.what.endswith("is missing")
    assert absent.breaks == ("images:v0 (x)",)


def test_a_file_that_nobody_may_read_is_one_problem_among_others() -> None:
    body = """
import os
store = Store()
put(store, "images", {"x": "1"}); put(store, "probe", {"x": "2"})
for path in store.objects.glob("*/*"):
    path.chmod(0)
for path in [store.root, *store.root.rglob("*")]:
    os.chown(path, 65534, 65534, follow_symlinks=False)
os.setuid(65534)
print(*[problem.what.rsplit(" ", 3)[1:] for problem in housekeeping.verify(store)])
"""
    if os.getuid():
        pytest.skip("only root can become another user")
    home = Path(os.environ["PEEL_HOME"])
    with PassableFolders(home):
        out, err = script(body).communicate()
    assert err == ""
    assert out.count("'cannot', 'be', 'read'") == 2


class PassableFolders:
    """Lets other users pass through the folders above `path`, which pytest makes for one user only."""

    def __init__(self, path: Path) -> None:
        self.modes = {
            parent: parent.stat().st_mode for parent in path.parents if parent.stat().st_mode & 0o777 == 0o700
        }

    def __enter__(self) -> None:
        for parent, mode in self.modes.items():
            parent.chmod(mode | 0o055)

    def __exit__(self, *_: object) -> None:
        for parent, mode in self.modes.items():
            parent.chmod(mode)


def _newer(root: Path) -> None:
    connection = sqlite3.connect(root / "registry.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    (root / "journal").unlink()  # its lines say the format too


def _other(root: Path) -> None:
    (root / "registry.sqlite").unlink()
    connection = sqlite3.connect(root / "registry.sqlite")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


def _garbage(root: Path) -> None:
    (root / "registry.sqlite").write_bytes(np.random.default_rng(0).bytes(30_000))


def _garbage_inside(root: Path) -> None:
    content = bytearray((root / "registry.sqlite").read_bytes())
    content[4096:] = np.random.default_rng(0).bytes(len(content) - 4096)
    (root / "registry.sqlite").write_bytes(content)


def _file_in_place(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("a file")


@pytest.mark.parametrize(
    ("ruin", "line"),
    [
        (_newer, r"written by a newer Peel \(format 99\); update Peel"),
        (_other, "file is not a database of Peel's.*; run: python -m train.tracking rebuild"),
        (_garbage, "file is not a database of Peel's.*; run: python -m train.tracking rebuild"),
        (_garbage_inside, "malformed.*; run: python -m train.tracking rebuild"),
        (_file_in_place, "cannot write to .*; make its folder writable, or set PEEL_HOME"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(ruin: Callable[[Path], None], line: str) -> None:
    store = Store()
    put(store, "probe", {"x": "1"}, ["a"])
    store.close()
    ruin(store.root)
    with pytest.raises(Problem, match=line) as problem:
        put(Store(), "probe", {"x": "2"}, ["a"])
    assert "\n" not in str(problem.value)


def test_a_store_that_may_only_be_read_is_one_line_and_stays_as_it_is(store: Store) -> None:
    if os.getuid():
        pytest.skip("only root can become another user")
    put(store, "probe", {"x": "1"}, ["a"])
    store.close()
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o444)
    body = """
import os
from train.tracking.problem import Problem
os.setuid(65534)
try:
    put(Store(), "probe", {"x": "2"}, ["a"])
except Problem as problem:
    print(problem)
"""
    with PassableFolders(store.root):
        out, err = script(body).communicate()
    assert err == ""
    assert out.count("\n") == 1
    assert str(store.root) in out
    assert "set PEEL_HOME" in out
    assert len(Store().versions()) == 1
