"""eval.sweep: what it reads from a study, how it sums it up, and what it refuses."""

import dataclasses
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from eval import sweep as stage
from eval.evidence.sweeps import STATES, Sweep, best, in_own_types, over_seeds, read, studies, trials_of_runs
from eval.sweep import Config, dataset
from tests.parts import processes
from tests.parts.artifacts import refusal
from train.data.scores import Scores
from train.tracking.origin import Origin, settings
from train.tracking.store import Store, home

TERMS: dict[str, Any] = {
    "program": "train.pretrain",
    "method": "grid",
    "metric": {"name": "knn/top1", "goal": "maximize"},
    "parameters": {
        "images": {"value": "digits"},
        "variance": {"values": [25.0, 0.0]},
        "without": {"values": ["nothing", "crop"]},
        "seed": {"values": [0, 1, 2]},
    },
}
SEARCH = {
    "program": "train.pretrain",
    "method": "bayes",
    "metric": {"name": "loss/total", "goal": "minimize"},
    "parameters": {
        "images": {"value": "digits"},
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "flip": {"min": 0.0, "max": 1.0},
        "batch_size": {"values": [32, 64]},
    },
}
KINDS: dict[str, BaseDistribution] = {
    "variance": CategoricalDistribution([25.0, 0.0]),
    "without": CategoricalDistribution(["nothing", "crop"]),
    "seed": CategoricalDistribution([0, 1, 2]),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "flip": FloatDistribution(0.0, 1.0),
    "batch_size": CategoricalDistribution([32, 64]),
    "embeddings": CategoricalDistribution(["a", "b"]),
}


def make_study(
    definition: Mapping[str, Any],
    trials: Sequence[tuple[dict[str, Any], float | None, TrialState]],
    name: str = "terms",
    **attributes: Any,
) -> optuna.Study:
    """A study as a runner leaves it: parameters, value and state of each trial."""
    studies().mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = definition["metric"]["goal"]
    study = optuna.create_study(study_name=name, storage=f"sqlite:///{studies() / name}.sqlite", direction=direction)
    study.set_user_attr("definition", {**definition, **attributes})
    study.set_user_attr("file", "sweeps/terms.yaml")
    add(study, trials)
    return study


def add(study: optuna.Study, trials: Sequence[tuple[dict[str, Any], float | None, TrialState]]) -> None:
    metric = study.user_attrs["definition"]["metric"]["name"]
    study.add_trials(
        [
            create_trial(
                params=parameters,
                distributions={name: KINDS[name] for name in parameters},
                value=value,
                state=state,
                user_attrs={
                    "command": ["-m", "train.pretrain", *flags(parameters)],
                    "run": f"run{index}",
                    "variant": "digits-vicreg",
                    "exit_code": int(state != TrialState.COMPLETE),
                    "metrics": {metric: value, "collapse/std": 0.5, "_runtime": 12.5} if value is not None else {},
                },
            )
            for index, (parameters, value, state) in enumerate(trials)
        ]
    )


def flags(parameters: Mapping[str, Any]) -> list[str]:
    return ["--images", "digits", *(part for name, value in parameters.items() for part in (f"--{name}", str(value)))]


def grid(
    value: Callable[..., float], names: Sequence[str] = ("variance", "without", "seed")
) -> list[tuple[dict[str, Any], float | None, TrialState]]:
    """Every point of TERMS, finished with `value(**parameters)`."""
    values = [TERMS["parameters"][name]["values"] for name in names]
    points = [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]
    return [(point, value(**point), TrialState.COMPLETE) for point in points]


def noisy(variance: float, without: str, seed: int) -> float:
    return 0.5 + 0.3 * (variance > 0) + 0.1 * (without == "nothing") + 0.01 * (seed == 2) * (variance > 0)


def published(alias: str = "terms") -> Path:
    store = Store()
    try:
        return store.folder(store.get("sweep", alias))
    finally:
        store.close()


# -- what is published -------------------------------------------------------------------------------------------------


