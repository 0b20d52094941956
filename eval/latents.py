"""Measures how far the dimensions of a representation repeat one another, and which of them carry the classes.

Of the test images. A unit is one dimension, in deviations from its mean over all of them. Correlation and effective rank say
what is redundant, beside the same codes after random rotations, which hold the same information: where those have the same
correlation, the basis is no special one. How much of a class the four largest units have stands beside random groups of
images as large; it is taken of the images that have labels, and left out where none has. The numbers of units are exchangeable between trainings: that a class is unit 21 says nothing.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from eval.evidence.findings import finding
from eval.evidence.latents import (
    active_units,
    agreement,
    class_means,
    class_share,
    correlations,
    explained,
    redundancy,
    rotations,
    top_units,
    varying,
)
from eval.evidence.validity import check, check_own, labeled_rows
from train.data.embeddings import Embeddings
from train.data.scores import Scores, Value
from train.methods.ranges import AtLeast, check_ranges
from train.tracking import Command, Stage
from train.tracking.panels import color, figure
from train.tracking.stage import Input

WORK = 4e10  # d³ of all rotations together: about a minute of one core; of 128 dimensions that is none
GROUPS = 5  # times that images are put into random groups
TOP = 3  # units of a class that two halves of the images should have in common
MOST = 0.8  # share of a class that "nearly everything" is
LITTLE = 0.15  # of a unit's variance: less does not name a class
SHOWN = 64  # units in a figure
PLOTS, COLUMNS = 20, 5  # classes in a figure


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    rotations: Annotated[int, AtLeast(2)] = 20
    """Random rotations of the codes; fewer, or none, of thousands of dimensions."""

    def __post_init__(self) -> None:
        check_ranges(self)


def main(config: Config) -> None:
    with Stage("eval.latents", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        embeddings = Embeddings.load(source.folder)
        check_own(embeddings, config.embeddings, source.alias)
        check(embeddings)
        scores = score(embeddings, has_prior(stage, source), config.rotations, stage.seed or 0)
        scores.log(stage)
        stage.finding = finding("latents", stage.alias, scores.values)
        stage.publish("latents", scores.save)


def has_prior(stage: Stage, source: Input) -> bool:
    """Whether the embeddings are the means of a variational autoencoder: only beside its prior does a small variance say that
    a unit is not used."""
    model = stage.fetch_if_made("encoder", source.alias)
    if model is None or f"encoder@{model.version.digest}" not in source.origin.inputs:
        return False
    weight = model.origin.config.get("kl")
    return model.origin.stage == "train.autoencode" and isinstance(weight, int | float) and weight > 0


def score(embeddings: Embeddings, prior: bool, count: int, seed: int) -> Scores:
    """What needs two dimensions that vary is left out where there are none. Units are those that vary; with a prior the active
    ones, which `latents/active` counts.

    `latents/rotated`: the correlation after random rotations, from `/low` to `/high`. `latents/class_share`: by class, the
    share of its squared means that its four largest units have; `/random`: that of random groups. `latents/concentrated`:
    the share of classes of which that is 80 % or more. `latents/agreement`: by class, the share of its three top units that
    two halves of its images have in common; `/chance`: by guessing. `latents/distinct`: top units over all classes,
    `latents/top`: by class. `latents/explained`: the largest share of a unit's variance that the class explains;
    `latents/unexplained`: units of which that is below 15 %.
    """
    codes = np.asarray(embeddings.test)
    random = np.random.default_rng(seed)
    values: dict[str, Value] = {"latents/dimensions": codes.shape[1], "latents/images": len(codes)}
    measured = redundancy(codes)
    for name in ("correlation", "whole_matrix", "rank_share", "constant"):
        if (value := getattr(measured, name)) is not None:
            values[f"latents/{name}"] = value
    values |= rotated(codes, affordable(count, codes.shape[1] - measured.constant), random)
    units = active_units(codes) if prior else varying(codes)
    if prior:
        values["latents/active"] = int(units.sum())
    if not units.any():
        return Scores(values)

    rows = labeled_rows(embeddings.test_labels)
    if not len(rows):
        shown = largest(codes.std(axis=0, dtype=np.float64), units)
        return Scores(values, {"latents/correlations": correlation_figure(correlations(codes[:, shown]), shown)})
    present, labels = np.unique(embeddings.test_labels[rows], return_inverse=True)
    names, classes, labeled = tuple(embeddings.classes[label] for label in present), len(present), codes[rows]
    means = class_means(labeled, labels, classes)
    samples: dict[str, NDArray[Any]] = {"latents/class_share": class_share(means, units)}
    samples["latents/concentrated"] = samples["latents/class_share"] >= MOST
    groups = [
        class_share(class_means(labeled, random.permutation(labels), classes), units).mean() for _ in range(GROUPS)
    ]
    values["latents/class_share/random"] = float(np.mean(groups))
    if np.bincount(labels, minlength=classes).min() > 1:
        top = min(TOP, int(units.sum()))
        samples["latents/agreement"] = agreement(labeled, labels, classes, top, random, units)
        values["latents/agreement/chance"] = top / int(units.sum())
    values |= {path: float(sample.mean()) for path, sample in samples.items()}
    values["latents/class_share/classes"] = samples["latents/class_share"].tolist()
    first = top_units(labeled, labels, classes, 1, units)[:, 0]
    values |= {"latents/top": first.tolist(), "latents/distinct": len(np.unique(first))}
    shares = explained(labeled, labels)[units]
    values |= {"latents/explained": float(shares.max()), "latents/unexplained": int((shares < LITTLE).sum())}
    shown = largest(np.abs(means).max(axis=0), units)
    figures = {
        "latents/classes": class_figure(means[:, shown], shown, names),
        "latents/correlations": correlation_figure(correlations(codes[:, shown]), shown),
    }
    return Scores(values, figures, samples=samples)


def largest(sizes: NDArray[np.float64], units: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Those of the `units`, (d,) bool, that are shown: 64 of the largest sizes (d,) at most, ascending."""
    order = np.argsort(np.where(units, -sizes, np.inf), kind="stable")
    return np.sort(order[: min(SHOWN, int(units.sum()))])


