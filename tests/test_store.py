import base64
import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import wandb

from tests.stored import put, put_all
from train.tracking import store as store_module
from train.tracking.problem import Problem
from train.tracking.store import File, Store, Version, manifest_digest

TESTS = Path(__file__).parent


@pytest.fixture
def store() -> Iterator[Store]:
    opened = Store()
    yield opened
    opened.close()


def script(body: str, *arguments: object) -> "subprocess.Popen[str]":
    """A real process that has `put` and `Store`."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\nfrom stored import *\n{body}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TESTS.parent)


def free(store: Store) -> None:
    superseded = store.superseded()
    store.drop(superseded, store.orphans(superseded))


def damage(store: Store, md5: str) -> Path:
    """Flips one bit of a stored file."""
    path = store.object(md5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    return path


# -- digests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_digest_of_any_files_is_the_one_that_wandb_computes(store: Store, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["a", "a.b", "a-b", "a/b", "a/B", "Z", "z/y/x/w", "0", "10", "9", "ä/é.txt", "名前", "with blank", "a+b,c"]
    chosen = rng.permutation(names)[: rng.integers(1, len(names))].tolist()
    if "a" in chosen:  # a file cannot be a folder too
        chosen = [name for name in chosen if not name.startswith("a/")]
    contents = {name: rng.bytes(int(rng.integers(0, 5000))) for name in chosen}
    artifact = wandb.Artifact("name", "type")
    for name in rng.permutation(chosen).tolist():
        path = tmp_path / hashlib.md5(name.encode()).hexdigest()
        path.write_bytes(contents[name])
        artifact.add_file(str(path), name=name)
    version = put(store, "name", contents)
    assert version.digest == artifact.digest
    theirs = {path: base64.b64decode(entry.digest).hex() for path, entry in artifact.manifest.entries.items()}
    assert {path: content.md5 for path, content in store.files(version).items()} == theirs
    assert version.size == artifact.size


def test_digest_of_no_files_is_the_one_that_wandb_computes(store: Store) -> None:
    assert manifest_digest({}) == wandb.Artifact("name", "type").digest
    assert list(store.folder(put(store, "name", {})).iterdir()) == []


# -- versions and aliases ----------------------------------------------------------------------------------------------


def test_same_content_is_the_same_version(store: Store) -> None:
    first = put(store, "probe", {"x": "1"}, ["a"])
    second = put(store, "probe", {"x": "2"}, ["a"])
    again = put(store, "probe", {"x": "1"}, ["b"])
    assert (first.number, second.number, again.number) == (0, 1, 0)
    assert again.id == first.id
    assert len(store.versions("probe")) == 2
    assert put(store, "cluster", {"x": "1"}).number == 0  # numbers are a name's own


def test_aliases_move_and_latest_moves_with_every_publication(store: Store) -> None:
    first = put(store, "probe", {"x": "1"}, ["a", "b"])
    second = put(store, "probe", {"x": "2"}, ["b"])
    aliases = {alias: store.get("probe", alias).id for alias in ("a", "b", "latest", "v0", "v1")}
    assert aliases == {"a": first.id, "b": second.id, "latest": second.id, "v0": first.id, "v1": second.id}
    put(store, "probe", {"x": "1"})
    assert store.get("probe", "latest").id == first.id
    assert store.get("probe", "b").id == second.id


def test_a_name_has_one_type(store: Store) -> None:
    put(store, "probe", {"x": "1"}, kind="scores")
    with pytest.raises(Problem, match=r"probe has the type 'scores', not 'model'"):
        put(store, "probe", {"x": "2"}, ["a"], kind="model")
    assert [version.reference for version in store.versions()] == ["probe:v0"]
    assert store.find("probe", "a") is None


@pytest.mark.parametrize("alias", ["v0", "v12", "latest", "a:b", "a/b", "", "..", "-x", "a b", "x" * 129])
def test_an_alias_that_wandb_keeps_or_refuses_publishes_nothing(store: Store, alias: str) -> None:
    with pytest.raises(Problem):
        put(store, "probe", {"x": "1"}, ["fine", alias])
    assert store.versions() == []


def test_a_number_is_never_given_again(store: Store) -> None:
    for text in "123":
        put(store, "probe", {"x": text}, ["a"])
    assert [version.number for version in store.superseded()] == [1, 0]
    free(store)
    assert [version.number for version in store.versions()] == [2]
    with store.transaction() as registry:
        registry.execute("DELETE FROM aliases")
    free(store)
    assert store.versions() == []
    assert put(store, "probe", {"x": "1"}).number == 3


def test_an_unknown_alias_lists_the_known_ones(store: Store) -> None:
    put(store, "probe", {"x": "1"}, ["digits-vicreg"])
    for alias in ("other", "v1", "v99999999999999999999999", "v²"):
        with pytest.raises(Problem, match=r"known aliases of probe: digits-vicreg, latest\. Run: this"):
            store.get("probe", alias, "Run: this")


def test_versions_come_back_in_the_order_published(store: Store) -> None:
    put(store, "training", {"x": "old"})
    outputs = {"encoder": ({"x": "new"}, ["a"]), "training": ({"x": "old"}, ["a"])}
    assert [version.reference for version in put_all(store, outputs)] == ["encoder:v0", "training:v0"]


def test_a_link_is_refused_before_anything_else_is_touched(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    before = mine.stat().st_mode
    folder = store.scratch / "x"
    folder.mkdir()
    (folder / "link").symlink_to(mine)
    with pytest.raises(ValueError, match="is a link"):
        store.take(folder)
    assert (mine.read_text(), mine.stat().st_mode) == ("precious", before)


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
    assert store.verify() == []
    store.close()


def _file(text: str) -> File:
    return File(hashlib.md5(text.encode()).hexdigest(), len(text))


def test_a_kill_at_any_moment_leaves_the_state_before_or_after() -> None:
    """A fork is killed at each file that it opens, makes or moves, and at each statement that it sends to SQLite."""
    body = """
