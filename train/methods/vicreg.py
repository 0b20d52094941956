"""VICReg (Bardes, Ponce & LeCun 2021): variance, invariance and covariance of projections, for two views or more.

The convention, since sources disagree: 25 invariance + 25 (variance + variance') + 1 (covariance + covariance'), with
invariance averaged over batch *and* dimensions, unbiased variance, and covariance divided by the number of dimensions.
The authors' code halves the variance term; lightly's `VICRegLoss(mu_param=50)` equals ours.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from train.methods import siamese
from train.methods.method import Outputs
from train.methods.ranges import AtLeast
from train.tracking import LATER


@dataclass(frozen=True)
class Config(siamese.Config):
    # Trainings were published before there was a choice: this method alone is no part of an identity.
    method: Annotated[Literal["vicreg"], LATER] = "vicreg"
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""
    invariance: Annotated[float, AtLeast(0)] = 25.0
    """Weight of the invariance term."""
    variance: Annotated[float, AtLeast(0)] = 25.0
    """Weight of the variance term; 0 takes it away."""
    covariance: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the covariance term."""

    PEELED: ClassVar[tuple[str, ...]] = ("invariance", "variance", "covariance")

    @property
    def weights(self) -> tuple[float, float, float]:
        return self.invariance, self.variance, self.covariance


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
    """How far each dimension's standard deviation falls short of `floor`, averaged over dimensions, and over views.

    z_nd: (n, d) projections of one view, n >= 2, or (v, n, d). Eq. 1 of the paper; unbiased variance.
    """
    variances = center(z_nd).square().sum(dim=-2) / (z_nd.shape[-2] - 1)  # Tensor.var takes several times as long
    return F.relu(floor - (variances + eps).sqrt()).mean()


def covariance(z_nd: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of the covariance matrix, over d, averaged over views.

    z_nd: (n, d) projections of one view, n >= 2, or (v, n, d). Eq. 4 of the paper. The squares of C^T C and of C C^T have
    one sum, and the smaller of the two is made.
    """
    n, d = z_nd.shape[-2:]
    c = center(z_nd)
    matrix = c @ c.mT if n < d else c.mT @ c
    diagonal = c.square().sum(dim=-2)  # of C^T C
    off = matrix.square().sum(dim=(-2, -1)) - diagonal.square().sum(dim=-1)
    return off.mean() / (d * (n - 1) ** 2)


def center(z_nd: Tensor) -> Tensor:
    return z_nd - z_nd.mean(dim=-2, keepdim=True)


def terms(z_vnd: Tensor) -> Terms:
    """The three terms of `v` views of `n` images, projected to (v, n, d).

    Variance and covariance are twice their mean over views, so that two views give the paper's sums.
    """
    return Terms(invariance(z_vnd), 2 * variance(z_vnd), 2 * covariance(z_vnd))


def total(parts: Terms, weights: tuple[float, float, float]) -> Tensor:
    """Weighted sum, the weights in the order of `Terms`. A term of weight 0 gives no gradient."""
    products = [weight * part for weight, part in zip(weights, parts, strict=True) if weight]
    return torch.stack(products).sum() if products else parts.invariance * 0


class VICReg(siamese.Siamese):
    configuration = Config
    config: Config
    terms = Terms._fields

    def loss(self, outputs: Outputs) -> tuple[Tensor, Terms]:
        parts = terms(outputs["z"])
        return total(parts, self.config.weights), parts
