"""VICReg (Bardes, Ponce & LeCun 2021): variance, invariance and covariance of projections, for two views or more.

The convention, since sources disagree: 25 invariance + 25 (variance + variance') + 1 (covariance + covariance'), with
invariance averaged over batch *and* dimensions, unbiased variance, and covariance divided by the number of dimensions.
The authors' code halves the variance term; lightly's `VICRegLoss(mu_param=50)` equals ours.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Terms(NamedTuple):
    """The objective's terms before weighting: scalars."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def invariance(z_vnd: Tensor) -> Tensor:
    """Mean squared difference between two views of an image, averaged over pairs of views, batch and dimensions.

    z_vnd: (v, n, d), v >= 2. The mean over pairs is 2v / (v - 1) times the mean squared distance to the views' mean.
    """
    views = z_vnd.shape[0]
    if views == 2:
        return F.mse_loss(z_vnd[0], z_vnd[1])
    return (z_vnd - z_vnd.mean(dim=0)).square().mean() * (2 * views / (views - 1))


def variance(z_nd: Tensor, floor: float = 1.0, eps: float = 1e-4) -> Tensor:
    """How far each dimension's standard deviation falls short of `floor`, averaged over dimensions.

    z_nd: (n, d) projections of one view, n >= 2. Eq. 1 of the paper; unbiased variance.
    """
    return F.relu(floor - (z_nd.var(dim=0) + eps).sqrt()).mean()


def covariance(z_nd: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of the covariance matrix, over d.

    z_nd: (n, d) projections of one view, n >= 2. Eq. 4 of the paper.
    """
    n, d = z_nd.shape
    centered = z_nd - z_nd.mean(dim=0)
    matrix = centered.T @ centered / (n - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / d


def terms(z_vnd: Tensor) -> Terms:
    """The three terms of `v` views of `n` images, projected to (v, n, d).

    Variance and covariance are twice their mean over views, so that two views give the paper's sums.
    """
    by_view = [(variance(z_nd), covariance(z_nd)) for z_nd in z_vnd]
    variances, covariances = (torch.stack(term).mean() * 2 for term in zip(*by_view, strict=True))
    return Terms(invariance(z_vnd), variances, covariances)


def total(parts: Terms, weights: tuple[float, float, float]) -> Tensor:
    """Weighted sum, the weights in the order of `Terms`. A term of weight 0 gives no gradient."""
    kept = [weight * part for weight, part in zip(weights, parts, strict=True) if weight]
    return torch.stack(kept).sum() if kept else parts.invariance * 0