import json, os, signal
from train.tracking.store import manifest_digest
WATCHED = {"open", "os.mkdir", "os.chmod", "os.rename", "os.link", "os.remove", "sqlite3.connect"}
for moment in itertools.count():
    child = os.fork()
    if not child:
        left = itertools.count()
        def bomb(*_):
            if next(left) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(lambda event, _: bomb() if event in WATCHED else None)
        store = Store()
        store._connection.set_trace_callback(bomb)
        put(store, "probe", {"a": f"{moment}", "b/c": f"{moment} too", "same": "same"}, ["one", "two"])
        os._exit(0)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    store = Store()
    versions = store.versions()
    aliases = {alias: found.number for alias in ("one", "two", "latest") if (found := store.find("probe", alias))}
    problems = [str(problem) for problem in store.verify()]
    runs = store._connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
    store.close()
    print(json.dumps([killed, len(versions), aliases, problems, runs]), flush=True)
    if not killed:
        break
"""
    process = script(body)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    states: list[tuple[bool, int, dict[str, int], list[str], int]] = [json.loads(line) for line in out.splitlines()]
    assert len(states) > 30  # moments
    count = 0
    for killed, versions, aliases, problems, runs in states:
        assert problems == []
        assert versions in ((count, count + 1) if killed else (count + 1,))
        assert runs == versions
        assert aliases == ({} if versions == 0 else dict.fromkeys(("one", "two", "latest"), versions - 1))
        count = versions
    store = Store()
    assert store.orphans()  # what the killed ones left
    free(store)
    assert store.orphans() == []
    assert len(store.versions()) == 1
    assert store.verify() == []
    store.close()


def test_ctrl_c_at_any_line_leaves_the_state_before_or_after_and_a_store_in_order(store: Store) -> None:
    count = 0
    for moment in itertools.count():
        before = sys.gettrace()
        sys.settrace(_pressing_ctrl_c_at(moment))
        try:
            put_all(store, {"encoder": ({"e": f"{moment}"}, ["a"]), "training": ({"t": f"{moment}"}, ["a"])})
            pressed = False
        except KeyboardInterrupt:
            pressed = True
        finally:
            sys.settrace(before)
        versions = {name: [version.number for version in store.versions(name)] for name in ("encoder", "training")}
        assert versions["encoder"] == versions["training"]
        assert len(versions["encoder"]) in ((count, count + 1) if pressed else (count + 1,))
        count = len(versions["encoder"])
        if not pressed:
            break
    assert moment > 30


def _pressing_ctrl_c_at(moment: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that raises at one of the lines which the store runs to commit."""
    left = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if code.co_filename != store_module.__file__ or code.co_name not in (
            "commit",
            "_insert",
            "_point",
            "transaction",
        ):
            return None
        if event == "line" and next(left) == moment:
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


