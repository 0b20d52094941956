"""A small classifier of small images; what its last hidden layer says of a picture is what samples are measured by."""

import torch
from torch import Tensor, nn

from train.models.strided import sides

FEATURES = 64  # that pictures are measured by
DOUBTS = 64  # beside them, that only tell what is no picture


class Judge(nn.Module):
    """Images (n, 3, s, s) -> features (n, 128), of the first `channels` of the three: 64 that pictures are measured by, and 64
    doubts. Three convolutions, the image halved twice; the doubts have two small ones of their own.

    Spoiled images teach the doubts alone (`apart`). Features that those had shaped would be 0 for all real images, and a
    sample's distance would be how strongly it stirs one of them.
    """

    def __init__(self, width: int, size: int, channels: int) -> None:
        super().__init__()
        self.channels, self.features = channels, FEATURES + DOUBTS
        places = sides(size, 2)[-1] ** 2
        self.own = nn.Sequential(
            *stage(channels, width, 2),
            *stage(width, 2 * width, 1),
            nn.MaxPool2d(2, ceil_mode=True),
            *stage(2 * width, 2 * width, 1),
            *hidden(2 * width * places, FEATURES),
        )
        half = (width + 1) // 2
        self.doubts = nn.Sequential(*stage(channels, half, 2), *stage(half, width, 2), *hidden(width * places, DOUBTS))

    def forward(self, images: Tensor) -> Tensor:
        planes = images[:, : self.channels]
        return torch.cat([self.own(planes), self.doubts(planes)], dim=1)


def apart(features: Tensor, spoiled: Tensor) -> Tensor:
    """The same features (n, 128); those of spoiled images, (n,) bool, that pictures are measured by carry no gradient."""
    own, doubts = features.split([FEATURES, DOUBTS], dim=1)
    return torch.cat([torch.where(spoiled[:, None], own.detach(), own), doubts], dim=1)


def hidden(inputs: int, units: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(inplace=True)]


def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
