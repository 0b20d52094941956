"""A small U-Net that predicts from a noisy image and its log-SNR; nothing in it but parameters, so that averages of
weights are averages of all of it."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 32  # of the log-SNR's sines and cosines, from 1 / 400 to 2.5 radians a unit: it is within 15 of 0


class Norm(nn.Module):
    """Layer normalization over the channels at each place (Ba et al. 2016), without a shift: one pass over memory where channels
    are last. Torch has it as one operation with its gradient; RMS alone is several there, and took half of a step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.gain.shape, self.gain.to(x.dtype))
        return last.permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the log-SNR scales and shifts between them (FiLM). It starts as the shortcut."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.before = Norm(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.between = Norm(outputs)
        self.film = zero(nn.Linear(embedding, 2 * outputs))
        self.second = zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y = self.between(self.first(F.silu(self.before(x))))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        return self.shortcut(x) + self.second(F.silu(y * (1 + scale) + shift))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention over the places of the map, beside a shortcut, as which it starts."""

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)  # queries, keys and values
        self.output = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        parts = self.inputs(self.norm(x)).view(n, 3, self.heads, channels // self.heads, height * width)
        queries, keys, values = parts.transpose(3, 4).unbind(1)  # (n, heads, places, channels / heads) each
        y = F.scaled_dot_product_attention(queries, keys, values)
        return x + self.output(y.transpose(2, 3).reshape(x.shape))  # type: ignore[no-any-return]


class Descent(nn.Module):
    """The way down: noisy images (n, channels, s, s) and log-SNR (n,) -> the maps of each step, the finest first, the middle's last,
    (n, `features`, m, m); and the embedding of the log-SNR, which the way up needs too."""

    def __init__(self, channels: int, widths: Sequence[int], blocks: int, patch: int, attention: bool) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        self.features = widths[-1]
        self.depths = [widths[0]]  # channels of each map that the way up takes
        size = 4 * widths[0]
        self.embedding = nn.Sequential(nn.Linear(2 * FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())
        self.input = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        width = widths[0]
        for level, outputs in enumerate(widths):
            if level:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                self.depths.append(width)
            for _ in range(blocks):
                self.down.append(Residual(width, outputs, size))
                width = outputs
                self.depths.append(width)
        self.center = nn.ModuleList([Residual(width, width, size)])
        if attention:
            self.center.extend([Attention(width), Residual(width, width, size)])

    def forward(self, x: Tensor, log_snr: Tensor) -> tuple[list[Tensor], Tensor]:
        if x.shape[-2] % self.patch or x.shape[-1] % self.patch:
            raise ValueError(
                f"images of {x.shape[-2]} x {x.shape[-1]} pixels are not of whole patches of {self.patch};"
                " choose a patch that divides the side, or prepare images of another size"
            )
        embedding = self._embed(log_snr)
        y = self.input(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        maps = [y]
        for layer in self.down:
            y = layer(y, embedding) if isinstance(layer, Residual) else layer(y)
            maps.append(y)
        for layer in self.center:
            y = layer(y, embedding) if isinstance(layer, Residual) else layer(y)
        return [*maps, y], embedding

    def _embed(self, log_snr: Tensor) -> Tensor:
        steps = torch.arange(FREQUENCIES, device=log_snr.device) / (FREQUENCIES - 1)
        angles = log_snr[:, None] * (2.5 * torch.exp(-math.log(1000) * steps))
        return self.embedding(torch.cat([angles.sin(), angles.cos()], dim=1))  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """Noisy images (n, channels, s, s) and log-SNR (n,) -> a prediction like the images; 0 before training.

    widths: channels of each level, from the finest on; each next one has half the side. blocks: residual blocks of a level
    on the way down (one more on the way up). patch: p x p pixels are the channels of one place (space to depth), so that
    28 pixels are 14 places. attention: over the middle's places, and a block after it.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (32, 64),
        blocks: int = 1,
        patch: int = 2,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.lower = Descent(channels, widths, blocks, patch, attention)
        self.up = nn.ModuleList()
        size, width, depths = 4 * widths[0], widths[-1], list(self.lower.depths)
        for level, outputs in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(Residual(width + depths.pop(), outputs, size))
                width = outputs
            if level:
                self.up.append(nn.Conv2d(width, width, 1))
        self.norm = Norm(width)
        self.output = zero(nn.Conv2d(width, channels * patch**2, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        (*maps, y), embedding = self.lower(x, log_snr)
        for layer in self.up:
            if isinstance(layer, Residual):
                y = layer(torch.cat([y, maps.pop()], dim=1), embedding)
            else:  # the map of the next level, whose side may be odd
                y = F.interpolate(layer(y), size=maps[-1].shape[-2:], mode="nearest")
        return F.pixel_shuffle(self.output(F.silu(self.norm(y))), self.lower.patch)


class Middle(nn.Module):
    """Images (n, 3, s, s) in [-1, 1] -> features (n, f): mean and quadrants of the middle map at one noise level.

    alpha_bar: the level, above 0 and below 1. Every image gets the same noise, so that it has one code. Reads the first
    `channels` of the three alone.
    """

    noise: Tensor

    def __init__(self, lower: Descent, size: int, alpha_bar: float) -> None:
        super().__init__()
        self.lower, self.alpha_bar = lower, alpha_bar
        self.features = 5 * lower.features
        draws = torch.Generator().manual_seed(0)
        self.register_buffer("noise", torch.randn(1, lower.channels, size, size, generator=draws, device="cpu"))

    def forward(self, images: Tensor) -> Tensor:
        share = torch.full((len(images),), self.alpha_bar, device=images.device)
        x = self.alpha_bar**0.5 * images[:, : self.lower.channels] + (1 - self.alpha_bar) ** 0.5 * self.noise
        middle = self.lower(x, torch.logit(share))[0][-1]
        return torch.cat([F.adaptive_avg_pool2d(middle, side).flatten(1) for side in (1, 2)], dim=1)


def zero(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias of 0, so that what it is added to stays at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
