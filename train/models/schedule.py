"""How much of an image is left at each time of a diffusion, and what a network predicts there.

Everything is by alpha_bar(u), the share of the image in the variance at time u = t / T in [0, 1], so that T is a number of
steps and nothing else: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps (Ho et al. 2020, eq. 4). Times and levels are
float64: near the first step float32 keeps one digit of 1 - alpha_bar.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["v", "eps", "x0"]
Weights = Literal["snr", "bound", "none"]

MARGIN = 0.0005  # of a quarter turn at both ends of the cosine: alpha_bar is within 1e-6 of 1 and 0, and never either
FIRST, LAST = 1e-4, 0.02  # the linear betas of Ho et al. 2020, which are meant for 1,000 steps
STEPS = 1000
SNR_LIMIT = 5.0  # of the weights by signal to noise: Hang et al. 2023


@dataclass(frozen=True)
class Schedule:
    """alpha_bar: times in [0, 1] -> the levels there, falling. time: its inverse.

    fall: how fast log-SNR falls at those times, -d log_snr / du, for the weights of the bound.
    """

    alpha_bar: Callable[[Tensor], Tensor]
    time: Callable[[Tensor], Tensor]
    fall: Callable[[Tensor], Tensor]


def cosine(times: Tensor) -> Tensor:
    """Nichol & Dhariwal 2021, eq. 17, with the same margin at both ends instead of a clipped beta at one."""
    return torch.cos(_angle(times)).square()


def cosine_time(alpha_bar: Tensor) -> Tensor:
    angle = torch.atan2((1 - _level(alpha_bar)).sqrt(), alpha_bar.sqrt())
    return ((2 / math.pi * angle - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)


def cosine_fall(times: Tensor) -> Tensor:
    return 2 * math.pi * (1 - 2 * MARGIN) / torch.sin(2 * _angle(times))  # log-SNR is -2 log tan(angle)


def linear(times: Tensor) -> Tensor:
    """The limit of Ho et al.'s betas for many steps: the exponential of minus their integral."""
    return torch.exp(-(STEPS * FIRST * times + STEPS * (LAST - FIRST) / 2 * times.square()))


def linear_time(alpha_bar: Tensor) -> Tensor:
    first, slope = STEPS * FIRST, STEPS * (LAST - FIRST)
    return (((first**2 - 2 * slope * _level(alpha_bar).log()).sqrt() - first) / slope).clamp(0, 1)


def linear_fall(times: Tensor) -> Tensor:
    return STEPS * (FIRST + (LAST - FIRST) * times) / (1 - linear(times))


SCHEDULES = {
    "cosine": Schedule(cosine, cosine_time, cosine_fall),
    "linear": Schedule(linear, linear_time, linear_fall),
}


def _angle(times: Tensor) -> Tensor:
    return math.pi / 2 * (MARGIN + (1 - 2 * MARGIN) * times)


def _level(alpha_bar: Tensor) -> Tensor:
    if not ((alpha_bar > 0) & (alpha_bar <= 1)).all():
        raise ValueError(f"alpha_bar is {alpha_bar.tolist()}; a level is above 0 and at most 1")
    return alpha_bar


def stratified_times(count: int, generator: torch.Generator) -> Tensor:
    """Times in (0, 1], one in each of `count` equal parts, in order: (count,) float64. Each by itself is uniform.

    A batch that covers all times has a loss of less variance (Kingma et al. 2021, appendix I.1).
    """
    shift = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    return (torch.arange(1, count + 1, dtype=torch.float64, device=generator.device) - shift) / count


def on_grid(times: Tensor, steps: int) -> Tensor:
    """Times in (0, 1] -> the next of 1 / steps, 2 / steps, ..., 1: uniform times give each of the steps alike."""
    return (times * steps).ceil() / steps


def log_snr(alpha_bar: Tensor) -> Tensor:
    return torch.logit(alpha_bar)


def diffuse(x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t of images and noise (n, c, s, s) at levels (n,), or (1,) for all."""
    signal, noise = amplitudes(alpha_bar, x0)
    return signal * x0 + noise * eps


def target(prediction: Prediction, x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """What a network that predicts v (Salimans & Ho 2022), eps or x0 should return. Shapes as `diffuse`."""
    signal, noise = amplitudes(alpha_bar, x0)
    return {"v": signal * eps - noise * x0, "eps": eps, "x0": x0}[prediction]


def estimates(prediction: Prediction, output: Tensor, x: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """x0 and eps as a network's output on x says. Shapes as `diffuse`; the output and x are float32, never half."""
    signal, noise = amplitudes(alpha_bar, x)
    if prediction == "v":
        return signal * x - noise * output, noise * x + signal * output
    if prediction == "eps":
        return (x - noise * output) / signal, output
    return output, (x - signal * output) / noise


def loss_weights(weights: Weights, prediction: Prediction, alpha_bar: Tensor, fall: Tensor) -> Tensor:
    """The factors (n,) of the squared errors of what is predicted, at levels and falls of log-SNR (n,) of uniform times.

    snr: of the error of x0, the signal to noise up to 5 (Hang et al. 2023). bound: the loss is the bound's diffusion term
    in nats (Kingma et al. 2021, eq. 17). none: 1 for each, the "simple" loss of Ho et al. 2020 where eps is predicted.
    """
    if weights == "none":
        return torch.ones_like(alpha_bar)
    snr = alpha_bar / (1 - alpha_bar)
    of_x0 = snr.clamp_max(SNR_LIMIT) if weights == "snr" else snr * fall / 2
    # One error of x0 is seen in eps as snr times, in v as snr + 1 times its square.
    return of_x0 / {"v": snr + 1, "eps": snr, "x0": torch.ones_like(snr)}[prediction]


def amplitudes(alpha_bar: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """What image and noise are multiplied by: (n, 1, 1, 1) each, of the type and device of `like`, from levels (n,)."""
    column = alpha_bar.view(-1, *[1] * (like.ndim - 1))
    return column.sqrt().to(like), (1 - column).sqrt().to(like)
