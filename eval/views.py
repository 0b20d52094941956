"""Measures what a representation keeps of an image when its view changes: standard views, and harder ones made from them.

Standard views are random crops, flips, color jitter, gray and blur, as in SimCLR. A harder view is RandAugment of a standard
view's pixels. Of up to 1,000 test images: whether a view finds the other view of its image among all (`matching`), how much
more alike two views of an image are than views of two images (`contrast`), how far a harder view lies from its standard
one (`harder/distance`). Of a quarter of them: whether the harder view lies farther from the mean of 32 other standard
views (`harder/farther`).
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evidence.findings import finding
from eval.evidence.intervals import mean_interval
from eval.evidence.pictures import grid
from eval.evidence.views import contrast, distances, farther, matching, unit
from train.data.images import Images
from train.data.randaugment import OPERATIONS, choose, randaugment
from train.data.scores import Scores, Value
from train.data.views import Augmentation, batch
from train.engine.instances import standard_views
from train.methods.ranges import AtLeast, check_ranges
from train.models.encoder import Encoder
from train.tracking import Command, Problem, Stage
from train.tracking.progress import Progress

BATCH = 100  # images at a time
CORES = 4  # one image in so many gets a core, which takes many more views
# What a standard view may go through beside its crop.
STANDARD = {"flip", "brightness", "contrast", "saturation", "hue", "grayscale", "blur"}


@dataclass(frozen=True)
class Config:
    encoder: str
    """Alias of the encoder."""
    images: str | None = None
    """Alias of the images; those that the encoder was made from unless given."""
    count: Annotated[int, AtLeast(2)] = 1_000
    """Test images, drawn at random; all where there are fewer."""
    core: Annotated[int, AtLeast(1)] = 32
    """Standard views of an image whose mean is its core; of a quarter of the images."""
    seed: Annotated[int, AtLeast(0)] = 0
    """Draws images and views, which are the same for all variants of a data set, and the bootstrap."""

    def __post_init__(self) -> None:
        check_ranges(self)


def main(config: Config) -> None:
    with Stage("eval.views", config) as stage:
        model = stage.fetch("encoder", config.encoder)
        stage.about(model)
        source = stage.fetch("images", config.images or model.dataset)
        model.check_made_from(source)
        encoder, images = Encoder.load(model.folder), Images.load(source.folder)
        if len(images.test) < 2:
            raise Problem(f"{images.name} has one test image, whose views there is nothing to tell from; prepare more")
        scores = score(encoder, images, config)
        scores.log(stage)
        stage.finding = finding("views", stage.alias, scores.values)
        stage.publish("views", scores.save)


def score(encoder: Encoder, images: Images, config: Config) -> Scores:
    """Shares and cosines, each a mean over the images, whose own values are the samples. What needs two different vectors is
    left out where there are none."""
    rows = np.sort(np.random.default_rng(config.seed).permutation(len(images.test))[: config.count])
    pixels, draws = batch(images.test, rows), torch.Generator().manual_seed(config.seed)
    augmentation = Augmentation(size=images.size)
    sources = [standard_views(pixels, augmentation, draws) for _ in range(2)]
    pairs = [harder_views(view, draws) for view in sources]
    others = [standard_views(pixels[::CORES], augmentation, draws) for _ in range(config.core)]
    total = sum(map(len, (*sources, *pairs, *others)))
    with Progress("views", "view", total) as progress:

        def vectors(views: Tensor) -> NDArray[np.float64]:
            units = unit(encode(encoder, views))
            progress.update(len(views))
            return units

        standard, harder, around = ([vectors(view) for view in kind] for kind in (sources, pairs, others))
    samples: dict[str, NDArray[Any]] = {
        "views/matching": matching(standard[0], standard[1]),
        "views/contrast": contrast(standard[0], standard[1]),
        "views/harder/matching": matching(harder[0], harder[1]),
        "views/harder/distance": distances(harder[0], standard[0]),
        "views/harder/farther": farther(harder[0][::CORES], standard[0][::CORES], np.mean(around, axis=0)),
    }
    samples = {path: sample for path, sample in samples.items() if np.isfinite(sample).all()}
    values: dict[str, Value] = {"views/images": len(rows), "views/chance": 1 / len(rows)}
    values["views/harder/shared"] = len(STANDARD & set(OPERATIONS))
    for path, sample in samples.items():
        values[path] = float(sample.mean())
        ends = mean_interval(sample, config.seed)
        values[f"{path}/interval"] = list(ends) if ends else None
    shown = [[view[i].permute(1, 2, 0).numpy() for view in (*sources, *pairs)] for i in range(min(8, len(rows)))]
    examples = grid(
        [[image, *row] for image, row in zip(pixels.numpy(), shown, strict=False)], [[False] * 5] * len(shown), 1
    )
    return Scores(values, pictures={"views/examples": examples}, samples=samples)


def harder_views(views: Tensor, generator: torch.Generator) -> Tensor:
    """RandAugment of views (n, 3, size, size) uint8."""
    return randaugment(views, choose(len(views), generator))


def encode(encoder: Encoder, views: Tensor) -> NDArray[np.float32]:
    """Representations (n, d) of views (n, 3, size, size) uint8."""
    pixels = views.permute(0, 2, 3, 1).numpy()
    parts = [
        encoder.encode(pixels, start, min(start + BATCH, len(pixels)))[1] for start in range(0, len(pixels), BATCH)
    ]
    return torch.cat(parts).float().numpy()


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
