"""An encoder: a backbone gives features, a head the representation. Saved with what rebuilds it."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from train.data.images import SMALLEST, Deviation, Mean
from train.data.views import batch, normalize
from train.models.backbones import BACKBONES
from train.models.heads import head
from train.models.patches import sample
from train.tracking.contents import read_json
from train.tracking.problem import naming, reading

LARGEST = 4096  # pixels of a side; train.prepare makes no image half as large

Width = Annotated[int, Field(ge=0)]
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Architecture:
    """What rebuilds an encoder. size, mean, std: how an image must be resized and normalized before it is encoded.

    backbone: a name of BACKBONES. width: channels of the first stage of most, or the number of patches. hidden, dimension:
    widths of the head; hidden 0 is a linear one, dimension 0 none: the representation is the features. details: the further
    numbers that the backbone asks for, by name.
    """

    backbone: str
    width: Width
    hidden: Width
    dimension: Width
    size: Annotated[int, Field(ge=SMALLEST, le=LARGEST)]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    details: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As JSON. Without details, which came when encoders were published, they are not named."""
        values = dataclasses.asdict(self)
        return json.dumps({name: value for name, value in values.items() if name != "details" or value}, indent=1)


class Encoder(nn.Module):
    """Normalized images (n, 3, size, size) -> features (n, f) and representation (n, dimension), float32."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        entry = BACKBONES[architecture.backbone]
        self.backbone, self.features = entry.build(architecture.width, architecture.size, **architecture.details)
        self.dimension = architecture.dimension or self.features
        self.head = head(self.features, architecture.hidden, architecture.dimension, entry.places(architecture.details))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return features, self.head(features)

    def fit(self, images: NDArray[np.uint8], random: np.random.Generator) -> None:
        """Takes from training images (n, s, s, 3) what of the backbone is not learned; of most backbones that is nothing."""
        if fit := BACKBONES[self.architecture.backbone].fit:
            mean, std = torch.tensor(self.architecture.mean), torch.tensor(self.architecture.std)
            fit(self.backbone, sample(images, mean, std, random).numpy(), random)

    def save(self, folder: Path) -> None:
        """Writes weights.safetensors and encoder.json."""
        save_network(self, folder)
        (folder / "encoder.json").write_text(self.architecture.text)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            architecture = read_json(folder / "encoder.json", Architecture)
            if architecture.backbone not in BACKBONES:
                raise ValueError(f"no backbone is called {architecture.backbone!r}")
            entry, names = BACKBONES[architecture.backbone], set(architecture.details)
            if not (own := entry.details) <= names <= own | entry.options:
                raise ValueError(f"{architecture.backbone} has the details {sorted(own)}, not {sorted(names)}")
            return load_network(lambda: cls(architecture), folder)

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8], start: int, stop: int, mirror: bool = False) -> tuple[Tensor, Tensor]:
        """Features and representation of uint8 images[start:stop], (n, height, width, 3), resized and normalized as this
        encoder's training images were. mirror: the means of what it gives for an image and for its mirror image."""
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        mean, std = torch.tensor(self.architecture.mean), torch.tensor(self.architecture.std)
        pixels = batch(images, slice(start, stop)).to(device)
        planes = normalize(pixels, mean.to(device), std.to(device), self.architecture.size)
        features, representation = self(planes)
        if not mirror:
            return features, representation
        mirrored_features, mirrored_representation = self(planes.flip(3))
        mean_features = (features + mirrored_features) / 2
        if representation is features:
            return mean_features, mean_features
        return mean_features, (representation + mirrored_representation) / 2


def save_network(network: nn.Module, folder: Path) -> None:
    """Writes weights.safetensors."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    with naming(folder / "weights.safetensors") as path:
        save_file(weights, path)


def load_network(build: Callable[[], N], folder: Path) -> N:
    """What `build` makes, with the weights in `folder`, ready to be used. Raises ValueError where they are of another."""
    weights = load_file(folder / "weights.safetensors")
    with torch.device("meta"):  # takes no memory, however large its widths
        check_weights(weights, build().state_dict())
    network = build()
    network.load_state_dict(weights)
    return network.eval()


def check_weights(weights: Mapping[str, Tensor], places: Mapping[str, Tensor], scalars: bool = False) -> None:
    """Raises ValueError unless there is a finite weight for each place, of its shape and type, and no other.

    scalars: whether a tensor of no dimension fits anywhere.
    """
    for name in sorted(weights.keys() ^ places.keys()):
        raise ValueError(f"it has {name}, and the networks have not" if name in weights else f"it has no {name}")
    for name, value in weights.items():
        place = places[name]
        if value.shape != place.shape and not (scalars and not value.dim()):
            raise ValueError(f"its {name} is {tuple(value.shape)}, not {tuple(place.shape)}")
        if value.dtype != place.dtype:
            raise ValueError(f"its {name} is {value.dtype}, not {place.dtype}")
        if not value.isfinite().all():
            raise ValueError(f"its {name} holds NaN or infinite values")
