"""A store whose registry, journal or both are gone or damaged, and what rebuild makes of it."""

import contextlib
import json
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.parts.versions import free, put, put_all
from tests.train.tracking.store.test_faults import script
from train.prepare import Config
from train.tracking import __main__ as command_line
from train.tracking.origin import Origin
from train.tracking.problem import Problem
from train.tracking.stage import Stage
from train.tracking.store import Store, housekeeping
from train.tracking.store.journal import parse
from train.tracking.store.rebuild import FOLDERS, JOURNAL, REGISTRY, rebuild
from train.tracking.store.records import TABLES, Version
from train.tracking.store.registry import Damaged


def origin(stage: str, dataset: str, variant: str | None, seed: int | None, *inputs: Version, **config: Any) -> str:
    sources = tuple(sorted(f"{version.name}@{version.digest}" for version in inputs))
    return json.dumps(vars(Origin(stage, dataset, variant, seed, config, sources)))


@pytest.fixture
def store(store: Store) -> Store:
    """A study in small, with all that a registry can hold: its folders are those that stages have read."""
    image = origin("train.prepare", "digits", None, None, name="digits")
    digits = put(store, "images", {"x": "1", "origin.json": image}, ["digits"], stage="train.prepare")
    photos = put(store, "images", {"x": "2", "origin.json": origin("train.prepare", "photos", None, None)}, ["photos"])
    text = origin("train.pretrain", "digits", "digits-vicreg", 0, digits)
    outputs = {
        name: ({"w": name, "origin.json": text}, ["digits-vicreg", "digits-vicreg-s0"])
        for name in ("encoder", "training")
    }
    encoder, _ = put_all(store, outputs, [("images", "digits"), ("neighbors", "none")], stage="train.pretrain")
    own = origin("eval.embed", "digits", "digits-vicreg", 0, encoder, digits)
    names = ["digits-vicreg", "digits-vicreg-s0"]
    put(store, "embeddings", {"e": "superseded", "origin.json": own}, names, [("encoder", "digits-vicreg")])
    embeddings = put(store, "embeddings", {"e": "1", "origin.json": own}, names, [("encoder", "digits-vicreg")])
    on = origin("eval.embed", "photos", "digits-vicreg", 0, encoder, photos)
    names = ["digits-vicreg-on-photos", "digits-vicreg-s0-on-photos"]
    others = put(store, "embeddings", {"e": "2", "origin.json": on}, names, [("encoder", "digits-vicreg")])
    anomaly = origin("eval.anomaly", "digits", "digits-vicreg", 0, digits, photos, embeddings, others)
    names = ["digits-vicreg-vs-photos", "digits-vicreg-s0-vs-photos"]
    sources = [("embeddings", "digits-vicreg"), ("embeddings", "digits-vicreg-on-photos")]
    put(store, "anomaly", {"a": "1", "origin.json": anomaly}, names, sources, stage="eval.anomaly")
    free(store)  # embeddings:v0 and its number are gone
    put(store, "embeddings", {"e": "1", "origin.json": own}, [], [("encoder", "digits-vicreg")])
    store.remember("https://w/b/c", {digits.id: "b/c/images:v0"}, store.rows("SELECT id FROM runs")[0]["id"])
    for version in store.versions():
        store.folder(version)
    return store


def content(store: Store) -> dict[str, list[Any]]:
    return {table: [tuple(row) for row in store.rows(f"SELECT * FROM {table} ORDER BY rowid")] for table in TABLES}


def everything(store: Store) -> set[bytes]:
    """The bytes of every file below the store, links aside."""
    paths = [path for path in store.root.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.read_bytes() for path in paths if path.name != "lock" and not path.name.endswith("-shm")}


def remove_registry(root: Path) -> None:
    (root / "registry.sqlite").unlink()


def empty_registry(root: Path) -> None:
    (root / "registry.sqlite").write_bytes(b"")


