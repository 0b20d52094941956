"""A small residual network for 32-pixel images on a CPU."""

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and batch normalization; keeps the size of the map (over the stride)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """The basic residual block of He et al. 2015; a projection shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu(self.first(x), inplace=True))
        # The shortcut's stride is taken here: with fewer than 8 channels the gradient of a strided 1x1 convolution
        # overwrites memory that is not its own on AVX2 processors (oneDNN, issue 6035).
        return F.relu(y + self.shortcut(x[:, :, :: self.stride, :: self.stride]), inplace=True)


def compact(width: int) -> tuple[nn.Module, int]:
    """A 3x3 stem and three stages of two blocks with `width`, 2 and 4 times `width` channels, averaged over the map.

    Returns the module, (n, 3, s, s) -> (n, 4 width) for any s >= 8, and the number of features.
    """
    layers: list[nn.Module] = [convolution(3, width), nn.ReLU(inplace=True)]
    channels = width
    for stage in range(3):
        for block in range(2):
            stride = 2 if stage and not block else 1
            layers.append(Block(channels, width << stage, stride))
            channels = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels
