"""A small residual network for 32-pixel images on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACES = 4  # of a map, 2 x 2, up to which a product for each place is faster


class Convolution(nn.Conv2d):
    """A convolution without bias. Where its map has few places, each is a product of the weights with what they see of the
    image, in training on a CPU: oneDNN multiplies by the border too, and takes five times as long (bfloat16; float32: three).
    Evaluations take oneDNN's, so that what they make of an encoder stays the same to the last bit."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (self._windows(size) for size in x.shape[2:])
        if not self.training or x.device.type != "cpu" or len(rows) * len(columns) > PLACES:
            return super().forward(x)
        pixels, weight = x.permute(0, 2, 3, 1), self.weight.permute(0, 2, 3, 1)
        places = [
            F.linear(pixels[:, top:bottom, left:right].flatten(1), weight[:, a:b, c:d].flatten(1))
            for top, bottom, a, b in rows
            for left, right, c, d in columns
        ]
        maps: Tensor = torch.stack(places, dim=1).unflatten(1, (len(rows), len(columns)))
        return maps.permute(0, 3, 1, 2)

    def _windows(self, size: int) -> list[tuple[int, int, int, int]]:
        """For each place along an axis: which pixels it sees, and by which weights."""
        side, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        starts = range(-padding, size + padding - side + 1, stride)
        spans = [(start, max(start, 0), min(start + side, size)) for start in starts]
        return [(low, high, low - start, high - start) for start, low, high in spans]


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and batch normalization; keeps the size of the map (over the stride)."""
    return nn.Sequential(
        Convolution(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)
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
