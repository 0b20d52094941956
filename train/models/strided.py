"""Convolutions that halve an image, and transposed ones that double a map: the two halves of an autoencoder."""

from itertools import pairwise

from torch import Tensor, nn


def sides(size: int, layers: int) -> list[int]:
    """Pixels of a side from the image to the last map, halved and rounded up by each layer: 28 -> 28, 14, 7, 4."""
    values = [size]
    for _ in range(layers):
        values.append((values[-1] + 1) // 2)
    return values


class Strided(nn.Module):
    """Images (n, 3, s, s) -> features (n, f): the last map, flat. Reads the first `channels` of the three alone."""

    def __init__(self, width: int, size: int, layers: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        widths = [channels, *(width << layer for layer in range(layers))]
        self.features = widths[-1] * sides(size, layers)[-1] ** 2
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.layers.extend(
                [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU(inplace=True)]
            )

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.layers(images[:, : self.channels])
        return maps.flatten(1)


class Transposed(nn.Module):
    """Codes (n, d) -> images (n, channels, size, size), of any range: the layers of `Strided` in reverse."""

    def __init__(self, dimension: int, width: int, size: int, layers: int, channels: int) -> None:
        super().__init__()
        steps = sides(size, layers)[::-1]
        widths = [*(width << layer for layer in reversed(range(layers))), channels]
        self.map = (widths[0], steps[0], steps[0])
        self.linear = nn.Linear(dimension, widths[0] * steps[0] ** 2)
        self.layers = nn.Sequential()
        for (inputs, outputs), (small, large) in zip(pairwise(widths), pairwise(steps), strict=True):
            kernel = 4 if large == 2 * small else 3  # so that a map of 4 becomes one of 7 or of 8
            self.layers.extend(
                [nn.BatchNorm2d(inputs), nn.SiLU(inplace=True), nn.ConvTranspose2d(inputs, outputs, kernel, 2, 1)]
            )

    def forward(self, codes: Tensor) -> Tensor:
        images: Tensor = self.layers(self.linear(codes).unflatten(1, self.map))
        return images
