"""The study that runners share: each trial is one runner's at a time, and nothing of it is lost."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from eval.evidence.sweeps import read
from sweeps import definition
from sweeps.queue import Queue, as_begun
from tests.parts.sweeps import FLOORS, SEARCH, TRAINING, open_queue, read_study, write_sweep
from train.tracking import Problem, stage_command
from train.tracking.store import home

CONSTANTS = {"images": {"value": "tiny"}, "preset": {"value": "small"}}


def lease_all(path: Path, results: "multiprocessing.Queue[list[tuple[int, Any]]]") -> None:
    own = open_queue(path)
    leases = []
    while lease := own.lease(own.definition.run_cap):
        leases.append((lease.number, lease.point["patches"]))
        own.finish(lease.number, TrialState.COMPLETE, 1.0, {})
    results.put(leases)


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_three_processes_claim_every_trial_once(tmp_path: Path, method: str) -> None:
    parameter: dict[str, Any] = {"values": list(range(1, 13))} if method == "grid" else {"min": 1, "max": 10**9}
    path = write_sweep(tmp_path, {**SEARCH, "method": method, "run_cap": 12}, patches=parameter)
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    processes = [context.Process(target=lease_all, args=(path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    leases = [entry for _ in processes for entry in results.get(timeout=120)]
    for process in processes:
        process.join()
    assert sorted(number for number, _ in leases) == list(range(12))
    assert len({value for _, value in leases}) == 12
    assert {trial.params["patches"] for trial in read_study("floors").trials} == {value for _, value in leases}


def test_the_trial_of_a_dead_runner_is_another_runners_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, FLOORS, patches={"values": [2, 3]})
    dying, lively = open_queue(path), open_queue(path)
    lease = dying.lease(None)
    assert lease is not None
    other = lively.lease(None)
    assert other is not None and other.number != lease.number
    assert lively.lease(None) is None  # it lives, however long it says nothing
    Path(dying._life.name).unlink()  # as after its death
    assert lively.lease(None) == lease
    dying.report(lease.number, {0: 5.0})
    dying.release(lease.number)
    assert not dying.finish(lease.number, TrialState.COMPLETE, 5.0, {})
    assert lively.finish(lease.number, TrialState.COMPLETE, 7.0, {})
    trial = read_study("floors").trials[lease.number]
    assert (trial.value, trial.intermediate_values) == (7.0, {})


def lease_and_die(path: Path) -> None:
    open_queue(path).lease(None)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_is_set_neither_robs_the_living_nor_waits_for_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    path = write_sweep(tmp_path, FLOORS, patches={"values": [2, 3]})
    process = multiprocessing.get_context("fork").Process(target=lease_and_die, args=(path,))
    process.start()
    process.join()
    living = open_queue(path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + hours * 3600)
    other = open_queue(path)
    first, second = living.lease(None), other.lease(None)
    assert first is not None and second is not None
    assert (first.number, second.number) == (0, 1)  # the dead one's at once
    assert other.lease(None) is living.lease(None) is None
    assert sorted(path.name for path in living.files.glob("*.runner")) == sorted(
        Path(own._life.name).name for own in (living, other)
    )
    living.close()
    other.close()
    assert not list(living.files.glob("*.runner"))


def test_an_old_runner_lives_for_as_long_as_its_program(tmp_path: Path) -> None:
    own = open_queue(write_sweep(tmp_path, FLOORS, patches={"values": [2]}))
    old = own._study.ask()
    own._mark(old.number, runner="old", heartbeat=0.0)
    with (own.files / "0.lock").open("w") as program:
        fcntl.flock(program, fcntl.LOCK_EX)
        assert own.lease(None) is None
    lease = own.lease(None)
    assert lease is not None and lease.number == 0
    assert open_queue(own.definition.file).lease(None) is None


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    path = write_sweep(tmp_path, FLOORS)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(Problem, match=r"cannot lock .*floors.*: No locks available; set PEEL_HOME"):
        open_queue(path)


@pytest.mark.parametrize(
    "folder", ["a%20b", "what?", "it's #1", "x;y&z=1", "%3Fmode=ro", "50%", "ä", os.fsdecode(b"\xff")]
)
def test_a_study_lies_where_its_folder_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("PEEL_HOME", str(tmp_path / folder))
    own = open_queue(write_sweep(tmp_path, FLOORS, patches={"values": [2]}))
    lease = own.lease(None)
    assert lease is not None and own.finish(lease.number, TrialState.COMPLETE, 7.0, {})
    own.close()
    (trial,) = read("floors").trials
    assert (trial.value, trial.parameters) == (7.0, {"patches": 2})
    assert own.path.is_file()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".yaml"] == [folder]


def test_a_study_that_began_with_yamls_types_goes_on(tmp_path: Path) -> None:
    """As those before choices were read by the program's types: `1e-4` is a text there."""
    path = tmp_path / "rates.yaml"
    path.write_text(
        yaml.safe_dump({**TRAINING, "parameters": {**CONSTANTS, "learning_rate": {"values": ["1e-4", 0.01, 1]}}})
    )
    old = definition.read(path)
    early = Queue(old, home() / "sweeps")
    first = early.lease(None)
    assert first is not None and first.point == {"learning_rate": "1e-4"}
    early.finish(first.number, TrialState.COMPLETE, 0.5, {})
    early.close()
    own = Queue(old.in_types_of(stage_command("train.pretrain")), home() / "sweeps")
    leases = [own.lease(None), own.lease(None)]
    assert [lease and lease.point["learning_rate"] for lease in leases] == [0.01, 1.0]
    assert own.lease(None) is None


