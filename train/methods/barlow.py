"""Barlow Twins (Zbontar et al. 2021): the cross-correlation of two views' dimensions shall be the identity matrix.

The convention, since sources disagree: every view is standardized by itself, with its biased variance, and the correlations
C are means over the n images, so that equal views have C_ii = 1. The loss is the sum over i of (1 - C_ii)^2 plus lambda times
the sum over i != j of C_ij^2, a mean over pairs of views. Neither sum is averaged: lambda depends on n and d.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from train.methods import siamese
from train.methods.method import Outputs
from train.methods.ranges import AtLeast


@dataclass(frozen=True)
class Config(siamese.Config):
    method: Literal["barlow"] = "barlow"
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""
    off_diagonal: Annotated[float, AtLeast(0)] = 0.02
    """Weight of the off-diagonal term: the paper's lambda, 0.005 there. Decorrelated views still have a term of d (d - 1) / n."""

    PEELED: ClassVar[tuple[str, ...]] = ("off_diagonal", "batch_size")


def standardized(z_vnd: Tensor, eps: float = 1e-5) -> Tensor:
    """Each dimension of each view with mean 0 and (biased) variance 1 over the images. z_vnd: (v, n, d)."""
    centered = z_vnd - z_vnd.mean(dim=-2, keepdim=True)
    return centered * (centered.square().mean(dim=-2, keepdim=True) + eps).rsqrt()


def terms(z_vnd: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of (1 - C_ii)^2 and sum of C_ij^2 over i != j, each a mean over pairs of views: scalars.

    z_vnd: (v, n, d), v >= 2. The squares of all entries of C = s_a^T s_b / n have the sum of (s_a s_a^T) * (s_b s_b^T) / n^2,
    which needs one (n, n) matrix a view in place of one (d, d) matrix a pair.
    """
    views, n, d = z_vnd.shape
    pairs = list(itertools.combinations(range(views), 2))
    s = standardized(z_vnd)
    diagonal = torch.stack([(s[i] * s[j]).mean(dim=0) for i, j in pairs])
    if n < d:
        gram = (s @ s.mT / n).flatten(1)  # (v, n n)
        table = gram @ gram.T
        squares = torch.stack([table[i, j] for i, j in pairs])
    else:
        squares = torch.stack([(s[i].T @ s[j] / n).square().sum() for i, j in pairs])
    on = (1 - diagonal).square().sum(dim=1)
    off = squares - diagonal.square().sum(dim=1)
    return on.mean(), off.mean()


class Barlow(siamese.Siamese):
    configuration = Config
    config: Config
    terms = ("on_diagonal", "off_diagonal")

    def loss(self, outputs: Outputs) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        on, off = terms(outputs["z"])
        return on + self.config.off_diagonal * off, (on, off)
