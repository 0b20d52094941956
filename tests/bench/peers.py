"""What a coffee break gives: our default preset, and the usual recipes, trained for the same minutes on the same cores and read
by the same linear probe.

The recipes are those of public settings. lightly: its own VICReg example for CIFAR-10. solo-learn and eb_jepa: their settings,
not their code, with lightly's loss and LARS: a ResNet-18 for 32-pixel images, two views; the two differ in the weights of the
loss. Each has its transforms on PIL images, by torch's loader with a process a core, and the precision that is faster here.
Rates follow the clock, so that each schedule ends with its minutes.
"""

import math
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
import torch
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.transforms.vicreg_transform import VICRegTransform
from lightly.utils.lars import LARS
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18
from torchvision.transforms import v2

from eval.embed import embed
from eval.evidence.intervals import accuracy_interval
from eval.evidence.linear_probe import linear_probe
from tests.bench.table import Row, seconds
from tests.bench.training import products, training
from train.data.datasets import data_folder, load
from train.data.images import Images
from train.data.views import batch, normalize
from train.engine.devices import autocast
from train.methods.vicreg import Config
from train.tracking.progress import Progress

MINUTES = 10.0
WARMUP = 0.1  # of the minutes
Transform = Callable[[PIL.Image.Image], list[Tensor]]


@dataclass(frozen=True)
class Peer:
    """A recipe. backbone: -> a network (n, 3, 32, 32) -> (n, 512). weights: of invariance, variance, covariance, as in
    lightly's loss. optimizer: from parameters. rate: largest."""

    name: str
    backbone: Callable[[], nn.Module]
    transform: Callable[[tuple[float, ...], tuple[float, ...]], Transform]
    weights: tuple[float, float, float]
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer]
    rate: float
    batch: int = 256


def plain() -> nn.Module:
    """torchvision's ResNet-18 as it is: at 32 pixels its last map is one place."""
    network: nn.Module = resnet18(weights=None)
    network.fc = nn.Identity()
    return network


def small() -> nn.Module:
    """The same for 32-pixel images: a first convolution of 3 x 3 at stride 1, and no pooling after it."""
    network = plain()
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def lightlys(mean: tuple[float, ...], std: tuple[float, ...]) -> Transform:
    transform = VICRegTransform(input_size=32, normalize={"mean": list(mean), "std": list(std)})
    return cast(Transform, transform)