def cut_registry(root: Path) -> None:
    text = (root / "registry.sqlite").read_bytes()
    (root / "registry.sqlite").write_bytes(text[: len(text) // 2])


def other_registry(root: Path) -> None:
    """Whole in itself, and not what the journal says."""
    with contextlib.closing(sqlite3.connect(root / "registry.sqlite")) as connection, connection:
        connection.execute("DELETE FROM aliases WHERE alias LIKE '%photos'")


def founded_anew(root: Path) -> None:
    """The registry was moved away, as older advice had it, and a stage has founded an empty one."""
    other = Store(root.parent / "other")
    other.close()
    shutil.copyfile(other.database, root / "registry.sqlite")


def remove_journal(root: Path) -> None:
    (root / "journal").unlink()


def cut_journal(root: Path) -> None:
    text = (root / "journal").read_bytes()
    (root / "journal").write_bytes(text[: len(text) // 2])


def swap_lines(root: Path) -> None:
    lines = (root / "journal").read_bytes().splitlines(keepends=True)
    (root / "journal").write_bytes(b"".join([*lines[:-2], lines[-1], lines[-2]]))


@pytest.mark.parametrize(
    ("ruin", "source"),
    [
        (remove_registry, JOURNAL), (empty_registry, JOURNAL), (cut_registry, JOURNAL), (other_registry, JOURNAL),
        (remove_journal, REGISTRY), (cut_journal, REGISTRY), (swap_lines, REGISTRY),
    ],
)  # fmt: skip
def test_registry_or_journal_is_made_from_the_other_and_nothing_goes(
    store: Store, ruin: Callable[[Path], None], source: str
) -> None:
    before = content(store)
    store.close()
    ruin(store.root)
    files = everything(store)
    with pytest.raises(Damaged, match=r"run: python -m train\.tracking rebuild") as problem:
        Store()
    assert "move" not in str(problem.value).replace("removes no file", "")
    result = rebuild(store.root)
    assert result is not None and result.source == source
    assert files <= everything(store)
    with Opened() as again:
        assert content(again) == before
        assert housekeeping.verify(again) == []
        assert put(again, "embeddings", {"e": "new"}).number == 3, "no number is given twice"
    assert rebuild(store.root) is None, "it is sound now"
    ruin(store.root)
    second = rebuild(store.root)
    assert second is not None and second.aside.name == "set-aside-2"


class Opened:
    """The store of this PEEL_HOME, closed at the end."""

    def __enter__(self) -> Store:
        self.store = Store()
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


def test_an_empty_registry_over_a_journal_catches_up_with_it(store: Store) -> None:
    before = content(store)
    store.close()
    founded_anew(store.root)
    with Opened() as again:
        assert content(again) == before


def test_a_missing_registry_stops_every_command_until_rebuild(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    store.close()
    for path in store.root.glob("registry.sqlite*"):
        path.unlink()
    before = everything(store)

    def ask(*command: str) -> tuple[int, str]:
        try:
            command_line.main(command)
        except Problem as problem:
            return 2, str(problem)
        except SystemExit as end:
            return int(str(end.code)), capsys.readouterr().out
        return 0, capsys.readouterr().out

    code, text = ask("verify")
    count = len([*store.objects.glob("*/*")])
    assert code == 1 and f"is missing, and {count} stored files and a journal are there" in text
    for command in ("ls", "gc", "gc --yes", "show images", "publish --dry-run", "pull images --to out"):
        code, text = ask(*command.split())
        assert code == 2 and "run: python -m train.tracking rebuild" in text, command
    with pytest.raises(Damaged), Stage("train.prepare", Config("digits")):
        pass
    assert everything(store) == before
    assert not store.database.exists()
    code, text = ask("rebuild")
    assert code == 0 and "made anew from its journal: 7 versions of 8 runs" in text
    assert ask("verify")[0] == 0
    assert ask("rebuild") == (0, "the registry agrees with its journal; nothing was changed\n")


def older(store: Store) -> None:
    """Makes it a store of the format without a journal."""
    store._connection.execute("DROP TABLE journal")
    store._connection.execute("PRAGMA user_version = 2")
    store.close()
    store.journal.unlink()


def test_a_store_without_a_journal_gets_one_with_all_that_it_holds(store: Store) -> None:
    before = content(store)
    older(store)
    with Opened() as again:
        assert content(again) == before
    remove_registry(store.root)
    result = rebuild(store.root)
    assert result is not None and result.source == JOURNAL
    with Opened() as again:
        assert content(again) == before


def test_a_damaged_store_without_a_journal_does_not_become_the_truth(store: Store) -> None:
    store._connection.execute("UPDATE files SET md5 = 'f' || substr(md5, 2) WHERE path = 'e'")
    older(store)
    with pytest.raises(Damaged, match="files that do not match their digest"):
        Store()


def test_a_run_that_an_older_peel_ended_after_the_journal_had_begun_stays(store: Store) -> None:
    before = content(store)
    put(store, "probe", {"x": "1"}, ["a"])
    after = content(store)
    text = store.journal.read_bytes().splitlines(keepends=True)
    store.journal.write_bytes(b"".join(text[:-1]))  # it has no line there
    entries, end = parse(store.journal.read_bytes())
    store._connection.execute("UPDATE journal SET size = ?, head = ?", [end, entries[-1].head])
    store.close()
    with pytest.raises(Damaged, match="is not what the journal says"):
        Store()
    result = rebuild(store.root)
    assert result is not None and (result.source, result.unclaimed) == (REGISTRY, 0)
    with Opened() as again:
        assert content(again) == after != before


@pytest.mark.parametrize("also_founded", [False, True])
def test_without_registry_and_journal_folders_and_origins_tell_what_was_made(store: Store, also_founded: bool) -> None:
    before = {version.reference: (version.digest, {*version.aliases}) for version in store.versions()}
    loose = put(store, "report", {"never": "read"}, ["digits"])
    older(store)
    remove_registry(store.root)
    if also_founded:
        founded = Store(store.root.parent / "founded")
        older(founded)
        shutil.copyfile(founded.database, store.database)
    files = everything(store)
    result = rebuild(store.root)
    assert result is not None and result.source == FOLDERS
    assert files - everything(store) == set(), "what belongs to no version is set aside"
    assert result.unclaimed == len([*result.aside.glob("objects/*/*")]) > 0
    with Opened() as again:
        after = {version.reference: (version.digest, {*version.aliases}) for version in again.versions()}
        for reference, (digest, aliases) in before.items():
            assert after[reference][0] == digest
            assert after[reference][1] - {"latest"} == (aliases - {"latest"}) | {
                f"rebuilt-{reference.partition(':')[2]}"
            }
        assert loose.reference not in after, "no stage has read it"
        maker = again.maker(again.get("anomaly", "digits-vicreg-vs-photos"))
        assert maker is not None and maker.stage == "eval.anomaly"
        sources = {version.reference for version in maker.inputs.values() if version}
        assert sources == {"images:v0", "images:v1", "embeddings:v1", "embeddings:v2"}
        assert len(again.outputs(again.maker(again.get("encoder", "latest")) or maker)) == 2, "one run made both"
        assert not any((housekeeping.superseded(again), housekeeping.orphans(again), housekeeping.verify(again)))
        assert again.reuse("train.prepare", "") is None or maker.settings == ""
        assert put(again, "embeddings", {"e": "new"}, kind="embeddings").number == 3


def test_a_store_may_be_made_from_its_folders_twice(store: Store) -> None:
    """The second time some of it is in the journal, some of it is not, and a folder stands there twice."""
    before = {version.reference for version in store.versions()}
    store.close()
    for number in (7, 8):
        store.journal.write_bytes(store.journal.read_bytes()[:-20])
        (store.root / "registry.sqlite").write_bytes(b"")
        result = rebuild(store.root)
        assert result is not None and result.source == FOLDERS
        with Opened() as again:
            assert before <= {version.reference for version in again.versions()}
            source = again.folder(again.get("embeddings", "digits-vicreg"))
            files = {"e": "made again", "origin.json": (source / "origin.json").read_text()}
            again.folder(put(again, "embeddings", files, kind=again.get("embeddings", "latest").type))
            before |= {version.reference for version in again.versions()}
        shutil.copytree(source, source.with_name(f"embeddings-v{number}"), symlinks=True)
        (store.root / "set-aside-mine").mkdir(exist_ok=True)


def test_a_full_disk_does_not_make_rebuild_take_the_registry_for_damaged(store: Store) -> None:
    before = content(store)
    remove_journal(store.root)
    store.close()
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for size in range(0, 120_000, 8_192):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, room[1]))
        try:
            with contextlib.suppress(Problem):
                result = rebuild(store.root)
                assert result is None or result.source != FOLDERS
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)
    signal.signal(signal.SIGXFSZ, handler)
    rebuild(store.root)
    with Opened() as again:
        assert content(again) == before


def test_rebuild_waits_for_no_stage(store: Store) -> None:
    store.close()
    remove_registry(store.root)
    with store.in_use(), pytest.raises(Problem, match="run rebuild again when it has ended"):
        rebuild(store.root)
    assert not store.database.exists()


def test_a_killed_rebuild_is_done_again_by_the_next(store: Store) -> None:
    """A fork is killed at each file that it opens, makes, moves or removes."""
    before = content(store)
    store.close()
    body = """
import os, shutil, signal, json, itertools
from train.tracking.store.journal import parse
from train.tracking.store.rebuild import rebuild
WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "shutil.copyfile", "sqlite3.connect"}
root, copy = Path(sys.argv[1]), Path(sys.argv[1]).with_name("copy")
shutil.copytree(root, copy, symlinks=True)
for name in ("registry.sqlite", "journal"):
    for moment in itertools.count():
        shutil.rmtree(root)
        shutil.copytree(copy, root, symlinks=True)
        content = bytearray((root / name).read_bytes())
        content[60 if name == "journal" else 18] ^= 255
        (root / name).write_bytes(content)
        child = os.fork()
        if not child:
            counter = itertools.count()
            def bomb(event):
                if event in WATCHED and next(counter) == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(lambda event, _: bomb(event))
            rebuild(root)
            os._exit(0)
        dead = os.waitpid(child, 0)[1] == signal.SIGKILL
        rebuild(root)
        store = Store(root)
        rows = [[tuple(row) for row in store.rows(f"SELECT * FROM {table} ORDER BY rowid")] for table in json.loads(sys.argv[2])]
        store.close()
        print(json.dumps(rows), flush=True)
        if not dead:
            print(json.dumps(moment))
            break
"""
    process = script("from pathlib import Path\n" + body, store.root, json.dumps(TABLES))
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    states = [json.loads(line) for line in out.splitlines()]
    moments = [state for state in states if isinstance(state, int)]
    assert len(moments) == 2 and min(moments) > 10
    truth = json.loads(json.dumps(list(before.values())))
    assert all(state == truth for state in states if not isinstance(state, int))
