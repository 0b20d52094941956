"""Autoencoders: a code that an image can be made from again, with or without a prior that the codes are held to.

--kl 0 is a plain autoencoder: the mean squared error of pixels in [0, 1]. Above 0 it is a variational one (Kingma & Welling
2014; Higgins et al. 2017 for other weights than 1), whose loss is the negative bound in nats an image: the likelihood
summed over pixels plus the divergence summed over units, averaged over images. --likelihood bernoulli draws binary pixels
anew at each step; gaussian is a discretized one with one learned deviation (Rybkin et al. 2021).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data.images import Images
from train.data.views import float_planes, standardise, to_device
from train.methods import config
from train.methods.album import Album, draw
from train.methods.method import Batch, Method, Outputs
from train.methods.ranges import AtLeast, Between
from train.models.decoder import Decoder, Plan
from train.models.encoder import Architecture
from train.models.likelihood import bits, discretized_gaussian
from train.tracking import Problem
from train.tracking.panels import color, figure

SHOWN = 32  # test images, and samples, in the pictures by epoch
COLUMNS = 16
CODES = 10_000  # training images whose codes the fitted prior is taken from


@dataclass(frozen=True)
class Config(config.Config):
    method: Literal["autoencoder"] = "autoencoder"
    """What is learned."""
    preset: Literal["default", "small", "tiny", "exercise"] = "default"
    """Where the other defaults come from: default (sets of 10,000 images or more), small (fewer), tiny (fewer, of at most 16
    pixels), exercise (the reports' variational autoencoder)."""
    epochs: Annotated[int, AtLeast(0)] = 10
    """Passes over the training images, three times as many of a variational one; 0 publishes the untrained encoder and decoder."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Images a step; the default takes all images of a set that is smaller."""
    backbone: Literal["strided"] = "strided"
    """strided: convolutions that halve the image, and as many that double it again."""
    width: Annotated[int, AtLeast(1)] = 16
    """Channels of the first layer; each further one has twice as many."""
    layers: Annotated[int, Between(1, 5)] = 3
    """Convolutions of the encoder, and of the decoder."""
    dimension: Annotated[int, AtLeast(1)] = 14
    """Dimensions of the code (d); of a variational one 32 by default."""
    kl: Annotated[float, AtLeast(0)] = 0.0
    """Weight of the divergence from the prior: 0 is an autoencoder, 1 a variational one, others a beta-VAE."""
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """Of a pixel, given a code: a Gaussian over its 256 values with one learned deviation, or binary pixels drawn from its
    gray value. With --kl 0 the squared error stands in its place."""
    learning_rate: Annotated[float, AtLeast(0)] = 3e-3
    """Largest learning rate."""

    PEELED: ClassVar[tuple[str, ...]] = ("kl", "likelihood", "dimension", "layers", "epochs")
    NETWORK: ClassVar[tuple[str, ...]] = (*config.Config.NETWORK, "layers")
    PRESETS: ClassVar[config.Presets] = {
        "default": {},
        "small": {"epochs": 8, "batch_size": 32},
        "tiny": {"epochs": 8, "batch_size": 32},
        "exercise": {
            "epochs": 30, "kl": 1.0, "dimension": 32, "likelihood": "bernoulli", "optimizer": "adam", "learning_rate": 1e-3,
            "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant",
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kl and self.likelihood != "gaussian":
            raise Problem(f"--likelihood {self.likelihood} is read with --kl above 0 only; add --kl 1")

    @classmethod
    def defaults(cls, flags: Mapping[str, str]) -> Self:
        plain = super().defaults(flags)
        if not plain.kl and is_positive(flags.get("kl", "0")):
            return replace(plain, kl=1.0, dimension=32, epochs=3 * plain.epochs)
        return plain

    @property
    def title(self) -> str:
        return ("vae" if self.kl else "ae") + ("" if self.epochs else "-untrained")


def is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1) in nats, of each unit. Kingma & Welling 2014,
    appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


class Reconstruction(Method):
    """What both kinds are: an encoder whose representation is the code, a decoder, and pictures by epoch."""

    configuration = Config
    config: Config

    def __init__(self, config: Config, images: Images) -> None:
        self.channels = 1 if images.gray else 3
        super().__init__(config, images)
        self.decoder = Decoder(
            Plan(
                config.dimension, config.width, config.layers, 1 if images.gray else 3, images.size,
                config.likelihood if config.kl else "none", "standard" if config.kl else "fitted",
            )
        )  # fmt: skip
        self.shown = draw(images, SHOWN)
        self.reconstructions = Album(config.epochs, 2 * len(self.shown), images.size, self.channels)

    def architecture(self) -> Architecture:
        details = {"layers": self.config.layers, "channels": self.channels}
        return replace(super().architecture(), details=details)

    def pixels(self, split: str, rows: NDArray[np.int64] | slice) -> Tensor:
        """Of the rows of a split: (n, channels, s, s) in [0, 1], on the method's device."""
        planes = float_planes(self.images_of(split, rows))
        return planes[:, : self.channels].div(255)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (n, channels, s, s) in [0, 1] -> features and code."""
        count = self.channels
        features, code = self.encoder(standardise(pixels.clone(), self.mean[:count], self.std[:count]))
        return features, code

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        if self.reconstructions.wants(epoch):
            self.eval()
            originals = self.pixels("test", self.shown.numpy())
            copies = self.decoder.pictures(self.encode(originals)[1].float())
            rows = [part for pair in zip(originals.split(COLUMNS), copies.split(COLUMNS), strict=True) for part in pair]
            self.reconstructions.keep(epoch, torch.cat(rows))

    @torch.no_grad()
    def fit_prior(self) -> None:
        """Where the codes were held to none, it is the Gaussian of the training images' codes, drawn from the seed."""
        if self.decoder.plan.prior == "fitted":
            self.eval()
            count = len(self.images.train)
            rows = np.sort(np.random.default_rng(self.config.seed).permutation(count)[:CODES])
            parts = [
                self.encode(self.pixels("train", part))[1].float()
                for part in np.array_split(rows, -(-len(rows) // 500))
            ]
            self.decoder.fit(torch.cat(parts))

    def figures(self) -> Mapping[str, go.Figure]:
        if not self.config.epochs:
            return {}
        title = "Test images, and below each row what the decoder makes of their codes"
        return {"training/reconstructions": self.reconstructions.figure(title, COLUMNS)}


class Autoencoder(Reconstruction):
    """The squared error alone."""

    terms = ("error",)

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        return {"pixels": self.pixels(split, rows[share])}

    def forward(self, batch: Batch) -> Outputs:
        pixels = batch["pixels"]
        values = self.decoder(self.encode(pixels)[1])
        return {"error": (values.float() - pixels).square().mean(dim=(1, 2, 3))[None]}

    def loss(self, outputs: Outputs) -> tuple[Tensor, Sequence[Tensor]]:
        error = outputs["error"].mean()
        return error, (error,)


class VariationalAutoencoder(Reconstruction):
    """The negative bound in nats: what the pixels cost given a draw of the code, and what the code costs."""

    terms = ("reconstruction", "divergence", "bound", "bits")

    def __init__(self, config: Config, images: Images) -> None:
        super().__init__(config, images)
        self.log_variance = nn.Linear(self.encoder.features, config.dimension)
        self.samples = Album(config.epochs, SHOWN, images.size, self.channels)
        self.register_buffer("units", torch.zeros(config.dimension))  # their divergence, on the test images

    units: Tensor

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        pixels = self.pixels(split, rows)
        noise = torch.randn(len(rows), self.config.dimension, generator=draws)
        if self.config.likelihood == "bernoulli":
            pixels = (to_device(torch.rand(pixels.shape, generator=draws), pixels.device) < pixels).float()
        return {"pixels": pixels[share], "noise": to_device(noise[share], pixels.device)}

    def forward(self, batch: Batch) -> Outputs:
        pixels = batch["pixels"]
        features, mean = self.encode(pixels)
        mean, log_variance = mean.float(), self.log_variance(features).float()
        values = self.decoder(mean + (log_variance / 2).exp() * batch["noise"]).float()
        return {"divergence": divergence(mean, log_variance)[None], "reconstruction": self.cost(pixels, values)[None]}

    def cost(self, pixels: Tensor, values: Tensor) -> Tensor:
        """Negative log-likelihood in nats of each image, given what the decoder says of it. pixels: in [0, 1]."""
        if self.config.likelihood == "bernoulli":
            return F.binary_cross_entropy_with_logits(values, pixels, reduction="none").sum(dim=(1, 2, 3))
        return -discretized_gaussian(2 * pixels - 1, values, self.decoder.log_deviation).sum(dim=(1, 2, 3))

    def loss(self, outputs: Outputs) -> tuple[Tensor, Sequence[Tensor]]:
        """reconstruction: (1, n), divergence: (1, n, d), in nats."""
        reconstruction, cost = outputs["reconstruction"].mean(), outputs["divergence"].sum(dim=2).mean()
        bound = reconstruction + cost
        dimensions = self.channels * self.images.size**2
        return reconstruction + self.config.kl * cost, (reconstruction, cost, bound, bits(bound, dimensions))

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        super().after_epoch(epoch)
        if self.samples.wants(epoch):
            self.eval()
            self.samples.keep(epoch, self.decoder.sample(SHOWN, torch.Generator().manual_seed(0)))
        if epoch == self.config.epochs:
            self.eval()
            costs = []
            for rows in np.array_split(np.arange(len(self.images.test)), -(-len(self.images.test) // 500)):
                features, mean = self.encode(self.pixels("test", rows))
                costs.append(divergence(mean.float(), self.log_variance(features).float()))
            self.units.copy_(torch.cat(costs).mean(dim=0))

    def figures(self) -> Mapping[str, go.Figure]:
        if not self.config.epochs:
            return {}
        order = self.units.cpu().numpy().argsort()[::-1]
        bars = go.Bar(x=[str(unit) for unit in order], y=self.units.cpu().numpy()[order], marker={"color": color(0)})
        return {
            **super().figures(),
            "training/samples": self.samples.figure("Samples from the same noise", COLUMNS),
            "training/units": figure(
                "What each unit of the code costs", "unit, the dearest first", "nats a test image", [bars]
            ).update_xaxes(type="category"),
        }


def autoencoder(config: Config, images: Images) -> Reconstruction:
    """The method that the flags ask for."""
    return (VariationalAutoencoder if config.kl else Autoencoder)(config, images)
