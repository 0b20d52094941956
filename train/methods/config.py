"""The flags that every training has, and the one table of presets. A method adds its flags in a subclass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from train.methods.ranges import SEEDS, AtLeast, Below, Share, check_ranges
from train.tracking import MACHINE, Problem
from train.tracking.command import choice

_COMPACT = {"backbone": "compact", "width": 32, "hidden": 512, "optimizer": "adamw"}

Presets = Mapping[str, Mapping[str, Any]]  # what a preset changes in the fields' own defaults


def extend(presets: Presets, additions: Presets) -> Presets:
    """`presets` with what a subclass's own fields are in some of them."""
    return {name: {**changes, **additions.get(name, {})} for name, changes in presets.items()}


@dataclass(frozen=True)
class Config:
    images: str
    """Alias of the images to learn from, as made by train.prepare."""
    method: str
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""
    preset: Literal["default", "compact", "small", "tiny", "exercise", "gpu"] = "default"
    """Where the other defaults come from: default (CIFAR-sized sets on a CPU: whitened patches, muon, many small crops),
    compact (a residual network trained whole with adamw), small (that for sets under 10,000 images), tiny (that for
    small sets of at most 16 pixels), exercise (the course's recipe to the letter), gpu (a ResNet-18 on whole views in large
    batches, compiled: for a GPU, on which it has not been measured)."""
    seed: Annotated[int, AtLeast(0), Below(SEEDS)] = 0
    """Of the weights, the order of the images and all other draws."""
    epochs: Annotated[int, AtLeast(0)] = 2
    """Passes over the training images; 0 publishes the untrained encoder."""
    batch_size: Annotated[int, AtLeast(1)] = 64
    """Images a step; the default takes all images of a set that is smaller."""

    backbone: str = "whitened"
    """The network that gives the features."""
    width: Annotated[int, AtLeast(1)] = 64
    """Channels of the first stage of compact and whitened."""
    hidden: Annotated[int, AtLeast(0)] = 0
    """Width of the hidden layer between features and representation; 0 leaves it out."""
    dimension: Annotated[int, AtLeast(1)] = 128
    """Dimensions of the representation."""

    optimizer: Literal["adamw", "adam", "muon"] = "muon"
    """adamw; adam, with the weight decay in the gradient; or muon for convolutions, with adamw for all else."""
    learning_rate: Annotated[float, AtLeast(0)] = 1.5e-3
    """Largest learning rate."""
    muon_rate: Annotated[float, AtLeast(0)] = 0.02
    """With --optimizer muon: the largest learning rate of the convolutions."""
    weight_decay: Annotated[float, AtLeast(0)] = 1e-4
    """Weight decay."""
    warmup: Annotated[float, Share()] = 0.15
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up: cosine falls to 0."""

    device: Annotated[str, MACHINE] = "auto"
    """cpu, cuda, mps; auto takes cuda where there is one."""
    patience: Annotated[int, MACHINE, AtLeast(1)] = 900
    """Of several processes: for how many seconds one waits for the others until it gives them up."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks (autocast); auto is bfloat16 where the hardware multiplies it: cuda, CPUs with AMX or AVX512-BF16."""
    compile: Annotated[bool, MACHINE] = False
    """Compile the networks with torch.compile; a run that is resumed then no longer equals an uninterrupted one to the last bit."""

    registry: Annotated[str | None, MACHINE] = None
    """A registry of W&B's to which the encoder is linked, in a collection that is called as its variant; none unless given."""

    PEELED: ClassVar[tuple[str, ...]] = ()  # the method's own fields that a variant's name spells out, in this order
    NETWORK: ClassVar[tuple[str, ...]] = (
        "backbone",
        "width",
        "hidden",
        "dimension",
    )  # all that an untrained encoder is of
    PRESETS: ClassVar[Presets] = {
        "default": {},
        "compact": _COMPACT,
        "small": {**_COMPACT, "epochs": 10, "width": 16, "precision": "float32"},
        # A third of the default rate: at that, SimSiam's projection collapses within these few steps.
        "tiny": {**_COMPACT, "epochs": 3, "width": 16, "precision": "float32", "learning_rate": 5e-4},
        "exercise": {
            "epochs": 10, "batch_size": 256, "backbone": "resnet18", "width": 32, "hidden": 512, "optimizer": "adam",
            "learning_rate": 3e-4, "weight_decay": 1e-6, "warmup": 0.0, "schedule": "constant",
        },
        "gpu": {"epochs": 100, "batch_size": 512, "backbone": "resnet18", "width": 32, "hidden": 512, "compile": True},
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.optimizer != "muon" and self.muon_rate != Config.muon_rate:
            raise Problem(f"--muon-rate {self.muon_rate:g} is read with --optimizer muon only; add that")

    @classmethod
    def defaults(cls, flags: Mapping[str, str]) -> Self:
        """The configuration before any other flag: what the preset, and other flags of the kind, make of it.

        flags: {field: text}; those that change no default are passed over. Raises Problem for an unknown preset.
        """
        preset = choice(flags, "preset", list(cls.PRESETS))
        values: dict[str, Any] = {"images": "", "preset": preset, **cls.PRESETS[preset]}
        return cls(**values)

    @property
    def title(self) -> str:
        """What the variant is called after its images; all methods of one network have the same untrained one."""
        return self.method if self.epochs else "untrained"

    @property
    def resolved(self) -> Self:
        """The same training in one spelling, where flags have several for it."""
        return self