def two_views(mean: tuple[float, ...], std: tuple[float, ...]) -> Transform:
    """As solo-learn and eb_jepa have them for CIFAR-10."""
    view = v2.Compose(
        [
            v2.RandomResizedCrop(32, scale=(0.2, 1.0)),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomSolarize(128, 0.1),
            v2.RandomHorizontalFlip(0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )
    return lambda picture: [view(picture), view(picture)]


def sgd(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=rate)


def lars(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Biases and normalization are neither decayed nor scaled by their norms."""
    parameters = list(network.parameters())
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer = LARS(groups, lr=rate, momentum=0.9, trust_coefficient=0.02)
    return optimizer


PEERS = (
    Peer("lightly's VICReg", plain, lightlys, (25.0, 25.0, 1.0), sgd, 0.06),
    Peer("solo-learn's ResNet-18", small, two_views, (25.0, 25.0, 1.0), lars, 0.3),
    Peer("eb_jepa's ResNet-18", small, two_views, (1.0, 1.0, 80.0), lars, 0.3),
)


class Pictures(Dataset[list[Tensor]]):
    def __init__(self, images: NDArray[np.uint8], transform: Transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(PIL.Image.fromarray(np.asarray(self.images[index])))


def train(peer: Peer, images: Images, minutes: float, cast: AbstractContextManager[object]) -> tuple[nn.Module, float]:
    """The backbone after so many minutes, and the epochs that they were."""
    torch.manual_seed(0)
    backbone = peer.backbone()
    head = VICRegProjectionHead(input_dim=512, hidden_dim=2048, output_dim=2048, num_layers=2)
    network = nn.Sequential(backbone, head).to(memory_format=torch.channels_last)
    optimizer, (invariance, variance, covariance) = peer.optimizer(network, peer.rate), peer.weights
    loss = VICRegLoss(lambda_param=invariance, mu_param=variance, nu_param=covariance)
    pictures = Pictures(images.train, peer.transform(images.mean, images.std))
    size, seen, started, passed = min(peer.batch, len(pictures)), 0, time.monotonic(), 0.0
    with Progress(peer.name, "second", 60 * minutes) as progress:
        while True:
            # A process a core decodes and transforms, as their settings have it.
            workers = len(os.sched_getaffinity(0))
            for first, second in DataLoader(pictures, size, shuffle=True, drop_last=True, num_workers=workers):
                before, passed = passed, (time.monotonic() - started) / (60 * minutes)
                progress.update(60 * minutes * (min(passed, 1.0) - before))
                if passed >= 1:
                    return backbone.eval(), seen / len(pictures)
                for group in optimizer.param_groups:
                    group["lr"] = peer.rate * pace(passed)
                both = torch.cat([first, second]).to(memory_format=torch.channels_last)
                with cast:
                    z = network(both)
                total = loss(*z.float().chunk(2))
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
                seen += size
                progress.note(f"{seen:,} images")


def pace(passed: float) -> float:
    """The share of the largest rate after this share of the minutes: a rise, then half a cosine."""
    return passed / WARMUP if passed < WARMUP else 0.5 * (1 + math.cos(math.pi * (passed - WARMUP) / (1 - WARMUP)))


def features(backbone: nn.Module, pixels: NDArray[np.uint8], images: Images) -> NDArray[np.float32]:
    """(n, 512) of whole images."""
    mean, std = torch.tensor(images.mean), torch.tensor(images.std)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), 250):
            planes = normalize(batch(pixels, slice(start, start + 250)), mean, std, 32)
            parts.append(backbone(planes).float().numpy())
    return np.concatenate(parts)


def read(name: str, train: NDArray[np.float32], test: NDArray[np.float32], images: Images, note: str) -> Row:
    labels, truth = np.array(images.train_labels), np.asarray(images.test_labels)
    correct = linear_probe(train, labels, test, len(images.classes), 0, name).predictions == truth
    low, high = accuracy_interval(correct, 0, 10_000) or (math.nan, math.nan)
    note = f"{100 * low:.1f} to {100 * high:.1f}; {train.shape[1]:,}-d; {note}"
    return Row(f"peers: {name}", (100 * float(correct.mean()),), "%", note=note)


def ours(images: Images, minutes: float) -> list[Row]:
    """The default preset, with all that a stage does, for as many epochs as fit: the pace of its first steps says how many."""
    with training(Config(images=images.name, epochs=1), images) as loop:
        for _ in range(3):
            loop._train_step()
        step = float(np.median([seconds(loop._train_step) for _ in range(15)]))
        epoch = step * loop.epoch_steps + 1.1 * seconds(loop._measure)
    epochs = max(1, int(60 * minutes / epoch))
    with training(Config(images=images.name, epochs=epochs), images) as loop, tempfile.TemporaryDirectory() as folder:
        took = seconds(lambda: loop.run(Path(folder) / "checkpoint.safetensors"))
        encoder = loop.method.encoder.eval()
    vectors = [embed(encoder, pixels, 100, "ours") for pixels in (images.train, images.test)]
    note = f"{epochs} epochs in {took / 60:.1f} min, measurements and checkpoints with them"
    (train_features, train), (test_features, test) = vectors
    return [
        read("the default preset, features", train_features, test_features, images, note),
        read("the default preset, representation", train, test, images, note),
    ]


def cifar() -> Images:
    """CIFAR-10 in JPEG where $PEEL_DATA has it, else as torchvision has it."""
    data = data_folder()
    archive = data / "cifar10-jpeg.zip" if data else None
    return load(str(archive) if archive and archive.is_file() else "cifar10", "cifar10")


def measure_peers(images: Images | None = None, minutes: float = MINUTES) -> list[Row]:
    images = images or cifar()
    rows = ours(images, minutes)
    for peer in PEERS:
        backbone, epochs = train(peer, images, minutes, autocast("auto", torch.device("cpu")))
        train_features, test_features = (features(backbone, pixels, images) for pixels in (images.train, images.test))
        rows.append(read(peer.name, train_features, test_features, images, f"{epochs:.2f} epochs in {minutes:g} min"))
    best = max(row.median for row in rows[2:])
    product = f"a product of matrices: {products(15):,.0f} GFLOP/s in float32"
    rows.append(
        Row("peers: features of the default preset, above the best", (rows[0].median - best,), "points", note=product)
    )
    return rows
