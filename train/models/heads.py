"""Layers above a backbone: the head gives the representation; the projector, above that, what the loss sees."""

from collections.abc import Sequence

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


def projector(dimension: int, widths: Sequence[int], normalized: bool = False) -> nn.Sequential:
    """Linear layers to `widths`, batch normalization and ReLU between them: what the loss sees, then dropped.

    normalized: it ends in batch normalization without affine, and no layer has a bias, as each is normalized (Chen & He 2021).
    """
    parts: list[nn.Module] = []
    inputs = dimension
    for width in widths[:-1]:
        parts += [nn.Linear(inputs, width, bias=not normalized), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        inputs = width
    parts.append(nn.Linear(inputs, widths[-1], bias=not normalized))
    return nn.Sequential(*parts, *([nn.BatchNorm1d(widths[-1], affine=False)] if normalized else []))


def predictor(width: int, bottleneck: int) -> nn.Sequential:
    """Projections (n, width) -> predictions (n, width), by two linear layers with a narrow one between (Chen & He 2021)."""
    return nn.Sequential(
        nn.Linear(width, bottleneck, bias=False),
        nn.BatchNorm1d(bottleneck),
        nn.ReLU(inplace=True),
        nn.Linear(bottleneck, width),
    )
