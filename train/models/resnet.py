"""The exercise's backbone: torchvision's ResNet-18, changed for 32-pixel images."""

from torch import nn


def resnet18() -> tuple[nn.Module, int]:
    """First convolution 3x3, stride 1, no padding, with bias (so 30x30 maps); no max-pooling; 512 features.

    torchvision's own last layer (512 -> 512) is the first of the head: see `Encoder`.
    """
    from torchvision.models import resnet18 as torchvision_resnet18  # late: a second that other backbones need not wait

    network = torchvision_resnet18(weights=None)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network, 512
