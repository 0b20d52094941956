"""Barlow Twins against lightly and numpy, in float64."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from numpy.typing import NDArray
from torch import Tensor

from tests.parts.derivatives import gradient
from train.methods import barlow

LAMBDA = 0.0051


def projections(views: int, n: int = 9, d: int = 4, seed: int = 0) -> Tensor:
    random = np.random.default_rng(seed)
    shared = random.normal(size=(n, d))
    return torch.from_numpy(shared + 0.7 * random.normal(size=(views, n, d)) @ random.normal(size=(d, d)))


def total(z_vnd: Tensor) -> Tensor:
    on, off = barlow.terms(z_vnd)
    return on + LAMBDA * off


def numpy_total(z: NDArray[Any]) -> Any:
    centered = z - z.mean(1, keepdims=True)
    s = centered / np.sqrt((centered * centered).mean(1, keepdims=True) + 1e-5)
    losses = []
    for i, j in itertools.combinations(range(len(z)), 2):
        c = s[i].T @ s[j] / z.shape[1]
        on = ((1 - np.diagonal(c)) ** 2).sum()
        losses.append(on + LAMBDA * ((c * c).sum() - (np.diagonal(c) ** 2).sum()))
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("n", "d"), [(9, 4), (4, 9), (16, 16)])
@pytest.mark.parametrize("views", [2, 3, 6])
def test_the_loss_and_its_gradient_agree_with_lightlys_over_pairs_of_views(views: int, n: int, d: int) -> None:
    z = projections(views, n, d).requires_grad_()
    y = z.detach().clone().requires_grad_()
    ours = total(z)
    pairs = itertools.combinations(range(views), 2)
    theirs = torch.stack([BarlowTwinsLoss(lambda_param=LAMBDA)(y[i], y[j]) for i, j in pairs]).mean()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    ours.backward()
    theirs.backward()
    assert z.grad is not None and y.grad is not None
    assert (z.grad - y.grad).abs().max() < 1e-9


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 6)])
@pytest.mark.parametrize("views", [2, 3, 6])
def test_the_loss_and_its_gradient_agree_with_numpy(views: int, n: int, d: int) -> None:
    z = projections(views, n, d).requires_grad_()
    value = total(z)
    value.backward()
    assert value.item() == pytest.approx(numpy_total(z.detach().numpy()).item(), abs=1e-9)
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), gradient(numpy_total, z.detach().numpy()), atol=1e-9)


def test_equal_views_correlate_fully_with_themselves() -> None:
    z = projections(1, n=200).expand(2, -1, -1) * 1e3  # beside which eps is nothing
    on, off = barlow.terms(z)
    assert on.item() == pytest.approx(0, abs=1e-9)
    c = np.corrcoef(z[0].numpy(), rowvar=False)
    assert off.item() == pytest.approx((c**2).sum() - len(c), abs=1e-6)


@pytest.mark.parametrize("views", [2, 3, 6])
def test_an_affine_map_of_each_dimension_of_each_view_changes_nothing(views: int) -> None:
    z = 1e4 * projections(views)  # beside which eps is nothing
    random = np.random.default_rng(3)
    scale, offset = (torch.from_numpy(random.uniform(0.5, 2, (views, 1, 4))) for _ in range(2))
    for before, after in zip(barlow.terms(z), barlow.terms(scale * z + offset), strict=True):
        assert after.item() == pytest.approx(before.item(), abs=1e-7)


@pytest.mark.parametrize("views", [2, 3, 6])
def test_the_order_of_the_views_changes_nothing(views: int) -> None:
    z = projections(views)
    assert total(z.flip(0)).item() == pytest.approx(total(z).item(), abs=1e-12)
