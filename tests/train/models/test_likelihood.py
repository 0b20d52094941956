"""The discretized Gaussian against scipy, and the bound against Gaussian data whose entropy is known."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from torch import Tensor

from train.models.likelihood import HALF, Bound, bits, bound, discretized_gaussian, last_deviation
from train.models.schedule import SCHEDULES

VALUES = torch.arange(256) / 127.5 - 1
MEAN, DEVIATION = 0.1, 0.15
both = pytest.mark.parametrize("name", SCHEDULES)


def gaussian(x: Tensor, alpha_bar: Tensor) -> Tensor:
    """E[x0 | x] where pixels are independent and normal with MEAN and DEVIATION."""
    level = alpha_bar.view(-1, 1, 1, 1).to(x)
    gain = DEVIATION**2 * level.sqrt() / (DEVIATION**2 * level + 1 - level)
    return MEAN + gain * (x - level.sqrt() * MEAN)


def images(n: int = 500, side: int = 8) -> Tensor:
    """8-bit images of independent normal pixels, in [-1, 1]."""
    pixels = np.random.default_rng(0).normal(MEAN, DEVIATION, (n, 1, side, side))
    return torch.from_numpy((np.clip(np.rint((pixels + 1) * 127.5), 0, 255) / 127.5 - 1).astype(np.float32))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.3, 0.001, 0.9, 1.5])
@pytest.mark.parametrize("log_deviation", [-7.0, -4.0, -2.0, 0.0, 2.0])
def test_probabilities_of_all_values_sum_to_one(mean: float, log_deviation: float) -> None:
    logs = discretized_gaussian(VALUES, torch.tensor(mean), torch.tensor(log_deviation))
    assert logs.double().exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("mean", [-3.0, -0.3, 0.001, 1.5])
@pytest.mark.parametrize("log_deviation", [-6.0, -2.0, 0.0])
def test_probabilities_agree_with_scipys_normal_as_far_out_as_they_go(mean: float, log_deviation: float) -> None:
    values, deviation = VALUES.double().numpy(), math.exp(log_deviation)
    left = values < mean  # the side from which the bin's ends have small probabilities
    near, far = np.where(left, values + HALF, values - HALF), np.where(left, values - HALF, values + HALF)
    far[[0, -1]] = -np.inf, np.inf
    near[[0, -1]] = values[[0, -1]] + [HALF, -HALF]
    left[[0, -1]] = True, False
    ends = [np.where(left, norm.logcdf(end, mean, deviation), norm.logsf(end, mean, deviation)) for end in (near, far)]
    expected = logsumexp(ends, axis=0, b=[[1], [-1]])
    logs = discretized_gaussian(VALUES, torch.tensor(mean), torch.tensor(log_deviation))
    np.testing.assert_allclose(logs.numpy(), expected, rtol=1e-4, atol=1e-4)
    plain = norm.cdf(values + HALF, mean, deviation) - norm.cdf(values - HALF, mean, deviation)
    np.testing.assert_allclose(logs[1:-1].double().exp().numpy(), plain[1:-1], rtol=1e-3, atol=1e-9)


def test_gradients_agree_with_differences_and_are_finite_far_out() -> None:
    mean = torch.linspace(-1.3, 1.3, 256, dtype=torch.float64, requires_grad=True)
    log_deviation = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: discretized_gaussian(VALUES.double(), *a), (mean, log_deviation))
    for far in (-5.0, 0.0, 5.0):
        mean, log_deviation = torch.full((256,), far, requires_grad=True), torch.tensor(-8.0, requires_grad=True)
        logs = discretized_gaussian(VALUES, mean, log_deviation)
        for each in (logs, *torch.autograd.grad(logs.sum(), (mean, log_deviation))):
            assert each.isfinite().all()


def test_bits_of_a_uniform_code_are_eight() -> None:
    assert bits(torch.tensor(784 * math.log(256)), 784).item() == pytest.approx(8)


def whole(name: str, steps: int, x0: Tensor, first: float) -> Bound:
    schedule = SCHEDULES[name]
    deviation = last_deviation(gaussian, x0, schedule, first, generator())
    return bound(gaussian, x0, schedule, steps, first, deviation, generator(), draws=4)


@both
@pytest.mark.parametrize("steps", [20, 300])
def test_terms_of_the_bound_agree_with_closed_form_for_gaussian_data(name: str, steps: int) -> None:
    x0 = images()
    terms = whole(name, steps, x0, 1 / steps)
    alpha_bar = SCHEDULES[name].alpha_bar(torch.arange(1, steps + 1, dtype=torch.float64) / steps).numpy()
    snr = alpha_bar / (1 - alpha_bar)
    posterior = DEVIATION**2 / (1 + DEVIATION**2 * snr)  # the variance of x0 where x is known
    diffusion = 64 * ((snr[:-1] - snr[1:]) / 2 * posterior[1:]).sum()
    assert terms.diffusion.mean().item() == pytest.approx(diffusion, rel=0.02)
    end = alpha_bar[-1]
    prior = -32 * (end * (1 - MEAN**2 - DEVIATION**2) + math.log1p(-end))
    assert terms.prior.mean().item() == pytest.approx(prior, rel=0.05, abs=1e-6)
    torch.testing.assert_close(terms.total, terms.diffusion + terms.reconstruction + terms.prior)


@both
def test_the_bound_of_the_best_estimate_is_the_entropy_of_the_data(name: str) -> None:
    probabilities = np.diff(norm.cdf((np.arange(257) - 128) / 127.5, MEAN, DEVIATION))
    entropy = -(probabilities * np.log2(probabilities)).sum()
    x0 = images()
    # Noise as wide as two bins: below that the values are seen to be discrete, which this estimate does not know.
    first = SCHEDULES[name].time(torch.tensor(1 - (4 * HALF) ** 2, dtype=torch.float64)).item()
    rate = bits(whole(name, 100_000, x0, first).total, 64).mean().item()
    assert rate == pytest.approx(entropy, rel=0.02)
    assert bits(whole(name, 1000, x0, first).total, 64).mean().item() > rate + 0.1, "fewer steps give a looser bound"


def test_a_worse_estimate_has_a_larger_bound() -> None:
    x0, schedule, deviation = images(100), SCHEDULES["cosine"], torch.tensor(-5.0)
    best, worse = (
        bound(estimate, x0, schedule, 100, 0.01, deviation, generator()).diffusion.mean()
        for estimate in (gaussian, lambda x, alpha_bar: gaussian(x, alpha_bar) + 0.05)
    )
    assert worse > best


def test_the_bound_depends_on_no_batch_size() -> None:
    x0, deviation = images(7), torch.tensor(-4.0)
    totals = [
        bound(gaussian, x0, SCHEDULES["cosine"], 50, 0.02, deviation, generator(), 2, batch).total
        for batch in (7, 1, 3)
    ]
    assert torch.equal(totals[0], totals[1]) and torch.equal(totals[0], totals[2])


def test_the_last_deviation_is_the_one_of_the_errors() -> None:
    x0 = images()
    errors = 0.06 * torch.randn(x0.shape, generator=generator())
    deviation = last_deviation(lambda x, alpha_bar: x0 + errors, x0, SCHEDULES["cosine"], 0.01, generator(), len(x0))
    assert deviation.exp().item() == pytest.approx(0.06, rel=0.06)


def test_a_bound_of_one_step_or_without_a_first_time_is_refused() -> None:
    for steps, first in ((1, 0.5), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match=f"steps is {steps} and first {first}"):
            bound(gaussian, images(2), SCHEDULES["cosine"], steps, first, torch.tensor(-4.0), generator())