def test_the_artifact_holds_every_trial_the_counts_and_the_best_command() -> None:
    unfinished = {"variance": 25.0, "without": "nothing", "seed": 0}
    more = [(unfinished, None, TrialState.FAIL), (unfinished, None, TrialState.RUNNING)]
    make_study(TERMS, [*grid(noisy), *more])
    stage.main(Config("terms"))

    table = pd.read_csv(published() / "tables/sweep/table.csv")
    expected = pd.DataFrame([{**parameters, "knn/top1": value} for parameters, value, _ in [*grid(noisy), *more]])
    pd.testing.assert_frame_equal(table[["variance", "without", "seed", "knn/top1"]], expected)
    assert table["state"].tolist() == ["finished"] * 12 + ["failed", "running"]
    assert "_runtime" not in table
    values: dict[str, Any] = Scores.load(published()).values
    assert {state: values[f"sweep/trials/{state}"] for state in STATES} == dict(
        zip(STATES, (12, 0, 1, 1, 0), strict=True)
    )
    assert values["sweep/best/value"] == expected["knn/top1"].max()
    row = expected["knn/top1"].idxmax()
    assert dict(values["sweep/best/parameters"]) == expected.loc[row, ["variance", "without", "seed"]].to_dict()
    python, *command = shlex.split(str(values["sweep/best/command"]))
    assert python == "python"
    assert command == ["-m", "train.pretrain", *flags(grid(noisy)[row][0])]


def test_it_prints_the_trials_best_first_and_ends_with_the_best_command(capsys: pytest.CaptureFixture[str]) -> None:
    make_study(TERMS, [*grid(noisy), ({"variance": 25.0, "without": "nothing", "seed": 0}, None, TrialState.FAIL)])
    stage.main(Config("terms"))
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["TRIAL", "STATE", "variance", "without", "seed", "knn/top1"]
    values = [float(line.split()[-1]) for line in lines[:12]]
    assert values == sorted((noisy(**parameters) for parameters, _, _ in grid(noisy)), reverse=True)
    assert lines[12].split()[1:2] == ["failed"] and lines[12].endswith("-")
    best = Scores.load(published()).values["sweep/best/command"]
    assert lines[13].startswith("sweep terms: the best knn/top1 of 13 trials is 0.91, of trial ")
    assert lines[13].endswith(f": {best}") and lines[14].startswith("sweep:v0")


def test_settings_are_compared_by_their_mean_over_the_seeds_with_spread_and_count() -> None:
    rng = np.random.default_rng(0)
    trials = grid(lambda **_: float(rng.normal()))[:-1]  # the last seed of the last setting has not finished
    make_study(TERMS, trials)
    stage.main(Config("terms"))
    frame = pd.DataFrame([{**parameters, "value": value} for parameters, value, _ in trials])
    expected = frame.groupby(["variance", "without"])["value"].agg(["mean", "std", "count"])
    table = pd.read_csv(published() / "tables/sweep/seeds.csv").set_index(["variance", "without"])
    assert list(table["n"]) != [3, 3, 3, 3]
    np.testing.assert_allclose(table.to_numpy(), expected.loc[table.index].to_numpy())
    assert table["knn/top1 mean"].is_monotonic_decreasing

    values: dict[str, Any] = Scores.load(published()).values
    setting = dict(values["sweep/best/parameters"])
    mean, spread, n = expected.loc[(setting["variance"], setting["without"])]
    np.testing.assert_allclose(values["sweep/best/seeds"], [mean, spread, n])


def test_one_seed_has_no_spread() -> None:
    make_study(TERMS, [({"variance": 0.0, "without": "crop", "seed": 1}, 0.25, TrialState.COMPLETE)])
    (point,) = over_seeds(read("terms"))
    assert (point.mean, point.spread, point.n) == (0.25, None, 1)


def test_only_a_finished_trial_is_the_best_and_the_goal_says_which() -> None:
    points = [{"learning_rate": 10.0**-power, "flip": 0.5, "batch_size": 32} for power in (1, 2, 3, 4)]
    make_study(
        SEARCH,
        [
            (points[0], 3.0, TrialState.COMPLETE),
            (points[1], 1.0, TrialState.PRUNED),
            (points[2], 2.0, TrialState.COMPLETE),
            (points[3], 2.0, TrialState.COMPLETE),
        ],
        "search",
    )
    sweep = read("search")
    top = best(sweep)
    assert top is not None and top.number == 2
    upward = dataclasses.replace(sweep, definition={**SEARCH, "metric": {"name": "loss/total", "goal": "maximize"}})
    top = best(upward)
    assert top is not None and top.number == 0
    untold = dataclasses.replace(sweep, definition={**SEARCH, "metric": {"name": "loss/total"}})
    assert best(untold) == best(sweep)  # W&B minimizes unless told otherwise


