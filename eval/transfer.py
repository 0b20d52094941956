"""Measures what an encoder is worth where few images are labeled, beside learners that do without it.

Every way of learning gets the same draws of labeled training images: `frozen` trains a layer of hidden units on the codes,
`full` the encoder with it, as one does it unless one searches, and `tuned` with rates and steps that were searched; `scratch`
trains the same network from an untrained one; `probe` is logistic regression on the codes, `nearest` the class of the
nearest labeled code; `pixels` is logistic regression on pixels, and `pca` is frozen, on as many principal components of them.
Steps and rates of all but `full` are chosen by training images that no draw of the choice has. An accuracy is a mean over
draws, of the same test images, and a difference is paired by draw. Images without labels take no part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evidence.comparison import Interval
from eval.evidence.decoding import Principal
from eval.evidence.findings import finding
from eval.evidence.linear_probe import Standardisation
from eval.evidence.transfer import (
    Check,
    Ids,
    Labels,
    Learner,
    Recipe,
    balanced_draws,
    choose,
    fine_tune,
    from_scratch,
    linear,
    mlps,
    nearest,
    paired,
    side_by_side,
    t_interval,
    turnover,
)
from train.data.images import Images
from train.data.scores import Scores, Value
from train.data.views import batch, normalize
from train.methods.ranges import AtLeast, check_ranges
from train.models.encoder import Encoder
from train.tracking import Command, Problem, Stage
from train.tracking.panels import color, figure, symbol
from train.tracking.progress import Progress, over

Way = Literal["frozen", "full", "tuned", "scratch", "probe", "nearest", "pixels", "pca"]
WAYS: tuple[Way, ...] = get_args(Way)
TITLES: Mapping[Way, str] = {
    "frozen": "frozen encoder",
    "full": "encoder fine-tuned whole",
    "tuned": "the same, its rates and steps chosen",
    "scratch": "the same network from scratch",
    "probe": "linear probe",
    "nearest": "nearest labeled code",
    "pixels": "pixels, linear",
    "pca": "principal components",
}
Accuracies = Mapping[Way, Mapping[int, NDArray[np.float64]]]  # by number of labels, of each draw

LAYERS = (Recipe(60, 1e-2), Recipe(200, 1e-2))
RECIPES: Mapping[Way, Sequence[Recipe]] = {
    "frozen": LAYERS,
    "full": (Recipe(60, 1e-2, 1e-3),),  # the rate that Adam is most often given; `tuned` says what that costs
    "tuned": (Recipe(60, 1e-2, 1e-4), Recipe(60, 1e-2, 1e-3), Recipe(120, 1e-2, 3e-4)),
    # Batch normalization needs some 40 steps for its statistics.
    "scratch": (Recipe(60, 3e-3, 3e-3), Recipe(120, 3e-3, 3e-3), Recipe(120, 1e-3, 1e-3)),
    "pca": LAYERS,
}
ADVANTAGES: Mapping[Way, str] = {"full": "advantage", "tuned": "advantage_tuned"}  # of frozen, over a way
TRAINED: tuple[Way, ...] = ("full", "tuned", "scratch")  # what changes the encoder's weights
CHOICE = 2  # draws that a recipe is chosen on
HELD_OUT = 500  # images that it is chosen by
POOL = 10_000  # training images that labels are drawn from, and whose statistics codes and components have
BATCH = 250  # images at a time
PENALTY = 10.0  # of the logistic regression on pixels; on standardized codes it is 1
LEAST = 1e-9  # variance along a component, of that along the first: beyond the rank there is rounding alone


@dataclass(frozen=True)
class Config:
    encoder: str
    """Alias of the encoder."""
    labels: tuple[int, ...] = (10, 20, 40, 80, 160)
    """Numbers of labeled images, as many of each class as there can be."""
    draws: Annotated[int, AtLeast(2)] = 20
    """Random draws of each number, the same for all ways and for all encoders of a data set."""
    test: Annotated[int, AtLeast(1)] = 2_000
    """Test images, drawn at random; all where there are fewer."""
    ways: tuple[Way, ...] = WAYS
    """Ways of learning; full, tuned and scratch train the whole network, and take minutes to hours of a deep one."""
    seed: Annotated[int, AtLeast(0)] = 0
    """Draws labels, test images and what learners begin with."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for flag, choices in (("labels", self.labels), ("ways", self.ways)):
            if not choices:
                raise Problem(f"--{flag} is empty; give one or more")
            if twice := [choice for choice in choices if choices.count(choice) > 1]:
                raise Problem(f"--{flag} names {twice[0]} twice; give each once")
        if min(self.labels) < 1:
            raise Problem(f"--labels {min(self.labels)} is no number of labels; give 1 or more")


