"""A sweep file as it is read here: the same commands as W&B's own agent, its early termination, and what is refused."""

import copy
import datetime
import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from scipy import stats
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from sweeps.definition import Definition, read
from sweeps.hyperband import Hyperband
from sweeps.queue import distribution
from sweeps.rounding import Rounding
from train.tracking import Problem

COMMAND = ["${env}", "${interpreter}", "-m", "${program}", "${args}"]
GRID: dict[str, Any] = {
    "program": "train.pretrain",
    "command": COMMAND,
    "method": "grid",
    "metric": {"name": "knn/top1", "goal": "maximize"},
    "parameters": {
        "images": {"value": "digits"},
        "compile": {"value": False},
        "variance": {"values": [25.0, 0.0]},
        "seed": {"values": [0, 1, 2]},
    },
}


def sweep(folder: Path, content: Any, *replacements: str, **keys: Any) -> Definition:
    """The sweep in a file of its own. keys: at the top level, in place of those in `content`."""
    path = folder / "terms.yaml"
    path.write_text(yaml.safe_dump({**content, **keys}, sort_keys=False))
    return read(path, replacements)


def search(folder: Path, parameter: dict[str, Any], method: str = "random") -> Definition:
    return sweep(folder, GRID, method=method, run_cap=3, parameters={"batch_size": parameter})


def test_a_grid_is_the_product_of_its_values(tmp_path: Path) -> None:
    definition = sweep(tmp_path, GRID)
    assert list(definition.points()) == [
        {"variance": variance, "seed": seed} for variance in (25.0, 0.0) for seed in (0, 1, 2)
    ]
    counts = search(tmp_path, {"min": 2, "max": 4}, method="grid")
    assert list(counts.points()) == [{"batch_size": 2}, {"batch_size": 3}, {"batch_size": 4}]


@pytest.mark.parametrize(
    "command", [COMMAND, COMMAND[1:], [*COMMAND, "--width=8"], [*COMMAND[:-1], "--width", "8", COMMAND[-1]]]
)
def test_a_trial_is_started_as_wandb_agent_starts_it(tmp_path: Path, command: list[str]) -> None:
    definition = sweep(tmp_path, GRID, command=command)
    args = create_sweep_command_args(
        {"args": {name: {"value": value} for name, value in
                  {"images": "digits", "compile": False, "variance": 0.0, "seed": 1}.items()}}
    )  # fmt: skip
    words = {"${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable], "${program}": ["train.pretrain"]}
    words["${args}"] = args["args"]
    agent = [word for part in create_sweep_command(copy.copy(command)) for word in words.get(part, [part])]
    point = {"variance": 0.0, "seed": 1}
    assert definition.command_line(point) == agent
    assert definition.arguments(point) == agent[agent.index(sys.executable) + 1 :]
    assert "--compile=False" in definition.program_flags(point)


def test_a_replaced_parameter_is_fixed_with_the_type_that_yaml_gives_it(tmp_path: Path) -> None:
    plain = sweep(tmp_path, GRID)
    other = sweep(tmp_path, GRID, "images=cifar10", "seed=7", "compile=true")
    assert (plain.name, [parameter.name for parameter in plain.swept]) == ("terms", ["variance", "seed"])
    assert [parameter.name for parameter in other.swept] == ["variance"]
    flags = other.flags({"variance": 0.0})
    assert flags == ["--images=cifar10", "--compile=True", "--variance=0.0", "--seed=7"]
    assert other.content["parameters"]["seed"] == {"value": 7}


def test_what_differs_from_the_file_is_another_study(tmp_path: Path) -> None:
    names = [
        sweep(tmp_path, GRID, *replacements).name
        for replacements in ([], ["images=digits"], ["images=cifar10"], ["images=cifar100"])
    ]
    assert names[:2] == ["terms", "terms"]
    assert len(set(names[1:])) == 3
    assert names[2] == sweep(tmp_path, GRID, "images=cifar10").name


def test_a_sweep_is_the_same_whatever_its_texts_say(tmp_path: Path) -> None:
    content = {**GRID, "parameters": {**GRID["parameters"], "images": {"value": "cifar10"}}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    texts = {"name": "Terms", "description": "Which?"}
    for keys in ({}, {"name": "Terms"}, texts):
        assert sweep(tmp_path, GRID, "images=cifar10", **keys).name == f"terms-{digest[:6]}"


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"min": 1, "max": 9}, "int_uniform"),
        ({"min": 1, "max": 9.0}, "uniform"),
        ({"min": 0.5, "max": 9}, "uniform"),
        ({"values": [1, 2]}, "categorical"),
        ({"value": None}, "constant"),
    ],
)
def test_a_distribution_that_is_not_named_is_the_one_that_wandb_takes(
    tmp_path: Path, entry: dict[str, Any], kind: str
) -> None:
    assert search(tmp_path, entry).parameters[0].distribution == kind


