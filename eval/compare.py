"""Compares variants over their seeds: mean, spread and count of every measure, and the difference of each two variants.

Where an evaluation published what it measured on each image, the 95 % intervals come from a bootstrap over images and
seeds, and differences are paired by image. With a single seed an interval covers images only. A difference whose interval
holds 0 reads "no difference shown"; one of a measure that has no samples reads "not decided".

Two variants by name (python -m eval.compare ONE OTHER) are compared here and now: the differences are printed, and nothing is
published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
import tyro

from eval.evidence.bootstrap import Sample, Seeds, compare
from eval.evidence.comparison import (
    LISTS,
    Difference,
    Estimate,
    header,
    list_entry,
    measure_entries,
    source_entry,
)
from eval.evidence.measures import MEASURES
from eval.evidence.numbers import Form, number, signed, span
from eval.evidence.readings import Reading, gather, score_names, versions
from eval.studies.all import get_study
from train.data.scores import Scores, Value
from train.tracking import LATER, Command, Problem, Stage
from train.tracking.cli.tables import table
from train.tracking.panels import color, figure

# The figures, and what each shows.
MAIN = {
    "compare/probe": ("probe/top1", "Linear probe", "test accuracy"),
    "compare/features": ("probe/features/top1", "Linear probe on the features", "test accuracy"),
    "compare/anomaly": ("anomaly/auc", "Anomaly detection", "area under the ROC curve"),
    "compare/retrieve": ("retrieve/precision@5", "The 5 nearest images", "share of the image's own class"),
    "compare/silhouette": ("cluster/silhouette/clusters", "k-means clusters", "silhouette"),
    "compare/purity": ("cluster/purity", "k-means clusters", "share of a cluster's most frequent class"),
}

JUDGED = ("generate", "decode")  # the artifacts whose numbers are those of a judge

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
            raise Problem(
                f"--resamples {self.resamples} is too small for an interval; give 1 or more, 1000 for two stable digits"
            )
        if self.seed < 0:
            raise Problem(f"--seed {self.seed} is negative; give 0 or more")
        get_study(self.study)


def main(config: Config) -> None:
    with Stage("eval.compare", config) as stage:
        study = get_study(config.study)
        readings = gather(stage, config.variants, config.anomalies, study.scores)
        check_judges(readings)
        stage.expect(**study.fields(str(stage.dataset)))
        values = header(config.variants, str(stage.dataset), config.anomalies, config.resamples)
        values |= entries(readings, study.scores)
        estimates: dict[str, dict[str, Estimate]] = {}
        differences: dict[str, dict[tuple[str, str], Difference]] = {}
        for path, measure in measures(readings).items():
            estimates[path], differences[path] = compare(path, measure, config.resamples, config.seed)
            values |= measure_entries(path, estimates[path], differences[path])
        scores = Scores(values | {"compare/measures": list(estimates)}, figures(estimates))
        for name, content in scores.figures.items():
            stage.panel(name, content)
        stage.finding = f"comparison of {len(config.variants)} variants of {stage.dataset}: {len(estimates)} measures{best(estimates)}"
        stage.panel("compare/table", estimates_table(estimates))
        stage.panel("compare/differences", differences_table(differences))
        stage.publish("compare", scores.save, study.fields(str(stage.dataset)))


@dataclass(frozen=True)
class Pair:
    one: tyro.conf.Positional[str]
    """A variant: its alias without a seed."""
    other: tyro.conf.Positional[str]
    """The variant that is subtracted."""
    anomalies: str | None = None
    """The image set that they were to tell apart from their own; without it their anomaly scores are left out."""
    resamples: int = 1_000
    """Bootstrap resamples of images and seeds for the 95 % intervals."""
    seed: int = 0
    """Draws the resamples."""

    @property
    def config(self) -> Config:
        return Config((self.one, self.other), self.anomalies, self.resamples, self.seed)


def contrast(pair: Pair) -> None:
    """Prints the differences of all that was measured of both."""
    config = pair.config
    with Stage("eval.compare", config) as stage:
        readings = gather(stage, config.variants, config.anomalies, score_names())
        check_judges(readings)
        rows = []
        for path, measure in measures(readings).items():
            if len(measure) == 2:
                estimates, differences = compare(path, measure, config.resamples, config.seed)
                rows.append((path, estimates[pair.one], estimates[pair.other], differences[pair.one, pair.other]))
    print("\n".join(contrasts(pair.one, pair.other, rows)))


def contrasts(one: str, other: str, rows: Sequence[tuple[str, Estimate, Estimate, Difference]]) -> list[str]:
    """Lines: of each measure both means, the first minus the second and its interval; what has no interval comes last."""
    if not rows:
        return [f"nothing was measured of both {one} and {other}"]
    cells = []
    for path, first, second, difference in sorted(rows, key=lambda row: row[3].interval is None):
        measure = MEASURES.get(path)
        form: Form = measure.form if measure else "figure"
        gap: Form = "points" if form == "percent" else form
        cells.append(
            [
                path,
                number(first.value, form),
                number(second.value, form),
                signed(difference.value, form),
                span(difference.interval, gap) if difference.interval else "-",
                difference.word(measure) if measure else difference.verdict,
            ]
        )
    seeds = max(estimate.n for _, *estimates, _ in rows for estimate in estimates)
    over = f"images and up to {seeds} seeds" if seeds > 1 else "images, of one seed each"
    header = ["MEASURE", one, other, "DIFFERENCE", "95 % INTERVAL", f"{one} IS"]
    return [*table(header, cells, right={1, 2, 3}), "", f"{one} minus {other}; intervals are over {over}"]


def check_judges(readings: Readings) -> None:
    """Raises Problem where samples or reconstructions were measured by two judges: their numbers have nothing in common."""
    for name in JUDGED:
        first: Reading | None = None
        for reading in (seed[name] for seeds in readings.values() for seed in seeds if name in seed):
            first = first or reading
            judges = [each.scores.values.get(f"{name}/judge") for each in (first, reading)]
            if judges[0] != judges[1]:
                raise Problem(
                    f"{first.source.request} and {reading.source.request} were measured by two judges ({judges[0]} and"
                    f" {judges[1]}), and cannot be compared; run python -m eval.{name} again for both with one --judge"
                )


def entries(readings: Readings, names: Sequence[str]) -> dict[str, Value]:
    """Which versions of the scores `names` were read, and the lists that the claims need."""
    values: dict[str, Value] = {}
    for variant, seeds in readings.items():
        for name in names:
            if any(name in seed for seed in seeds):
                values |= source_entry(variant, name, versions(seeds, name))
        for path in LISTS:
            lists = [seed["probe"].scores.values.get(path) for seed in seeds if "probe" in seed]
            if present := [by_class for by_class in lists if by_class is not None]:
                values |= list_entry(path, variant, present)
    return values


def measures(readings: Readings) -> dict[str, dict[str, Seeds]]:
    """Every number of the scores, by path and variant, with its samples where all of the variant's seeds have them."""
    by_measure: dict[str, dict[str, Seeds]] = {}
    for variant, seeds in readings.items():
        by_path: dict[str, list[tuple[float, Sample | None]]] = {}
        for seed in seeds:
            for name, reading in seed.items():
                for path, value in reading.scores.values.items():
                    # A training's own collapse measures are of other images than those of eval.project.
                    if isinstance(value, int | float) and not (name == "training" and path.startswith("collapse/")):
                        by_path.setdefault(path, []).append((float(value), sample(reading.scores, path)))
        for path, pairs in by_path.items():
            samples = [part for _, part in pairs if part is not None]
            whole = samples if len(samples) == len(pairs) else ()
            by_measure.setdefault(path, {})[variant] = Seeds([value for value, _ in pairs], whole)
    return {path: by_measure[path] for path in sorted(by_measure)}


