"""The judge of pictures: a classifier of the same images that knows spoiled ones; and the sheets that pictures are shown on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evidence.pictures import grid
from train.data.images import Images
from train.models.encoder import Encoder
from train.models.generator import Generator, load_generator
from train.models.judge import FEATURES
from train.tracking import Problem, Stage
from train.tracking.stage import Input

BATCH = 250  # images at a time


@dataclass(frozen=True)
class Candidate:
    """A generator before its judge, and the images that both were made from. source, pictures: the artifacts of the
    generator and of the images. digest: of the judge. Unlabeled images have no judge."""

    source: Input
    generator: Generator
    pictures: Input
    images: Images
    judge: Encoder | None
    digest: str | None

    @classmethod
    def fetch(cls, stage: Stage, alias: str, judge: str | None, device: torch.device) -> "Candidate":
        """The generator called `alias`, which the run is about from then on. judge: an alias, IMAGES-supervised unless given.

        Raises Problem where the generator, or the judge, was not made from the images of that name.
        """
        source = stage.fetch("generator", alias)
        stage.about(source)
        pictures = stage.fetch("images", source.dataset)
        source.check_made_from(pictures)
        images, generator = Images.load(pictures.folder), load_generator(source.folder).to(device)
        if not images.labeled:
            print(f"{images.name} is unlabeled, and has no judge: what one measures is left out")
            return cls(source, generator, pictures, images, None, None)
        return cls(source, generator, pictures, images, *fetch_judge(stage, judge, pictures, images, device))


def fetch_judge(
    stage: Stage, alias: str | None, source: Input, images: Images, device: torch.device
) -> tuple[Encoder, str]:
    """The judge of the images `source` and its digest. Raises Problem for what is none of theirs."""
    judge = stage.fetch("encoder", alias or f"{images.name}-supervised")
    judge.check_made_from(source)
    encoder = Encoder.load(judge.folder).to(device)
    if encoder.dimension != len(images.classes) + 1:
        raise Problem(
            f"{judge.request} is no judge: it has {encoder.dimension} outputs, not one for each class and one for spoiled"
            f" images; make one with python -m train.supervise --images {images.name}"
        )
    return encoder, judge.version.digest


def judged(encoder: Encoder, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (n, f) and probabilities (n, classes + 1) of images (n, s, s, channels)."""
    pixels = np.broadcast_to(images, (*images.shape[:3], 3))
    parts = [encoder.encode(pixels, start, min(start + BATCH, len(pixels))) for start in range(0, len(pixels), BATCH)]
    features = torch.cat([features for features, _ in parts]).double().cpu().numpy()
    if encoder.architecture.backbone == "judge":
        features = features[:, :FEATURES]
    logits = torch.cat([logits for _, logits in parts]).double().softmax(dim=1).cpu().numpy()
    return features, logits


def whole(pictures: Tensor | NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Pictures in [0, 1], (n, c, s, s) of torch or (n, s, s, c) of numpy -> uint8 (n, s, s, c)."""
    values = pictures.float().permute(0, 2, 3, 1).cpu().numpy() if isinstance(pictures, Tensor) else pictures
    return (values * 255).round().clip(0, 255).astype(np.uint8)


def sheet(images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], columns: int, times: int = 1) -> PIL.Image.Image:
    """Images (s, s, channels) in rows, the last one filled up with white, each pixel `times` wide."""
    colors = [
        np.broadcast_to(image, (*image.shape[:2], 3)).repeat(times, axis=0).repeat(times, axis=1) for image in images
    ]
    colors += [np.full_like(colors[0], 255)] * (-len(colors) % columns)
    rows = [colors[start : start + columns] for start in range(0, len(colors), columns)]
    return grid(rows, [[False] * columns] * len(rows))
