"""Draws images from a generator and measures how far they are from real ones, in the features of a judge.

The judge is a classifier of the same images (train.supervise), whose last class is of spoiled images. The kernel distance
(KID) decides; it is 0 for images of the real distribution. The training images as samples, and one half of the test images
against the other, stand beside every number. Numbers of two judges have nothing in common, and are never compared. Unlabeled
images have no judge: sharpness, copies and bits are all that is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evidence.findings import finding
from eval.evidence.generation import (
    Reference,
    acceptance,
    blur,
    frechet_distance,
    histogram_floors,
    sharpness,
    support,
)
from eval.evidence.intervals import Statistic
from eval.evidence.judging import Candidate, judged, sheet, whole
from eval.evidence.memorization import memorization, nearest_images
from train.data.images import Images
from train.data.scores import Scores, Value
from train.engine.devices import autocast, device_of
from train.methods.ranges import AtLeast, check_ranges
from train.models.diffuser import Diffuser
from train.models.encoder import Encoder
from train.models.generator import Generator
from train.models.likelihood import bits, bound, last_deviation
from train.tracking import MACHINE, Command, Stage
from train.tracking.panels import color, figure
from train.tracking.progress import Progress

BATCH = 250  # images at a time
SHOWN = 64  # samples in the large grid
LARGE = 5  # of them in a row, enlarged
PAIRS = 16  # samples that are shown beside their nearest training image
NEIGHBORS = 3  # of precision, recall, density and coverage
# The chain whose bound is shown begins where its noise is a few values wide: before that it only pays for the pixels' steps.
FIRST, CHAIN = 0.999, 1000
BOUND = 500  # test images whose bound is taken


@dataclass(frozen=True)
class Config:
    generator: str
    """Alias of the generator."""
    judge: str | None = None
    """Alias of the judge; the classifier of the generator's images (IMAGES-supervised) unless given."""
    count: Annotated[int, AtLeast(8)] = 1_000
    """Samples, and as many test images; all test images where there are fewer."""
    sampler: Literal["ddim", "ancestral"] = "ancestral"
    """How a diffusion draws: ddim makes one image of one noise, ancestral adds noise at each step, which undoes errors of the
    steps before."""
    steps: Annotated[int, AtLeast(1)] = 50
    """Noise levels that a diffusion goes through; ddim needs half as many."""
    resamples: Annotated[int, AtLeast(1)] = 1_000
    """Bootstrap resamples of samples and test images for the 95 % intervals."""
    seed: Annotated[int, AtLeast(0)] = 0
    """Draws the noise, the test images and the bootstrap: the same for all generators of a data set."""
    device: Annotated[str, MACHINE] = "auto"
    """cpu, cuda, mps; auto takes cuda where there is one."""

    def __post_init__(self) -> None:
        check_ranges(self)


def main(config: Config) -> None:
    with Stage("eval.generate", config) as stage:
        device = device_of(config.device)
        candidate = Candidate.fetch(stage, config.generator, config.judge, device)
        generator, images = candidate.generator, candidate.images
        with autocast("auto", device), torch.no_grad():
            samples = draw(generator, config, min(config.count, len(images.test)))
        scores = score(generator, samples, images, candidate.judge, config)
        if candidate.digest:
            scores.values["generate/judge"] = candidate.digest
        scores.log(stage)
        stage.finding = finding("generate", stage.alias, scores.values)
        stage.publish("generate", scores.save)


def draw(generator: Generator, config: Config, count: int) -> NDArray[np.uint8]:
    """Samples (count, s, s, channels)."""
    draws = torch.Generator().manual_seed(config.seed)
    if isinstance(generator, Diffuser):
        with Progress("samples", "step", config.steps) as progress:

            def watch(states: Iterator[Tensor]) -> Iterator[Tensor]:
                for state in states:
                    progress.update()
                    yield state

            pictures = generator.sample(count, draws, config.steps, float(config.sampler == "ancestral"), watch)
    else:
        pictures = torch.cat([generator.sample(len(part), draws) for part in torch.arange(count).split(BATCH)])
    return whole(pictures)


