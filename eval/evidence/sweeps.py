"""The trials of a sweep, read from a local study or from W&B, and what they say about the parameters."""

import contextlib
import dataclasses
import json
import math
import os
import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from train.tracking import Problem, stage_command
from train.tracking.declarations import check_name, listing, stages
from train.tracking.remote import client, errors_as_problem, online
from train.tracking.store import home

STATES = ("finished", "stopped", "failed", "running", "waiting")
STATE_OF = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    # and as W&B calls them
    "finished": "finished",
    "killed": "stopped",
    "preempted": "stopped",
    "failed": "failed",
    "crashed": "failed",
    "running": "running",
    "preempting": "running",
    "pending": "waiting",
}
LEAST = 4  # finished trials from which an importance is taken

Parameter = bool | int | float | str | None


@dataclass(frozen=True)
class Trial:
    """value: the sweep's metric; of a stopped trial the last that was seen. command: what follows `python`."""

    number: int
    state: str
    parameters: Mapping[str, Parameter]
    value: float | None
    metrics: Mapping[str, float]
    command: tuple[str, ...]
    variant: str | None = None
    run: str | None = None


@dataclass(frozen=True)
class Point:
    """One setting of the parameters other than the seed, over its finished trials. spread: the sample standard
    deviation, None of a single trial."""

    parameters: Mapping[str, Parameter]
    mean: float
    spread: float | None
    n: int


@dataclass(frozen=True)
class Sweep:
    """definition: the sweep file as it was run."""

    definition: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def metric(self) -> str:
        return str(self.definition["metric"]["name"])

    @property
    def maximize(self) -> bool:
        return bool(self.definition["metric"].get("goal") == "maximize")  # W&B minimizes unless told otherwise

    @property
    def swept(self) -> list[str]:
        """The parameters that are not held at one value, in the order of the file."""
        return [name for name, spec in self.definition.get("parameters", {}).items() if "value" not in spec]

    @property
    def results(self) -> list[Trial]:
        """The finished trials that have a value."""
        return [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]

    @property
    def complete(self) -> list[Trial]:
        """The trials with a value, finished or not, whose every parameter is known."""
        return [
            trial for trial in self.trials if trial.value is not None and set(self.swept) <= trial.parameters.keys()
        ]

    @property
    def counts(self) -> dict[str, int]:
        return {state: sum(trial.state == state for trial in self.trials) for state in STATES}


# -- reading -----------------------------------------------------------------------------------------------------------


def read(name: str) -> Sweep:
    """A local study by its name, or ENTITY/PROJECT/SWEEP from W&B.

    Raises Problem where there is none, or where it says too little to go by.
    """
    definition, trials = _from_wandb(name) if "/" in name else _from_study(name)
    return in_own_types(Sweep(definition, tuple(trials)))


def _check(name: str, definition: Any) -> Mapping[str, Any]:
    """Raises Problem where a definition, wherever it comes from, is not one of a sweep of flags with a metric."""
    if not isinstance(definition, Mapping):
        raise Problem(f"the study {name!r} does not hold its definition; make it with python -m sweeps.run")
    metric, parameters = definition.get("metric"), definition.get("parameters", {})
    if not isinstance(metric, Mapping) or not metric.get("name"):
        raise Problem(f"sweep {name!r} names no metric, so its trials cannot be compared; add metric: to its file")
    if not isinstance(parameters, Mapping) or not all(isinstance(spec, Mapping) for spec in parameters.values()):
        raise Problem(f"sweep {name!r} does not say what its parameters are; make it with python -m sweeps.run")
    groups = [name for name, spec in parameters.items() if "parameters" in spec]
    if groups:
        raise Problem(f"sweep {name!r} nests parameters ({listing(groups)}); every parameter of a stage is one flag")
    return definition


def in_own_types(sweep: Sweep) -> Sweep:
    """With every listed value in the type of the program's own field: YAML reads `1e-4` as a text, and JSON 25.0 as 25. As
    it stands where the program is none of ours, or takes the value no more."""
    program = str(sweep.definition.get("program"))
    if program not in stages():
        return sweep
    command, specs = stage_command(program), sweep.definition.get("parameters", {})
    constants = {name: spec["value"] for name, spec in specs.items() if "value" in spec}
    values: dict[tuple[str, str], Parameter] = {}

    def read(name: str, value: Parameter, others: Mapping[str, Parameter]) -> Parameter:
        key = name, repr(value)
        if key not in values and (isinstance(value, str) or not is_range(specs.get(name, {}))):
            flags = {**constants, **others, name: value}
            with contextlib.suppress(Problem):
                config = command.parse([f"--{field}={flags[field]}" for field in flags])
                values[key] = _scalar(getattr(config, name.replace("-", "_"), value))
        return values.get(key, value)

    trials = [
        dataclasses.replace(
            trial, parameters={name: read(name, value, trial.parameters) for name, value in trial.parameters.items()}
        )
        for trial in sweep.trials
    ]
    first = next((trial.parameters for trial in sweep.trials), {})
    lists = {
        name: {**spec, "values": [read(name, value, first) for value in spec["values"]]}
        for name, spec in specs.items()
        if isinstance(spec.get("values"), list)
    }
    return Sweep({**sweep.definition, "parameters": {**specs, **lists}}, tuple(trials))


