"""The views, the step, each method's step, the exercise's recipe, and what the processor achieves in a step."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from tests.bench.table import Row, ratios, seconds, side_by_side
from tests.parts.artifacts import publish_images
from train.data.images import Images
from train.data.views import Augmentation, views
from train.engine.loop import Training, generator
from train.engine.optimizer import optimizer
from train.methods import autoencoder, diffusion, supervised
from train.methods.vicreg import Config, VICReg
from train.models.encoder import Architecture, Encoder
from train.models.heads import projector
from train.pretrain import METHODS
from train.tracking import Stage

COUNT = 50_000  # CIFAR's


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def made_up(count: int = COUNT) -> Images:
    """Noise of CIFAR's shape: what it shows costs nothing."""
    random = np.random.default_rng(1)
    sizes = {"train": count, "test": count // 5}
    arrays: dict[str, NDArray[np.generic]] = {split: noise(size) for split, size in sizes.items()}
    arrays |= {f"{split}_labels": random.integers(0, 10, size).astype(np.int64) for split, size in sizes.items()}
    return Images.from_arrays("noise", tuple("abcdefghij"), arrays)


@contextmanager
def training(config: Config, images: Images | None = None) -> Iterator[Training]:
    """A training on noise, or on `images`, in a home of its own, with a run that is tracked as any other."""
    with tempfile.TemporaryDirectory() as folder, patch.dict("os.environ", PEEL_HOME=folder, WANDB_MODE="offline"):
        publish_images(images or made_up())
        with Stage("train.pretrain", config) as stage:
            published = Images.load(stage.fetch("images", config.images).folder)
            stage.introduce(published.name, f"{published.name}-vicreg", config.seed)
            yield Training(VICReg(config, published), stage)


# -- views -------------------------------------------------------------------------------------------------------------


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each image as courses make them: torchvision's transforms on PIL images, one by one."""

    def __init__(self, images: NDArray[np.uint8], augmentation: Augmentation) -> None:
        self.pictures = [PIL.Image.fromarray(image) for image in images]
        jitter = v2.ColorJitter(
            augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue
        )
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(augmentation.size, augmentation.scale, augmentation.ratio),
                v2.RandomHorizontalFlip(augmentation.flip),
                v2.RandomApply([jitter], augmentation.jitter),
                v2.RandomGrayscale(augmentation.grayscale),
                v2.RandomApply([v2.GaussianBlur(augmentation.blur_kernel)], augmentation.blur),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.pictures[index]), self.transform(self.pictures[index])


def measure_views(count: int = 5) -> list[Row]:
    augmentation = Config.defaults({"preset": "exercise"}).augmentation(32)
    images, many = noise(4096), noise(4096)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    loader = DataLoader(Pictures(images, augmentation), 256, shuffle=True, num_workers=2, persistent_workers=True)

    def ours() -> None:
        for start in range(0, len(many), 256):
            views(torch.from_numpy(many[start : start + 256]), 2, augmentation, mean, std, generator(0, start))

    def theirs() -> None:
        for _ in loader:
            pass

    fast, slow = side_by_side(ours, theirs, count)
    rate = 2 * len(many) / np.median(fast)
    note = f"{rate:,.0f} views/s here; two views of 32 pixels, the exercise's augmentation"
    return [Row("views, against torchvision on PIL images, 2 workers", ratios(slow, fast), "x", (">=", 10), note)]


# -- step --------------------------------------------------------------------------------------------------------------


