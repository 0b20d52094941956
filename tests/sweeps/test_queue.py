"""The study that runners share: each trial is one runner's at a time, and nothing of it is lost."""

import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from sweeps import queue
from tests.parts.sweeps import FLOORS, SEARCH, open_queue, read_study, write_sweep
from train.tracking import Problem
from train.tracking.store import home


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


def test_the_trial_of_a_silent_runner_is_another_runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sweep(tmp_path, FLOORS, patches={"values": [2, 3]})
    silent, lively = open_queue(path), open_queue(path)
    lease = silent.lease(None)
    assert lease is not None and silent.renew(lease.number)
    other = lively.lease(None)
    assert other is not None and other.number != lease.number
    monkeypatch.setattr(queue, "GRACE", -1.0)
    successor = lively.lease(None)
    assert successor == lease
    assert not silent.renew(lease.number)
    silent.report(lease.number, {0: 5.0})
    silent.release(lease.number)
    assert not silent.finish(lease.number, TrialState.COMPLETE, 5.0, {})
    assert lively.finish(lease.number, TrialState.COMPLETE, 7.0, {})
    trial = read_study("floors").trials[lease.number]
    assert (trial.value, trial.intermediate_values) == (7.0, {})


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
