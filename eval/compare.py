"""Compares variants over their seeds: mean, spread and count of every measure, and the difference of each two variants.

Where an evaluation published what it measured on each image, the 95 % intervals come from a bootstrap over images and
seeds, and differences are paired by image. With a single seed an interval covers images only. A difference whose interval
holds 0 reads "no difference shown"; one of a measure that has no samples reads "not decided".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any

import pandas as pd
import plotly.graph_objects as go

from eval.evidence.comparison import Measured, Sample, compare
from eval.evidence.readings import Reading, gather, versions
from eval.studies.all import get_study
from train.data.scores import Scores, Value
from train.tracking import LATER, Command, Problem, Stage
from train.tracking.panels import color, figure

# What the claims need beside numbers: one list a seed.
LISTS = ("probe/classes", "probe/counts", "probe/per_class", "probe/pairs")

# The figures, and what each shows.
MAIN = {
    "compare/probe": ("probe/top1", "Linear probe", "test accuracy"),
    "compare/features": ("probe/features/top1", "Linear probe on the features", "test accuracy"),
    "compare/anomaly": ("anomaly/auc", "Anomaly detection", "area under the ROC curve"),
    "compare/retrieve": ("retrieve/precision@5", "The 5 nearest images", "share of the image's own class"),
    "compare/silhouette": ("cluster/silhouette/clusters", "k-means clusters", "silhouette"),
    "compare/purity": ("cluster/purity", "k-means clusters", "share of a cluster's most frequent class"),
}

Readings = Mapping[str, Sequence[Mapping[str, Reading]]]


@dataclass(frozen=True)
class Config:
    variants: tuple[str, ...]
    """The variants to compare, in the order in which they are shown. All seeds of each are read: VARIANT, VARIANT-s1, ..."""
    anomalies: str | None = None
    """The image set that they were to tell apart from their own: what `anomaly:VARIANT-vs-ANOMALIES` was made against."""
    resamples: int = 1_000
    """Bootstrap resamples of images and seeds for the 95 % intervals."""
    seed: int = 0
    """Draws the resamples."""
    study: Annotated[str, LATER] = "peel"
    """Whose measures are compared: one of eval/studies/."""

    def __post_init__(self) -> None:
        if not self.variants:
            raise Problem("--variants names no variant; give two or more, for instance: --variants digits-vicreg ...")
        for variant in self.variants:
            if self.variants.count(variant) > 1:
                raise Problem(f"--variants names {variant!r} twice; give each variant once")
        if self.resamples < 1:
            raise Problem(f"--resamples {self.resamples} makes no interval; give 1 or more, 1000 for two digits")
        if self.seed < 0:
            raise Problem(f"--seed {self.seed} is negative; give 0 or more")
        get_study(self.study)


def main(config: Config) -> None:
    with Stage("eval.compare", config) as stage:
        readings = gather(stage, config.variants, config.anomalies, get_study(config.study).scores)
        measures = measured(readings)
        values = about(readings, str(stage.dataset), config) | {"compare/measures": list(measures)}
        for path, by_variant in measures.items():
            values |= compare(path, by_variant, config.resamples, config.seed)
        scores = Scores(values, figures(measures, values))
        for name, content in scores.figures.items():
            stage.panel(name, content)
        stage.panel("compare/table", table(measures, values))
        stage.panel("compare/differences", differences(measures, values))
        stage.publish("compare", scores.save, get_study(config.study).fields(str(stage.dataset)))


def about(readings: Readings, dataset: str, config: Config) -> dict[str, Value]:
    """What was compared, which versions were read, and the lists that the claims need."""
    values: dict[str, Value] = {
        "compare/variants": list(config.variants),
        "compare/dataset": dataset,
        "compare/anomalies": config.anomalies,
        "compare/resamples": config.resamples,
    }
    for variant, seeds in readings.items():
        for name in get_study(config.study).scores:
            if any(name in seed for seed in seeds):
                values[f"compare/source/{variant}/{name}"] = versions(seeds, name)
        for path in LISTS:
            found = [seed["probe"].scores.values.get(path) for seed in seeds if "probe" in seed]
            if present := [value for value in found if value is not None]:
                values[f"{path}/{variant}/seeds"] = present
    return values


def measured(readings: Readings) -> dict[str, dict[str, Measured]]:
    """Every number of the scores, by path and variant, with its samples where all of the variant's seeds have them."""
    found: dict[str, dict[str, Measured]] = {}
    for variant, seeds in readings.items():
        by_path: dict[str, list[tuple[float, Sample | None]]] = {}
        for seed in seeds:
            for name, reading in seed.items():
                for path, value in reading.scores.values.items():
                    # A training's own collapse measures are of other images than those of eval.project.
                    if isinstance(value, int | float) and not (name == "training" and path.startswith("collapse/")):
                        by_path.setdefault(path, []).append((float(value), sample(reading.scores, path)))
        for path, pairs in by_path.items():
            samples = [drawn for _, drawn in pairs if drawn is not None]
            whole = samples if len(samples) == len(pairs) else ()
            found.setdefault(path, {})[variant] = Measured([value for value, _ in pairs], whole)
    return {path: found[path] for path in sorted(found)}


