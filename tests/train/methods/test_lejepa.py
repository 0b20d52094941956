"""LeJEPA against numpy and scipy, in float64, and as the method that VICReg is a special case of."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from torch import Tensor

from tests.parts.derivatives import gradient
from tests.train.engine.test_loop import dots
from tests.train.methods.test_prediction import TINY_FLAGS
from train.methods import lejepa, vicreg


def samples(views: int, n: int = 7, m: int = 3, seed: int = 0) -> Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(views, n, m)) * random.uniform(0.3, 2, m) + random.normal(size=m))


def numpy_epps_pulley(x: NDArray[Any]) -> Any:
    t = np.linspace(0, 3, 17)
    window = np.exp(-(t**2) / 2)
    angles = x[..., None] * t
    real, imaginary = np.cos(angles).mean(-3) - window, np.sin(angles).mean(-3)
    integrand = (real * real + imaginary * imaginary) * window
    return 2 * ((integrand[..., 1:] + integrand[..., :-1]) / 2 * (t[1] - t[0])).sum(-1).mean()


def numpy_moments(x: NDArray[Any]) -> Any:
    mean = x.mean(-2)
    centered = x - mean[..., None, :]
    return (mean * mean + (np.sqrt((centered * centered).mean(-2)) - 1) ** 2).mean()


def numpy_invariance(z: NDArray[Any]) -> Any:
    centered = z - z.mean(0)
    return (centered * centered).mean()


@pytest.mark.parametrize("views", [2, 3, 6])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: lejepa.epps_pulley(x).mean(), numpy_epps_pulley),
        (lambda x: lejepa.moments(x).mean(), numpy_moments),
        (lejepa.invariance, numpy_invariance),
    ],
    ids=["epps-pulley", "moments", "invariance"],
)
def test_each_term_and_its_gradient_agree_with_numpy(ours: Any, theirs: Any, views: int) -> None:
    x = samples(views).requires_grad_()
    value = ours(x)
    value.backward()
    assert value.item() == pytest.approx(theirs(x.detach().numpy()).item(), abs=1e-9)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), gradient(theirs, x.detach().numpy()), atol=1e-9)


def test_the_statistic_is_nearly_the_integral_over_all_frequencies() -> None:
    x = samples(1, n=50, m=1)[0]

    def integrand(t: float) -> float:
        gap = np.exp(1j * t * x[:, 0].numpy()).mean() - np.exp(-(t**2) / 2)
        return float(abs(gap) ** 2 * np.exp(-(t**2) / 2))

    expected = quad(integrand, -np.inf, np.inf, limit=200)[0]
    assert lejepa.epps_pulley(x).item() == pytest.approx(expected, rel=0.01)


def test_normal_samples_pass_both_tests_and_a_coin_of_the_same_moments_the_second_alone() -> None:
    random = np.random.default_rng(0)
    normal = torch.from_numpy(random.normal(size=(20_000, 1)))
    coin = torch.from_numpy(random.choice([-1.0, 1.0], (20_000, 1)))
    assert lejepa.epps_pulley(normal).item() < 1e-3 and lejepa.moments(normal).item() < 1e-3
    assert lejepa.moments(coin).item() < 1e-3 < 0.05 < lejepa.epps_pulley(coin).item()


def test_invariance_is_vicregs_but_for_a_factor() -> None:
    for views in (2, 3, 6):
        z = samples(views)
        factor = 2 * views / (views - 1)
        assert vicreg.invariance(z).item() == pytest.approx(factor * lejepa.invariance(z).item(), abs=1e-12)


def test_moments_on_all_directions_are_zero_where_vicreg_asks_for_nothing() -> None:
    """White projections: variance and covariance are 0, and so are the moments on any direction."""
    random = np.random.default_rng(0)
    z, _ = np.linalg.qr(random.normal(size=(400, 8)) - 0.0)
    z -= z.mean(0)
    z, _ = np.linalg.qr(z)
    white = torch.from_numpy(z * np.sqrt(400))
    directions = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(8, 500))), dim=0)
    assert lejepa.moments(white @ directions).max().item() < 1e-9
    assert vicreg.variance(white).item() < 2e-3 and vicreg.covariance(white).item() < 1e-9


def test_a_collapsed_view_has_a_gradient_that_is_finite() -> None:
    for test in lejepa.TESTS.values():
        x = torch.full((1, 6, 2), 0.3, dtype=torch.float64, requires_grad=True)
        test(x).mean().backward()
        assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_directions_are_new_at_each_step_of_unit_length_and_the_same_for_every_share() -> None:
    config = lejepa.Config(**{**TINY_FLAGS, "view_count": 2, "directions": 5})
    method = lejepa.LeJEPA(config, dots())

    def directions(step: int, share: slice) -> Tensor:
        return method.batch("train", np.arange(8), torch.Generator().manual_seed(step), share)["directions"]

    one = directions(0, slice(0, 4))
    assert one.shape == (config.projection, 5)
    torch.testing.assert_close(one.norm(dim=0), torch.ones(5))
    assert torch.equal(one, directions(0, slice(4, 8))) and not torch.equal(one, directions(1, slice(0, 4)))