def test_one_flipped_bit_is_found_with_all_that_it_breaks_and_the_good_bytes_heal_it(store: Store) -> None:
    put(store, "images", {"x": "shared", "y": "1"}, ["digits"])
    put(store, "encoder", {"deep/z": "shared"}, ["a"], [("images", "digits")])
    put(store, "embeddings", {"e": "sound"}, ["a"], [("encoder", "a")])
    put(store, "probe", {"p": "sound too"}, ["a"], [("embeddings", "a")])
    put(store, "images", {"q": "another"}, ["photos"])
    assert store.verify() == []
    path = damage(store, hashlib.md5(b"shared").hexdigest())
    (problem,) = store.verify()
    assert problem.what.startswith(f"{path} ")
    assert problem.breaks == ("images:v0 (x)", "encoder:v0 (deep/z)")
    assert problem.beyond == ("embeddings:v0", "probe:v0")
    for name in ("images", "encoder"):
        with pytest.raises(Problem, match=rf"{name}:v0 is damaged: .*{path}.*FRESH=1"):
            store.folder(store.get(name, "v0"))
    assert (store.folder(store.get("embeddings", "a")) / "e").read_text() == "sound"
    assert put(store, "cluster", {"same bytes": "shared"}).number == 0
    assert store.verify() == []
    assert (store.folder(store.get("encoder", "a")) / "deep/z").read_text() == "shared"


