"""Publishes the floors of every table as encoders: whitened random patches, or the raw pixels."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import PIL.Image
import torch

from train.data.images import Images
from train.methods.ranges import SEEDS, AtLeast, Below, check_ranges
from train.models.encoder import Architecture, Encoder
from train.models.patches import WhitenedPatches, sample
from train.tracking import MACHINE, Command, Stage


@dataclass(frozen=True)
class Config:
    images: str
    """Alias of the images, as made by train.prepare."""
    kind: Literal["patches", "pixels"] = "patches"
    """patches (a layer of whitened random patches) or pixels (the normalized image itself)."""
    patches: Annotated[int, AtLeast(1)] = 256
    """How many patches; each gives 8 features."""
    seed: Annotated[int, AtLeast(0), Below(SEEDS)] = 0
    """Of the choice of the patches."""
    registry: Annotated[str | None, MACHINE] = None
    """A registry of W&B's to which the encoder is linked, in a collection that is called as its variant; none unless given."""

    def __post_init__(self) -> None:
        check_ranges(self)


def main(config: Config) -> None:
    with Stage("train.patches", config) as stage:
        source = stage.fetch("images", config.images)
        stage.about(source)
        images = Images.load(source.folder)
        stage.introduce(variant=variant_name(config, images.name), seed=config.seed)
        stage.register(config.registry)
        count = config.patches if config.kind == "patches" else 0
        encoder = Encoder(Architecture(config.kind, count, 0, 0, images.size, images.mean, images.std))
        encoder.fit(images.train, np.random.default_rng(config.seed))
        if isinstance(encoder.backbone, WhitenedPatches):
            stage.panel("patches/bank", tiles(encoder.backbone.bank))
        else:
            mean, std = torch.tensor(images.mean), torch.tensor(images.std)
            pictures = sample(images.train, mean, std, np.random.default_rng(config.seed))
            stage.panel("patches/mean_image", tiles(pictures.mean(dim=0, keepdim=True)))
        stage.log({"patches/features": encoder.dimension})
        what = f"{config.patches:,} whitened patches" if config.kind == "patches" else "normalized pixels"
        stage.finding = f"encoder {stage.alias}: {what}, {encoder.dimension:,} features"
        stage.publish("encoder", encoder.eval().save)


def variant_name(config: Config, dataset: str) -> str:
    default = Config(images="")
    count = f"-{config.patches}" if config.kind == "patches" and config.patches != default.patches else ""
    return f"{dataset}-{config.kind}{count}"


def tiles(pictures: torch.Tensor, columns: int = 16, scale: int = 5) -> PIL.Image.Image:
    """Small pictures (n, 3, h, w) side by side, each stretched over its own range of values."""
    low, high = pictures.amin(dim=(1, 2, 3), keepdim=True), pictures.amax(dim=(1, 2, 3), keepdim=True)
    values = ((pictures - low) / (high - low).clamp_min(1e-9) * 255).byte().permute(0, 2, 3, 1).numpy()
    count, height, width, _ = values.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1), min(count, columns) * (width + 1), 3), 255, np.uint8)
    for index, picture in enumerate(values):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    return PIL.Image.fromarray(sheet).resize(
        (sheet.shape[1] * scale, sheet.shape[0] * scale), PIL.Image.Resampling.NEAREST
    )


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