def draws(definition: Definition, count: int = 400) -> list[Any]:
    parameter = definition.parameters[0]
    multiples = {parameter.name: parameter} if parameter.q else {}
    study = optuna.create_study(sampler=Rounding(optuna.samplers.RandomSampler(seed=0), multiples))
    space = {parameter.name: distribution(parameter)}
    return [study.ask(space).params[parameter.name] for _ in range(count)]


@pytest.mark.parametrize(
    ("entry", "law"),
    [
        ({"distribution": "uniform", "min": -1, "max": 3}, stats.uniform(-1, 4)),
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}, stats.loguniform(1e-4, 1e-1)),
    ],
)
def test_draws_follow_their_law(tmp_path: Path, entry: dict[str, Any], law: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert stats.kstest(draws(search(tmp_path, entry)), law.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"distribution": "q_uniform", "min": 16, "max": 64, "q": 16}, [16, 32, 48, 64]),
        ({"distribution": "q_uniform", "min": 0, "max": 0.3, "q": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"distribution": "q_uniform", "min": 1, "max": 3}, [1.0, 2.0, 3.0]),
        ({"distribution": "q_log_uniform_values", "min": 20, "max": 130, "q": 32}, [32, 64, 96, 128]),
        ({"distribution": "int_uniform", "min": 2, "max": 4}, [2, 3, 4]),
    ],
)
def test_quantized_draws_are_multiples_of_the_type_of_q(
    tmp_path: Path, entry: dict[str, Any], expected: list[float]
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    values = sorted(set(draws(search(tmp_path, entry))))
    assert values == expected
    assert {type(value) for value in values} == {type(expected[0])}


def test_logarithmic_multiples_are_the_rarer_the_larger(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    entry = {"distribution": "q_log_uniform_values", "min": 1, "max": 8, "q": 1}
    sample = draws(search(tmp_path, entry), 2000)
    # Optuna draws integers from [0.5, 8.5] in logarithms.
    edges = [math.log(k + 0.5) for k in range(9)]
    expected = [2000 * (edges[k] - edges[k - 1]) / (edges[-1] - edges[0]) for k in range(1, 9)]
    assert stats.chisquare([sample.count(k) for k in range(1, 9)], expected).pvalue > 0.01


HISTORIES = {"a": [10, 9], "b": [10, 10], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}


def test_hyperband_stops_the_runs_that_wandb_stops() -> None:
    """The example in the documentation of W&B's own engine: of the running b, c and d, b and c are to be stopped."""
    hyperband = Hyperband.downwards(max_iter=5, s=2, eta=2)
    assert [name for name in "bcd" if hyperband.stops(HISTORIES[name], HISTORIES.values())] == ["b", "c"]


def test_hyperband_judges_by_the_best_value_so_far_and_only_beyond_a_band() -> None:
    hyperband = Hyperband.upwards(min_iter=2, eta=3)
    assert hyperband.bands[:4] == (2, 6, 18, 54)
    better = [[1.0] * 9, [1.0] * 9]
    assert not hyperband.stops([5.0, 5.0], [*better, [5.0, 5.0]])  # two values: the band at 2 is not reached
    assert hyperband.stops([5.0, 5.0, 5.0], [*better, [5.0, 5.0, 5.0]])
    assert not hyperband.stops([1.0, 5.0, 5.0], [*better, [1.0, 5.0, 5.0]])  # as good as the others once
    assert not hyperband.stops([5.0, 5.0, 5.0], [[5.0, 5.0, 5.0]])  # nothing to compare with


def test_early_termination_is_read_both_ways(tmp_path: Path) -> None:
    def bands(**entry: Any) -> tuple[int, ...]:
        hyperband = sweep(tmp_path, GRID, early_terminate={"type": "hyperband", **entry}).hyperband
        assert hyperband is not None
        return hyperband.bands[:3]

    assert bands(min_iter=4) == (4, 12, 36)
    assert bands(min_iter=1, eta=2) == (1, 2, 4)
    assert bands(max_iter=27, s=2) == (3, 9)
    assert bands(max_iter=27, s=9, eta=3) == (1, 3, 9)


def parameters(**entry: Any) -> dict[str, Any]:
    return {"parameters": entry}


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"controller": {"type": "local"}}, "'controller'"),
        ({"method": "custom"}, "'custom'"),
        ({"program": "train.py"}, "'train.py'"),
        ({"metric": {"name": "knn/top1", "target": 0.9}}, "'metric.target'"),
        ({"metric": {"name": "knn/top1", "goal": "up"}}, "'up'"),
        ({"metric": {"goal": "maximize"}}, "'metric.name' is missing"),
        ({"run_cap": 0}, "'run_cap'"),
        ({"run_cap": True}, "'run_cap'"),
        ({"early_terminate": {"type": "envelope"}}, "'envelope'"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "strict": True}}, "'early_terminate.strict'"),
        ({"early_terminate": {"type": "hyperband"}}, "'early_terminate.min_iter' is missing"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2, "eta": 3}}, "'early_terminate.max_iter'"),
        ({"command": ["${env}", "python", "-m", "${program}", "${args}"]}, "'command'"),
        ({"command": [*COMMAND[:-1], "${args_no_hyphens}"]}, "'${args_no_hyphens}'"),
        ({"command": ["${envvar:HOME}", *COMMAND]}, "'${envvar:HOME}'"),
        ({"command": ["${env}", "${interpreter}", "${program}", "${args}"]}, "'command'"),
        ({"command": None}, "'command'"),
        ({"command": ["nice", *COMMAND]}, "'nice' would be run"),
        ({"command": ["${env}", "LD_PRELOAD=x.so", *COMMAND[1:]]}, "'LD_PRELOAD=x.so' would be run, or set"),
        ({"command": ["sh", "-c", "echo", ";", *COMMAND[1:]]}, "'sh'"),
        ({"command": [*COMMAND[:2], "-c", "print()", *COMMAND[2:]]}, "'command'"),
        ({"command": [*COMMAND[:2], "-i", *COMMAND[2:]]}, "'command'"),
        ({"command": [*COMMAND, "--help"]}, "'--help'"),
        ({"command": [*COMMAND, "-h"]}, "'-h'"),
        ({"command": [*COMMAND, None]}, "'command'"),
        ({"command": "python -m train.pretrain"}, "'command' is 'python -m train.pretrain'"),
        ({"metric": {"name": 5}}, "'metric.name' is 5"),
        ({"metric": "knn/top1"}, "metric is 'knn/top1', not a mapping"),
        ({"description": ["a"]}, "'description' is ['a']"),
        ({"method": ["grid"]}, "['grid']"),
        ({"program": {"a": 1}}, "'program'"),
        ({"run_cap": 10**30}, "'run_cap'"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1.0000001}}, "'early_terminate.eta'"),
        ({"parameters": {}}, "'parameters'"),
        (parameters(a={"parameters": {"b": {"value": 1}}}), "'parameters.a.parameters': nested"),
        (parameters(a=3), "'parameters.a' is 3"),
        (parameters(a={"value": [1, 2]}), "[1, 2] is nested"),
        (parameters(a={"values": [{"b": 1}]}), "{'b': 1} is nested"),
        (parameters(a={"values": []}), "'parameters.a.values'"),
        (parameters(a={"values": [1, 2, 1]}), "1 twice"),
        (parameters(a={"values": [1], "probabilities": [1.0]}), "'parameters.a.probabilities'"),
        (parameters(a={"min": 0.0, "max": 1.0}), "a grid cannot sweep a 'uniform'"),
        (parameters(a={"min": 5, "max": 5}), "min 5 is not below max 5"),
        (parameters(a={"min": 5}), "'parameters.a.max' is missing"),
        (parameters(a={"distribution": "normal", "mu": 0}), "'normal'"),
        (parameters(a={"distribution": "log_uniform", "min": -3, "max": 0}), "log_uniform_values"),
        (parameters(a={}), "'parameters.a.value' is missing"),
        ({"parameters": {True: {"value": 1}}}, "True is not a flag"),
        ({"parameters": {"a b": {"value": 1}}}, "'a b' is not a flag"),
        ({"parameters": {"help": {"value": 1}}}, "'help' is not a flag"),
        ({"parameters": {"a-b": {"value": 1}, "a_b": {"value": 1}}}, "stands twice"),
        (parameters(a={"value": datetime.date(2026, 11, 25)}), "as a date; put it in quotes"),
        (parameters(a={"value": b"bytes"}), "as a bytes; put it in quotes"),
        (parameters(a={"value": "a\0b"}), "command line"),
        (parameters(a={"value": 2**70}), "beyond 2**63"),
        (parameters(a={"values": list(range(5000))}), "5000 values"),
        (parameters(a={"min": 0, "max": 10**12}), "the grid has 1000000000001 points"),
        (parameters(a={"min": 0, "max": 10**30}), "beyond 9007199254740992"),
        (parameters(a={"values": list(range(1000))}, b={"min": 1, "max": 1000}), "the grid has 1000000 points"),
    ],
)  # fmt: skip
def test_what_cannot_run_here_is_refused_by_name(tmp_path: Path, keys: dict[str, Any], part: str) -> None:
    with pytest.raises(Problem) as error:
        sweep(tmp_path, GRID, **keys)
    assert part in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "terms.yaml"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"distribution": "log_uniform_values", "min": "1e-4", "max": 1}, "1.0e-4"),  # to PyYAML 1e-4 is a text
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "'parameters.batch_size.min'"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "'parameters.batch_size.q'"),
        ({"distribution": "int_uniform", "min": 0, "max": 1.5}, "1.5 is not an integer"),
        ({"distribution": "uniform", "min": 0, "max": math.inf}, "inf is not a finite number"),
        ({"distribution": "uniform", "min": math.nan, "max": 1}, "nan is not a finite number"),
        ({"distribution": "uniform", "min": -1.7e308, "max": 1.7e308}, "too wide"),
        ({"distribution": "uniform", "min": 0, "max": "one"}, "'one' is a text"),
        ({"distribution": "uniform", "min": 0, "max": [1]}, "[1] is not a finite number"),
        ({"distribution": "q_uniform", "min": 0, "max": 1e10, "q": 1e-300}, "'parameters.batch_size.q'"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused(tmp_path: Path, entry: dict[str, Any], part: str) -> None:
    with pytest.raises(Problem, match=re.escape(part)):
        search(tmp_path, entry)


@pytest.mark.parametrize(
    ("replacement", "part"),
    [
        ("variances=0", "'variances'"),
        ("variance", "NAME=VALUE"),
        ("variance=[1, 2]", "nested"),
        ("seed={", "YAML"),
        ("seed=&a [*a]", "in itself"),
        ("images=2026-11-25", "put it in quotes"),
    ],
)
def test_a_wrong_replacement_is_refused(tmp_path: Path, replacement: str, part: str) -> None:
    with pytest.raises(Problem, match=part):
        sweep(tmp_path, GRID, replacement)


@pytest.mark.parametrize("name", ["latest", "v3", "v12345678901234567890", "猫", "..."])
def test_a_name_that_cannot_be_an_alias_is_refused_before_a_trial(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(GRID))
    with pytest.raises(Problem, match="rename the file"):
        read(path)


@pytest.mark.parametrize("value", ["2026-11-25", "2026-11-25 10:00:00", "5", "terms", "~", "yes", "0x" + "f" * 9000])
@pytest.mark.parametrize("key", ["name", "description", "project", "entity"])
def test_what_is_the_servers_alone_may_be_of_any_kind(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(f"{key}: {value}\n{yaml.safe_dump(GRID)}")
    for definition in (read(path), read(path, ["images=cifar10"])):
        json.dumps(dict(definition.content))  # as the study stores it


@pytest.mark.parametrize("key", ["program", "command", "method", "metric", "parameters"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    content = {name: value for name, value in GRID.items() if name != key}
    with pytest.raises(Problem, match=f"'{key}' is missing"):
        sweep(tmp_path, content)
