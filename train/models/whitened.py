"""A residual network whose first layer is not learned: whitened patches of the training images, as in patches.py."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train.models.compact import Block
from train.models.patches import SIDE, whitened_patches

PATCHES = 32


class Stem(nn.Module):
    """Images (n, 3, s, s) -> (n, 64, s / 2, s / 2): normalized responses to 32 whitened patches, 6x6 at stride 2, and what
    is positive and what is negative of each apart.

    One layer of an untrained network sees what the patches floor sees; at half the size the layers above cost a quarter.
    """

    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(PATCHES, 3, SIDE, SIDE))  # `whitened_patches`, whitening folded in
        self.responses = nn.BatchNorm2d(PATCHES)
        self.parts = nn.BatchNorm2d(2 * PATCHES)

    def forward(self, images: Tensor) -> Tensor:
        y = self.responses(F.conv2d(images, self.bank, stride=2, padding=2))
        return self.parts(F.relu(torch.cat((y, -y), dim=1)))  # type: ignore[no-any-return]


class Quadrants(nn.Module):
    """Images (n, 3, s, s) -> (n, 24 width): the last two stages' maps, each channel averaged over the map's four quadrants.

    The stages have one block each, with `width`, 2 and 4 times `width` channels. Of a linear probe, quadrants read more
    than one average, and two stages more than the last.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = Stem()
        self.low = Block(2 * PATCHES, width, stride=1)
        self.middle = Block(width, 2 * width, stride=2)
        self.high = Block(2 * width, 4 * width, stride=2)
        self.features = 4 * (2 * width + 4 * width)

    def fit(self, images: NDArray[np.float32], random: np.random.Generator) -> None:
        """Takes the stem's bank from normalized images (n, 3, s, s)."""
        self.stem.bank.copy_(whitened_patches(images, PATCHES, random)[0])

    def forward(self, images: Tensor) -> Tensor:
        middle = self.middle(self.low(self.stem(images)))
        maps = (middle, self.high(middle))
        return torch.cat([quadrants(each).flatten(1) for each in maps], dim=1)


def quadrants(maps: Tensor) -> Tensor:
    """Maps (n, c, s, s) -> the means of their four quadrants, (n, c, 2, 2). Of 2 x 2 places each is its own mean, and the
    pooling of them would cost a step 3 %, backward."""
    return maps if maps.shape[2:] == (2, 2) else F.adaptive_avg_pool2d(maps, 2)