def main(config: Config) -> None:
    with Stage("eval.transfer", config) as stage:
        model = stage.fetch("encoder", config.encoder)
        stage.about(model)
        source = stage.fetch("images", model.dataset)
        model.check_made_from(source)
        images = Images.load(source.folder).with_labels("eval.transfer")
        scores = score(Encoder.load(model.folder), images, config)
        scores.log(stage)
        stage.finding = finding("transfer", stage.alias, scores.values)
        stage.publish("transfer", scores.save)


def score(encoder: Encoder, images: Images, config: Config) -> Scores:
    """`transfer/WAY/N`: mean accuracy with N labels, whose samples are the accuracies of the draws; its interval is Student's.
    `.../recipe`: what was chosen. `transfer/advantage/N`: frozen less full, and `transfer/turnover` the number of labels at
    which that changes its sign, where it does; `transfer/advantage_tuned/N`: frozen less tuned. `transfer/growth`: frozen with the most labels less frozen with the second least. `transfer/chance`: of always naming the most frequent class."""
    check(images)
    random = np.random.default_rng(config.seed)
    pool, rows = (
        np.sort(random.permutation(len(split))[:most])
        for split, most in ((images.train, POOL), (images.test, config.test))
    )
    counts, ways = possible_counts(config.labels, len(pool)), possible_ways(config.ways, encoder)
    task = Task.of(encoder, images, pool, rows)
    accuracies, recipes = measure(task, counts, ways, config)
    samples: dict[str, NDArray[Any]] = {
        f"transfer/{way}/{count}": part for way, by_count in accuracies.items() for count, part in by_count.items()
    }
    values: dict[str, Value] = {
        "transfer/draws": config.draws,
        "transfer/test": len(rows),
        "transfer/labels": list(counts),
        "transfer/dimensions": encoder.dimension,
        "transfer/chance": float((task.answers == np.bincount(task.labels[: task.pool]).argmax()).mean()),
        **recipes,
    }
    values |= {path: float(part.mean()) for path, part in samples.items()}
    values |= {f"{path}/interval": ends(t_interval(part)) for path, part in samples.items()}
    for way, name in ADVANTAGES.items():
        if {"frozen", way} <= set(ways):
            gaps = [paired(accuracies["frozen"][count], accuracies[way][count]) for count in counts]
            for count, gap in zip(counts, gaps, strict=True):
                path = f"transfer/{name}/{count}"
                values |= {path: gap.value, f"{path}/interval": ends(gap.interval)}
                samples[path] = accuracies["frozen"][count] - accuracies[way][count]
            if way == "full" and (change := turnover(counts, [gap.value for gap in gaps])) is not None:
                values["transfer/turnover"] = change
    if "frozen" in ways and len(counts) > 2:
        _, fewer, *_, most = sorted(counts)
        growth = paired(accuracies["frozen"][most], accuracies["frozen"][fewer])
        values |= {"transfer/growth": growth.value, "transfer/growth/interval": ends(growth.interval)}
        samples["transfer/growth"] = accuracies["frozen"][most] - accuracies["frozen"][fewer]
    return Scores(values, {"transfer/accuracy": curves(accuracies)}, samples=samples)


def measure(
    task: "Task", counts: Sequence[int], ways: Sequence[Way], config: Config
) -> tuple[Accuracies, dict[str, Value]]:
    """The accuracies of every way with every number of labels, draw by draw, and the recipes that were chosen."""
    labels = task.labels[: task.pool]
    test = np.arange(task.pool, len(task.labels))
    accuracies: dict[Way, dict[int, NDArray[np.float64]]] = {way: {} for way in ways}
    recipes: dict[str, Value] = {}
    choices = {way: len(recipes) for way, recipes in RECIPES.items() if len(recipes) > 1}
    total = len(counts) * sum(config.draws + CHOICE * choices.get(way, 0) for way in ways)
    with Progress("transfer", "fit", total) as progress:
        fits = learners(task, ways, progress.update)
        for count in counts:
            # Of each number its own generator, so that other --labels change no draw.
            random = np.random.default_rng([config.seed, count])
            several = balanced_draws(labels, count, config.draws + CHOICE, random)
            draws, others = several[: config.draws], several[config.draws :]
            for way in ways:
                progress.note(f"{way}, {count} labels")
                recipe, *rest = RECIPES.get(way, (Recipe(),))
                if rest:
                    learn = partial(fits[way], [config.seed] * CHOICE)
                    recipe = choice(learn, RECIPES[way], labels, others, config.seed)
                if way in RECIPES:
                    recipes[f"transfer/{way}/{count}/recipe"] = text(recipe, way)
                seeds = range(config.seed, config.seed + config.draws)
                accuracies[way][count] = (fits[way](seeds, recipe, draws, test) == task.answers).mean(axis=1)
    return accuracies, recipes


