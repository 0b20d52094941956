"""A residual network whose first layer is not learned: whitened patches of the training images, as in patches.py."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.compact import Block
from train.models.patches import SIDE

PATCHES = 32


class Stem(nn.Module):
    """Images (n, 3, s, s) -> (n, 64, s / 2, s / 2): normalised responses to 32 whitened patches, 6x6 at stride 2, and what
    is positive and what is negative of each apart.

    One layer of an untrained network sees what the patches floor sees; at half the size the layers above cost a quarter.
    """

    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(PATCHES, 3, SIDE, SIDE))  # `fit` of patches.py, whitening folded in
        self.responses = nn.BatchNorm2d(PATCHES)
        self.parts = nn.BatchNorm2d(2 * PATCHES)

    def forward(self, images: Tensor) -> Tensor:
        y = self.responses(F.conv2d(images, self.bank, stride=2, padding=2))
        return self.parts(F.relu(torch.cat((y, -y), dim=1)))  # type: ignore[no-any-return]


def whitened(width: int) -> tuple[nn.Module, int]:
    """The stem and three stages of one block with `width`, 2 and 4 times `width` channels, averaged over the map.

    Returns the module, (n, 3, s, s) -> (n, 4 width) for any s >= 8, and the number of features.
    """
    blocks = [
        Block(2 * PATCHES, width, stride=1),
        Block(width, 2 * width, stride=2),
        Block(2 * width, 4 * width, stride=2),
    ]
    return nn.Sequential(Stem(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4 * width