def test_a_study_that_began_when_the_texts_were_part_of_its_name_goes_on(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, {"name": "Patches", **FLOORS})
    sweep = definition.read(path, ["images=other"])
    whole = json.dumps(dict(sweep.content), sort_keys=True)
    before = f"{path.stem}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    folder = home() / "sweeps"
    assert as_begun(sweep, folder).name == sweep.name != before
    early = Queue(dataclasses.replace(sweep, name=before), folder)
    first = early.lease(None)
    assert first is not None
    early.finish(first.number, TrialState.COMPLETE, 0.5, {})
    early.close()
    own = Queue(as_begun(sweep, folder), folder)
    assert [trial.state for trial in own.trials()] == [TrialState.COMPLETE, TrialState.WAITING, TrialState.WAITING]
    own.close()


def test_a_grid_with_a_cap_queues_no_more_than_that(tmp_path: Path) -> None:
    content = {**FLOORS, "run_cap": 3}
    own = open_queue(write_sweep(tmp_path, content, patches={"min": 1, "max": 10**12}))
    assert [trial.params["patches"] for trial in own.trials()] == [1, 2, 3]
    own.close()
    own = open_queue(write_sweep(tmp_path, {**content, "run_cap": 4}, patches={"min": 1, "max": 10**12}))
    assert len(own.trials()) == 4


