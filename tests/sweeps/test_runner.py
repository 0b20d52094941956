"""Sweeps on this machine: real runners, real programs, trials that are shared, given back, stopped, reused and failed."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from sweeps import run
from sweeps.runner import duration, progress
from tests.parts.processes import Process, start
from tests.parts.sweeps import FLOORS, SEARCH, TRAINING, open_queue, publish_images, read_study, write_sweep
from train.tracking import Problem
from train.tracking.store import Store, home


def runner(*arguments: object) -> Process:
    return start("-m", "sweeps.run", *arguments, together=True)


def end(process: Process) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.wait(), output


def until(true: Callable[[], object]) -> None:
    for _ in range(2400):
        if true():
            return
        time.sleep(0.05)
    raise TimeoutError("it did not happen in two minutes")


def runs(stage: str) -> list[dict[str, Any]]:
    """The configurations of all runs of a stage that came to their end."""
    rows = Store().rows("SELECT config FROM runs WHERE stage = ?", [stage])
    return [json.loads(row["config"]) for row in rows]


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- real runners and programs -----------------------------------------------------------------------------------------


def test_two_runners_share_a_grid_and_prepare_its_images_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, FLOORS, images={"value": "digits"})
    endings = [end(process) for process in [runner(path), runner(path)]]
    assert [code for code, _ in endings] == [0, 0], endings
    assert [config["dataset"] for config in runs("train.prepare")] == ["digits"]
    assert sorted(config["patches"] for config in runs("train.patches")) == [2, 3, 4]
    study = read_study("floors")
    assert study.user_attrs == {"file": "floors.yaml", "definition": yaml.safe_load(path.read_text())}
    # Eight features a patch, as train.patches says of itself.
    assert [(trial.state, trial.params, trial.value) for trial in study.trials] == [
        (TrialState.COMPLETE, {"patches": count}, 8 * count) for count in (2, 3, 4)
    ]
    variants = {
        run.id: run.variant for run in (Store().maker(version) for version in Store().versions("encoder")) if run
    }
    assert {trial.user_attrs["run"]: trial.user_attrs["variant"] for trial in study.trials} == variants
    assert study.best_trial.user_attrs["command"] == ["-m", "train.patches", "--images=digits", "--patches=4"]
    assert all("floors is finished: 3 complete" in output for _, output in endings)
    capsys.readouterr()
    run.main(run.Config(path))  # a finished grid says so
    assert "floors is finished: 3 complete" in capsys.readouterr().out
    assert len(runs("train.patches")) == 3


def test_a_trial_is_queued_again_after_ctrl_c_and_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_images()
    path = write_sweep(tmp_path, FLOORS, patches={"values": [2, 3]})
    log = home() / "sweeps" / "floors" / "0.log"

    interrupted = runner(path)
    until(log.exists)
    interrupted.send_signal(signal.SIGINT)  # to the runner alone
    code, output = end(interrupted)
    assert (code, "goes on from here" in output) == (130, True), output
    assert [trial.state for trial in read_study("floors").trials] == [TrialState.WAITING, TrialState.WAITING]
    log.unlink()

    killed = runner(path)
    pid = home() / "sweeps" / "floors" / "0.lock"
    until(lambda: log.exists() and pid.read_text())
    program = int(pid.read_text())
    killed.kill()
    end(killed)
    assert read_study("floors").trials[0].state == TrialState.RUNNING  # nobody knows yet
    assert alive(program)

    run.main(run.Config(path))
    assert "floors is finished: 2 complete" in capsys.readouterr().out
    assert not alive(program)
    assert [(trial.state, trial.value) for trial in read_study("floors").trials] == [
        (TrialState.COMPLETE, 16),
        (TrialState.COMPLETE, 24),
    ]
    assert sorted(config["patches"] for config in runs("train.patches")) == [2, 3]


def test_what_outlives_its_killed_runner_and_comes_to_its_end_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_images()
    path = write_sweep(tmp_path, FLOORS, patches={"values": [2]})
    killed = runner(path)
    pid = home() / "sweeps" / "floors" / "0.lock"
    until(lambda: pid.exists() and pid.read_text())
    killed.kill()
    end(killed)
    until(lambda: not alive(int(pid.read_text())))
    run.main(run.Config(path))
    assert "reused" in capsys.readouterr().out
    (trial,) = read_study("floors").trials
    # What train.patches says of itself stands in its log alone, and in no artifact.
    assert (trial.state, trial.value, trial.user_attrs["reused"]) == (TrialState.COMPLETE, 16, True)
    assert len(runs("train.patches")) == 1


def test_metrics_are_read_from_the_run_failures_are_recorded_and_what_is_made_is_reused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_images()
    with pytest.raises(SystemExit, match=r"^1$"):  # 2000 are more than all images
        run.main(run.Config(write_sweep(tmp_path, TRAINING, "sizes")))
    output = capsys.readouterr().out
    complete, failed = read_study("sizes").trials
    store = Store()
    folder = store.folder(store.versions("training")[0])
    scores = json.loads((folder / "scores.json").read_text())
    lines = map(json.loads, (home() / "sweeps" / "sizes" / "0.jsonl").read_text().splitlines())
    curve = [line for line in lines if "knn/top1" in line][-1]
    assert (complete.state, complete.value) == (TrialState.COMPLETE, scores["knn/top1"])
    assert complete.intermediate_values == {0: complete.intermediate_values[0], 1: curve["knn/top1"]}
    assert complete.user_attrs["metrics"]["collapse/effective_rank"] == scores["collapse/effective_rank"]
    assert (failed.state, failed.value, failed.user_attrs["exit_code"]) == (TrialState.FAIL, None, 2)
    assert "failed (exit code 2)" in output and "larger than the 40 images" in output
    assert "1 complete, 1 fail" in output

    again = write_sweep(tmp_path, TRAINING, "again", batch_size={"values": [10]})
    run.main(run.Config(again))
    assert "reused" in capsys.readouterr().out
    (reused,) = read_study("again").trials
    assert (reused.value, reused.user_attrs["run"]) == (complete.value, complete.user_attrs["run"])
    assert (reused.user_attrs["exit_code"], reused.user_attrs["reused"]) == (None, True)
    assert len(runs("train.pretrain")) == 1


def test_a_metric_that_the_program_does_not_log_ends_the_sweep_at_its_first_trial(tmp_path: Path) -> None:
    publish_images()
    path = write_sweep(tmp_path, {**FLOORS, "metric": {"name": "patches/feature"}})
    with pytest.raises(Problem, match=r"logs no patches/feature.*correct metric\.name"):
        run.main(run.Config(path))
    assert [trial.state.name for trial in read_study("floors").trials] == ["FAIL", "WAITING", "WAITING"]


def test_a_trial_that_falls_behind_is_stopped_and_recorded_as_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_images()
    content = {
        **TRAINING,
        "metric": {
            "name": "optimizer/learning_rate",
            "goal": "minimize",
        },  # what a run logs of it does not depend on chance
        "early_terminate": {"type": "hyperband", "min_iter": 2},
    }
    constants = {"epochs": {"value": 500}, "batch_size": {"value": 10}, "warmup": {"value": 0.0}}
    path = write_sweep(tmp_path, content, "rates", **constants, learning_rate={"values": [1e-5, 1e-3]})
    better = open_queue(path)
    lease = better.lease(None)
    assert lease is not None and lease.point == {"learning_rate": 1e-5}
    better.report(lease.number, dict.fromkeys(range(4), 1e-5))
    assert better.finish(
        lease.number, TrialState.COMPLETE, 1e-5, {"metrics": {"optimizer/learning_rate": 1e-5}, "command": []}
    )
    better.close()

    run.main(run.Config(path))
    assert "stopped early" in capsys.readouterr().out
    pruned = read_study("rates").trials[1]
    assert pruned.state == TrialState.PRUNED
    assert pruned.value == pruned.intermediate_values[max(pruned.intermediate_values)] == pytest.approx(1e-3, rel=0.1)
    assert not runs("train.pretrain")  # it published nothing, and is there to be gone on with
    assert list((home() / "checkpoints").glob("*.safetensors"))


# -- before the trials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"patch": {"value": 3}}, "--patch"),
        ({"patches": {"values": [2, 2.5]}}, "2.5"),
        ({"patches": {"values": [2, 3, 0]}}, "0 is not at least 1"),
        ({"kind": {"values": ["patches", "pixel"]}}, "pixel"),
        ({"help": {"value": 1}}, "'help' is not a flag"),
        ({"patches": {"distribution": "int_uniform", "min": 0, "max": 9}}, "0 is not at least 1"),
    ],
)
def test_every_value_is_one_that_the_program_takes(tmp_path: Path, parameters: dict[str, Any], part: str) -> None:
    path = write_sweep(tmp_path, FLOORS, **parameters)
    with pytest.raises(Problem) as error:
        run.main(run.Config(path))
    assert part in str(error.value) and str(error.value).startswith(str(path))
    assert not (home() / "sweeps").exists()


def test_a_missing_input_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    content = {**FLOORS, "program": "eval.probe", "metric": {"name": "probe/top1", "goal": "maximize"}}
    path = tmp_path / "probes.yaml"
    path.write_text(yaml.safe_dump({**content, "parameters": {"embeddings": {"values": ["digits-vicreg"]}}}))
    with pytest.raises(Problem, match=r"embeddings:digits-vicreg.*Run: python -m .*eval\.embed"):
        run.main(run.Config(path))


def test_images_that_cannot_be_prepared_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, FLOORS, images={"value": "nothing"})
    with pytest.raises(Problem, match=r"images:nothing is missing, and python -m train\.prepare --dataset nothing"):
        run.main(run.Config(path))
    assert "train.prepare:" in capfd.readouterr().err


def test_a_search_needs_an_end(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, {key: value for key, value in SEARCH.items() if key != "run_cap"})
    with pytest.raises(Problem, match=r"run_cap.*--trials"):
        run.main(run.Config(path))


def test_bad_input_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, FLOORS)
    code, output = end(runner(path, "--set", "patches=2", "size=3", "--set", "images=tiny"))
    assert (code, output.count("\n")) == (2, 1)
    assert "'size'" in output and "images, patches" in output


# -- words -------------------------------------------------------------------------------------------------------------


def frozen_trial(state: TrialState, seconds: float = 0.0, reused: bool = False) -> FrozenTrial:
    trial = optuna.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None)
    trial.datetime_start = trial.datetime_complete = None
    if state.is_finished():
        start = optuna.create_trial(value=1.0).datetime_start
        assert start is not None
        trial.datetime_start = start
        trial.datetime_complete = start + type(start - start)(seconds=seconds)
    trial.user_attrs = {"reused": reused}
    return trial


def test_the_time_left_is_shared_by_the_runners_and_reused_trials_count_for_nothing() -> None:
    ends = [
        frozen_trial(TrialState.COMPLETE, 100),
        frozen_trial(TrialState.FAIL, 200),
        frozen_trial(TrialState.COMPLETE, 0, reused=True),
    ]
    assert [duration(trial) for trial in ends] == [100, 200, 0]
    rest = [frozen_trial(TrialState.RUNNING), *[frozen_trial(TrialState.WAITING)] * 6]
    # Seven left of 150 s each, shared by the one that runs and the one that says so.
    assert progress([*ends, *rest], 10) == f"3 of 10, about {7 * 150 / 2 / 60:.0f} min left"
    assert progress(ends, 3) == "3 of 3"
