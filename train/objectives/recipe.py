"""What a training is made of: its configuration, the one table of presets, and the name of the variant that follows."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Literal

from train.data.views import Augmentation
from train.tracking import MACHINE, Problem
from train.tracking.stage import digest_of

SMALL = 10_000  # training images below which `small` is the preset to take


@dataclass(frozen=True)
class Config:
    images: str
    """Alias of the images to learn from, as made by train.prepare."""
    preset: Literal["default", "small", "exercise"] = "default"
    """Where the other defaults come from: default (CIFAR-sized sets on a CPU), small (sets under 10,000 images),
    exercise (the course's recipe to the letter)."""
    seed: int = 0
    """Of the weights, the order of the images and the views."""
    epochs: int = 5
    """Passes over the training images; 0 publishes the untrained encoder."""
    batch_size: int = 64
    """Images a step; each gives `view_count` views."""

    view_count: int = 8
    """Views of an image in a step; the invariance term is averaged over their pairs."""
    view_size: int = 16
    """Side of a view in pixels."""
    crop_smallest: float = 0.25
    """Smallest area of a crop, as a share of the image."""
    crop_largest: float = 0.25
    """Largest area of a crop, as a share of the image."""
    crop_ratio: float = 1.0
    """Largest ratio of a crop's sides, either way."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: float = 0.8
    """Probability that brightness, contrast, saturation and hue are changed."""
    brightness: float = 0.4
    """Largest relative change of brightness."""
    contrast: float = 0.4
    """Largest relative change of contrast."""
    saturation: float = 0.4
    """Largest relative change of saturation."""
    hue: float = 0.1
    """Largest change of hue, in turns of the color wheel."""
    grayscale: float = 0.2
    """Probability that a view is gray."""
    blur: float = 0.0
    """Probability of a Gaussian blur over 3x3 pixels."""
    solarize: float = 0.0
    """Probability that a view is solarized."""

    backbone: Literal["compact", "resnet18"] = "compact"
    """compact (made for CPUs) or resnet18 (the exercise's)."""
    width: int = 32
    """Channels of the compact backbone's first stage."""
    hidden: int = 512
    """Width of the hidden layer between features and representation."""
    dimension: int = 128
    """Dimensions of the representation."""
    projector_width: int = 512
    """Width of the projector's layers: the dimensions that the loss sees."""
    projector_layers: int = 3
    """Linear layers of the projector."""

    invariance: float = 25.0
    """Weight of the invariance term."""
    variance: float = 25.0
    """Weight of the variance term; 0 takes it away."""
    covariance: float = 1.0
    """Weight of the covariance term."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    """adamw, or adam with the weight decay in the gradient."""
    learning_rate: float = 1.5e-3
    """Largest learning rate."""
    weight_decay: float = 1e-4
    """Weight decay."""
    warmup: float = 0.15
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up: cosine falls to 0."""

    device: Annotated[str, MACHINE] = "auto"
    """cpu, cuda, mps; auto takes cuda where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks (autocast); auto is bfloat16 where the hardware multiplies it: cuda, CPUs with AMX or AVX512-BF16."""
    compile: Annotated[bool, MACHINE] = False
    """Compile the networks with torch.compile; resumed runs are then no longer equal to the last bit."""

    def __post_init__(self) -> None:
        probabilities = ("flip", "jitter", "grayscale", "blur", "solarize", "warmup")
        positive = ("batch_size", "view_size", "width", "hidden", "dimension", "projector_width", "projector_layers")
        not_negative = ("epochs", "seed", "invariance", "variance", "covariance", "weight_decay", "learning_rate")
        for names, low, high in ((probabilities, 0, 1), (positive, 1, math.inf), (not_negative, 0, math.inf)):
            for name in names:
                value = getattr(self, name)
                if not low <= value <= high:
                    limit = f"between {low} and {high}" if high < math.inf else f"at least {low}"
                    raise Problem(f"--{name.replace('_', '-')} {value:g} is not {limit}")
        if self.batch_size < 2:
            raise Problem("--batch-size 1: variance and covariance need at least 2 images")
        if self.view_count < 2:
            raise Problem(f"--view-count {self.view_count}: invariance needs at least 2 views")
        if self.view_size < 8:
            raise Problem(f"--view-size {self.view_size}: the networks need at least 8 pixels")
        if not 0 < self.crop_smallest <= self.crop_largest <= 1:
            raise Problem(
                f"--crop-smallest {self.crop_smallest:g} --crop-largest {self.crop_largest:g}: 0 < smallest <= largest <= 1"
            )
        if self.crop_ratio < 1:
            raise Problem(f"--crop-ratio {self.crop_ratio:g} is not at least 1")

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            size=self.view_size,
            scale=(self.crop_smallest, self.crop_largest),
            ratio=(1 / self.crop_ratio, self.crop_ratio),
            flip=self.flip,
            jitter=self.jitter,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            hue=self.hue,
            grayscale=self.grayscale,
            blur=self.blur,
            solarize=self.solarize,
        )

    @property
    def weights(self) -> tuple[float, float, float]:
        return self.invariance, self.variance, self.covariance


_DEFAULT = Config(images="")
PRESETS = {
    "default": _DEFAULT,
    "small": dataclasses.replace(_DEFAULT, preset="small", epochs=15, width=16, view_count=4, precision="float32"),
    "exercise": Config(
        images="",
        preset="exercise",
        epochs=10,
        batch_size=256,
        view_count=2,
        view_size=32,
        crop_smallest=0.2,
        crop_largest=1.0,
        crop_ratio=4 / 3,
        jitter=1.0,
        saturation=0.2,
        blur=0.5,
        backbone="resnet18",
        optimizer="adam",
        learning_rate=3e-4,
        weight_decay=1e-6,
        warmup=0.0,
        schedule="constant",
    ),
}
PEELED = (  # what the lab ablates, and how it is called in a variant's name
    "backbone", "invariance", "variance", "covariance",
    "flip", "jitter", "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "solarize", "projector_width",
)  # fmt: skip


def default_preset(count: int) -> str:
    """The preset for a set of `count` training images."""
    return "small" if count < SMALL else "default"


def variant_name(config: Config, dataset: str, count: int) -> str:
    """`cifar10-vicreg`, then what was peeled. count: training images.

    A preset that is not the one for a set of this size is named; any further setting adds a hash.
    """
    preset = PRESETS[config.preset]
    parts = [dataset, "vicreg" if config.epochs else "untrained"]
    if config.preset != default_preset(count):
        parts.append(config.preset)
    different = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(preset, field.name)
        and field.name not in ("images", "preset", "seed", "device", "compile")
    }
    if not config.epochs:  # without training only the network matters
        different = {
            name: value for name, value in different.items() if name in ("backbone", "width", "hidden", "dimension")
        }
    for name in PEELED:
        if name in different:
            value = different.pop(name)
            parts.append(str(value) if name == "backbone" else f"{name.removesuffix('_width')}{value:g}")
    if different:
        parts.append(digest_of(different)[:6])
    return "-".join(parts)