def test_a_trial_that_was_stopped_early_keeps_the_last_value_that_it_reported() -> None:
    study = make_study(SEARCH, [], "search")
    trial = study.ask({name: KINDS[name] for name in ("learning_rate", "flip", "batch_size")})
    for epoch, value in enumerate((5.0, 4.0, 4.5)):
        trial.report(value, epoch)
    study.tell(trial, state=TrialState.PRUNED)
    (read_back,) = read("search").trials
    assert (read_back.state, read_back.value) == ("stopped", 4.5)


def test_the_same_study_gives_the_same_bytes_in_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for place in ("here", "there"):
        monkeypatch.setenv("PEEL_HOME", str(tmp_path / place))
        make_study(TERMS, grid(noisy))
        stage.main(Config("terms"))
        lines.append(capsys.readouterr().out)
        for path in published().rglob("*.*"):
            assert str(tmp_path).encode() not in path.read_bytes()
    assert lines[0] == lines[1]
    assert lines[0].splitlines()[-1].startswith("sweep:v0  terms  ")


def test_it_is_made_anew_once_a_trial_more_has_finished(store: Store) -> None:
    study = make_study(TERMS, grid(noisy)[:5])
    before = settings("eval.sweep", Config("terms"))
    stage.main(Config("terms"))
    assert settings("eval.sweep", Config("terms")) == before
    assert store.reuse("eval.sweep", before)
    add(study, grid(noisy)[5:6])
    assert store.reuse("eval.sweep", settings("eval.sweep", Config("terms"))) is None


def test_a_configuration_stands_for_the_trials_that_it_has_read() -> None:
    study = make_study(TERMS, grid(noisy)[:5])
    config = Config("terms")
    before = config.fingerprint()
    add(study, grid(noisy)[5:6])
    assert len(config.trials.trials) == 5
    assert config.fingerprint() == before != Config("terms").fingerprint()


def test_the_run_shows_the_tables(peel_home: Path) -> None:
    make_study(TERMS, grid(noisy))
    stage.main(Config("terms"))
    media = peel_home / "wandb"
    (table,) = media.glob("offline-run-*/files/media/table/sweep/table*.json")
    content = json.loads(table.read_text())
    place = content["columns"].index("knn/top1")
    assert [row[place] for row in content["data"]] == [value for _, value, _ in grid(noisy)]
    (seeds,) = media.glob("offline-run-*/files/media/table/sweep/seeds*.json")
    assert len(json.loads(seeds.read_text())["data"]) == 4
    assert len(list(media.glob("offline-run-*/files/media/plotly/sweep/*.json"))) == 2


def test_the_artifact_belongs_to_the_image_set_that_all_trials_share() -> None:
    make_study(TERMS, grid(noisy))
    stage.main(Config("terms"))
    assert Origin.load(published()).dataset == "digits"
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"images": {"values": ["digits"]}}, "digits"),
        ({"images": {"value": "images:digits"}}, "digits"),
        ({"images": {"values": ["digits", "mnist"]}}, None),
        ({"images": {"value": "v3"}}, None),
        ({"embeddings": {"values": ["a", "b"]}}, None),
    ]
    for parameters, expected in cases:
        assert dataset(Sweep({**TERMS, "parameters": parameters}, ())) == expected


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_an_online_sweep_is_refused_offline_in_one_line() -> None:
    process = processes.run("-m", "eval.sweep", "--sweep", "me/peel/abc123")
    (line,) = process.stderr.splitlines()
    assert process.returncode == 2
    assert "'me/peel/abc123'" in line and "wandb login" in line
    assert not list(home().glob("wandb/*run-*"))


@pytest.mark.parametrize("reference", ["peel/abc123", "me/peel/", "me//abc", "a/b/c/d"])
def test_a_reference_that_is_no_sweep_is_refused(reference: str) -> None:
    assert "ENTITY/PROJECT/SWEEP" in refusal(lambda: stage.main(Config(reference)))


def test_a_missing_study_is_answered_with_the_known_ones_and_not_made() -> None:
    make_study(TERMS, grid(noisy)[:1])
    make_study(SEARCH, [], "search")
    before = {path: path.read_bytes() for path in studies().iterdir()}
    line = refusal(lambda: stage.main(Config("term")))
    assert "search, terms" in line
    assert "python -m sweeps.run" in line
    read("terms")
    assert {path: path.read_bytes() for path in studies().iterdir()} == before