def score(
    generator: Generator, samples: NDArray[np.uint8], images: Images, encoder: Encoder | None, config: Config
) -> Scores:
    """Distances, shares and their floors; each share with what it is a mean of, sample by sample or test image by test image.

    `generate/train/*`: the same of training images as samples. `generate/kid/real`: of one half of the test images against
    the other.
    """
    count, channels = len(samples), samples.shape[3]
    random = np.random.default_rng(config.seed)
    rows = random.permutation(len(images.test))[:count]
    others = random.permutation(len(images.train))[:count]
    real, train = images.test[np.sort(rows)][..., :channels], images.train[np.sort(others)][..., :channels]
    kinds = {"": samples, "train/": train}
    values: dict[str, Value] = {"generate/images": count}
    own: dict[str, NDArray[Any]] = {}
    if encoder:
        features, _ = judged(encoder, real)
        reference = Reference.of(features)
        halves = np.array_split(random.permutation(count), 2)
        floor = Reference.of(features[halves[0]]).distance(features[halves[1]], config.resamples, random)
        values |= entry("generate/kid/real", floor)
    for prefix, pictures in kinds.items():
        parts: dict[str, NDArray[Any]] = {}
        if encoder:
            drawn, probabilities = judged(encoder, pictures)
            values |= entry(f"generate/{prefix}kid", reference.distance(drawn, config.resamples, random))
            values[f"generate/{prefix}frechet"] = frechet_distance(features, drawn)
            overlap = support(reference.features, drawn / reference.deviation, min(NEIGHBORS, count - 1))
            parts = {
                "precision": overlap.precision, "recall": overlap.recall,
                "density": overlap.density, "coverage": overlap.coverage,
                "accepted": acceptance(probabilities, len(images.classes)),
            }  # fmt: skip
        fuzzy = blur(sharpness(real), sharpness(pictures), config.resamples, random)
        parts |= {"sharpness": fuzzy.relative, "blurry": fuzzy.blurry}
        values |= {f"generate/{prefix}{name}": float(part.mean()) for name, part in parts.items()}
        values[f"generate/{prefix}sharpness/interval"] = ends(fuzzy.ratio)
        values[f"generate/{prefix}blurry/interval"] = ends(fuzzy.share)
        if not prefix:
            if encoder:
                parts["kid"] = reference.influences(drawn)
            own = {f"generate/{name}": part for name, part in parts.items()}
    copies, nearest = copied(samples, real, images.train[..., :channels], config, random)
    values |= copies
    if encoder:
        values["generate/accepted/real"] = float(acceptance(judged(encoder, real)[1], len(images.classes)).mean())
    one, each = histogram_floors(images.train[..., :channels], images.test[..., :channels])
    values |= {"generate/bits/histogram": one, "generate/bits/pixels": each}
    if isinstance(generator, Diffuser):
        values["generate/bits"] = bits_of(generator, real, train, config)
    kids = {name: values[f"generate/{name}"] for name in ("kid", "train/kid", "kid/real") if encoder}
    figures = {"generate/distance": bars(kids)} if kids else {}
    return Scores(values, figures, panels(samples, real, nearest), own)


def entry(path: str, statistic: Statistic) -> dict[str, Value]:
    return {path: statistic.value, f"{path}/interval": ends(statistic)}


def ends(statistic: Statistic) -> Value:
    return list(statistic.interval) if statistic.interval else None


def copied(
    samples: NDArray[np.uint8],
    real: NDArray[np.uint8],
    train: NDArray[np.uint8],
    config: Config,
    random: np.random.Generator,
) -> tuple[dict[str, Value], NDArray[np.uint8]]:
    """How many samples are training images over again, and the nearest training image of each."""
    ours, theirs = nearest_images(samples, train), nearest_images(real, train)
    values: dict[str, Value] = {
        "generate/nearest": float(np.median(ours.distances)),
        "generate/nearest/real": float(np.median(theirs.distances)),
    }
    if (theirs.distances > 0).any():
        copies = memorization(ours, theirs, config.resamples, random)
        values |= entry("generate/copies", copies.share)
        values["generate/copies/shown"] = {True: "yes", False: "no", None: "not decided"}[copies.shown]
    return values, train[ours.ids]


def bits_of(generator: Diffuser, real: NDArray[np.uint8], train: NDArray[np.uint8], config: Config) -> float:
    """Bits per dimension of test images: the variational bound of a chain of many steps."""
    draws = torch.Generator().manual_seed(config.seed)
    test, others = (
        torch.from_numpy(part[:BOUND]).permute(0, 3, 1, 2).to(generator.device).float() / 127.5 - 1
        for part in (real, train)
    )
    first = float(generator.schedule.time(torch.tensor(FIRST, dtype=torch.float64)))
    with torch.no_grad(), autocast("auto", generator.device):
        deviation = last_deviation(generator.estimate, others, generator.schedule, first, draws)
        nats = bound(generator.estimate, test, generator.schedule, CHAIN, first, deviation, draws).total.mean()
    return float(bits(nats, test[0].numel()))


def bars(kids: dict[str, Any]) -> go.Figure:
    names = {"kid": "samples", "train/kid": "training images", "kid/real": "half of the test images"}
    bar = go.Bar(x=[names[name] for name in kids], y=list(kids.values()), marker={"color": color(0)})
    return figure("How far from the test images", "", "kernel distance (KID); 0: the same distribution", [bar])


def panels(
    samples: NDArray[np.uint8], real: NDArray[np.uint8], nearest: NDArray[np.uint8]
) -> dict[str, PIL.Image.Image]:
    """Grids of samples and of test images, five samples large, and samples beside their nearest training images."""
    pairs = [image for pair in zip(samples[:PAIRS], nearest[:PAIRS], strict=True) for image in pair]
    return {
        "generate/samples": sheet(samples[:SHOWN], 8),
        "generate/real": sheet(real[:SHOWN], 8),
        "generate/large": sheet(samples[:LARGE], LARGE, 4),
        "generate/nearest": sheet(np.stack(pairs), 8),
    }


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
