"""Denoising diffusion (Ho et al. 2020): a network learns to see what in a noisy image is noise, and so to draw from noise.

Times are shares u = t / T, so that --steps is a number of steps and nothing else. The published network is the running
average of the weights; its middle map at one noise level is the representation (Xiang et al. 2023).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.images import Images
from train.data.views import float_planes, to_device
from train.methods import config
from train.methods.album import Album
from train.methods.method import Batch, Method, Outputs
from train.methods.ranges import AtLeast, Below, Between
from train.models.denoiser import Middle
from train.models.diffuser import Diffuser, Plan
from train.models.encoder import Architecture
from train.models.schedule import diffuse, log_snr, loss_weights, on_grid, stratified_times, target
from train.tracking import Problem

SHOWN = 32  # samples in the pictures by epoch
COLUMNS = 16
DECAY = 0.999  # of the average, when it has seen some 10,000 steps; before that it forgets faster


@dataclass(frozen=True)
class Config(config.Config):
    method: Literal["ddpm"] = "ddpm"
    """What is learned."""
    preset: Literal["default", "small", "tiny", "exercise"] = "default"
    """Where the other defaults come from: default (sets of 10,000 images or more), small (fewer), tiny (fewer, of at most 16
    pixels), exercise (the report's: 200 steps of linear betas, the noise predicted, Adam)."""
    epochs: Annotated[int, AtLeast(0)] = 5
    """Passes over the training images; 0 publishes the untrained network."""
    batch_size: Annotated[int, AtLeast(1)] = 64
    """Images a step; the default takes all images of a set that is smaller."""
    steps: Annotated[int, AtLeast(2)] = 1000
    """Noise levels of the chain that is learned (T)."""
    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """How the image fades over the steps."""
    predict: Literal["v", "eps", "x0"] = "v"
    """What the network returns: the velocity, the noise or the image."""
    weights: Literal["snr", "bound", "none"] = "snr"
    """Of the noise levels in the loss: by signal to noise up to 5, those of the variational bound, or none."""
    backbone: Literal["denoiser"] = "denoiser"
    """denoiser: a small U-Net over patches of pixels."""
    width: Annotated[int, AtLeast(1)] = 32
    """Channels of the finest level; each further one has twice as many."""
    levels: Annotated[int, Between(1, 4)] = 2
    """Resolutions of the U-Net."""
    blocks: Annotated[int, Between(1, 4)] = 1
    """Residual blocks of a level on the way down; one more on the way up."""
    patch: Annotated[int, Between(1, 8)] = 2
    """Pixels of a side that are one place of the finest level."""
    attention: Literal["none", "middle"] = "none"
    """Whether the places of the middle map see each other."""
    alpha_bar: Annotated[float, AtLeast(1e-3), Below(1)] = 0.9
    """Share of the image in the variance, at which the representation is read."""
    learning_rate: Annotated[float, AtLeast(0)] = 2e-3
    """Largest learning rate."""
    warmup: Annotated[float, Between(0, 1)] = 0.05
    """Share of the steps over which the learning rate rises."""

    PEELED: ClassVar[tuple[str, ...]] = ("predict", "noise_schedule", "weights", "steps", "attention", "epochs")
    NETWORK: ClassVar[tuple[str, ...]] = (*config.Config.NETWORK, "levels", "blocks", "patch", "attention", "alpha_bar")
    PRESETS: ClassVar[config.Presets] = {
        "default": {},
        "small": {"epochs": 25, "patch": 4, "learning_rate": 4e-3, "muon_rate": 0.03},
        "tiny": {"epochs": 22, "learning_rate": 4e-3, "muon_rate": 0.03},
        "exercise": {
            "epochs": 25, "steps": 200, "noise_schedule": "linear", "predict": "eps", "weights": "none", "batch_size": 128,
            "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant",
        },
    }  # fmt: skip

    @property
    def title(self) -> str:
        return self.method if self.epochs else f"{self.method}-untrained"


class Diffusion(Method):
    """The squared error of what is predicted, weighted by noise level."""

    configuration = Config
    config: Config
    terms = ("error",)
    updates: Tensor

    def __init__(self, config: Config, images: Images) -> None:
        self.channels: Literal[1, 3] = 1 if images.gray else 3
        if images.size % config.patch:
            raise Problem(
                f"--patch {config.patch} does not divide the {images.size} pixels of {images.name}; give --patch 1, or prepare the"
                f" images with --size {images.size // config.patch * config.patch}"
            )
        super().__init__(config, images)
        plan = Plan(
            config.width, config.levels, config.blocks, config.patch, config.attention == "middle", self.channels,
            images.size, config.noise_schedule, config.predict, config.steps,
        )  # fmt: skip
        torch.manual_seed(config.seed)
        self.diffuser = Diffuser(plan)
        self.average = copy.deepcopy(self.diffuser).requires_grad_(False)
        middle = self.encoder.backbone
        assert isinstance(middle, Middle)
        middle.lower = self.average.network.lower  # one network: what is averaged is what encodes
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.samples = Album(config.epochs, SHOWN, images.size, self.channels)

    def architecture(self) -> Architecture:
        """The network takes images in [-1, 1]: so they are normalized."""
        config = self.config
        details = {
            "levels": config.levels, "blocks": config.blocks, "patch": config.patch, "channels": self.channels,
            "attention": int(config.attention == "middle"), "alpha_bar": config.alpha_bar,
        }  # fmt: skip
        half = (0.5, 0.5, 0.5)
        return Architecture("denoiser", config.width, 0, 0, self.images.size, half, half, details)

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        device = self.mean.device
        planes = float_planes(self.images_of(split, rows[share]))[:, : self.channels]
        noise = torch.randn(len(rows), self.channels, self.images.size, self.images.size, generator=draws)
        # In another order than the rows: where images stand sorted by class, each class would see one part of the times.
        times = on_grid(stratified_times(len(rows), draws), self.config.steps)[
            torch.randperm(len(rows), generator=draws)
        ]
        return {
            "x0": planes.div(127.5) - 1,
            "noise": to_device(noise[share], device),
            "times": to_device(times[share], device),
        }

    def forward(self, batch: Batch) -> Outputs:
        config, schedule = self.config, self.diffuser.schedule
        x0, noise, times = batch["x0"], batch["noise"], batch["times"]
        alpha_bar = schedule.alpha_bar(times)
        # What is measured is the average; a gradient is that of the network itself.
        network = self.diffuser.network if torch.is_grad_enabled() else self.average.network
        output = network(diffuse(x0, noise, alpha_bar), log_snr(alpha_bar).float()).float()
        error = (output - target(config.predict, x0, noise, alpha_bar)).square().mean(dim=(1, 2, 3))
        weights = loss_weights(config.weights, config.predict, alpha_bar, schedule.fall(times)).float()
        return {"error": error[None], "weighted": (weights * error)[None]}

    def loss(self, outputs: Outputs) -> tuple[Tensor, Sequence[Tensor]]:
        return outputs["weighted"].mean(), (outputs["error"].mean(),)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The average of the weights, which follows closely at first."""
        count = self.updates.double()
        share = (1 - ((1 + count) / (10 + count)).clamp(max=DECAY)).float()
        average: list[Tensor] = [*self.average.parameters()]
        torch._foreach_lerp_(average, [*self.diffuser.parameters()], [share] * len(average))
        self.updates += 1

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        if self.samples.wants(epoch):
            self.samples.keep(epoch, self.average.sample(SHOWN, torch.Generator().manual_seed(0)))

    def figures(self) -> Mapping[str, go.Figure]:
        if not self.config.epochs:
            return {}
        return {"training/samples": self.samples.figure("Samples from the same noise", COLUMNS)}