# -- what there is to learn --------------------------------------------------------------------------------------------


def check(images: Images) -> None:
    """Raises Problem where there is nothing to tell apart."""
    if len(np.unique(images.train_labels)) < 2:
        raise Problem(f"the training images of {images.name} have one class; prepare images of two or more")


def possible_counts(counts: Sequence[int], most: int) -> tuple[int, ...]:
    """Those numbers of labels that there are training images for. Raises Problem where there are none."""
    kept = tuple(count for count in counts if count <= most)
    if not kept:
        raise Problem(f"--labels {min(counts)} is more than the {most:,} training images to draw from; give fewer")
    for count in counts:
        if count > most:
            print(f"--labels {count} is left out: there are {most:,} training images to draw from")
    return kept


def possible_ways(ways: Sequence[Way], encoder: Encoder) -> tuple[Way, ...]:
    """Those that the encoder has: one without weights that are learned cannot be tuned. Raises Problem where there are none."""
    if next(encoder.parameters(), None) is not None:
        return tuple(ways)
    kept = tuple(way for way in ways if way not in TRAINED)
    kind = encoder.architecture.backbone
    if not kept:
        raise Problem(
            f"--ways {' '.join(ways)} train the encoder, and {kind} has nothing to train; add frozen or probe"
        )
    if len(kept) < len(ways):
        print(f"{' and '.join(way for way in ways if way in TRAINED)} left out: {kind} has no weights that are trained")
    return kept


@dataclass(frozen=True)
class Task:
    """Training images that labels are drawn from, `pool` of them, and behind them the test images.

    pixels: (n, s, s, 3) uint8. channels: 1 where the three are equal. labels: (n,). codes: (n, d), standardized by the
    training images.
    """

    encoder: Encoder
    pixels: NDArray[np.uint8]
    channels: int
    labels: Labels
    codes: Tensor
    standardise: Standardisation
    pool: int
    classes: int

    @classmethod
    def of(cls, encoder: Encoder, images: Images, pool: Ids, rows: Ids) -> "Task":
        pixels = np.concatenate([images.train[pool], images.test[rows]])
        labels = np.concatenate([images.train_labels[pool], images.test_labels[rows]])
        starts = over(range(0, len(pixels), BATCH), "codes", "batch")
        parts = [encoder.encode(pixels, start, min(start + BATCH, len(pixels)))[1] for start in starts]
        codes = torch.cat(parts).float().numpy()
        standardise = Standardisation.of(codes[: len(pool)])
        return cls(
            encoder, pixels, 1 if images.gray else 3, labels, standardise(codes), standardise, len(pool), len(images.classes)
        )  # fmt: skip

    @property
    def answers(self) -> Labels:
        """Classes of the test images."""
        return self.labels[self.pool :]

    @property
    def flat(self) -> NDArray[np.float32]:
        """Pixels (n, p) in [0, 1]."""
        values = self.pixels[..., : self.channels].reshape(len(self.pixels), -1)
        return np.asarray(values / np.float32(255), np.float32)

    def planes(self, rows: Ids) -> Tensor:
        """Images as the encoder takes them."""
        architecture = self.encoder.architecture
        mean, std = torch.tensor(architecture.mean), torch.tensor(architecture.std)
        return normalize(batch(self.pixels, rows), mean, std, architecture.size)

    def components(self) -> Tensor:
        """The first d principal components of the pixels, standardized, fewer where they have no more: (n, d)."""
        flat = self.flat
        principal = Principal.fit(flat[: self.pool])
        rank = int((principal.variances > LEAST * principal.variances.max()).sum())
        codes = principal.codes(flat, max(1, min(self.codes.shape[1], rank))).astype(np.float32)
        return Standardisation.of(codes[: self.pool])(codes)


# -- ways to learn -----------------------------------------------------------------------------------------------------

# Seeds (k,), recipe, labeled rows (k, n) and others (m,) -> the classes of the others (k, m).
Fit = Callable[[Sequence[int], Recipe, Ids, Ids], Labels]


