"""Layers above a backbone: the head gives the representation; the projector, above that, what the loss sees."""

from torch import nn


def head(features: int, hidden: int, dimension: int, places: int = 1) -> nn.Sequential:
    """Features (n, f) -> representation (n, dimension), by a linear layer, with one of `hidden` before it unless that is 0.

    dimension: 0 is no head: the representation is the features. places: of so many features beside each other, one
    channel's at several places of the map, the head reads the mean.
    """
    layers = nn.Sequential()
    if not dimension:
        return layers
    if places > 1:
        layers.append(nn.AvgPool1d(places))
        features //= places
    if hidden:
        layers.extend([nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)])
        features = hidden
    return layers.append(nn.Linear(features, dimension))


def projector(dimension: int, width: int, layers: int) -> nn.Sequential:
    """`layers` linear layers to `width`, batch normalization and ReLU between them: what the loss sees, then dropped."""
    parts: list[nn.Module] = []
    inputs = dimension
    for _ in range(layers - 1):
        parts += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*parts, nn.Linear(inputs, width))