def affordable(count: int, dimensions: int) -> int:
    """How many of `count` rotations of so many dimensions take less than a minute; 0 where that is one or none."""
    fewer = min(count, int(WORK / max(dimensions, 1) ** 3))
    fewer = fewer if fewer > 1 else 0
    if fewer < count:
        print(f"{fewer} random rotations in place of {count}: each of {dimensions:,} dimensions takes seconds")
    return fewer


def rotated(codes: NDArray[np.float32], count: int, random: np.random.Generator) -> dict[str, Value]:
    turned = rotations(codes, count, random) if count else None
    if turned is None:
        return {}
    return {
        "latents/rotated": float(turned.mean()),
        "latents/rotated/low": float(turned.min()),
        "latents/rotated/high": float(turned.max()),
        "latents/rotated/count": count,
    }


# -- figures -----------------------------------------------------------------------------------------------------------


def class_figure(means: NDArray[np.float64], units: NDArray[np.int64], classes: tuple[str, ...]) -> go.Figure:
    """A plot of bars for each class, at most 20. means: (classes, shown units). units: their numbers."""
    few = classes[:PLOTS]
    rows, columns = -(-len(few) // COLUMNS), min(COLUMNS, len(few))
    plots = make_subplots(rows, columns, shared_xaxes=True, shared_yaxes=True, subplot_titles=few)
    for index, name in enumerate(few):
        bars = go.Bar(
            x=list(map(str, units)),
            y=means[index].astype(np.float32),
            marker={"color": color(0)},
            name=name,
            hovertemplate=f"{name}, unit %{{x}}: %{{y:.2f}}<extra></extra>",
        )
        plots.add_trace(bars, index // columns + 1, index % columns + 1)
    left_out = f" of the first {PLOTS} of {len(classes)} classes" if len(classes) > PLOTS else " of each class"
    layout = figure(
        f"Mean{left_out} in each unit, in deviations; unit numbers are exchangeable between trainings"
    ).layout
    plots.update_layout(template=layout.template, title=layout.title, font=layout.font, showlegend=False)
    return plots.update_xaxes(type="category")


def correlation_figure(matrix: NDArray[np.float64], units: NDArray[np.int64]) -> go.Figure:
    names = list(map(str, units))
    heatmap = go.Heatmap(
        z=matrix.astype(np.float32),
        x=names,
        y=names,
        zmin=-1,
        zmax=1,
        colorscale="RdBu",
        hovertemplate="units %{x} and %{y}: %{z:.2f}<extra></extra>",
        colorbar={"title": {"text": "r"}},
    )
    result = figure("Correlation of the units over the test images", "unit", "unit", [heatmap])
    result.update_xaxes(type="category")
    return result.update_yaxes(type="category", autorange="reversed")


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
