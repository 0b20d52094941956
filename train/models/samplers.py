"""From noise to images: DDIM and ancestral sampling as one step, over the neighbors of one list of levels."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from train.models.schedule import Prediction, Schedule, amplitudes, estimates, log_snr

Estimate = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (n, c, s, s) and their levels (n,) -> the images that they are of, as far as one can tell."""


def estimator(network: nn.Module, prediction: Prediction) -> Estimate:
    """What a network, (noisy images, log-SNR (n,)) -> its prediction, says of x0."""

    def estimate(x: Tensor, alpha_bar: Tensor) -> Tensor:
        return estimates(prediction, network(x, log_snr(alpha_bar).to(x)).to(x), x, alpha_bar)[0]

    return estimate


def levels(schedule: Schedule, steps: int, start: float = 1.0) -> Tensor:
    """alpha_bar at `steps` + 1 equally spaced times from `start` down to 0, where it is 1: the image itself.

    start: 1 for samples; `schedule.time(alpha_bar)` for images that were diffused to alpha_bar.
    """
    if steps < 1 or not 0 < start <= 1:
        raise ValueError(
            f"steps is {steps} and start {start}; there is at least 1 step, from a time above 0 and at most 1"
        )
    alpha_bar = schedule.alpha_bar(torch.linspace(start, 0, steps + 1, dtype=torch.float64))
    alpha_bar[-1] = 1
    return alpha_bar


def step(x: Tensor, x0: Tensor, level: Tensor, next_level: Tensor, eta: float, noise: Tensor | None) -> Tensor:
    """One step from `level` to the larger `next_level`, after the estimate x0 of images x (Song et al. 2021, eq. 12).

    eta: 0 is DDIM; 1 is ancestral sampling, Ho et al. 2020, with the variance of the posterior between these two levels.
    noise: as x; None with an eta of 0. x0 is clipped to [-1, 1], and the noise that x then holds is its remainder.
    """
    signal, deviation = amplitudes(level, x)
    x0 = x0.clamp(-1, 1)
    eps = (x - signal * x0) / deviation
    variance = eta**2 * (1 - next_level) / (1 - level) * (1 - level / next_level)
    x = next_level.sqrt().to(x) * x0 + (1 - next_level - variance).clamp_min(0).sqrt().to(x) * eps
    return x if noise is None else x + variance.sqrt().to(x) * noise


@torch.no_grad()
def denoise(
    estimate: Estimate,
    x: Tensor,
    levels: Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    batch: int = 250,
) -> Iterator[Tensor]:
    """The images after each step, from x (n, c, s, s) at `levels[0]`; the last is the sample, in [-1, 1] where it ends at 1.

    levels: rising, above 0. generator: of the noise, which an eta above 0 adds. Each step draws the noise of all images at
    once, so that `batch`, the number of images that are estimated at a time, changes no sample.
    """
    if not (levels[0] > 0 and levels[-1] <= 1 and (levels.diff() > 0).all()):
        raise ValueError(f"the levels are {levels.tolist()}; they rise, from above 0 to at most 1")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; it is 0 for DDIM, 1 for ancestral sampling, or between")
    if eta and generator is None:
        raise ValueError(f"eta is {eta}, which adds noise at each step; hand over a generator")
    for level, next_level in pairwise(levels):
        x0 = in_batches(estimate, x, level.expand(len(x)), batch)
        x = step(x, x0, level, next_level, eta, normal(x, generator) if generator and eta else None)
        yield x


def in_batches(estimate: Estimate, x: Tensor, alpha_bar: Tensor, batch: int) -> Tensor:
    """The estimates of `batch` images at a time. alpha_bar: (n,), on any device."""
    pairs = zip(x.split(batch), alpha_bar.split(batch), strict=True)
    return torch.cat([estimate(images, at) for images, at in pairs])


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Noise as `like`, drawn where the generator is: one of the CPU gives the same on every device."""
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
