"""What a training is made of: its configuration, the one table of presets, and the name of the variant that follows."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from train.data.views import Augmentation
from train.tracking import MACHINE, Problem
from train.tracking.command import choice
from train.tracking.origin import digest_of

SMALL = 10_000  # training images below which `small` is the preset to take


@dataclass(frozen=True)
class Config:
    images: str
    """Alias of the images to learn from, as made by train.prepare."""
    preset: Literal["default", "compact", "small", "exercise"] = "default"
    """Where the other defaults come from: default (CIFAR-sized sets on a CPU: whitened patches, muon, many small crops),
    compact (a residual network trained whole with adamw), small (that for sets under 10,000 images), exercise (the
    course's recipe to the letter)."""
    seed: int = 0
    """Of the weights, the order of the images and the views."""
    epochs: int = 2
    """Passes over the training images; 0 publishes the untrained encoder."""
    batch_size: int = 64
    """Images a step; each gives `view_count` views."""

    views: Literal["augmented", "neighbors"] = "augmented"
    """augmented: random views of one image. neighbors: the image itself and one of its nearest training images, drawn
    anew at each step, in place of generated views: 2 whole images, no augmentation, 1 epoch (unless flags say otherwise)."""
    neighbors: str | None = None
    """With --views neighbors: alias of the neighbors, as made by eval.index; of VICReg on the same images, with the same
    preset and seed, unless given."""
    nearest: int = 3
    """With --views neighbors: of how many nearest training images the partner is drawn."""
    view_count: int = 6
    """Views of an image in a step; the invariance term is averaged over their pairs."""
    view_size: int = 16
    """Side of a view in pixels; 0 takes the images' own."""
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
    without: Literal["nothing", "crop", "flip", "jitter", "grayscale", "blur", "solarize"] = "nothing"
    """Leaves one of the augmentations out; without crop a view is the whole image, resized."""

    backbone: Literal["compact", "whitened", "resnet18", "fourconv"] = "whitened"
    """whitened (its first layer is whitened patches of the images, and not trained), compact (a small one, trained whole),
    resnet18 (the exercise's) or fourconv (the small network whose untrained 1,024-d output the exercise gives to Laplacian Eigenmaps)."""
    width: int = 64
    """Channels of the first stage of compact and whitened."""
    hidden: int = 0
    """Width of the hidden layer between features and representation; 0 leaves it out."""
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

    optimizer: Literal["adamw", "adam", "muon"] = "muon"
    """adamw; adam, with the weight decay in the gradient; or muon for convolutions, with adamw for all else."""
    learning_rate: float = 1.5e-3
    """Largest learning rate."""
    muon_rate: float = 0.02
    """With --optimizer muon: the largest learning rate of the convolutions."""
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
        positive = ("batch_size", "nearest", "width", "dimension", "projector_width", "projector_layers")
        not_negative = (
            "epochs",
            "view_size",
            "seed",
            "invariance",
            "variance",
            "covariance",
            "weight_decay",
            "learning_rate",
            "muon_rate",
            "hidden",
        )
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
        if 0 < self.view_size < 8:
            raise Problem(f"--view-size {self.view_size}: the networks need at least 8 pixels")
        if self.optimizer != "muon" and self.muon_rate != Config.muon_rate:
            raise Problem(f"--muon-rate {self.muon_rate:g} is read with --optimizer muon only; add that")
        if self.views == "neighbors" and self.view_count != 2:
            raise Problem(f"--view-count {self.view_count}: an image and its neighbor are 2 views; leave it out")
        if self.views != "neighbors" and (self.neighbors is not None or self.nearest != Config.nearest):
            given = f"--nearest {self.nearest}" if self.neighbors is None else f"--neighbors {self.neighbors}"
            raise Problem(f"{given} is read with --views neighbors only; add that")
        if not 0 < self.crop_smallest <= self.crop_largest <= 1:
            raise Problem(
                f"--crop-smallest {self.crop_smallest:g} --crop-largest {self.crop_largest:g}: 0 < smallest <= largest <= 1"
            )
        if self.crop_ratio < 1:
            raise Problem(f"--crop-ratio {self.crop_ratio:g} is not at least 1")

    @property
    def resolved(self) -> "Config":
        """The same without `without`: what it leaves out has probability 0, and a crop is the whole image."""
        if self.without == "nothing":
            return self
        if self.without == "crop":
            return dataclasses.replace(self, without="nothing", crop_smallest=1.0, crop_largest=1.0, crop_ratio=1.0)
        changes: dict[str, Any] = {"without": "nothing", self.without: 0.0}
        return dataclasses.replace(self, **changes)

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

    @property
    def weights(self) -> tuple[float, float, float]:
        return self.invariance, self.variance, self.covariance


_COMPACT = Config(
    images="",
    preset="compact",
    view_count=5,
    backbone="compact",
    width=32,
    hidden=512,
    optimizer="adamw",
)
PRESETS = {
    "default": Config(images=""),
    "compact": _COMPACT,
    "small": dataclasses.replace(_COMPACT, preset="small", epochs=10, width=16, view_count=4, precision="float32"),
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
        width=32,
        hidden=512,
        optimizer="adam",
        learning_rate=3e-4,
        weight_decay=1e-6,
        warmup=0.0,
        schedule="constant",
    ),
}
# What a flag's value changes in the preset: a pair of neighbors is two whole images as they are, for one epoch.
OVERLAYS: dict[tuple[str, str], dict[str, Any]] = {
    ("views", "neighbors"): {
        "epochs": 1, "view_count": 2, "view_size": 0, "crop_smallest": 1.0, "crop_largest": 1.0, "crop_ratio": 1.0,
        "flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0,
    },
}  # fmt: skip
PEELED = (  # what the lab ablates, and how it is called in a variant's name
    "backbone", "views", "nearest", "invariance", "variance", "covariance",
    "flip", "jitter", "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "solarize", "projector_width",
)  # fmt: skip


def configured(flags: Mapping[str, str]) -> Config:
    """What stands before any other flag: the preset, and what the kind of views changes in it."""
    default = PRESETS[choice(flags, "preset", list(PRESETS))]
    for (flag, value), changes in OVERLAYS.items():
        if flags.get(flag) == value:
            overlay: dict[str, Any] = {flag: value, **changes}
            default = dataclasses.replace(default, **overlay)
    return default


def default_preset(count: int) -> str:
    """The preset for a set of `count` training images."""
    return "small" if count < SMALL else "default"


def baseline(config: Config) -> Config:
    """What the preset and the kind of views set, before any other flag."""
    return dataclasses.replace(PRESETS[config.preset], views=config.views, **OVERLAYS.get(("views", config.views), {}))


def variant_name(config: Config, dataset: str, count: int) -> str:
    """`cifar10-vicreg`, then what was peeled. count: training images.

    A preset that is not the one for a set of this size is named; any further setting adds a hash.
    """
    preset, config = baseline(config), config.resolved
    parts = [dataset, "vicreg" if config.epochs else "untrained"]
    if config.preset != default_preset(count):
        parts.append(config.preset)
    different = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(preset, field.name)
        and field.name not in ("images", "preset", "seed", "device", "compile")
    }
    if config.views != "augmented":
        different["views"] = config.views
        if config.neighbors in (own := neighbors_alias(config, dataset, count), own.removesuffix("-s0")):
            different.pop("neighbors", None)
    if not config.epochs:  # without training only the network matters
        different = {
            name: value for name, value in different.items() if name in ("backbone", "width", "hidden", "dimension")
        }
    for name in PEELED:
        if name in different:
            value = different.pop(name)
            parts.append(value if isinstance(value, str) else f"{name.removesuffix('_width')}{value:g}")
    if different.get("crop_smallest") == 1:  # nothing is cropped
        different = {name: value for name, value in different.items() if not name.startswith("crop_")}
        parts.append("crop0")
    if different:
        parts.append(digest_of(different)[:6])
    return "-".join(parts)


def neighbors_alias(config: Config, dataset: str, count: int) -> str:
    """Whose neighbors are the views unless --neighbors says so: VICReg's on the same images, preset and seed."""
    vicreg = dataclasses.replace(PRESETS[config.preset], backbone=config.backbone)
    return f"{variant_name(vicreg, dataset, count)}-s{config.seed}"
