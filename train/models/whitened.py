"""A residual network whose first layer is not learned: whitened patches of the training images, as in patches.py."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train.models.compact import Block
from train.models.patches import SIDE, whitened_patches

PATCHES = 32
GRIDS = range(1, 9)  # of the map of a 32-pixel image that is read


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


class Whitened(nn.Module):
    """Images (n, 3, s, s) -> (n, 6 width grid^2): the last two stages' maps, each channel averaged over grid x grid parts of
    the map.

    The stages have one block each, with `width`, 2 and 4 times `width` channels. A linear probe reads more of quadrants
    (grid 2) than of one average, of nine parts more than of four, and of two stages more than of the last.
    """

    def __init__(self, width: int, grid: int = 2) -> None:
        super().__init__()
        if grid not in GRIDS:
            raise ValueError(f"its grid is {grid}; the maps have grids of {GRIDS[0]} to {GRIDS[-1]}")
        self.grid = grid
        self.stem = Stem()
        self.low = Block(2 * PATCHES, width, stride=1)
        self.middle = Block(width, 2 * width, stride=2)
        self.high = Block(2 * width, 4 * width, stride=2)
        self.features = grid**2 * (2 * width + 4 * width)

    def fit(self, images: NDArray[np.float32], random: np.random.Generator) -> None:
        """Takes the stem's bank from normalized images (n, 3, s, s)."""
        self.stem.bank.copy_(whitened_patches(images, PATCHES, random)[0])

    def forward(self, images: Tensor) -> Tensor:
        middle = self.middle(self.low(self.stem(images)))
        maps = (middle, self.high(middle))
        return torch.cat([averages(each, self.grid).flatten(1) for each in maps], dim=1)


def averages(maps: Tensor, grid: int) -> Tensor:
    """Maps (n, c, s, s) -> the means of grid x grid parts of them, (n, c, grid, grid): those of torch's adaptive pooling, which
    overlap where s is no multiple of grid.

    Of as many places each is its own mean. Quadrants are pooled by torch, whose bits the embeddings of older encoders have;
    all others are one product, with which a step of --grid 3 took 110 ms for 121.
    """
    size = maps.shape[2]
    if maps.shape[2:] == (grid, grid):
        return maps
    if grid == 2:
        return F.adaptive_avg_pool2d(maps, grid)
    identity = torch.eye(size, dtype=maps.dtype, device=maps.device)
    lines = F.adaptive_avg_pool1d(identity, grid).T  # (grid, s): how much of each place is in a part
    places = maps.permute(0, 2, 3, 1).flatten(1, 2)  # (n, s^2, c), as they lie in memory
    parts: Tensor = torch.kron(lines, lines) @ places  # (n, grid^2, c)
    return parts.mT.reshape(*maps.shape[:2], grid, grid)