def learners(task: Task, ways: Sequence[Way], progress: Callable[[], object] = lambda: None) -> dict[Way, Fit]:
    """progress: called after every fit."""
    codes, labels, classes, encoder = task.codes, task.labels, task.classes, task.encoder
    flat = task.flat if "pixels" in ways else np.empty(0, np.float32)
    components = task.components() if "pca" in ways else torch.empty(0)

    def build() -> Encoder:
        network = Encoder(encoder.architecture)
        network.fit(task.pixels[: task.pool], np.random.default_rng(int(torch.randint(2**31, ()))))
        return network

    def layers(of: Tensor, seeds: Sequence[int], recipe: Recipe, draws: Ids, others: Ids) -> Labels:
        predicted = mlps(of, labels, draws, of[others], classes, seeds, recipe)
        for _ in draws:
            progress()
        return predicted

    def full(rest: Tensor, recipe: Recipe, seed: int, labeled: Ids, check: Check) -> Labels:
        images, answers = task.planes(labeled), labels[labeled]
        return fine_tune(encoder, images, answers, rest, classes, seed, task.standardise, recipe, check=check)

    def scratch(rest: Tensor, recipe: Recipe, seed: int, labeled: Ids, check: Check) -> Labels:
        images, answers = task.planes(labeled), labels[labeled]
        return from_scratch(build, images, answers, rest, classes, seed, recipe, check=check)

    def networks(fit: Callable[..., Labels], seeds: Sequence[int], recipe: Recipe, draws: Ids, others: Ids) -> Labels:
        start = partial(fit, task.planes(others), recipe)
        fits = [partial(start, seed, labeled) for seed, labeled in zip(seeds, draws, strict=True)]
        return np.stack(side_by_side(fits, progress))

    def probe(labeled: Ids, others: Ids) -> Labels:
        return linear(codes[labeled].numpy(), labels[labeled], codes[others].numpy())

    def closest(labeled: Ids, others: Ids) -> Labels:
        return nearest(codes[labeled].numpy(), labels[labeled], codes[others].numpy())

    def pixels(labeled: Ids, others: Ids) -> Labels:
        return linear(flat[labeled], labels[labeled], flat[others], 1 / PENALTY)

    def alone(
        fit: Callable[[Ids, Ids], Labels], seeds: Sequence[int], recipe: Recipe, draws: Ids, others: Ids
    ) -> Labels:
        predicted = []
        for labeled in draws:
            predicted.append(fit(labeled, others))
            progress()
        return np.stack(predicted)

    every: dict[Way, Fit] = {
        "frozen": partial(layers, codes),
        "full": partial(networks, full),
        "tuned": partial(networks, full),
        "scratch": partial(networks, scratch),
        "probe": partial(alone, probe),
        "nearest": partial(alone, closest),
        "pixels": partial(alone, pixels),
        "pca": partial(layers, components),
    }
    return {way: every[way] for way in ways}


def choice(learn: Learner, recipes: Sequence[Recipe], labels: Labels, draws: Ids, seed: int) -> Recipe:
    """The best of the recipes on these draws; the first where all training images are labeled, and none is left to tell."""
    left = len(labels) - len(np.unique(draws))
    if not left:
        return recipes[0]
    return choose(recipes, learn, labels, draws, min(HELD_OUT, left), np.random.default_rng(seed)).recipe


def text(recipe: Recipe, way: Way) -> str:
    below = f", {recipe.encoder_rate:g} below" if way in TRAINED else ""
    return f"{recipe.steps} steps at a rate of {recipe.rate:g}{below}"


def ends(interval: Interval | None) -> Value:
    return list(interval) if interval else None


def curves(accuracies: Accuracies) -> go.Figure:
    """A line for each way, with the interval of each mean over draws."""
    lines = []
    for index, (way, by_count) in enumerate(accuracies.items()):
        parts = [by_count[count] for count in sorted(by_count)]
        means = [float(part.mean()) for part in parts]
        highest = [(t_interval(part) or (mean, mean))[1] for part, mean in zip(parts, means, strict=True)]
        lines.append(
            go.Scatter(
                name=TITLES[way],
                x=sorted(by_count),
                y=means,
                error_y={"type": "data", "array": [high - mean for high, mean in zip(highest, means, strict=True)]},
                mode="lines+markers",
                line={"color": color(index)},
                marker={"symbol": symbol(index)},
            )
        )
    result = figure("Few labels: mean accuracy over draws, 95 % intervals", "labeled images", "test accuracy", lines)
    counts = sorted({count for by_count in accuracies.values() for count in by_count})
    return result.update_xaxes(type="log", tickvals=counts, ticktext=list(map(str, counts)))


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
