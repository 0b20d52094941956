"""Schedules against their published products, predictions against each other and diffusers, and weights of the loss."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from train.models.schedule import (
    SCHEDULES,
    Prediction,
    Weights,
    diffuse,
    estimates,
    log_snr,
    loss_weights,
    on_grid,
    stratified_times,
    target,
)

TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
both = pytest.mark.parametrize("name", SCHEDULES)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@both
def test_alpha_bar_falls_from_all_of_the_image_to_none(name: str) -> None:
    alpha_bar = SCHEDULES[name].alpha_bar(TIMES)
    assert alpha_bar[0] >= 0.9999 and (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] <= 1e-4


def test_linear_is_the_limit_of_the_products_of_betas() -> None:
    many = 100_000
    betas = np.linspace(1e-4, 0.02, many) * 1000 / many
    products = torch.from_numpy(np.cumprod(1 - betas))
    times = torch.arange(1, many + 1, dtype=torch.float64) / many
    torch.testing.assert_close(SCHEDULES["linear"].alpha_bar(times), products, rtol=2e-3, atol=0)


def test_cosine_is_nichol_and_dhariwals_but_for_the_margin() -> None:
    offset = 0.008
    curve = np.cos((TIMES.numpy() + offset) / (1 + offset) * np.pi / 2) ** 2
    np.testing.assert_allclose(SCHEDULES["cosine"].alpha_bar(TIMES), curve / curve[0], atol=0.01)


@both
def test_time_is_the_inverse_of_alpha_bar(name: str) -> None:
    schedule = SCHEDULES[name]
    torch.testing.assert_close(schedule.time(schedule.alpha_bar(TIMES)), TIMES)


@both
def test_levels_beyond_the_ends_are_at_the_ends_and_others_are_refused(name: str) -> None:
    time = SCHEDULES[name].time
    assert time(torch.tensor([1.0, 1e-30], dtype=torch.float64)).tolist() == [0, 1]
    for level in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="a level is above 0 and at most 1"):
            time(torch.tensor([0.5, level]))


@both
def test_fall_is_the_slope_of_log_snr(name: str) -> None:
    times = TIMES[1:].clone().requires_grad_()
    schedule = SCHEDULES[name]
    (slope,) = torch.autograd.grad(log_snr(schedule.alpha_bar(times)).sum(), times)
    torch.testing.assert_close(schedule.fall(times.detach()), -slope)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_is_to_be_predicted_gives_image_and_noise_back(prediction: Prediction) -> None:
    x0, eps, alpha_bar = noise(9, 3, 4, 4), noise(9, 3, 4, 4, seed=1), SCHEDULES["cosine"].alpha_bar(TIMES[5:95:10])
    output = target(prediction, x0, eps, alpha_bar)
    for estimate, truth in zip(
        estimates(prediction, output, diffuse(x0, eps, alpha_bar), alpha_bar), (x0, eps), strict=True
    ):
        torch.testing.assert_close(estimate, truth)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_estimates_of_any_output_are_image_and_noise_of_which_x_is_the_sum(prediction: Prediction) -> None:
    x, output, alpha_bar = noise(9, 1, 4, 4), noise(9, 1, 4, 4, seed=1), SCHEDULES["cosine"].alpha_bar(TIMES[5:95:10])
    torch.testing.assert_close(diffuse(*estimates(prediction, output, x, alpha_bar), alpha_bar), x)


def test_noisy_images_and_velocities_agree_with_diffusers() -> None:
    scheduler = DDPMScheduler(num_train_timesteps=100)
    scheduler.alphas_cumprod = alpha_bar = SCHEDULES["linear"].alpha_bar(TIMES[1:])
    x0, eps, steps = noise(4, 3, 5, 5), noise(4, 3, 5, 5, seed=1), torch.tensor([0, 9, 50, 99])
    torch.testing.assert_close(diffuse(x0, eps, alpha_bar[steps]), scheduler.add_noise(x0, eps, steps))
    torch.testing.assert_close(target("v", x0, eps, alpha_bar[steps]), scheduler.get_velocity(x0, eps, steps))


@both
@pytest.mark.parametrize("weights", ["snr", "bound"])
def test_a_weighted_loss_is_the_same_whatever_is_predicted(weights: Weights, name: str) -> None:
    times = TIMES[5:95:10]
    alpha_bar, fall = SCHEDULES[name].alpha_bar(times), SCHEDULES[name].fall(times)
    x0, eps, guess = noise(9, 1, 4, 4), noise(9, 1, 4, 4, seed=1), noise(9, 1, 4, 4, seed=2)
    x = diffuse(x0, eps, alpha_bar)
    guess_eps = estimates("x0", guess, x, alpha_bar)[1]
    losses = [
        loss_weights(weights, prediction, alpha_bar, fall)
        * (target(prediction, guess, guess_eps, alpha_bar) - target(prediction, x0, eps, alpha_bar))
        .square()
        .sum((1, 2, 3))
        for prediction in PREDICTIONS
    ]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_weights_by_snr_are_the_snr_up_to_five_and_none_are_one() -> None:
    alpha_bar = torch.tensor([0.1, 0.5, 0.75, 0.9, 0.999])
    snr = [0.1 / 0.9, 1, 3, 5, 5]
    torch.testing.assert_close(loss_weights("snr", "x0", alpha_bar, alpha_bar), torch.tensor(snr))
    assert loss_weights("none", "v", alpha_bar, alpha_bar).tolist() == [1] * 5


@both
def test_the_loss_with_weights_of_the_bound_is_the_bound_of_gaussian_data(name: str) -> None:
    variance = 0.3
    schedule = SCHEDULES[name]
    times = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * 0.99 + 0.01
    alpha_bar = schedule.alpha_bar(times)
    error = variance / (1 + variance * alpha_bar / (1 - alpha_bar))  # of the best estimate: the posterior variance
    loss = (loss_weights("bound", "x0", alpha_bar, schedule.fall(times)) * error).mean() * 0.99
    first, last = (math.log1p(variance * math.exp(log_snr(schedule.alpha_bar(times[[i]])).item())) for i in (0, -1))
    assert loss.item() == pytest.approx((first - last) / 2, rel=1e-4)


def test_stratified_times_have_one_in_each_part_and_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([stratified_times(8, generator) for _ in range(2000)])
    assert ((draws * 8).ceil() == torch.arange(1, 9)).all()
    mean = draws.mean(0) * 8 - torch.arange(8)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.5), atol=0.03, rtol=0)


def test_times_on_the_grid_are_each_of_the_steps_alike() -> None:
    times = on_grid(stratified_times(1000, torch.Generator().manual_seed(0)), 20)
    assert torch.bincount((times * 20).round().long()).tolist() == [0, *[50] * 20]
