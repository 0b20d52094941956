"""Measures what a generator makes of real images: reconstructions and paths between them, or images noised and restored.

Of an autoencoder: the error of each test image beside principal components of as many dimensions, and what lies on the way
from one code to another, beside the cross-fade of the two images. Of a diffusion: whether an image that was noised down to
a level comes back as an image of its class, by the judge (train.supervise), with DDIM and with ancestral steps. A level is
alpha_bar, the share of the image in the variance; a step number means nothing without its schedule. Unlabeled images have no
judge, and what one says is left out.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import PIL.Image
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evidence.decoding import Principal, crossfades, different_pairs, errors, third_class, unevenness
from eval.evidence.findings import finding
from eval.evidence.generation import acceptance
from eval.evidence.intervals import mean_interval
from eval.evidence.judging import Candidate, judged, sheet, whole
from eval.evidence.memorization import nearest_images
from eval.evidence.validity import labeled_rows
from train.data.images import Images
from train.data.scores import Scores, Value
from train.engine.devices import autocast, device_of
from train.methods.ranges import AtLeast, check_ranges
from train.models.decoder import Decoder
from train.models.diffuser import Diffuser
from train.models.encoder import Encoder
from train.tracking import MACHINE, Command, Problem, Stage
from train.tracking.panels import color, figure
from train.tracking.progress import Progress, over

BATCH = 250  # images at a time
ALPHAS = tuple(step / 10 for step in range(11))
MIDDLE = 5  # of them
SHOWN = 8  # paths, images or units in a grid
DEVIATIONS = (-3, -2, -1, 0, 1, 2, 3)  # of a unit that is traversed
# The report's steps 30 and 120 of 200 linear betas are 0.94 and 0.48.
LEVELS = (0.99, 0.94, 0.8, 0.69, 0.48, 0.35, 0.2, 0.1)
SAMPLERS = {"ddim": 0.0, "ancestral": 1.0}


@dataclass(frozen=True)
class Config:
    generator: str
    """Alias of the generator."""
    encoder: str | None = None
    """Alias of the encoder that gives its codes; the generator's own unless given."""
    judge: str | None = None
    """Alias of the judge; the classifier of the generator's images (IMAGES-supervised) unless given."""
    pairs: Annotated[int, AtLeast(2)] = 500
    """Random pairs of test images of different classes, between whose codes one goes; or images that are noised and restored."""
    steps: Annotated[int, AtLeast(1)] = 25
    """Noise levels of a whole way back; from less noise it takes fewer."""
    seed: Annotated[int, AtLeast(0)] = 0
    """Draws pairs, images and noise, which are the same for all generators of a data set, and the bootstrap."""
    device: Annotated[str, MACHINE] = "auto"
    """cpu, cuda, mps; auto takes cuda where there is one."""

    def __post_init__(self) -> None:
        check_ranges(self)


def main(config: Config) -> None:
    with Stage("eval.decode", config) as stage:
        device = device_of(config.device)
        candidate = Candidate.fetch(stage, config.generator, config.judge, device)
        source, generator, images = candidate.source, candidate.generator, candidate.images
        if candidate.judge and len(np.unique(images.test_labels[labeled_rows(images.test_labels)])) < 2:
            raise Problem(f"the test images of {images.name} have one class, and nothing lies between; prepare more")
        if isinstance(generator, Decoder):
            model = stage.fetch("encoder", config.encoder or source.alias)
            model.check_made_from(candidate.pictures)
            encoder = Encoder.load(model.folder).to(device)
            if encoder.dimension != generator.plan.dimension:
                raise Problem(
                    f"{model.request} gives codes of {encoder.dimension} dimensions, and {source.request} takes"
                    f" {generator.plan.dimension}; give the encoder that it was trained with"
                )
            scores = between(generator, encoder, images, candidate.judge, config)
        else:
            scores = restored(generator, images, candidate.judge, config)
        if candidate.digest:
            scores.values["decode/judge"] = candidate.digest
        scores.log(stage)
        stage.finding = finding("decode", stage.alias, scores.values)
        stage.publish("decode", scores.save)


