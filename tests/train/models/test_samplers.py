"""Sampling steps against diffusers' schedulers, and against data whose best estimate is known in closed form."""

from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from train.models.samplers import Estimate, denoise, estimator, levels
from train.models.schedule import SCHEDULES, Prediction, diffuse, log_snr

MEAN, DEVIATION = 0.2, 0.15
COMMON = {"clip_sample": True, "clip_sample_range": 1.0, "timestep_spacing": "trailing"}
NAMES = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}
predictions = pytest.mark.parametrize("prediction", get_args(Prediction))
both = pytest.mark.parametrize("name", SCHEDULES)


class Waves(nn.Module):
    """Some function of image and log-SNR that is not linear."""

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return torch.sin(3 * x + log_snr.view(-1, 1, 1, 1)) + x.roll(1, dims=3)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussian(x: Tensor, alpha_bar: Tensor) -> Tensor:
    """E[x0 | x] where pixels are independent and normal with MEAN and DEVIATION."""
    level = alpha_bar.view(-1, 1, 1, 1).to(x)
    gain = DEVIATION**2 * level.sqrt() / (DEVIATION**2 * level + 1 - level)
    return MEAN + gain * (x - level.sqrt() * MEAN)


def samples(estimate: Estimate, x: Tensor, alpha_bar: Tensor, eta: float, seed: int = 5, batch: int = 250) -> Tensor:
    return list(denoise(estimate, x, alpha_bar, eta, torch.Generator().manual_seed(seed), batch))[-1]


@both
@predictions
def test_each_ddim_step_agrees_with_diffusers(prediction: Prediction, name: str) -> None:
    scheduler = DDIMScheduler(1000, prediction_type=NAMES[prediction], set_alpha_to_one=True, **COMMON)
    alphas = scheduler.alphas_cumprod = SCHEDULES[name].alpha_bar(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(25)
    for eta in (0.0, 0.4):
        x = noise(3, 1, 6, 6)
        again = torch.Generator().manual_seed(7)
        trajectory = denoise(
            estimator(Waves(), prediction),
            x,
            levels(SCHEDULES[name], 25),
            eta,
            torch.Generator().manual_seed(7),
        )
        for t, ours in zip(scheduler.timesteps, trajectory, strict=True):
            output = Waves()(x, log_snr(alphas[t]))
            x = scheduler.step(output, t, x, eta, use_clipped_model_output=True, generator=again).prev_sample
            torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)


@both
@predictions
def test_each_ancestral_step_agrees_with_diffusers(prediction: Prediction, name: str) -> None:
    scheduler = DDPMScheduler(1000, prediction_type=NAMES[prediction], variance_type="fixed_small", **COMMON)
    alphas = scheduler.alphas_cumprod = SCHEDULES[name].alpha_bar(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    scheduler.one = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(25)
    x = noise(3, 1, 6, 6)
    again = torch.Generator().manual_seed(7)
    trajectory = denoise(
        estimator(Waves(), prediction), x, levels(SCHEDULES[name], 25), 1, torch.Generator().manual_seed(7)
    )
    for t, ours in zip(scheduler.timesteps, trajectory, strict=True):
        x = scheduler.step(Waves()(x, log_snr(alphas[t])), t, x, generator=again).prev_sample
        torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)


@both
def test_ddim_of_the_best_estimate_of_gaussian_data_gives_samples_of_its_mean_and_deviation(name: str) -> None:
    x = samples(gaussian, noise(20_000, 1, 1, 1), levels(SCHEDULES[name], 400), 0, batch=20_000)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert x.std().item() == pytest.approx(DEVIATION, rel=0.02)


@both
def test_ancestral_samples_of_gaussian_data_have_its_mean_and_the_deviation_that_the_posteriors_leave(
    name: str,
) -> None:
    alpha_bar = levels(SCHEDULES[name], 400)
    x = samples(gaussian, noise(20_000, 1, 1, 1), alpha_bar, 1, batch=20_000)
    variance = 1.0
    for a, b in zip(alpha_bar.tolist(), alpha_bar.tolist()[1:], strict=False):  # Ho et al. 2020, eq. 7
        gain = DEVIATION**2 * a**0.5 / (DEVIATION**2 * a + 1 - a)
        factor = b**0.5 * (1 - a / b) / (1 - a) * gain + (a / b) ** 0.5 * (1 - b) / (1 - a)
        variance = factor**2 * variance + (1 - b) / (1 - a) * (1 - a / b)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert x.std().item() == pytest.approx(variance**0.5, rel=0.02)
    assert variance**0.5 == pytest.approx(DEVIATION, rel=0.06), "the posteriors' variances are a little small"


@both
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_noise_and_back_keeps_the_distribution_and_ddim_more_of_the_image(eta: float, name: str) -> None:
    schedule = SCHEDULES[name]
    level = torch.tensor([0.9], dtype=torch.float64)
    x0 = MEAN + DEVIATION * noise(20_000, 1, 1, 1)
    x = diffuse(x0, noise(20_000, 1, 1, 1, seed=1), level)
    alpha_bar = levels(schedule, 200, schedule.time(level).item())
    assert alpha_bar[0].item() == pytest.approx(0.9)
    back = samples(gaussian, x, alpha_bar, eta, batch=20_000)
    assert back.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert back.std().item() == pytest.approx(DEVIATION, rel=0.03)
    # The squared correlation of image and x is that of x's variance which the image has; two draws from the posterior
    # are correlated by it, and DDIM, a function of x alone, by its root.
    share = DEVIATION**2 * 0.9 / (DEVIATION**2 * 0.9 + 0.1)
    correlation = torch.corrcoef(torch.stack([x0.flatten(), back.flatten()]))[0, 1].item()
    assert correlation == pytest.approx(share if eta else share**0.5, abs=0.02)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_depends_on_no_batch_size(eta: float) -> None:
    x = noise(7, 3, 5, 5, dtype=torch.float32)
    alpha_bar = levels(SCHEDULES["cosine"], 10)
    whole = samples(gaussian, x, alpha_bar, eta, batch=7)
    for batch in (1, 3, 100):
        assert torch.equal(samples(gaussian, x, alpha_bar, eta, batch=batch), whole)


def test_a_sample_is_the_seeds_and_another_seed_gives_another() -> None:
    x, alpha_bar = noise(2, 1, 4, 4), levels(SCHEDULES["cosine"], 5)
    first, again, other = (samples(gaussian, x, alpha_bar, 1, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_samples_are_within_the_range_of_images_whatever_the_network_says() -> None:
    x = samples(lambda x, alpha_bar: 50 * x, noise(4, 1, 4, 4), levels(SCHEDULES["linear"], 20), 1)
    assert x.abs().max() <= 1


def test_bad_lists_of_levels_and_etas_are_refused() -> None:
    x = noise(1, 1, 2, 2)
    for bad in ([0.5, 0.4], [0.0, 0.5], [0.5, 0.5, 1.0], [0.5, 1.5]):
        with pytest.raises(ValueError, match="they rise, from above 0 to at most 1"):
            next(denoise(gaussian, x, torch.tensor(bad)))
    rising = torch.tensor([0.1, 1.0])
    with pytest.raises(ValueError, match=r"eta is 1\.5"):
        next(denoise(gaussian, x, rising, 1.5))
    with pytest.raises(ValueError, match="hand over a generator"):
        next(denoise(gaussian, x, rising, 1.0))
    for steps, start in ((0, 1.0), (5, 0.0), (5, 1.1)):
        with pytest.raises(ValueError, match="at least 1 step"):
            levels(SCHEDULES["cosine"], steps, start)
