"""A classifier of the training labels, and of one class more: images that are spoiled.

It is the ceiling of every table of probes, and the judge of samples: 64 of its features measure them, and its last class says
what is no image of the set. Without that class a classifier is sure of noise too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from train.data.images import Images
from train.data.views import batch, float_planes, standardise, to_device
from train.methods import config
from train.methods.method import Batch, Method, Outputs
from train.methods.ranges import AtLeast, Share
from train.models.encoder import Architecture
from train.models.judge import Judge, apart

DRAWS = 8  # images, of which one should be of another class
KINDS = 4  # ways to spoil an image
BLOCKS = 4  # of a side, shuffled
QUARTERS = 2  # of a side, whose colors are all that a blank keeps
BLURS = 2  # by a pixel each, at most
PALEST = 0.2  # share of its brightness that an image loses at most
LIGHT, DARK = 0.3, 0.7  # share of the one image in a cross-fade of two


@dataclass(frozen=True)
class Config(config.Config):
    method: Literal["supervised"] = "supervised"
    """What is learned."""
    preset: Literal["default", "small", "tiny"] = "default"
    """Where the other defaults come from: default (sets of 10,000 images or more), small (fewer), tiny (fewer, of at most 16
    pixels)."""
    epochs: Annotated[int, AtLeast(0)] = 2
    """Passes over the training images; 0 publishes the untrained classifier."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Images a step; the default takes all images of a set that is smaller."""
    backbone: Literal["judge", "compact", "resnet18"] = "judge"
    """judge (three convolutions and 64 features), compact (a small residual network) or resnet18."""
    width: Annotated[int, AtLeast(1)] = 32
    """Channels of the first layer of judge and compact."""
    learning_rate: Annotated[float, AtLeast(0)] = 3e-3
    """Largest learning rate."""
    shift: Annotated[int, AtLeast(0)] = 1
    """Pixels by which an image is moved at most, in each direction."""
    flip: Annotated[float, Share()] = 0.0
    """Probability that an image is mirrored; digits have a side."""
    soft: Annotated[float, Share()] = 0.25
    """Probability that an image, or what is spoiled of it, is blurred and paler: a blurred digit is a digit."""
    spoiled: Annotated[float, Share()] = 0.25
    """Images of the last class, for each image of the set: noise, shuffled blocks, cross-fades of two images, blanks."""
    smoothing: Annotated[float, Share()] = 0.02
    """Label smoothing."""

    PEELED: ClassVar[tuple[str, ...]] = ("spoiled", "smoothing")
    PRESETS: ClassVar[config.Presets] = {
        "default": {},
        "small": {"epochs": 20, "batch_size": 64, "shift": 3},
        "tiny": {"epochs": 20, "batch_size": 64},
    }

    @property
    def title(self) -> str:
        return self.method if self.epochs else f"{self.method}-untrained"


class Supervised(Method):
    """Cross-entropy over the classes and the spoiled one. The representation is the logits."""

    configuration = Config
    config: Config
    terms = ("cross_entropy", "spoiled", "accuracy", "spoiled_refused", "images_refused")

    def __init__(self, config: Config, images: Images) -> None:
        self.channels = 1 if images.gray else 3
        super().__init__(config, images)

    def architecture(self) -> Architecture:
        plain = replace(super().architecture(), hidden=0, dimension=len(self.images.classes) + 1)
        return replace(plain, details={"channels": self.channels}) if self.config.backbone == "judge" else plain

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        images, classes = getattr(self.images, split), getattr(self.images, f"{split}_labels")
        partners = strangers(classes, rows, draws)
        planes, others = (float_planes(batch(images, part)).div(255) for part in (rows, partners))
        labels = torch.from_numpy(np.array(classes[rows]))
        spoiled = spoil(planes, others, draws)
        amount = torch.rand(len(rows), generator=draws) < self.config.spoiled
        if split == "train":
            planes = shifted(planes, self.config.shift, draws)
            mirrored = torch.rand(len(rows), generator=draws) < self.config.flip
            planes = torch.where(mirrored.view(-1, 1, 1, 1), planes.flip(-1), planes)
            planes, spoiled = (softened(part, self.config.soft, draws) for part in (planes, spoiled))
        both = torch.stack([planes, spoiled])[:, share]
        answers = torch.stack([labels, torch.where(amount, len(self.images.classes), -1)])[:, share]
        size = both.shape[2:]
        views = standardise(to_device(both.flatten(0, 1).contiguous(), self.mean.device), self.mean, self.std)
        # Where there are answers is said here: a GPU would have to be waited for to say how many they are.
        there, device = (answers.flatten() >= 0).nonzero().squeeze(1), self.mean.device
        return {
            "views": views.view(2, -1, *size),
            "labels": to_device(answers, device),
            "there": to_device(there, device),
        }

    def forward(self, batch: Batch) -> Outputs:
        views, labels, there = batch["views"], batch["labels"], batch["there"]
        answers = labels.flatten()[there]
        features = self.encoder.backbone(views.flatten(0, 1)[there])
        if isinstance(self.encoder.backbone, Judge):
            features = apart(features, answers == len(self.images.classes))
        logits = self.encoder.head(features).float()
        smoothing = self.config.smoothing if self.training else 0.0
        losses = F.cross_entropy(logits, answers, reduction="none", label_smoothing=smoothing)
        nothing, classes = torch.zeros(labels.numel(), device=labels.device), logits.argmax(dim=1)
        refused = classes == len(self.images.classes)
        parts = {"cross_entropy": losses, "right": (classes == answers).float(), "refused": refused.float()}
        outputs = {name: nothing.index_copy(0, there, part).view(labels.shape) for name, part in parts.items()}
        return {"there": (labels >= 0).float()} | outputs

    def loss(self, outputs: Outputs) -> tuple[Tensor, Sequence[Tensor]]:
        """All (2, n), of the images and of what is spoiled of them, 0 where nothing is."""
        of_images, of_spoiled = outputs["cross_entropy"].mean(dim=1)
        images, spoiled = outputs["refused"].sum(dim=1) / outputs["there"].sum(dim=1).clamp_min(1)
        return of_images + of_spoiled, (of_images, of_spoiled, outputs["right"][0].mean(), spoiled, images)


