"""A run's record is found wherever W&B's client wrote it, whatever the environment says later."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.train.tracking.test_stage import Config, write
from train.tracking import Stage, traces
from train.tracking.store import Store, home, housekeeping


def prepare(text: str = "pixels") -> str:
    """A run with a curve and a table. Returns its id."""
    with Stage("train.prepare", Config()) as stage:
        stage.dataset = "digits"
        stage.log({"x": 1.0})
        stage.panel("table", pd.DataFrame({"x": [1, 2]}))
        stage.publish("images", write({"train": text}), {"dataset": "digits"})
    return stage.id


def dotted(folder: Path) -> str:
    """W&B's client prefers `.wandb` where it is there."""
    (folder / ".wandb").mkdir()
    return str(folder)


PLACES: dict[str, Callable[[Path], str]] = {
    "unset": lambda folder: "",
    "relative": lambda folder: "somewhere",
    "absolute": lambda folder: str(folder / "signs [a]*? %20"),
    "dotted": dotted,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_record_is_found_from_elsewhere(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(there)
    monkeypatch.setenv("WANDB_DIR", PLACES[place](there))
    run = prepare()
    written = [path.parent for path in tmp_path.rglob(f"run-{run}.wandb")]
    monkeypatch.chdir(here)
    for later in ("", str(here)):
        monkeypatch.setenv("WANDB_DIR", later)
        record = traces.record(run)
        assert record is not None and [record.resolve()] == written
    outside = not written[0].is_relative_to(home())
    assert outside == (place != "unset")
    moved = Path(shutil.move(written[0], tmp_path / "moved" if outside else here / "moved"))
    assert traces.record(run) is None
    (home() / "wandb").mkdir(exist_ok=True)
    moved.rename(home() / "wandb" / written[0].name)
    assert traces.record(run) == home() / "wandb" / written[0].name, "where the message says to put it"


def test_a_record_is_found_where_the_environment_says_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare()
    (home() / "wandb").rename(tmp_path / "wandb")
    assert traces.record(run) is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", ".")
    record = traces.record(run)
    assert record is not None and record.parent == tmp_path / "wandb"


def record(name: str, run: str) -> Path:
    folder = home() / "wandb" / name
    folder.mkdir(parents=True)
    (folder / f"run-{run}.wandb").touch()
    return folder


@pytest.mark.parametrize("run", ["[a]", "a*", "a?", "*", "..", "a b", "ä", "a", "b-a", "20260101_000000-a"])
def test_an_id_is_no_pattern(run: str) -> None:
    folders = {
        id_: record(f"offline-run-20260101_00000{i}-{id_}", id_)
        for i, id_ in enumerate(("a", "b-a", "ab", "a1", "[a]", "aa", "a*"))
    }
    assert traces.record(run) == folders.get(run)


def test_of_a_run_that_was_resumed_the_latest_record_counts() -> None:
    sent = record("run-20260103_000000-a", "a")
    assert traces.record("a") == sent, "it can be sent to another place too"
    for name in ("offline-run-20260101_000000-a", "offline-run-20260102_000000-a", "offline-run-20260102_000000-a-1"):
        latest = record(name, "a")  # the last begun in the same second
        assert traces.record("a") == latest


def staged(store: Store) -> list[Path]:
    """The copies that gc would free."""
    (left,) = [part for part in housekeeping.garbage(store, []) if part.kind == "left by W&B"]
    return left.paths


def test_gc_keeps_what_a_record_outside_of_the_home_refers_to(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "outside"))
    run = prepare()
    monkeypatch.setenv("WANDB_DIR", "")
    stray = home() / "wandb/data/artifacts/staging/tmpabc_1234"
    copies = set(stray.parent.iterdir())
    stray.write_text("of no run")
    free = staged(store)
    assert stray in free and len(copies - set(free)) == 1, "the table that the record refers to stays"
    away = (tmp_path / "outside").rename(tmp_path / "away")
    assert staged(store) == [], "it may be needed yet"
    away.rename(tmp_path / "outside")
    assert staged(store) == free
    store.remember("somewhere", {}, run)
    shutil.rmtree(tmp_path / "outside")
    assert set(staged(store)) == {stray, *copies}, "its record is gone, and was sent before"


def test_a_staging_folder_of_others_is_not_ours_to_tidy(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    prepare()
    theirs = tmp_path / "data/artifacts/staging/tmpabc_1234"
    theirs.write_text("of another program")
    assert staged(store) == [] and theirs.exists()


def test_the_notes_of_a_record_are_the_stages_finding() -> None:
    with Stage("train.prepare", Config()) as stage:
        stage.dataset = "digits"
        stage.log({"x": 1.0})
        stage.finding = "images digits: größer, 95.0 %"
        stage.publish("images", write({"train": "pixels"}), {"dataset": "digits"})
    record = traces.record(stage.id)
    assert record and traces.notes(record / f"run-{stage.id}.wandb") == "images digits: größer, 95.0 %"
    silent = traces.record(prepare("other"))
    assert silent and traces.notes(next(silent.glob("*.wandb"))) is None
    assert traces.notes(record / "nothing") is None