def _scalar(value: Any) -> Parameter:
    """A value of a parameter; what is none, as W&B may list it, as its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, default=str)


def studies() -> Path:
    """Where the local studies are kept, each in NAME.sqlite."""
    return home() / "sweeps"


def _from_study(name: str) -> tuple[Mapping[str, Any], list[Trial]]:
    path = studies() / f"{check_name(name, 'name of a sweep')}.sqlite"
    names = [file.stem for file in studies().glob("*.sqlite")]
    if name not in names:
        raise Problem(
            f"no study {name!r} here; known studies: {listing(names, name)}."
            f" Run: python -m sweeps.run sweeps/{name}.yaml"
        )
    try:
        # Opened for reading: nothing that asks about a study may make or change one.
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": lambda: _connection(path)})
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            definition, trials = study.user_attrs.get("definition"), study.get_trials()
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, RuntimeError) as error:
        raise Problem(
            f"{path} holds no study {name!r} that can be read; move it away and run the sweep anew"
        ) from error
    return _check(name, definition), [_trial_of_study(trial) for trial in trials]


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True, timeout=60, check_same_thread=False)


def _trial_of_study(trial: FrozenTrial) -> Trial:
    attributes = trial.user_attrs
    values = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    last = values[-1] if trial.state == TrialState.PRUNED and values else None
    return Trial(
        number=trial.number,
        state=STATE_OF[trial.state],
        parameters=dict(trial.params),
        value=_number(trial.value if trial.value is not None else last),
        metrics=_metrics(attributes.get("metrics") or {}),
        command=tuple(map(str, attributes.get("command") or ())),
        variant=attributes.get("variant"),
        run=attributes.get("run"),
    )


def _from_wandb(path: str) -> tuple[Mapping[str, Any], list[Trial]]:
    if path.count("/") != 2 or not all(path.split("/")):
        raise Problem(f"{path!r} does not name a sweep; give the name of a local study, or ENTITY/PROJECT/SWEEP")
    if not online():
        raise Problem(
            f"{path!r} is a sweep at W&B, and this run is offline; run wandb login, and leave MODE=offline out"
        )
    with errors_as_problem(f"no sweep {path!r} to be had from W&B", "check its three parts and the connection"):
        sweep = client().Api().sweep(path)
        definition = _check(path, sweep.config)
        return definition, trials_of_runs(definition, sweep.runs)


def trials_of_runs(definition: Mapping[str, Any], runs: Iterable[Any]) -> list[Trial]:
    """The trials of W&B's runs of a sweep, in the order in which they began."""
    trials = []
    metric = str((definition.get("metric") or {}).get("name"))
    for number, run in enumerate(sorted(runs, key=lambda run: str(run.created_at))):
        specs = definition.get("parameters", {})
        settings = {name: run.config[name] for name in specs if run.config.get(name) is not None}
        metrics = _metrics(run.summary_metrics)
        trials.append(
            Trial(
                number=number,
                state=STATE_OF.get(run.state, "failed"),
                parameters={name: _scalar(value) for name, value in settings.items() if "value" not in specs[name]},
                value=metrics.get(metric),
                metrics=metrics,
                command=(
                    "-m",
                    str(definition.get("program")),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ),
                variant=run.group,
                run=run.id,
            )
        )
    return trials


def _metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers, without W&B's own (`_step`, `_runtime`)."""
    numbers = {name: _number(value) for name, value in summary.items() if not name.startswith("_")}
    return {name: number for name, number in numbers.items() if number is not None}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


# -- what they say -----------------------------------------------------------------------------------------------------


def best(sweep: Sweep) -> Trial | None:
    """The finished trial whose metric is the best; of equals the first."""
    return min(sweep.results, key=lambda trial: _rank(sweep, trial.value), default=None)


