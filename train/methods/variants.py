"""What a training is called: the name of the variant that it makes, and whose neighbors it reads."""

import dataclasses
from typing import TypeVar

from train.data.images import SIZE
from train.methods import siamese
from train.methods.config import Config
from train.tracking.origin import digest_of

SMALL = 10_000  # training images below which `small` is the preset to take
TINY = 16  # pixels of a side up to which it is `tiny` then
# What the lab ablates, and spells out in a variant's name: the method's own fields (`Config.PEELED`) stand between these.
PEELED_FIRST = ("backbone", "views", "nearest")
PEELED_LAST = (
    "flip", "jitter", "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "solarize", "projector_width",
    "output_width", "grid",
)  # fmt: skip
# A name has its own place for them, or none.
UNNAMED = ("images", "method", "preset", "seed", "device", "patience", "compile", "registry")

ABBREVIATIONS = {"dimension": "d"}  # as the literature writes it

C = TypeVar("C", bound=Config)


def default_preset(count: int, size: int) -> str:
    """The preset for a set of `count` training images of `size` pixels."""
    if count >= SMALL:
        return "default"
    return "tiny" if size <= TINY else "small"


def baseline(config: C) -> C:
    """What the preset and the kind of views set, before any other flag."""
    return config.defaults({field.name: str(getattr(config, field.name)) for field in dataclasses.fields(config)})


def variant_name(config: Config, dataset: str, count: int, size: int = SIZE) -> str:
    """`cifar10-METHOD`, then what was peeled. count: training images, of `size` pixels.

    A preset that is not the one for a set of this size is named; any further setting adds a hash.
    """
    preset, config = baseline(config), config.resolved
    parts = [dataset, config.title]
    if config.preset != default_preset(count, size):
        parts.append(config.preset)
    different = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(preset, field.name) and field.name not in UNNAMED
    }
    if isinstance(config, siamese.Config) and config.views != "augmented":
        different["views"] = config.views
        if config.neighbors in (own := neighbors_alias(config, dataset, count, size), own.removesuffix("-s0")):
            different.pop("neighbors", None)
    if not config.epochs:  # without training only the network matters
        different = {name: value for name, value in different.items() if name in config.NETWORK}
    for name in (*PEELED_FIRST, *config.PEELED, *PEELED_LAST):
        if name in different:
            value = different.pop(name)
            word = ABBREVIATIONS.get(name, name.removesuffix("_width"))
            parts.append(value if isinstance(value, str) else f"{word}{value:g}")
    if different.get("crop_smallest") == 1:  # nothing is cropped
        different = {name: value for name, value in different.items() if not name.startswith("crop_")}
        parts.append("crop0")
    if different:
        parts.append(digest_of(different)[:6])
    return "-".join(parts)


def neighbors_alias(config: siamese.Config, dataset: str, count: int, size: int = SIZE) -> str:
    """Whose neighbors are the views unless --neighbors says so: the same method's, on augmented views of the same images,
    with the same preset and seed."""
    augmented = dataclasses.replace(config.defaults({"preset": config.preset}), backbone=config.backbone)
    return f"{variant_name(augmented, dataset, count, size)}-s{config.seed}"