def sample(scores: Scores, path: str) -> Sample | None:
    """What a measure was taken from, image by image; None where that was not published."""
    for parts in ((path,), (f"{path}/normal", f"{path}/anomalies")):
        if all(part in scores.samples for part in parts):
            return tuple(scores.samples[part] for part in parts)
    return None


def table(measures: Mapping[str, Mapping[str, Measured]], values: Mapping[str, Value]) -> pd.DataFrame:
    """A row for each measure and variant."""
    rows = []
    for path, by_variant in measures.items():
        for variant in by_variant:
            found = {key: values[f"{path}/{variant}/{key}"] for key in ("mean", "spread", "n")}
            rows.append({"measure": path, "variant": variant, **found, **_ends(values, f"{path}/{variant}")})
    return pd.DataFrame(rows, dtype=object)


def differences(measures: Mapping[str, Mapping[str, Measured]], values: Mapping[str, Value]) -> pd.DataFrame:
    """A row for each measure and two variants: the first minus the second, its interval and what that says."""
    rows = []
    for path, by_variant in measures.items():
        for one, other in combinations(by_variant, 2):
            pair = f"{path}/{one}-minus-{other}"
            rows.append(
                {
                    "measure": path,
                    "variant": one,
                    "minus": other,
                    "difference": values[f"{pair}/difference"],
                    **_ends(values, pair),
                    "verdict": values[f"{pair}/verdict"],
                }
            )
    columns = ["measure", "variant", "minus", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _ends(values: Mapping[str, Value], path: str) -> dict[str, Any]:
    ends = values[f"{path}/interval"]
    low, high = ends if isinstance(ends, list) else (None, None)
    return {"low": low, "high": high}


def figures(measures: Mapping[str, Mapping[str, Measured]], values: Mapping[str, Any]) -> dict[str, go.Figure]:
    """For each main measure that was found the variants side by side: the mean with its interval, and every seed."""
    drawn = {}
    for name, (path, title, axis) in MAIN.items():
        if path not in measures:
            continue
        variants = list(measures[path])
        means = [values[f"{path}/{variant}/mean"] for variant in variants]
        ends = [
            values[f"{path}/{variant}/interval"] or [mean, mean] for variant, mean in zip(variants, means, strict=True)
        ]
        seeds = [(variant, value) for variant in variants for value in measures[path][variant].values]
        reach = {
            "type": "data",
            "symmetric": False,
            "array": [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
            "arrayminus": [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
        }
        traces = [
            go.Scatter(
                name="mean of the seeds, 95 % interval",
                x=variants,
                y=means,
                error_y=reach,
                mode="markers",
                marker={"size": 11, "color": color(0)},
            ),
            go.Scatter(
                name="one seed",
                x=[variant for variant, _ in seeds],
                y=[value for _, value in seeds],
                mode="markers",
                marker={"size": 7, "color": color(1), "symbol": "line-ew-open"},
            ),
        ]
        drawn[name] = figure(f"{title}, variants compared", "", axis, traces).update_xaxes(type="category")
    return drawn


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