def over_seeds(sweep: Sweep) -> list[Point]:
    """Where `seed` is swept: every setting of the other parameters over its seeds, the best mean first."""
    if "seed" not in sweep.swept:
        return []
    groups: dict[tuple[Parameter, ...], list[Trial]] = {}
    others = [name for name in sweep.swept if name != "seed"]
    for trial in sweep.results:
        groups.setdefault(tuple(trial.parameters.get(name) for name in others), []).append(trial)
    points = []
    for setting, trials in groups.items():
        values = [trial.value for trial in trials if trial.value is not None]
        spread = statistics.stdev(values) if len(values) > 1 else None
        points.append(Point(dict(zip(others, setting, strict=True)), statistics.fmean(values), spread, len(values)))
    return sorted(points, key=lambda point: _rank(sweep, point.mean))


def _rank(sweep: Sweep, value: float | None) -> float:
    assert value is not None
    return -value if sweep.maximize else value


def importance(sweep: Sweep) -> tuple[dict[str, float] | None, str]:
    """The share of the metric's variance that each parameter explains by itself, largest first, and how it was found. What
    is missing to 1 is owed to parameters together, and to what was not swept. None, and why, where too little is known.

    On a full grid these are the main effects, exactly; elsewhere fANOVA (Hutter et al. 2014, by Optuna), over the range
    that was tried.
    """
    trials = [trial for trial in sweep.complete if trial.state == "finished"]
    values = np.array([trial.value for trial in trials])
    columns = {name: [trial.parameters[name] for trial in trials] for name in sweep.swept}
    columns = {name: column for name, column in columns.items() if len(set(column)) > 1}
    if len(trials) < LEAST:
        return None, f"not decided: finished trials {len(trials)}, needed {LEAST}"
    if len(columns) < 2:
        return None, f"not decided: {', '.join(columns) or 'no parameter'} alone varies, so there is nothing to share"
    if len(set(values)) == 1:
        return None, "not decided: all finished trials ended in the same value"
    if full_grid(columns):
        shares, basis = main_effects(columns, values), f"main effects, {len(trials)} trials of a full grid"
    else:
        axes = {name: _axis(column, sweep.definition["parameters"][name]) for name, column in columns.items()}
        shares, basis = _fanova(axes, values), f"fANOVA, {len(trials)} finished trials"
    return dict(sorted(shares.items(), key=lambda item: -item[1])), basis


def full_grid(columns: Mapping[str, Sequence[Parameter]]) -> bool:
    """Whether every combination of the values was tried, each as often."""
    counts = Counter(zip(*columns.values(), strict=True))
    return len(counts) == math.prod(len(set(column)) for column in columns.values()) and len(set(counts.values())) == 1


def main_effects(columns: Mapping[str, Sequence[Parameter]], values: NDArray[np.float64]) -> dict[str, float]:
    """Variance of the means over each parameter's values, as a share of the variance. The columns are a full grid."""
    shares = {}
    for name, column in columns.items():
        levels = {level: [i for i, value in enumerate(column) if value == level] for level in column}
        means = [values[rows].mean() for rows in levels.values()]
        shares[name] = float(np.var(means) / np.var(values))
    return shares


def _fanova(
    axes: Mapping[str, tuple[Sequence[Any], BaseDistribution]], values: NDArray[np.float64]
) -> dict[str, float]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # that a study in memory was made is no news
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(before)
    distributions = {name: distribution for name, (_, distribution) in axes.items()}
    for row, value in enumerate(values):
        params = {name: column[row] for name, (column, _) in axes.items()}
        study.add_trial(create_trial(params=params, distributions=distributions, value=float(value)))
    shares = FanovaImportanceEvaluator(seed=0).evaluate(study)
    return {name: float(share) for name, share in shares.items()}


def is_range(spec: Mapping[str, Any]) -> bool:
    """Whether a parameter is drawn from a range, and not from listed values."""
    return "min" in spec or "mu" in spec


def logarithmic(spec: Mapping[str, Any]) -> bool:
    """Whether a parameter is drawn evenly on a logarithmic scale."""
    return "log_uniform" in str(spec.get("distribution"))


def _axis(values: Sequence[Parameter], spec: Mapping[str, Any]) -> tuple[list[Any], BaseDistribution]:
    """One parameter's values as fANOVA shall see them: a range where it was drawn from one, in its logarithm where it was
    drawn evenly there; else choices."""
    if not is_range(spec):
        return list(values), CategoricalDistribution(sorted(set(values), key=lambda value: (str(type(value)), value)))
    numbers = [float(value) for value in values if value is not None]
    if logarithmic(spec):
        numbers = [math.log10(number) for number in numbers]
    return numbers, FloatDistribution(min(numbers), max(numbers))
