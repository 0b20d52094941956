"""What every method of views has: its flags, the views of a batch, and a projector above the encoder."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.images import Images
from train.data.views import Augmentation, views
from train.methods import config
from train.methods.method import Batch, Method, Outputs
from train.methods.partners import Partners
from train.methods.ranges import AtLeast, Below, Share
from train.models.encoder import Architecture
from train.models.heads import projector
from train.models.whitened import GRIDS
from train.tracking import LATER, Problem

# What --views neighbors changes in a preset: the two views are whole images as they are, for one epoch.
PAIRS: Mapping[str, Any] = {
    "epochs": 1, "view_count": 2, "view_size": 0, "crop_smallest": 1.0, "crop_largest": 1.0, "crop_ratio": 1.0,
    "flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Config(config.Config):
    backbone: Literal["compact", "whitened", "resnet18", "fourconv"] = "whitened"
    """whitened (its first layer is whitened patches of the images, and not trained), compact (a small one, trained whole),
    resnet18 (the exercise's) or fourconv (the small network whose untrained 1,024-d output the exercise gives to Laplacian Eigenmaps)."""
    grid: Annotated[int, LATER, AtLeast(GRIDS.start), Below(GRIDS.stop)] = 2
    """With --backbone whitened: of so many parts of the map along a side the features have an average each. On CIFAR-10 a
    probe reads 1.8 points more of 3, whose features are 2.25 times as many; the representation is of one mean."""
    views: Literal["augmented", "neighbors"] = "augmented"
    """augmented: random views of one image. neighbors: the image itself and one of its nearest training images, drawn
    anew at each step, in place of generated views: 2 whole images, no augmentation, 1 epoch (unless flags say otherwise)."""
    neighbors: str | None = None
    """With --views neighbors: alias of the neighbors, as made by eval.index. The default is those of the same method on
    augmented views of the same images, with the same preset and seed."""
    nearest: Annotated[int, AtLeast(1)] = 3
    """With --views neighbors: the number of nearest training images from which the partner is drawn."""
    view_count: int = 6
    """Views of an image in a step; the loss is a mean over their pairs."""
    view_size: Annotated[int, AtLeast(0)] = 16
    """Side of a view in pixels; 0 takes the images' own."""
    crop_smallest: float = 0.25
    """Smallest area of a crop, as a share of the image."""
    crop_largest: float = 0.25
    """Largest area of a crop, as a share of the image."""
    crop_ratio: Annotated[float, AtLeast(1)] = 1.0
    """Largest ratio of a crop's sides, either way."""
    flip: Annotated[float, Share()] = 0.5
    """Probability of a horizontal flip."""
    jitter: Annotated[float, Share()] = 0.8
    """Probability that brightness, contrast, saturation and hue are changed."""
    brightness: float = 0.4
    """Largest relative change of brightness."""
    contrast: float = 0.4
    """Largest relative change of contrast."""
    saturation: float = 0.4
    """Largest relative change of saturation."""
    hue: float = 0.1
    """Largest change of hue, in turns of the color wheel."""
    grayscale: Annotated[float, Share()] = 0.2
    """Probability that a view is gray."""
    blur: Annotated[float, Share()] = 0.0
    """Probability of a Gaussian blur over 3x3 pixels."""
    solarize: Annotated[float, Share()] = 0.0
    """Probability that a view is solarized."""
    without: Literal["nothing", "crop", "flip", "jitter", "grayscale", "blur", "solarize"] = "nothing"
    """Leaves one of the augmentations out; without crop a view is the whole image, resized."""
    projector_width: Annotated[int, AtLeast(1)] = 512
    """Width of the projector's layers."""
    output_width: Annotated[int, AtLeast(0), LATER] = 0
    """Width of the projector's last layer alone: the dimensions that the loss sees; 0 takes --projector-width."""
    projector_layers: Annotated[int, AtLeast(1)] = 3
    """Linear layers of the projector."""

    NETWORK: ClassVar[tuple[str, ...]] = (*config.Config.NETWORK, "grid")
    PRESETS: ClassVar[config.Presets] = config.extend(
        config.Config.PRESETS,
        {
            "compact": {"view_count": 5},
            "small": {"view_count": 4},
            "tiny": {"view_count": 4, "view_size": 8},
            "exercise": {
                "view_count": 2, "view_size": 32, "crop_smallest": 0.2, "crop_largest": 1.0, "crop_ratio": 4 / 3,
                "jitter": 1.0, "saturation": 0.2, "blur": 0.5,
            },
            "gpu": {
                "view_count": 2, "view_size": 0, "crop_smallest": 0.2, "crop_largest": 1.0, "crop_ratio": 4 / 3,
                "saturation": 0.2, "solarize": 0.1, "projector_width": 2048,
            },
        },
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 2:
            raise Problem("--batch-size 1: batch normalization needs at least 2 images")
        if self.view_count < 2:
            raise Problem(f"--view-count {self.view_count}: the loss compares at least 2 views")
        if 0 < self.view_size < 8:
            raise Problem(f"--view-size {self.view_size}: the networks need at least 8 pixels")
        if self.views == "neighbors" and self.view_count != 2:
            raise Problem(f"--view-count {self.view_count}: an image and its neighbor are 2 views; leave it out")
        if self.views != "neighbors" and (self.neighbors is not None or self.nearest != Config.nearest):
            flag = f"--nearest {self.nearest}" if self.neighbors is None else f"--neighbors {self.neighbors}"
            raise Problem(f"{flag} is read with --views neighbors only; add that")
        if self.backbone != "whitened" and self.grid != Config.grid:
            raise Problem(f"--grid {self.grid} is read with --backbone whitened only; leave it out")
        if not 0 < self.crop_smallest <= self.crop_largest <= 1:
            raise Problem(
                f"--crop-smallest {self.crop_smallest:g} --crop-largest {self.crop_largest:g}: 0 < smallest <= largest <= 1"
            )

    @classmethod
    def defaults(cls, flags: Mapping[str, str]) -> Self:
        plain = super().defaults(flags)
        return dataclasses.replace(plain, views="neighbors", **PAIRS) if flags.get("views") == "neighbors" else plain

    @property
    def resolved(self) -> Self:
        """The same without `without`: what it leaves out has probability 0, and a crop is the whole image."""
        if self.without == "nothing":
            return self
        if self.without == "crop":
            return dataclasses.replace(self, without="nothing", crop_smallest=1.0, crop_largest=1.0, crop_ratio=1.0)
        changes: dict[str, Any] = {"without": "nothing", self.without: 0.0}
        return dataclasses.replace(self, **changes)

    @property
    def projection(self) -> int:
        """Dimensions of the projections, which the loss sees."""
        return self.output_width or self.projector_width

    @property
    def normalized(self) -> bool:
        """Whether the projector ends in batch normalization."""
        return False

    def augmentation(self, size: int) -> Augmentation:
        """Of images of `size` pixels."""
        recipe = self.resolved
        return Augmentation(
            size=recipe.view_size or size,
            scale=(recipe.crop_smallest, recipe.crop_largest),
            ratio=(1 / recipe.crop_ratio, recipe.crop_ratio),
            flip=recipe.flip,
            jitter=recipe.jitter,
            brightness=recipe.brightness,
            contrast=recipe.contrast,
            saturation=recipe.saturation,
            hue=recipe.hue,
            grayscale=recipe.grayscale,
            blur=recipe.blur,
            solarize=recipe.solarize,
        )


class Siamese(Method):
    """A loss of projections z: (v, n, d), of v views of n images.

    partners: the views are the image and one of these; None: they are generated by augmentation.
    """

    configuration: ClassVar[type[Config]] = Config
    config: Config

    def __init__(self, config: Config, images: Images, partners: Partners | None = None) -> None:
        super().__init__(config, images)
        self.partners = partners
        self.augmentation = config.augmentation(images.size)
        widths = [config.projector_width] * (config.projector_layers - 1) + [config.projection]
        self.projector = projector(self.encoder.dimension, widths, config.normalized)

    def architecture(self) -> Architecture:
        plain, grid = super().architecture(), self.config.grid
        return plain if grid == Config.grid else dataclasses.replace(plain, details={"grid": grid})

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        return {"views": self.views(split, rows, draws, share, self.config.view_count)}

    def views(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice, count: int) -> Tensor:
        """`count` views (count, m, 3, s, s) of the share's m images; with partners two, an image and its partner."""
        pixels, places = self.images_of(split, rows), torch.arange(len(rows))[share]
        size = len(places)
        each = count
        if self.partners is not None:  # the image and its partner, one view of each
            partners = self.images_of("train", self.partners.draw(split, rows, draws))
            pixels, places, each = torch.cat([pixels, partners]), torch.cat([places, len(rows) + places]), 1
        pictures = views(pixels, each, self.augmentation, self.mean, self.std, draws, places)
        return pictures.flatten(0, 1).view(count, size, *pictures.shape[2:])

    def projection(self, y: Tensor) -> Tensor:
        z: Tensor = self.projector(y).float()
        return z

    def forward(self, batch: Batch) -> Outputs:
        return {"z": self.project(batch["views"])}

    def project(self, views: Tensor) -> Tensor:
        """Views (v, n, 3, s, s) -> projections (v, n, d), float32."""
        z: Tensor = self.projector(self.encoder(views.flatten(0, 1))[1]).float()
        return z.view(*views.shape[:2], -1)