# -- autoencoders ------------------------------------------------------------------------------------------------------


def between(decoder: Decoder, encoder: Encoder, images: Images, critic: Encoder | None, config: Config) -> Scores:
    """`decode/error`: of the pixels in [0, 1], squared; `decode/pca`: by principal components of the training images, as many.
    `decode/middle/*`: of the image half-way between two codes; `decode/fade/*`: of the mean of the two images. The two are of
    different classes, or without labels any two."""
    channels, size = decoder.plan.channels, decoder.plan.dimension
    test = images.test[..., :channels] / np.float32(255)
    codes = encode(encoder, images.test)
    copies = decode(decoder, codes)
    flat = test.reshape(len(test), -1)
    principal = Principal.fit(images.train[..., :channels].reshape(len(images.train), -1) / np.float32(255))
    samples: dict[str, NDArray[Any]] = {"decode/error": errors(test, copies)}
    values: dict[str, Value] = {"decode/dimensions": size, "decode/images": len(test)}
    values["decode/mean"] = float(errors(flat, np.broadcast_to(principal.mean, flat.shape)).mean())
    if size <= flat.shape[1]:
        samples["decode/pca"] = errors(flat, principal.reconstruct(flat, size))
    rows, labels = labeled_rows(images.test_labels), np.asarray(images.test_labels)
    if critic:
        _, answers = judged(critic, whole(copies[rows]))
        samples["decode/kept"] = answers.argmax(axis=1) == labels[rows]
    else:
        rows = labels = np.arange(len(test))  # each image as a class of its own

    pairs = rows[different_pairs(labels[rows], config.pairs, np.random.default_rng(config.seed))]
    first, second = pairs.T
    paths = crossfades(codes[first], codes[second], ALPHAS)
    frames = decode(decoder, paths.reshape(-1, size).astype(np.float32)).reshape(
        len(pairs), len(ALPHAS), *test.shape[1:]
    )
    fades = crossfades(test[first], test[second], ALPHAS)
    train = images.train[..., :channels]
    samples["decode/unevenness"] = unevenness(frames)
    samples["decode/middle/fade"] = errors(fades[:, MIDDLE].clip(0, 1), frames[:, MIDDLE])
    for name, middles in (("middle", frames[:, MIDDLE]), ("fade", fades[:, MIDDLE])):
        pictures = whole(middles)
        if critic:
            _, answers = judged(critic, pictures)
            samples[f"decode/{name}/accepted"] = acceptance(answers, len(images.classes))
            samples[f"decode/{name}/third"] = third_class(answers.argmax(axis=1), labels[first], labels[second])
        samples[f"decode/{name}/nearest"] = nearest_images(pictures, train).distances
    values |= means(samples, config.seed)
    shown = np.concatenate(
        [row for path, fade in zip(frames[:SHOWN], fades[:SHOWN], strict=False) for row in (path, fade)]
    )
    order = np.random.default_rng(config.seed).permutation(len(test))[: 2 * SHOWN]
    several = np.concatenate([test[order], copies[order]])
    grids = {
        "decode/paths": sheet(whole(shown), len(ALPHAS)),
        "decode/reconstructions": sheet(whole(several), len(order)),
        "decode/traversals": traversals(decoder, codes),
    }
    return Scores(values, {"decode/errors": histogram(samples)}, grids, samples)


