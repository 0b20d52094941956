"""Sums a sweep up: the table of its trials, how much each parameter mattered, and the best trial's command.

Reads a local study, made by python -m sweeps.run, or a sweep at W&B. A sweep that still runs is summed up as far as it is.
"""

import dataclasses
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from eval.evidence.sweeps import Parameter, Sweep, Trial, best, importance, is_range, logarithmic, over_seeds, read
from train.data.scores import Scores, Value
from train.tracking import Command, Problem, Stage
from train.tracking.cli.tables import table
from train.tracking.declarations import NUMBER, clean_name, reference
from train.tracking.origin import digest_of
from train.tracking.panels import color, figure


@dataclass(frozen=True)
class Config:
    sweep: str
    """Name of a local study (terms, after python -m sweeps.run sweeps/terms.yaml), or ENTITY/PROJECT/SWEEP at W&B."""

    def fingerprint(self) -> object:
        return digest_of([self.trials.definition, *map(dataclasses.asdict, self.trials.trials)])

    @cached_property
    def trials(self) -> Sweep:
        """What there was when it was first asked for: the fingerprint is of that and of nothing later."""
        return read(self.sweep)


def main(config: Config) -> None:
    with Stage("eval.sweep", config) as stage:
        sweep = config.trials
        if not sweep.results:
            counts = ", ".join(f"{count} {state}" for state, count in sweep.counts.items() if count)
            raise Problem(
                f"no trial of sweep {config.sweep!r} has finished with a {sweep.metric} ({counts or 'there is none'});"
                " let it run on"
            )
        stage.dataset = dataset(sweep)
        stage.expect(sweep=clean_name(config.sweep))
        tables = {"sweep/table": trials_table(sweep)}
        if over_seeds(sweep):
            tables["sweep/seeds"] = seeds_table(sweep)
        scores = score(sweep, config.sweep)
        for name, table in tables.items():
            stage.panel(name, table)
        scores.log(stage)
        print("\n".join(listing(sweep)))
        stage.finding = best_trial(scores.values, len(sweep.trials))

        def save(folder: Path) -> None:
            scores.save(folder)
            for name, table in tables.items():
                path = folder / "tables" / f"{name}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                table.to_csv(path, index=False, lineterminator="\n", errors="backslashreplace")

        stage.publish("sweep", save, {"sweep": clean_name(config.sweep)})


def dataset(sweep: Sweep) -> str | None:
    """The image set that all trials share, None where they share none or the sweep does not say."""
    spec = sweep.definition.get("parameters", {}).get("images", {})
    values = [spec["value"]] if "value" in spec else spec.get("values", [])
    if len(values) != 1:
        return None
    _, alias = reference(str(values[0]), "images")
    return None if alias == "latest" or NUMBER.fullmatch(alias) else alias


def score(sweep: Sweep, name: str) -> Scores:
    """`sweep/best/...` is the single best trial; `sweep/best/seeds` is [mean, spread, n] of the same setting over its
    seeds, which the luck of one seed does not flatter."""
    top = best(sweep)
    assert top is not None
    shares, basis = importance(sweep)
    values: dict[str, Value] = {
        "sweep/name": name,
        "sweep/program": str(sweep.definition.get("program")),
        "sweep/method": str(sweep.definition.get("method")),
        "sweep/metric": sweep.metric,
        "sweep/goal": "maximize" if sweep.maximize else "minimize",
        "sweep/parameters": list(sweep.swept),
        "sweep/best/trial": top.number,
        "sweep/best/value": top.value,
        "sweep/best/command": shlex.join(["python", *top.command]),
        "sweep/best/parameters": [[name, top.parameters.get(name)] for name in sweep.swept],
        "sweep/best/variant": top.variant,
        "sweep/importance": None if shares is None else [[name, share] for name, share in shares.items()],
        "sweep/importance/basis": basis,
    }
    values |= {f"sweep/trials/{state}": count for state, count in sweep.counts.items()}
    for point in over_seeds(sweep):
        if all(top.parameters.get(name) == value for name, value in point.parameters.items()):
            values["sweep/best/seeds"] = [point.mean, point.spread, point.n]
    figures = {"sweep/parallel": parallel_figure(sweep)}
    if shares is not None:
        figures["sweep/importance"] = importance_figure(shares, sweep.metric, basis)
    return Scores(values, figures)


def best_trial(values: Mapping[str, Any], count: int) -> str:
    """The finding: the best of `count` trials, and the command that makes it again."""
    return (
        f"sweep {values['sweep/name']}: the best {values['sweep/metric']} of {count} trials is"
        f" {values['sweep/best/value']:.4g}, of trial {values['sweep/best/trial']}: {values['sweep/best/command']}"
    )


