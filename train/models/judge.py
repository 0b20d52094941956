"""A small classifier of small images; what its last hidden layer says of a picture is what samples are measured by."""

from torch import Tensor, nn

from train.models.strided import sides

FEATURES = 64


class Judge(nn.Module):
    """Images (n, 3, s, s) -> features (n, 64), of the first `channels` of the three. Three convolutions, the image halved twice."""

    def __init__(self, width: int, size: int, channels: int) -> None:
        super().__init__()
        self.channels, self.features = channels, FEATURES
        self.maps = nn.Sequential(
            *stage(channels, width, 2),
            *stage(width, 2 * width, 1),
            nn.MaxPool2d(2, ceil_mode=True),
            *stage(2 * width, 2 * width, 1),
        )
        self.linear = nn.Sequential(
            nn.Linear(2 * width * sides(size, 2)[-1] ** 2, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.linear(self.maps(images[:, : self.channels]).flatten(1))
        return features


def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
