"""An encoder: a backbone gives features, a head the representation. Saved with what rebuilds it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from train.data.views import batch, normalize
from train.models.backbones import BACKBONES
from train.models.heads import head
from train.models.patches import sample
from train.tracking.problem import naming, reading


@dataclass(frozen=True)
class Architecture:
    """What rebuilds an encoder. size, mean, std: how an image must be resized and normalized before it is encoded.

    backbone: a name of BACKBONES. width: channels of the first stage of compact and
    whitened, or the number of patches. hidden, dimension: widths of the head; hidden 0 is a linear one, dimension 0 none:
    the representation is the features.
    """

    backbone: str
    width: int
    hidden: int
    dimension: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Encoder(nn.Module):
    """Normalized images (n, 3, size, size) -> features (n, f) and representation (n, dimension), float32."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        entry = BACKBONES[architecture.backbone]
        self.backbone, features = entry.build(architecture.width, architecture.size)
        self.dimension = architecture.dimension or features
        self.head = head(features, architecture.hidden, architecture.dimension, entry.places)
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
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        with naming(folder / "weights.safetensors") as path:
            save_file(weights, path)
        (folder / "encoder.json").write_text(json.dumps(dataclasses.asdict(self.architecture), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            encoder = cls(Architecture(**json.loads((folder / "encoder.json").read_text())))
            encoder.load_state_dict(load_file(folder / "weights.safetensors"))
            return encoder.eval()

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Features and representation of uint8 images[start:stop], (n, height, width, 3), resized and normalized as this
        encoder's training images were."""
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        mean, std = torch.tensor(self.architecture.mean), torch.tensor(self.architecture.std)
        pixels = batch(images, slice(start, stop)).to(device)
        return self(normalize(pixels, mean.to(device), std.to(device), self.architecture.size))  # type: ignore[no-any-return]