def shifted(planes: Tensor, most: int, draws: torch.Generator) -> Tensor:
    """Images (n, c, s, s), each moved by up to `most` pixels; what leaves on one side is lost, and 0 comes in."""
    count, _, size, _ = planes.shape
    offsets = torch.randint(0, 2 * most + 1, (2, count), generator=draws)
    padded = F.pad(planes, [most] * 4)
    rows = offsets[0, :, None] + torch.arange(size)
    columns = offsets[1, :, None] + torch.arange(size)
    image = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def softened(planes: Tensor, probability: float, draws: torch.Generator) -> Tensor:
    """Images (n, c, s, s), some of them blurred and paler, each by an amount of its own.

    Decoders make soft images. Without this, whatever is soft looks to a judge like the cross-fades that it learned to refuse.
    """
    count, channels = planes.shape[:2]
    amounts = torch.rand(BLURS + 1, count, 1, 1, 1, generator=draws)
    chosen = torch.rand(count, 1, 1, 1, generator=draws) < probability
    row = planes.new_tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(channels, 1, 3, 3)
    soft = planes
    for amount in amounts[:BLURS]:
        blurred = F.conv2d(F.pad(soft, [1] * 4, mode="replicate"), kernel, groups=channels)
        soft = torch.lerp(soft, blurred, amount)
    return torch.where(chosen, soft * (1 - PALEST * amounts[BLURS]), planes)


def strangers(labels: NDArray[np.int64], rows: NDArray[np.int64], draws: torch.Generator) -> NDArray[np.int64]:
    """For each of the rows one of another class, of all that have `labels`; any where DRAWS of them are of its own.

    Not of the batch alone: where a set is sorted by class, a batch may have a single one.
    """
    candidates = torch.randint(len(labels), (len(rows), DRAWS), generator=draws).numpy()
    first = (labels[candidates] != labels[rows][:, None]).argmax(axis=1)
    return np.asarray(candidates[np.arange(len(rows)), first])


def spoil(planes: Tensor, others: Tensor, draws: torch.Generator) -> Tensor:
    """What is no image of the set, made of each of its images (n, c, s, s) in [0, 1]: noise of its own pixels or of all values,
    its blocks in another order, a cross-fade with the image in the same place of `others`, or a blank.

    Those should be of another class: a cross-fade of two images of one may well be an image of it.
    """
    count = len(planes)
    kind = torch.randint(0, KINDS, (count,), generator=draws).view(-1, 1, 1, 1)
    share = LIGHT + (DARK - LIGHT) * torch.rand(count, 1, 1, 1, generator=draws)
    spoiled = torch.where(kind == 0, noise(planes, draws), share * planes + (1 - share) * others)
    spoiled = torch.where(kind == 1, shuffled(planes, draws), spoiled)
    return torch.where(kind == 3, blank(planes, draws), spoiled)


def noise(planes: Tensor, draws: torch.Generator) -> Tensor:
    """Of every second image its own pixels, shuffled; of the others values between 0 and 1, one for all channels."""
    count, channels, size, _ = planes.shape
    order = torch.rand(count, size * size, generator=draws).argsort(dim=1)
    own = planes.flatten(2).gather(2, order[:, None].expand(-1, channels, -1)).view_as(planes)
    uniform = torch.rand(count, 1, size, size, generator=draws).expand_as(planes)
    return torch.where(torch.rand(count, 1, 1, 1, generator=draws) < 0.5, own, uniform)


def blank(planes: Tensor, draws: torch.Generator) -> Tensor:
    """One value between 0 and 1 for all pixels, or no more of an image than the mean colors of its quarters, with smooth
    passages: what a decoder makes that has learned nothing, or of a code that says nothing."""
    count, _, size, _ = planes.shape
    value = torch.rand(count, 1, 1, 1, generator=draws).expand_as(planes)
    smooth = F.interpolate(F.adaptive_avg_pool2d(planes, QUARTERS), size, mode="bilinear")
    return torch.where(torch.rand(count, 1, 1, 1, generator=draws) < 0.5, value, smooth)


def shuffled(planes: Tensor, draws: torch.Generator) -> Tensor:
    """Each image's blocks in another order, BLOCKS to a side; pixels that make no whole block stay where they are."""
    count, size = len(planes), planes.shape[-1]
    side = size // BLOCKS
    whole = planes[..., : side * BLOCKS, : side * BLOCKS]
    tiles = whole.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)  # (n, c, blocks, side, side)
    order = torch.rand(count, BLOCKS**2, generator=draws).argsort(dim=1).view(count, 1, -1, 1, 1)
    tiles = tiles.gather(2, order.expand_as(tiles)).unflatten(2, (BLOCKS, BLOCKS))
    spoiled = planes.clone()
    spoiled[..., : side * BLOCKS, : side * BLOCKS] = tiles.permute(0, 1, 2, 4, 3, 5).reshape_as(whole)
    return spoiled