def encode(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Codes (n, d)."""
    starts = over(range(0, len(images), BATCH), "codes", "batch")
    parts = [encoder.encode(images, start, min(start + BATCH, len(images)))[1] for start in starts]
    codes: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return codes


@torch.no_grad()
def decode(decoder: Decoder, codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean images (n, s, s, channels) in [0, 1]."""
    places = decoder.center.device
    parts = [decoder.pictures(part.to(places)) for part in torch.from_numpy(codes).split(BATCH)]
    pictures: NDArray[np.float32] = torch.cat(parts).permute(0, 2, 3, 1).cpu().numpy()
    return pictures


def traversals(decoder: Decoder, codes: NDArray[np.float32]) -> PIL.Image.Image:
    """A row for each of the units that vary most: the unit from -3 to 3 deviations from its mean, the others at theirs."""
    mean, deviation = codes.mean(axis=0, dtype=np.float64), codes.std(axis=0, dtype=np.float64)
    units = np.argsort(-deviation, kind="stable")[:SHOWN]
    walks = np.tile(mean, (len(units), len(DEVIATIONS), 1))
    for walk, unit in zip(walks, units, strict=True):
        walk[:, unit] += deviation[unit] * np.array(DEVIATIONS)
    return sheet(whole(decode(decoder, walks.reshape(-1, len(mean)).astype(np.float32))), len(DEVIATIONS))


def histogram(samples: dict[str, NDArray[Any]]) -> go.Figure:
    names = {"decode/error": "decoder", "decode/pca": "principal components"}
    bars = [
        go.Histogram(x=samples[path], name=name, opacity=0.6, marker={"color": color(index)})
        for index, (path, name) in enumerate(names.items())
        if path in samples
    ]
    return figure("Error of the test images", "mean squared error of an image's pixels", "images", bars).update_layout(
        barmode="overlay"
    )


# -- diffusion ---------------------------------------------------------------------------------------------------------


def restored(diffuser: Diffuser, images: Images, critic: Encoder | None, config: Config) -> Scores:
    """`decode/SAMPLER/kept/LEVEL`: whether the judge takes the restored image for one of its class. `.../error/LEVEL`: the mean
    squared error of its pixels. LEVEL in hundredths of alpha_bar."""
    channels = diffuser.plan.channels
    members = labeled_rows(images.test_labels) if critic else np.arange(len(images.test))
    rows = np.random.default_rng(config.seed).permutation(members)[: config.pairs]
    pixels = images.test[rows][..., :channels] / np.float32(255)
    originals = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(diffuser.device)
    labels = np.asarray(images.test_labels)[rows]
    samples: dict[str, NDArray[Any]] = {}
    values: dict[str, Value] = {"decode/images": len(rows)}
    kept: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    grids: list[Tensor] = [originals[: 2 * SHOWN]]
    with Progress("noise and back", "level", len(LEVELS) * len(SAMPLERS)) as progress:
        for level in LEVELS:
            values[f"decode/time/{100 * level:g}"] = float(
                diffuser.schedule.time(torch.tensor(level, dtype=torch.float64))
            )
            for name, eta in SAMPLERS.items():
                draws = torch.Generator().manual_seed(config.seed)
                with torch.no_grad(), autocast("auto", diffuser.device):
                    back = diffuser.restore(originals, level, draws, config.steps, eta)
                pictures = whole(back)
                if critic:
                    right = judged(critic, pictures)[1].argmax(axis=1) == labels
                    samples[f"decode/{name}/kept/{100 * level:g}"] = right
                    kept[name].append(float(right.mean()))
                samples[f"decode/{name}/error/{100 * level:g}"] = errors(pixels, pictures / np.float32(255))
                if name == "ancestral":
                    grids.append(back[: 2 * SHOWN])
                progress.update()
    values |= means(samples, config.seed)
    board = sheet(whole(torch.cat(grids)), len(grids[0]))
    if critic is None:
        return Scores(values, {}, {"decode/restored": board}, samples)
    lines = [
        go.Scatter(x=LEVELS, y=shares, name=name, mode="lines+markers", line={"color": color(index)})
        for index, (name, shares) in enumerate(kept.items())
    ]
    curve = figure(
        "Noised and restored: does the class stay?", "alpha_bar, share of the image", "share of images", lines
    )
    return Scores(
        values, {"decode/kept": curve.update_xaxes(autorange="reversed")}, {"decode/restored": board}, samples
    )


def means(samples: dict[str, NDArray[Any]], seed: int) -> dict[str, Value]:
    """The mean of each sample, and its interval."""
    values: dict[str, Value] = {}
    for path, sample in samples.items():
        ends = mean_interval(sample, seed, 2_000)
        values |= {path: float(sample.mean()), f"{path}/interval": list(ends) if ends else None}
    return values


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