def test_a_study_in_which_nothing_has_finished_is_refused_with_its_counts() -> None:
    make_study(TERMS, [({}, None, TrialState.RUNNING), ({}, None, TrialState.FAIL)])
    line = refusal(lambda: stage.main(Config("terms")))
    assert "1 failed, 1 running" in line
    assert "knn/top1" in line


@pytest.mark.parametrize("content", [b"", b"no database" * 500])
def test_a_file_that_is_no_study_is_refused_and_left_as_it_is(content: bytes) -> None:
    studies().mkdir(parents=True)
    (studies() / "terms.sqlite").write_bytes(content)
    assert "terms.sqlite" in refusal(lambda: stage.main(Config("terms")))
    assert (studies() / "terms.sqlite").read_bytes() == content


def test_a_definition_that_says_too_little_is_refused() -> None:
    studies().mkdir(parents=True)
    bare = optuna.create_study(study_name="bare", storage=f"sqlite:///{studies() / 'bare'}.sqlite")
    assert "python -m sweeps.run" in refusal(lambda: stage.main(Config("bare")))
    bare.set_user_attr("definition", {"parameters": {}})
    assert "metric" in refusal(lambda: stage.main(Config("bare")))
    bare.set_user_attr("definition", {**TERMS, "parameters": {"model": {"parameters": {"width": {"value": 1}}}}})
    assert "model" in refusal(lambda: stage.main(Config("bare")))


# -- values as they stand in a study or at W&B, which YAML and JSON have read -------------------------------------------

RATES = {
    **TERMS,
    "parameters": {"images": {"value": "digits"}, "learning_rate": {"values": ["1e-4", "1e-3", 0.01, 1]}, "seed": {"value": 0}},
}  # fmt: skip


def test_a_study_whose_choices_yaml_took_for_texts_is_summed_up_in_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "learning_rate", CategoricalDistribution(["1e-4", "1e-3", 0.01, 1]))
    rates: list[Any] = ["1e-4", "1e-3", 0.01, 1]
    make_study(
        RATES,
        [({"learning_rate": rate}, place / 4, TrialState.COMPLETE) for place, rate in enumerate(rates)]
        + [({"learning_rate": "1e-4"}, None, TrialState.RUNNING)],
        "rates",
    )
    stage.main(Config("rates"))
    table = pd.read_csv(published("rates") / "tables/sweep/table.csv")
    assert table["learning_rate"].tolist() == [0.0001, 0.001, 0.01, 1.0, 0.0001]
    scores = Scores.load(published("rates"))
    assert scores.values["sweep/best/parameters"] == [["learning_rate", 1.0]]
    ticks = scores.figures["sweep/parallel"].data[0]["dimensions"][0]["ticktext"]
    assert list(ticks) == ["0.0001", "0.001", "0.01", "1.0"]


def test_an_agents_values_are_those_of_the_program() -> None:
    def run(number: int, **config: object) -> Any:
        return SimpleNamespace(
            created_at=number,
            config=config,
            summary_metrics={"knn/top1": 0.5},
            state="finished",
            group="g",
            id=f"r{number}",
        )

    runs = [
        run(0, images="digits", learning_rate="1e-4"),
        run(1, images="digits", learning_rate=1),
        run(2, learning_rate=[1]),
    ]
    trials = in_own_types(Sweep(RATES, tuple(trials_of_runs(RATES, runs)))).trials
    assert [trial.parameters for trial in trials] == [
        {"learning_rate": 0.0001}, {"learning_rate": 1.0}, {"learning_rate": "[1]"},
    ]  # fmt: skip
    other = {**RATES, "program": "train.py"}  # of somebody else's project
    assert in_own_types(Sweep(other, trials)) == Sweep(other, trials)


@pytest.mark.parametrize(
    "change",
    [{"metric": "knn"}, {"metric": ["a"]}, {"parameters": []}, {"parameters": {"a": 3}}, {"parameters": {"a": None}}],
)
def test_a_definition_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    studies().mkdir(parents=True)
    study = optuna.create_study(study_name="odd", storage=f"sqlite:///{studies() / 'odd'}.sqlite")
    study.set_user_attr("definition", {**TERMS, **change})
    assert "'odd'" in refusal(lambda: stage.main(Config("odd")))
