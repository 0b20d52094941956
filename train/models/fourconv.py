"""The exercise's small network for Laplacian Eigenmaps, used untrained: four convolutions and one linear layer."""

from torch import nn

CHANNELS = (32, 64, 128, 256)  # each convolution halves the map
DIMENSION = 1024  # the exercise's


def fourconv() -> tuple[nn.Module, int]:
    """Four 3x3 convolutions of stride 2 with ReLU, the map pooled to 2x2, and a linear layer to 1,024 dimensions.

    Returns the module, (n, 3, s, s) -> (n, 1024) for any s >= 8, and 1,024. A 32-pixel image has a 2x2 map anyway.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in CHANNELS:
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * inputs, DIMENSION)), DIMENSION
