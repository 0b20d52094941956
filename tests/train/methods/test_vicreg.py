"""The objective against independent computations in float64."""

import numpy as np
import pytest
import torch
from lightly.loss import VICRegLoss
from numpy.typing import NDArray
from torch import Tensor

from train.engine.collapse import dimension_std, effective_rank
from train.methods import vicreg

WEIGHTS = (25.0, 25.0, 1.0)


def projections(views: int = 2, n: int = 37, d: int = 12, seed: int = 0) -> Tensor:
    """Correlated dimensions of unequal spread, some above the floor of 1 and some below."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(views, n, d)) @ random.normal(size=(d, d)) * np.linspace(0.05, 0.6, d)
    return torch.from_numpy(mixed + random.normal(size=d))


def numpy_variance(z: NDArray[np.float64]) -> float:
    return float(np.maximum(0, 1 - np.sqrt(z.var(axis=0, ddof=1) + 1e-4)).mean())


def numpy_covariance(z: NDArray[np.float64]) -> float:
    matrix = np.cov(z, rowvar=False)
    return float(((matrix**2).sum() - (np.diag(matrix) ** 2).sum()) / z.shape[1])


@pytest.mark.parametrize("n", [37, 12, 5, 2])
@pytest.mark.parametrize("seed", range(5))
def test_each_term_agrees_with_numpy(seed: int, n: int) -> None:
    z = projections(n=n, seed=seed)
    a, b = z.numpy()
    terms = vicreg.terms(z)
    assert terms.invariance.item() == pytest.approx(np.mean((a - b) ** 2), abs=1e-9)
    assert terms.variance.item() == pytest.approx(numpy_variance(a) + numpy_variance(b), abs=1e-9)
    assert terms.covariance.item() == pytest.approx(numpy_covariance(a) + numpy_covariance(b), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_total_agrees_with_lightly_whose_variance_weight_is_halved(seed: int) -> None:
    z = projections(n=64, d=32, seed=seed)
    expected = VICRegLoss(lambda_param=25, mu_param=50, nu_param=1)(z[0], z[1])
    assert vicreg.total(vicreg.terms(z), WEIGHTS).item() == pytest.approx(expected.item(), abs=1e-9)


def test_more_views_are_the_mean_over_pairs_of_views() -> None:
    z = projections(views=5)
    pairs = [vicreg.terms(z[[i, j]]) for i in range(5) for j in range(i + 1, 5)]
    for name, value in vicreg.terms(z)._asdict().items():
        expected = torch.stack([getattr(pair, name) for pair in pairs]).mean()
        assert value.item() == pytest.approx(expected.item(), abs=1e-9), name


@pytest.mark.parametrize("n", [6, 3])
def test_gradient_agrees_with_finite_differences(n: int) -> None:
    z = projections(views=3, n=n, d=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: vicreg.total(vicreg.terms(z), WEIGHTS), z)


def test_swapping_the_views_changes_nothing() -> None:
    z = projections()
    assert vicreg.total(vicreg.terms(z), WEIGHTS).item() == pytest.approx(
        vicreg.total(vicreg.terms(z.flip(0)), WEIGHTS).item(), abs=1e-12
    )


def test_moving_all_projections_together_changes_nothing() -> None:
    z = projections()
    for before, after in zip(vicreg.terms(z), vicreg.terms(z + 7), strict=True):
        assert after.item() == pytest.approx(before.item(), abs=1e-9)


def test_variance_is_zero_once_every_dimension_is_spread() -> None:
    assert vicreg.variance(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)) * 5).item() == 0


def test_variance_of_a_collapsed_view_is_almost_one_and_has_a_gradient_that_is_finite() -> None:
    z = torch.ones(16, 4, dtype=torch.float64, requires_grad=True)
    value = vicreg.variance(z)
    value.backward()
    assert value.item() == pytest.approx(1 - 1e-2)
    assert z.grad is not None and bool(torch.isfinite(z.grad).all())


def test_a_term_of_weight_zero_gives_no_gradient() -> None:
    z = projections().requires_grad_()
    vicreg.total(vicreg.terms(z), (25.0, 0.0, 0.0)).backward()
    only_invariance = z.grad
    y = projections().requires_grad_()
    (25 * vicreg.invariance(y)).backward()
    assert only_invariance is not None and y.grad is not None and torch.equal(only_invariance, y.grad)


def test_effective_rank_counts_equal_directions() -> None:
    random = np.random.default_rng(0)
    basis, _ = np.linalg.qr(random.normal(size=(20, 20)))
    vectors, _ = np.linalg.qr(random.normal(size=(300, 5)) - 0.0)
    vectors -= vectors.mean(axis=0)
    vectors, _ = np.linalg.qr(vectors)  # five orthonormal directions with mean zero
    assert effective_rank(torch.from_numpy(vectors @ basis[:5] + 3)).item() == pytest.approx(5, abs=1e-6)


def test_effective_rank_agrees_with_the_entropy_of_numpys_singular_values() -> None:
    z = projections(n=60, d=9)[0]
    singular = np.linalg.svd(z.numpy() - z.numpy().mean(axis=0), compute_uv=False)
    share = singular / singular.sum()
    assert effective_rank(z).item() == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-9)
    assert effective_rank(z[:5]).item() <= 5


def test_a_collapsed_representation_has_no_spread_and_no_rank() -> None:
    z = torch.full((50, 8), 0.3)
    assert dimension_std(z).item() == 0
    assert effective_rank(z).item() == 0
