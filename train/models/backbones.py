"""Every backbone by its name in an encoder's architecture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from train.models.compact import compact
from train.models.denoiser import Descent, Middle
from train.models.fourconv import fourconv
from train.models.judge import Judge
from train.models.patches import WhitenedPatches
from train.models.resnet import resnet18
from train.models.strided import Strided
from train.models.whitened import Whitened


@dataclass(frozen=True)
class Backbone:
    """build: width, side of the images and the details -> the network, from images (n, 3, s, s) to features (n, f), and f.

    fit: takes from normalized training images (n, 3, s, s) what of the network is not learned. grid: features beside each other
    are one channel's in grid x grid parts of the map, where no detail of that name says otherwise. headed: whether a training
    puts a head above it. details: names of the further numbers that it is built from. options: of those that may be left out.
    """

    build: Callable[..., tuple[nn.Module, int]]
    fit: Callable[[Any, NDArray[np.float32], np.random.Generator], None] | None = None
    grid: int = 1
    headed: bool = True
    details: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()

    def places(self, details: Mapping[str, int | float]) -> int:
        """So many features beside each other are one channel's, of a network of these details."""
        return int(details.get("grid", self.grid)) ** 2


BACKBONES = {
    "compact": Backbone(lambda width, side: compact(width)),
    "whitened": Backbone(
        lambda width, side, grid=2: sized(Whitened(width, grid)),
        Whitened.fit,
        grid=2,
        options=frozenset({"grid"}),
    ),
    "resnet18": Backbone(lambda width, side: resnet18()),
    "fourconv": Backbone(lambda width, side: fourconv(), headed=False),  # it ends in a layer of its own
    "patches": Backbone(lambda width, side: sized(WhitenedPatches(width)), WhitenedPatches.fit, headed=False),
    "strided": Backbone(
        lambda width, side, layers, channels: sized(Strided(width, side, int(layers), int(channels))),
        details=frozenset({"layers", "channels"}),
    ),
    "judge": Backbone(
        lambda width, side, channels: sized(Judge(width, side, int(channels))), details=frozenset({"channels"})
    ),
    "denoiser": Backbone(
        lambda width, side, **details: sized(middle(width, side, **details)),
        headed=False,
        details=frozenset({"levels", "blocks", "patch", "attention", "channels", "alpha_bar"}),
    ),
    "pixels": Backbone(lambda width, side: (nn.Flatten(), 3 * side**2), headed=False),
}


def middle(
    width: int,
    side: int,
    levels: float,
    blocks: float,
    patch: float,
    attention: float,
    channels: float,
    alpha_bar: float,
) -> Middle:
    widths = [width << level for level in range(int(levels))]
    return Middle(Descent(int(channels), widths, int(blocks), int(patch), bool(attention)), side, alpha_bar)


def sized(network: Whitened | WhitenedPatches | Strided | Judge | Middle) -> tuple[nn.Module, int]:
    return network, network.features