class Bare:
    """Forward, backward and optimizer of the same network on a batch that is ready."""

    def __init__(self, config: Config) -> None:
        size = config.view_size or 32
        architecture = Architecture(
            config.backbone, config.width, config.hidden, config.dimension, 32, (0.5,) * 3, (0.25,) * 3
        )
        encoder = Encoder(architecture)
        self.network = nn.Sequential(
            encoder.backbone,
            encoder.head,
            projector(encoder.dimension, [config.projector_width] * config.projector_layers),
        )
        self.optimizer = optimizer(config, [{"params": list(self.network.parameters())}], torch.device("cpu"))
        batch = torch.randn(config.view_count * config.batch_size, 3, size, size)
        self.batch = batch.contiguous(memory_format=torch.channels_last)

    def step(self, autocast: "torch.autocast | None" = None) -> None:
        if autocast is None:
            z = self.network(self.batch)
        else:
            with autocast:
                z = self.network(self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        z.float().square().mean().backward()
        self.optimizer.step()


def measure_step(count: int = 40) -> list[Row]:
    config = Config(images="noise")
    with training(config) as loop:
        bare = Bare(config)
        autocast = loop.autocast if isinstance(loop.autocast, torch.autocast) else None
        whole, alone = side_by_side(loop._train_step, lambda: bare.step(autocast), count)
        once = [seconds(loop._measure) for _ in range(2)]
        epoch = float(np.median(whole)) * loop.epoch_steps
        operations = counted(loop._train_step)
    crops = config.view_count * config.batch_size / np.median(whole)
    return [
        Row(
            "step, all of it, against the bare network",
            ratios(alone, whole),
            "x",
            (">=", 0.95),
            f"{crops:,.0f} views/s",
        ),
        Row("once an epoch, of the epoch", tuple(100 * each / epoch for each in once), "%", ("<=", 12)),
        Row(
            "arithmetic of the step",
            tuple(operations / each / 1e9 for each in whole),
            "GFLOP/s",
            note=f"a product of matrices: {products(15):,.0f} GFLOP/s",
        ),
    ]


class Convolutions:
    """Those of a training's step that are learned, each alone: forward, and backward to its input and its weights."""

    def __init__(self, loop: Training) -> None:
        self.autocast = loop.autocast
        dtype = self.autocast.fast_dtype if isinstance(self.autocast, torch.autocast) else torch.float32
        self.calls: list[tuple[nn.Module, Tensor, Tensor]] = []

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            pair = (torch.randn_like(one, dtype=dtype) for one in (inputs[0], output))
            x, gradient = (one.contiguous(memory_format=torch.channels_last) for one in pair)
            self.calls.append((module, x.requires_grad_(), gradient))

        modules = [module for module in loop.method.encoder.modules() if isinstance(module, nn.Conv2d)]
        hooks = [module.register_forward_hook(note) for module in modules]
        loop._train_step()
        for hook in hooks:
            hook.remove()

    def run(self) -> None:
        for module, x, gradient in self.calls:
            with self.autocast:
                y = module(x)
            y.backward(gradient)
            x.grad = None


def measure_parts(count: int = 20) -> list[Row]:
    """Where a step of the default preset goes, and its arithmetic beside that of its convolutions alone."""
    with training(Config(images="noise")) as loop:
        convolutions = Convolutions(loop)
        whole, alone = side_by_side(loop._train_step, convolutions.run, count)
        step, own = counted(loop._train_step), counted(convolutions.run)
        rates = [own / each / 1e9 for each in alone]
        parts: dict[str, list[float]] = {"views": [], "forward": [], "backward": [], "optimizer": []}
        rows = np.arange(loop.config.batch_size)
        for turn in range(count + 1):
            start = time.perf_counter()
            batch = loop.method.batch("train", rows, generator(0, turn), slice(None))
            ends = [time.perf_counter()]
            with loop.autocast:
                outputs = loop.forward(batch)
            total, _ = loop.method.loss(outputs)
            ends.append(time.perf_counter())
            loop.optimizer.zero_grad(set_to_none=True)
            total.backward()
            ends.append(time.perf_counter())
            loop.optimizer.step()
            ends.append(time.perf_counter())
            for values, begin, end in zip(parts.values(), [start, *ends], ends, strict=False):
                values += [1e3 * (end - begin)] if turn else []
    note = f"{np.median(rates):,.0f} GFLOP/s alone; a product of matrices: {products(15):,.0f} in float32"
    shares = tuple(100 * step / each / 1e9 / rate for each, rate in zip(whole, rates, strict=True))
    return [
        Row("arithmetic of the step, of its convolutions' alone", shares, "%", (">=", 65), note),
        *(Row(f"{name} of a step", tuple(values), "ms") for name, values in parts.items()),
    ]


def measure_methods(count: int = 20) -> list[Row]:
    """Images a second of each method, against VICReg's, in turns."""
    rows = []
    with training(Config(images="noise")) as loop:
        for name, least in (("simsiam", 0.95), ("barlow", 0.95), ("byol", 0.75), ("lejepa", 0.9), ("dssl", None)):
            method = METHODS[name]
            other = Training(method(method.configuration(images="noise", method=name), loop.images), loop.stage)
            vicreg, times = side_by_side(loop._train_step, other._train_step, count)
            limit = None if least is None else (">=", least)
            rate = f"{other.config.batch_size / np.median(times):,.0f} images/s"
            rows.append(Row(f"step of {name}, against VICReg's", ratios(vicreg, times), "x", limit, rate))
    return rows


def measure_generators(count: int = 20) -> list[Row]:
    """Images a second of what is learned by reconstruction and by denoising, of gray images of 28 pixels, in batches of 64."""
    rows = []
    random = np.random.default_rng(2)
    gray = random.integers(0, 256, (2_000, 28, 28, 1), dtype=np.uint8).repeat(3, axis=3)
    labels = random.integers(0, 10, 2_000)
    arrays: dict[str, NDArray[np.generic]] = {
        "train": gray,
        "test": gray[:500],
        "train_labels": labels,
        "test_labels": labels[:500],
    }
    images = Images.from_arrays("gray", tuple("abcdefghij"), arrays)
    vae = autoencoder.Config(images="gray", kl=1.0, dimension=32, likelihood="bernoulli", batch_size=64)
    methods = {
        "the autoencoder": autoencoder.autoencoder(autoencoder.Config(images="gray", batch_size=64), images),
        "the variational autoencoder": autoencoder.autoencoder(vae, images),
        "the diffusion": diffusion.Diffusion(diffusion.Config(images="gray"), images),
        "the judge": supervised.Supervised(supervised.Config(images="gray", batch_size=64), images),
    }
    with training(Config(images="noise")) as loop:
        loops = {name: Training(method, loop.stage) for name, method in methods.items()}
        first = loops["the autoencoder"]
        for name, other in loops.items():
            own, times = side_by_side(first._train_step, other._train_step, count)
            rate = f"{other.config.batch_size / np.median(times):,.0f} images/s"
            rows.append(Row(f"step of {name}, against the autoencoder's", ratios(own, times), "x", None, rate))
    return rows


def counted(step: Callable[[], object]) -> int:
    """Operations of its products and convolutions, two to a multiplication with its addition."""
    with FlopCounterMode(display=False) as flops:
        step()
    return int(flops.get_total_flops())


def products(count: int, side: int = 2048) -> float:
    """Operations a second, in units of 1e9, of a product of two matrices large enough to keep the cores busy."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    return float(np.median([2 * side**3 / seconds(lambda: a @ b) / 1e9 for _ in range(count + 1)][1:]))


# -- the exercise ------------------------------------------------------------------------------------------------------


class Course:
    """The exercise's loop as it is usually written: per-image transforms, two forward passes, NCHW."""

    def __init__(self, config: Config, images: NDArray[np.uint8]) -> None:
        from train.models.resnet import resnet18

        backbone, features = resnet18()
        head = nn.Sequential(nn.Linear(features, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, config.dimension))
        network = nn.Sequential(backbone, head, projector(config.dimension, [config.projector_width] * 3))
        self.network = network.to(memory_format=torch.contiguous_format)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=3e-4, weight_decay=1e-6)
        pictures = Pictures(images, config.augmentation(32))
        self.batches = iter(DataLoader(pictures, config.batch_size, shuffle=True))  # workers would slow the other side

    def step(self) -> None:
        first, second = next(self.batches)
        z1, z2 = self.network(first), self.network(second)
        loss = 25 * F.mse_loss(z1, z2)
        for z in (z1, z2):
            loss = loss + 25 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
            centered = z - z.mean(0)
            matrix = centered.T @ centered / (len(z) - 1)
            loss = loss + (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def measure_exercise(count: int = 4, batch: int = 64) -> list[Row]:
    from dataclasses import replace

    config = replace(Config.defaults({"preset": "exercise"}), images="noise", batch_size=batch)
    with training(config) as loop:
        course = Course(config, noise((count + 8) * batch))
        whole, theirs = side_by_side(loop._train_step, course.step, count)
        operations = counted(loop._train_step)
    note = f"{batch / np.median(whole):,.0f} images/s; batches of {batch}, to be done in time"
    usual = (
        f"the usual loop: {operations / np.median(theirs) / 1e9:,.0f}; a product of matrices: {products(count):,.0f}"
    )
    return [
        Row("--preset exercise, against the usual loop", ratios(theirs, whole), "x", (">=", 1.4), note),
        Row("its arithmetic", tuple(operations / each / 1e9 for each in whole), "GFLOP/s", note=usual),
    ]