def test_a_missing_file_is_a_problem_and_so_is_a_registry_that_lies(store: Store) -> None:
    put(store, "images", {"x": "1"})
    put(store, "probe", {"x": "2", "y": "3"})
    store.object(hashlib.md5(b"1").hexdigest()).unlink()
    with store.transaction() as registry:
        registry.execute("DELETE FROM files WHERE path = 'y'")
    lists, missing = store.verify()
    assert lists.breaks == ("probe:v0",)
    assert missing.what.endswith("is missing")
    assert missing.breaks == ("images:v0 (x)",)


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
print(*[problem.what.rsplit(" ", 3)[1:] for problem in store.verify()])
"""
    if os.getuid():
        pytest.skip("only root can become another user")
    home = Path(os.environ["PEEL_HOME"])
    with opened_to_all(home):
        out, err = script(body).communicate()
    assert err == ""
    assert out.count("'cannot', 'be', 'read'") == 2


class opened_to_all:
    """Lets other users pass through the folders above `path`, which pytest makes for one user only."""

    def __init__(self, path: Path) -> None:
        self.closed = {
            parent: parent.stat().st_mode for parent in path.parents if parent.stat().st_mode & 0o777 == 0o700
        }

    def __enter__(self) -> None:
        for parent, mode in self.closed.items():
            parent.chmod(mode | 0o055)

    def __exit__(self, *_: object) -> None:
        for parent, mode in self.closed.items():
            parent.chmod(mode)


def _newer(root: Path) -> None:
    connection = sqlite3.connect(root / "registry.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()


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
    ("ruin", "said"),
    [
        (_newer, r"written by a newer Peel \(format 99\); update Peel"),
        (_other, "is no registry of Peel's; move it away"),
        (_garbage, "file is not a database; move it away"),
        (_garbage_inside, "malformed.*; move it away"),
        (_file_in_place, "cannot write to .*; set PEEL_HOME"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(ruin: Callable[[Path], None], said: str) -> None:
    store = Store()
    put(store, "probe", {"x": "1"}, ["a"])
    store.close()
    ruin(store.root)
    with pytest.raises(Problem, match=said) as problem:
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
    with opened_to_all(store.root):
        out, err = script(body).communicate()
    assert err == ""
    assert out.count("\n") == 1
    assert str(store.root) in out
    assert "set PEEL_HOME" in out
    assert len(Store().versions()) == 1


# -- reuse -------------------------------------------------------------------------------------------------------------


def names(versions: list[Version] | None) -> list[str] | None:
    return None if versions is None else [version.reference for version in versions]


def test_what_was_made_is_found_again_by_stage_settings_and_inputs(store: Store) -> None:
    put(store, "images", {"x": "1"}, ["digits"])
    put_all(
        store,
        {"encoder": ({"e": "1"}, ["a", "a-s0"]), "training": ({"t": "1"}, ["a"])},
        [("images", "digits")],
        stage="train.pretrain",
        settings="S",
    )
    assert names(store.made("train.pretrain", "S")) == ["encoder:v0", "training:v0"]
    assert store.made("train.pretrain", "other") is None
    assert store.made("train.patches", "S") is None
    put(store, "images", {"x": "2"}, ["digits"])
    assert store.made("train.pretrain", "S") is None  # the input is another now
    put(store, "images", {"x": "1"}, ["digits"])
    assert names(store.made("train.pretrain", "S")) == ["encoder:v0", "training:v0"]


def test_an_optional_input_that_appears_later_is_asked_for_again(store: Store) -> None:
    put(store, "probe", {"p": "1"}, ["a"], [("neighbors", "a")], settings="S")
    assert names(store.made("test.stage", "S")) == ["probe:v0"]
    put(store, "neighbors", {"n": "1"}, ["a"])
    assert store.made("test.stage", "S") is None


def test_reuse_points_the_aliases_at_it_again_as_logging_it_once_more_would(store: Store) -> None:
    put(store, "encoder", {"e": "1"}, ["a", "a-s0"], settings="S")
    put(store, "encoder", {"e": "2"}, ["a"], settings="T")
    put(store, "encoder", {"e": "3"}, ["b"], settings="U")
    (version,) = store.made("test.stage", "S") or []
    assert store.get("encoder", version.reference.partition(":")[2]).aliases == ("a", "a-s0", "latest")
    assert store.get("encoder", "b").number == 2


def test_what_gc_has_freed_a_part_of_is_made_again(store: Store) -> None:
    outputs = {"encoder": ({"e": "1"}, ["a"]), "training": ({"t": "1"}, ["a"])}
    put_all(store, outputs, settings="S")
    put(store, "training", {"t": "2"}, ["a"])
    assert names(store.superseded()) == ["training:v0"]
    free(store)
    assert store.made("test.stage", "S") is None


# -- keeping house -----------------------------------------------------------------------------------------------------


def test_gc_keeps_what_an_alias_names_and_what_that_was_made_from(store: Store) -> None:
    put(store, "images", {"i": "1"}, ["digits"])
    put(store, "encoder", {"e": "1"}, ["a"], [("images", "digits")])
    put(store, "embeddings", {"m": "1"}, ["kept"], [("encoder", "a")])
    put(store, "images", {"i": "2", "common": "c"}, ["digits"])
    put(store, "encoder", {"e": "2"}, ["a"], [("images", "digits")])
    put(store, "encoder", {"e": "3", "common": "c"}, ["a"], [("images", "digits")])
    put(store, "images", {"i": "3", "common": "c"}, ["digits"])
    for version in store.versions():
        store.folder(version)
    assert names(store.superseded()) == ["encoder:v1"]
    free(store)
    assert names(store.versions()) == [
        "images:v0",
        "encoder:v0",
        "embeddings:v0",
        "images:v1",
        "encoder:v2",
        "images:v2",
    ]
    assert sorted(path.name for path in store.folders.iterdir()) == sorted(
        version.reference.replace(":", "-") for version in store.versions()
    )
    assert store.object(hashlib.md5(b"2").hexdigest()).exists()  # images:v1 holds the same bytes
    assert store.verify() == []
    assert store.orphans() == []


def test_the_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    version = put(store, "probe", {"x": "1", "deep/er/y": "2"})
    store.folder(version)
    store.close()
    moved = Store(store.root.rename(tmp_path / "moved"))
    folder = moved.folder(moved.get("probe", "latest"))
    assert folder.is_relative_to(tmp_path / "moved")
    assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == {"x": "1", "y": "2"}
    assert (folder / "deep/er/y").resolve().is_relative_to(tmp_path / "moved")
    moved.close()


def test_what_a_stage_reads_cannot_be_written_to(store: Store) -> None:
    folder = store.folder(put(store, "probe", {"x": "1"}))
    assert (folder / "x").stat().st_mode & 0o222 == 0
