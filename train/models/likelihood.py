"""How well a model of images codes 8-bit values: log-probabilities, and a diffusion's bound. Values are in [-1, 1]."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.samplers import Estimate, in_batches, normal
from train.models.schedule import Schedule, diffuse, on_grid, stratified_times

HALF = 1 / 255  # half a bin: the 256 values are the centers of bins of width 2 / 255, from -1 to 1


def bits(nats: Tensor, dims: int) -> Tensor:
    """Nats of an image -> bits per dimension. dims: channels x height x width; three equal channels are one."""
    return nats / (dims * math.log(2))


def discretized_gaussian(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """The log-probability in nats of each 8-bit value x under a Gaussian; the first and last bins take the tails.

    x: values i / 127.5 - 1, float32. mean, log_deviation: float32, of shapes that broadcast to its own. Exact far from the mean:
    the bin is looked at from the side where both of its ends have a small probability. Ho et al. 2020, eq. 13.
    """
    first, last = x < HALF - 1, x > 1 - HALF
    distance = x - mean
    distance = torch.where(last | ((distance > 0) & ~first), -distance, distance)
    scale = torch.exp(-log_deviation)
    upper: Tensor = torch.special.log_ndtr((distance + HALF) * scale)
    lower = torch.special.log_ndtr((distance - HALF) * scale)
    ratio = torch.where(first | last, -torch.inf, lower - upper)  # log; a tail has no lower end
    return upper + torch.log(-torch.expm1(ratio))


@dataclass(frozen=True)
class Bound:
    """Nats of each image, (n,) float64 each, on the CPU; their sum is at least -log p (Ho et al. 2020, eq. 5).

    diffusion: all steps but the first. reconstruction: the image from x at the first step. prior: what is left at the end.
    """

    diffusion: Tensor
    reconstruction: Tensor
    prior: Tensor

    @property
    def total(self) -> Tensor:
        return self.diffusion + self.reconstruction + self.prior


@torch.no_grad()
def bound(
    estimate: Estimate,
    x0: Tensor,
    schedule: Schedule,
    steps: int,
    first: float,
    log_deviation: Tensor,
    generator: torch.Generator,
    draws: int = 1,
    batch: int = 250,
) -> Bound:
    """The variational bound of 8-bit images x0 (n, c, s, s) in [-1, 1], of a chain with the posterior's variances.

    first: the time of the first of `steps` equally spaced ones, of which the last is 1; 1 / steps is the chain of training.
    The bound is tighter for a later one where the noise at 1 / steps is narrower than a bin of values, and for more steps
    after it, which cost no more.
    log_deviation: of the discretized Gaussian of the reconstruction, `last_deviation` of training images. draws: times at
    which each image is looked at; they are stratified over the draws, and each draw over the images. The mean of the
    diffusion term has no bias; estimates are clipped to [-1, 1], as in sampling.
    """
    if steps < 2 or not 0 < first < 1:
        raise ValueError(f"steps is {steps} and first {first}; a bound has at least 2 steps, the first between 0 and 1")
    stride = (1 - first) / (steps - 1)
    diffusion = torch.zeros(len(x0), dtype=torch.float64)
    for draw in range(draws):
        places = stratified_times(len(x0), generator)[
            torch.randperm(len(x0), generator=generator, device=generator.device)
        ]
        times = first + (1 - first) * on_grid((draw + places) / draws, steps - 1)  # all but the first
        here, before = schedule.alpha_bar(times), schedule.alpha_bar(times - stride)
        errors = _estimates(estimate, x0, here, generator, batch) - x0
        drop = before / (1 - before) - here / (1 - here)
        diffusion += (steps - 1) / draws * (drop / 2).cpu() * _sums(errors.square())
    mean = _first_estimates(estimate, x0, schedule, first, generator, batch)
    reconstruction = -_sums(discretized_gaussian(x0, mean, log_deviation.to(x0)))
    end = schedule.alpha_bar(torch.ones((), dtype=torch.float64))
    prior = (
        _sums(end * (x0.double().cpu().square() - 1) - torch.log1p(-end)) / 2
    )  # KL of N(√end x, 1 - end) and N(0, 1)
    return Bound(diffusion, reconstruction, prior)


@torch.no_grad()
def last_deviation(
    estimate: Estimate, x0: Tensor, schedule: Schedule, first: float, generator: torch.Generator, batch: int = 250
) -> Tensor:
    """The log-deviation, from -7 to 0, with which the estimates at the time `first` give images x0 the most probability."""
    mean = _first_estimates(estimate, x0, schedule, first, generator, batch)
    choices = torch.linspace(-7, 0, 71).to(x0)
    return choices[torch.stack([discretized_gaussian(x0, mean, each).mean() for each in choices]).argmax()]


def _first_estimates(
    estimate: Estimate, x0: Tensor, schedule: Schedule, first: float, generator: torch.Generator, batch: int
) -> Tensor:
    alpha_bar = schedule.alpha_bar(torch.full((len(x0),), first, dtype=torch.float64))
    return _estimates(estimate, x0, alpha_bar, generator, batch)


def _estimates(estimate: Estimate, x0: Tensor, alpha_bar: Tensor, generator: torch.Generator, batch: int) -> Tensor:
    x = diffuse(x0, normal(x0, generator), alpha_bar)
    return in_batches(estimate, x, alpha_bar, batch).clamp(-1, 1)


def _sums(values: Tensor) -> Tensor:
    """Over each image, (n,) float64."""
    return values.flatten(1).cpu().double().sum(1)