def sample(scores: Scores, path: str) -> Sample | None:
    """What a measure was taken from, image by image; None where that was not published."""
    for parts in ((path,), (f"{path}/normal", f"{path}/anomalies")):
        if all(part in scores.samples for part in parts):
            return tuple(scores.samples[part] for part in parts)
    return None


def best(estimates: Mapping[str, Mapping[str, Estimate]]) -> str:
    """In words, which variant a linear probe reads most from; nothing where no probe was trained."""
    if "probe/top1" not in estimates:
        return ""
    by_variant = estimates["probe/top1"]
    name = max(by_variant, key=lambda variant: by_variant[variant].value)
    ends = by_variant[name].interval
    reach = f" ({span(ends, 'percent').removesuffix(' %')})" if ends else ""
    return f", the best probe {number(by_variant[name].value, 'percent')}{reach} of {name}"


def estimates_table(estimates: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """A row for each measure and variant."""
    rows = [
        (path, variant, estimate.value, estimate.spread, estimate.n, *(estimate.interval or (None, None)))
        for path, by_variant in estimates.items()
        for variant, estimate in by_variant.items()
    ]
    return pd.DataFrame(rows, columns=["measure", "variant", "mean", "spread", "n", "low", "high"], dtype=object)


def differences_table(differences: Mapping[str, Mapping[tuple[str, str], Difference]]) -> pd.DataFrame:
    """A row for each measure and two variants: the first minus the second, its interval and what that says."""
    rows = [
        (path, one, other, difference.value, *(difference.interval or (None, None)), difference.verdict)
        for path, by_pair in differences.items()
        for (one, other), difference in by_pair.items()
    ]
    columns = ["measure", "variant", "minus", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def figures(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, go.Figure]:
    """For each main measure that there is the variants side by side: the mean with its interval, and every seed."""
    by_name = {}
    for name, (path, title, axis) in MAIN.items():
        if path not in estimates:
            continue
        by_variant = estimates[path]
        variants = list(by_variant)
        means = [estimate.value for estimate in by_variant.values()]
        ends = [estimate.interval or (estimate.value, estimate.value) for estimate in by_variant.values()]
        seeds = [(variant, value) for variant, estimate in by_variant.items() for value in estimate.seeds]
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
        by_name[name] = figure(f"{title}, variants compared", "", axis, traces).update_xaxes(type="category")
    return by_name


COMMAND = Command(main, Config, Command(contrast, Pair))

if __name__ == "__main__":
    COMMAND.launch()
