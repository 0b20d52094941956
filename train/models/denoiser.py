"""A small U-Net that predicts from a noisy image and its log-SNR; nothing in it but parameters, so that averages of
weights are averages of all of it."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 32  # of the log-SNR's sines and cosines, from 1 / 400 to 2.5 radians a unit: it is within 15 of 0


class Norm(nn.Module):
    """RMS over the channels at each place (Zhang & Sennrich 2019): one pass over memory where channels are last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = F.rms_norm(x.permute(0, 2, 3, 1), self.gain.shape, self.gain.to(x.dtype), eps=1e-6)
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
        self.patch = patch
        self.features = widths[-1]
        depth = channels * patch**2
        size = 4 * widths[0]
        self.embedding = nn.Sequential(nn.Linear(2 * FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())
        self.input = nn.Conv2d(depth, widths[0], 3, padding=1)

        self.down = nn.ModuleList()
        width = widths[0]
        skips = [width]
        for level, outputs in enumerate(widths):
            if level:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(Residual(width, outputs, size))
                width = outputs
                skips.append(width)

        self.center = nn.ModuleList([Residual(width, width, size)])
        if attention:
            self.center.extend([Attention(width), Residual(width, width, size)])

        self.up = nn.ModuleList()
        for level, outputs in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(Residual(width + skips.pop(), outputs, size))
                width = outputs
            if level:
                self.up.append(nn.Conv2d(width, width, 1))
        self.norm = Norm(width)
        self.output = zero(nn.Conv2d(width, depth, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        embedding = self._embed(log_snr)
        y, skips = self._descend(x, embedding)
        for layer in self.up:
            if isinstance(layer, Residual):
                y = layer(torch.cat([y, skips.pop()], dim=1), embedding)
            else:  # the map of the next level, whose side may be odd
                y = F.interpolate(layer(y), size=skips[-1].shape[-2:], mode="nearest")
        return F.pixel_shuffle(self.output(F.silu(self.norm(y))), self.patch)

    def middle(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """The map of the middle, (n, `features`, m, m): what a representation is read from."""
        return self._descend(x, self._embed(log_snr))[0]

    def _embed(self, log_snr: Tensor) -> Tensor:
        steps = torch.arange(FREQUENCIES, device=log_snr.device) / (FREQUENCIES - 1)
        angles = log_snr[:, None] * (2.5 * torch.exp(-math.log(1000) * steps))
        return self.embedding(torch.cat([angles.sin(), angles.cos()], dim=1))  # type: ignore[no-any-return]

    def _descend(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The map of the middle, and those of the way down, the finest first."""
        if x.shape[-2] % self.patch or x.shape[-1] % self.patch:
            raise ValueError(
                f"images of {x.shape[-2]} x {x.shape[-1]} pixels are not of whole patches of {self.patch};"
                " choose a patch that divides the side, or prepare images of another size"
            )
        y = self.input(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        skips = [y]
        for layer in self.down:
            y = layer(y, embedding) if isinstance(layer, Residual) else layer(y)
            skips.append(y)
        for layer in self.center:
            y = layer(y, embedding) if isinstance(layer, Residual) else layer(y)
        return y, skips


def zero(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias of 0, so that what it is added to stays at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