def listing(sweep: Sweep) -> list[str]:
    """The trials as lines, the best first, those without a value last."""
    sign = -1 if sweep.maximize else 1
    trials = sorted(sweep.trials, key=lambda trial: (trial.value is None, sign * (trial.value or 0.0)))
    rows = [
        [
            str(trial.number),
            trial.state,
            *(str(trial.parameters.get(name, "-")) for name in sweep.swept),
            "-" if trial.value is None else f"{trial.value:.4g}",
        ]
        for trial in trials
    ]
    names = ["TRIAL", "STATE", *sweep.swept, sweep.metric]
    return table(names, rows, right={0, len(names) - 1})


# -- tables ------------------------------------------------------------------------------------------------------------


def trials_table(sweep: Sweep) -> pd.DataFrame:
    """One row a trial, in their order: state, parameters, the metric, what else was measured, and where it came from."""
    others = sorted({name for trial in sweep.trials for name in trial.metrics} - {sweep.metric})
    columns = ["trial", "state", *sweep.swept, sweep.metric, *others, "variant", "run", "command"]
    rows = [
        [
            trial.number,
            trial.state,
            *(trial.parameters.get(name) for name in sweep.swept),
            trial.value,
            *(trial.metrics.get(name) for name in others),
            trial.variant,
            trial.run,
            shlex.join(["python", *trial.command]) if trial.command else None,
        ]
        for trial in sweep.trials
    ]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def seeds_table(sweep: Sweep) -> pd.DataFrame:
    """One row a setting of the parameters other than the seed, the best mean first."""
    points = over_seeds(sweep)
    names = list(points[0].parameters)
    rows = [[*point.parameters.values(), point.mean, point.spread, point.n] for point in points]
    return pd.DataFrame(rows, columns=[*names, f"{sweep.metric} mean", "spread", "n"], dtype=object)


# -- figures -----------------------------------------------------------------------------------------------------------


def parallel_figure(sweep: Sweep) -> go.Figure:
    """A line a trial with a value, through its parameters to the metric, which colors it. Stopped trials take part."""
    trials = sweep.complete
    values = [trial.value for trial in trials]
    lines = go.Parcoords(
        dimensions=[*(axis(sweep, name, trials) for name in sweep.swept), {"label": sweep.metric, "values": values}],
        line={
            "color": values,
            "colorscale": "Cividis",  # made to be read by the color-blind
            "reversescale": not sweep.maximize,
            "showscale": True,
        },
    )
    chart = figure(f"{len(trials)} trials by their parameters and {sweep.metric}", traces=[lines])
    return chart.update_layout(margin={"l": 80, "r": 60, "t": 100, "b": 40})


def axis(sweep: Sweep, name: str, trials: list[Trial]) -> dict[str, object]:
    """One axis of the parallel coordinates: a place for each choice, or a scale, logarithmic where it was drawn so."""
    spec = sweep.definition["parameters"][name]
    values = [trial.parameters[name] for trial in trials]
    if not is_range(spec):
        choices = sorted(set(values), key=lambda value: order(spec.get("values", []), value))
        places = [choices.index(value) for value in values]
        return {
            "label": name,
            "values": places,
            "tickvals": list(range(len(choices))),
            "ticktext": [str(choice) for choice in choices],
            "range": [-0.2, max(len(choices) - 1, 1) + 0.2],
        }
    numbers = [float(value) for value in values if value is not None]
    if not logarithmic(spec):
        return {"label": name, "values": numbers}
    low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    decades = list(range(low, high + 1))
    return {
        "label": name,
        "values": [math.log10(number) for number in numbers],
        "tickvals": decades,
        "ticktext": [f"{10.0**decade:g}" for decade in decades],
    }


def order(values: list[Parameter], value: Parameter) -> int:
    """Where a choice stands in the sweep file; behind all others where it does not."""
    return values.index(value) if value in values else len(values)


def importance_figure(shares: dict[str, float], metric: str, basis: str) -> go.Figure:
    names = list(shares)[::-1]  # the largest on top
    bars = go.Bar(x=[shares[name] for name in names], y=names, orientation="h", marker={"color": color(0)})
    chart = figure(
        f"What {metric} depends on: {basis}", "share of the variance explained by the parameter alone", "", [bars]
    )
    return chart.update_xaxes(range=[0, 1], tickformat=".0%").update_yaxes(type="category", automargin=True)


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