def test_a_grid_whose_founder_was_killed_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_trial = optuna.Study.add_trial

    def add_the_first(study: optuna.Study, trial: FrozenTrial) -> None:
        if study.trials:
            raise KeyboardInterrupt
        add_trial(study, trial)

    path = write_sweep(tmp_path, FLOORS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(optuna.Study, "add_trial", add_the_first)
        open_queue(path)
    assert len(read_study("floors").trials) == 1
    assert [trial.params for trial in open_queue(path).trials()] == [{"patches": count} for count in (2, 3, 4)]


def test_a_search_goes_on_to_a_larger_cap_and_no_further(tmp_path: Path) -> None:
    def lease_and_fail(content: Mapping[str, Any], cap: int | None, times: int) -> list[int]:
        own = open_queue(write_sweep(tmp_path, content))
        numbers = []
        for _ in range(times):
            if lease := own.lease(cap):
                own.finish(lease.number, TrialState.FAIL, None, {"exit_code": 1})
                numbers.append(lease.number)
        own.close()
        return numbers

    assert lease_and_fail(SEARCH, 3, 5) == [0, 1, 2]
    assert lease_and_fail({**SEARCH, "run_cap": 4}, 4, 5) == [3]
    assert lease_and_fail({**SEARCH, "run_cap": 4}, None, 2) == [4, 5]


def test_a_random_search_can_be_repeated(tmp_path: Path) -> None:
    def draws(name: str) -> list[Any]:
        own = open_queue(write_sweep(tmp_path, SEARCH, name))
        leases = [own.lease(None) for _ in range(6)]
        own.close()
        return [lease.point["patches"] for lease in leases if lease]

    first = draws("one")
    assert len(set(first)) > 3
    assert draws("other") == first


def test_a_bayesian_search_draws_where_the_metric_was_better(tmp_path: Path) -> None:
    best = 70
    distances = {}
    for method in ("bayes", "random"):
        own = open_queue(write_sweep(tmp_path, {**SEARCH, "method": method}, method))
        draws = []
        for _ in range(30):
            lease = own.lease(None)
            assert lease is not None
            value = lease.point["patches"]
            assert isinstance(value, int)
            own.finish(lease.number, TrialState.COMPLETE, -(float(value - best) ** 2), {})
            draws.append(abs(value - best))
        own.close()
        distances[method] = float(np.median(draws[-15:]))
    assert distances["bayes"] < distances["random"]


def test_a_study_of_other_parameters_is_not_continued(tmp_path: Path) -> None:
    open_queue(write_sweep(tmp_path, FLOORS)).close()
    open_queue(write_sweep(tmp_path, {**FLOORS, "description": "the same"})).close()
    with pytest.raises(Problem, match=r"differs from the file that the study floors began with.*rename the file"):
        open_queue(write_sweep(tmp_path, FLOORS, patches={"values": [2, 3]}))
    open_queue(write_sweep(tmp_path, FLOORS, patches={"values": [2, 3]}), "patches=2").close()  # has a name of its own


def test_a_file_that_is_no_study_is_named(tmp_path: Path) -> None:
    path = home() / "sweeps" / "floors.sqlite"
    path.parent.mkdir(parents=True)
    path.write_text("something else, and long enough to be taken for a database" * 10)
    with pytest.raises(Problem, match=r"cannot use .*floors\.sqlite"):
        open_queue(write_sweep(tmp_path, FLOORS))


@pytest.mark.parametrize("kind", ["other tables", "newer", "cut", "other goal"])
def test_a_database_that_is_no_study_of_ours_is_named(tmp_path: Path, kind: str) -> None:
    sweep = write_sweep(tmp_path, FLOORS)
    path = home() / "sweeps" / "floors.sqlite"
    path.parent.mkdir(parents=True)
    if kind == "other tables":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE studies (a TEXT)")
    else:
        open_queue(sweep).close()
    if kind == "newer":
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0'")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-8192])
    if kind == "other goal":
        sweep = write_sweep(tmp_path, {**FLOORS, "metric": {"name": "patches/features", "goal": "minimize"}})
    with pytest.raises(Problem, match=r"floors\.sqlite.*away"):
        open_queue(sweep).lease(None)


@pytest.mark.parametrize("name", ["floors.sqlite", "floors.lock"])
def test_a_sweep_called_as_the_file_of_another_is_refused(tmp_path: Path, name: str) -> None:
    open_queue(write_sweep(tmp_path, FLOORS))
    with pytest.raises(Problem, match="rename"):
        open_queue(write_sweep(tmp_path, FLOORS, name))


def test_a_full_disk_is_not_the_studys_fault(tmp_path: Path) -> None:
    own = open_queue(write_sweep(tmp_path, FLOORS))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(Problem, match="make room") as error:
            own.lease(None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "move" not in str(error.value)
    lease = own.lease(None)
    assert lease is not None and own.finish(lease.number, TrialState.COMPLETE, 1.0, {})
    own.close()
    assert [trial.state.name for trial in read_study("floors").trials] == ["COMPLETE", "WAITING", "WAITING"]
