"""What a method of learning is to the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data.images import Images
from train.data.views import batch, to_device
from train.methods.config import Config
from train.models.backbones import BACKBONES
from train.models.encoder import Architecture, Encoder

RESIDENT = 4 << 30  # bytes of a split; CIFAR-10's 50,000 images have 154 MB
Batch = Mapping[str, Tensor]
Outputs = Mapping[str, Tensor]


class Method(nn.Module, ABC):
    """One way to learn an encoder. The loop knows this and no more; a checkpoint is the module's own state.

    Nothing is drawn but the initial weights, from the seed, and in `batch`, from the step's generator and for all rows,
    whatever the share: so a training resumes to the last bit, and several processes draw what one would.
    """

    configuration: ClassVar[type[Config]]
    terms: ClassVar[tuple[str, ...]]  # names of the terms that `loss` returns: loss/NAME, test/NAME, training/NAME
    config: Config
    encoder: Encoder  # what the monitor measures once an epoch, and what is published
    mean: Tensor
    std: Tensor

    def __init__(self, config: Config, images: Images) -> None:
        super().__init__()
        self.config, self.images = config, images
        self._resident: dict[str, Tensor] = {}  # splits on the device
        torch.manual_seed(config.seed)
        self.encoder = Encoder(self.architecture())
        self.encoder.fit(images.train, np.random.default_rng(config.seed))
        self.register_buffer("mean", torch.tensor(images.mean), persistent=False)
        self.register_buffer("std", torch.tensor(images.std), persistent=False)

    def architecture(self) -> Architecture:
        """Of the encoder, as the flags say."""
        config, images = self.config, self.images
        head = (config.hidden, config.dimension) if BACKBONES[config.backbone].headed else (0, 0)
        return Architecture(config.backbone, config.width, *head, images.size, images.mean, images.std)

    def images_of(self, split: str, rows: NDArray[np.int64] | slice) -> Tensor:
        """The rows (n,) of a split, uint8 (n, height, width, 3), on the method's device. A GPU keeps a set that is no larger
        than RESIDENT: a step then waits for no copy of images."""
        images, device = getattr(self.images, split), self.mean.device
        if device.type == "cpu" or images.nbytes > RESIDENT:
            return to_device(batch(images, rows), device)
        if split not in self._resident:
            self._resident[split] = batch(images, slice(None)).to(device)
        return self._resident[split][rows if isinstance(rows, slice) else to_device(torch.from_numpy(rows), device)]

    @abstractmethod
    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        """What `forward` takes of the rows (n,) of a split: of their `share` alone, though all n are drawn for."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """What `loss` takes, float32, images along dimension 1: projections (v, m, d), or a number an image (1, m).

        The loop joins the shares of all processes along that dimension, with their gradient.
        """

    @abstractmethod
    def loss(self, outputs: Outputs) -> tuple[Tensor, Sequence[Tensor]]:
        """The loss, and its terms before they are weighted, in the order of `terms`: scalars, means over the images."""

    def projection(self, y: Tensor) -> Tensor:
        """What the loss sees of representations (n, d), to be measured for collapse beside them; themselves unless said."""
        return y

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups. Beside `params` and what torch knows (`weight_decay`), a group may have
        `schedule`: "constant" keeps it at the largest learning rate, and `times`, by which its rate is multiplied.
        """
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def after_step(self, progress: float) -> None:
        """Called when the optimizer has stepped: moves a target, an average. progress: the share of all steps that were done before,
        from 0 at the first step to below 1 at the last."""

    def after_epoch(self, epoch: int) -> None:
        """Called after the last step of each epoch, from 1: fills buffers, which are part of the checkpoint."""

    def figures(self) -> Mapping[str, go.Figure]:
        """Its own, by panel path, when the training has ended; none unless said."""
        return {}
