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
from tests.parts.sweeps import FLOORS, SEARCH, opened, read_study, written
from train.tracking import Problem
from train.tracking.store import home


def claim_all(path: Path, claimed: "multiprocessing.Queue[list[tuple[int, Any]]]") -> None:
    own = opened(path)
    taken = []
    while claim := own.claim(own.definition.run_cap):
        taken.append((claim.number, claim.point["patches"]))
        own.finish(claim.number, TrialState.COMPLETE, 1.0, {})
    claimed.put(taken)


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_three_processes_claim_every_trial_once(tmp_path: Path, method: str) -> None:
    parameter: dict[str, Any] = {"values": list(range(1, 13))} if method == "grid" else {"min": 1, "max": 10**9}
    path = written(tmp_path, {**SEARCH, "method": method, "run_cap": 12}, patches=parameter)
    context = multiprocessing.get_context("fork")
    claimed: Any = context.Queue()
    processes = [context.Process(target=claim_all, args=(path, claimed)) for _ in range(3)]
    for process in processes:
        process.start()
    taken = [entry for _ in processes for entry in claimed.get(timeout=120)]
    for process in processes:
        process.join()
    assert sorted(number for number, _ in taken) == list(range(12))
    assert len({value for _, value in taken}) == 12
    assert {trial.params["patches"] for trial in read_study("floors").trials} == {value for _, value in taken}


def test_the_trial_of_a_silent_runner_is_another_runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, FLOORS, patches={"values": [2, 3]})
    silent, lively = opened(path), opened(path)
    claim = silent.claim(None)
    assert claim is not None and silent.beat(claim.number)
    other = lively.claim(None)
    assert other is not None and other.number != claim.number
    monkeypatch.setattr(queue, "GRACE", -1.0)
    taken = lively.claim(None)
    assert taken == claim
    assert not silent.beat(claim.number)
    silent.report(claim.number, {0: 5.0})
    silent.give_back(claim.number)
    assert not silent.finish(claim.number, TrialState.COMPLETE, 5.0, {})
    assert lively.finish(claim.number, TrialState.COMPLETE, 7.0, {})
    found = read_study("floors").trials[claim.number]
    assert (found.value, found.intermediate_values) == (7.0, {})


def test_a_grid_whose_founder_was_killed_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_trial = optuna.Study.add_trial

    def add_the_first(founded: optuna.Study, trial: FrozenTrial) -> None:
        if founded.trials:
            raise KeyboardInterrupt
        add_trial(founded, trial)

    path = written(tmp_path, FLOORS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(optuna.Study, "add_trial", add_the_first)
        opened(path)
    assert len(read_study("floors").trials) == 1
    assert [trial.params for trial in opened(path).trials()] == [{"patches": count} for count in (2, 3, 4)]


def test_a_search_goes_on_to_a_larger_cap_and_no_further(tmp_path: Path) -> None:
    def claim_and_fail(content: Mapping[str, Any], cap: int | None, times: int) -> list[int]:
        own = opened(written(tmp_path, content))
        numbers = []
        for _ in range(times):
            if claim := own.claim(cap):
                own.finish(claim.number, TrialState.FAIL, None, {"exit_code": 1})
                numbers.append(claim.number)
        own.close()
        return numbers

    assert claim_and_fail(SEARCH, 3, 5) == [0, 1, 2]
    assert claim_and_fail({**SEARCH, "run_cap": 4}, 4, 5) == [3]
    assert claim_and_fail({**SEARCH, "run_cap": 4}, None, 2) == [4, 5]


def test_a_random_search_can_be_repeated(tmp_path: Path) -> None:
    def drawn(name: str) -> list[Any]:
        own = opened(written(tmp_path, SEARCH, name))
        claims = [own.claim(None) for _ in range(6)]
        own.close()
        return [claim.point["patches"] for claim in claims if claim]

    first = drawn("one")
    assert len(set(first)) > 3
    assert drawn("other") == first


def test_a_bayesian_search_draws_where_the_metric_was_better(tmp_path: Path) -> None:
    best = 70
    distances = {}
    for method in ("bayes", "random"):
        own = opened(written(tmp_path, {**SEARCH, "method": method}, method))
        drawn = []
        for _ in range(30):
            claim = own.claim(None)
            assert claim is not None
            value = claim.point["patches"]
            assert isinstance(value, int)
            own.finish(claim.number, TrialState.COMPLETE, -(float(value - best) ** 2), {})
            drawn.append(abs(value - best))
        own.close()
        distances[method] = float(np.median(drawn[-15:]))
    assert distances["bayes"] < distances["random"]


def test_a_study_of_other_parameters_is_not_continued(tmp_path: Path) -> None:
    opened(written(tmp_path, FLOORS)).close()
    opened(written(tmp_path, {**FLOORS, "description": "the same"})).close()
    with pytest.raises(Problem, match=r"not what the study floors was begun with.*rename the file"):
        opened(written(tmp_path, FLOORS, patches={"values": [2, 3]}))
    opened(written(tmp_path, FLOORS, patches={"values": [2, 3]}), "patches=2").close()  # has a name of its own


def test_a_file_that_is_no_study_is_named(tmp_path: Path) -> None:
    path = home() / "sweeps" / "floors.sqlite"
    path.parent.mkdir(parents=True)
    path.write_text("something else, and long enough to be taken for a database" * 10)
    with pytest.raises(Problem, match=r"cannot use .*floors\.sqlite"):
        opened(written(tmp_path, FLOORS))
