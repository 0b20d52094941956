"""LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544): views of an image agree, and projections are normally distributed.

SIGReg asks for the distribution: on random directions, drawn anew at each step, the batch's projections are compared with the
normal distribution N(0, 1). The loss is invariance + weight * SIGReg. Invariance is the mean squared distance of a projection
to the mean over views, SIGReg a mean over directions and views, here without the factor n of the paper's statistic, so that
the weight does not depend on the batch: the paper's lambda is weight = lambda n / (1 - lambda), 5.2 for 0.02 at 256 images.

--test moments compares mean and deviation alone. In the limit of many directions that is what VICReg asks for.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from train.data.views import to_device
from train.methods import siamese
from train.methods.method import Batch, Outputs
from train.methods.ranges import AtLeast

KNOTS, LARGEST = 17, 3.0  # of the authors' code: where the characteristic functions are compared, on [0, 3]


@dataclass(frozen=True)
class Config(siamese.Config):
    method: Literal["lejepa"] = "lejepa"
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""
    test: Literal["epps-pulley", "moments"] = "epps-pulley"
    """What makes projections normal. epps-pulley: the whole distribution. moments: mean and standard deviation alone."""
    weight: Annotated[float, AtLeast(0)] = 5.0
    """Weight of the test, over that of the invariance."""
    directions: Annotated[int, AtLeast(1)] = 256
    """Random directions on which projections are tested, new ones at each step."""

    PEELED: ClassVar[tuple[str, ...]] = ("test", "weight")


def invariance(z_vnd: Tensor) -> Tensor:
    """Mean squared distance of projections to the mean over views, averaged over views, images and dimensions."""
    return (z_vnd - z_vnd.mean(dim=0)).square().mean()


def epps_pulley(x_nm: Tensor) -> Tensor:
    """How far the samples are from N(0, 1): the integral of |ECF(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) over all t.

    x_nm: (..., n, m), n samples on m directions. Returns (..., m). ECF: the samples' empirical characteristic function. The
    integral is twice that over [0, 3], by the trapezoid rule over 17 knots. Epps & Pulley 1983, without their factor n.
    """
    t = torch.linspace(0, LARGEST, KNOTS, dtype=x_nm.dtype, device=x_nm.device)
    window = (-t.square() / 2).exp()
    weights = torch.full_like(t, 2 * LARGEST / (KNOTS - 1))
    weights[0] /= 2
    weights[-1] /= 2
    angles = x_nm.unsqueeze(-1) * t  # (..., n, m, knots)
    squares = (angles.cos().mean(dim=-3) - window).square() + angles.sin().mean(dim=-3).square()
    return squares @ (weights * window)


def moments(x_nm: Tensor) -> Tensor:
    """How far mean and (biased) standard deviation of the samples are from 0 and 1. x_nm: (..., n, m). Returns (..., m)."""
    mean = x_nm.mean(dim=-2)
    deviation = ((x_nm - mean.unsqueeze(-2)).square().mean(dim=-2) + 1e-12).sqrt()  # 0 has no derivative
    return mean.square() + (deviation - 1).square()


TESTS = {"epps-pulley": epps_pulley, "moments": moments}


class LeJEPA(siamese.Siamese):
    configuration = Config
    config: Config
    terms = ("invariance", "normality")

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        """The views, and the step's directions (d, m) of unit length: the same for every share."""
        views = super().batch(split, rows, draws, share)
        directions = torch.randn(self.config.projection, self.config.directions, generator=draws)
        return {**views, "directions": to_device(F.normalize(directions, dim=0), self.mean.device)}

    def forward(self, batch: Batch) -> Outputs:
        """The projections z (v, n, d), and their coordinates on the directions (v, n, m)."""
        z = self.project(batch["views"])
        with torch.autocast(z.device.type, enabled=False):
            return {"z": z, "coordinates": z @ batch["directions"]}

    def loss(self, outputs: Outputs) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        agreement = invariance(outputs["z"])
        normality = TESTS[self.config.test](outputs["coordinates"]).mean()
        return agreement + self.config.weight * normality, (agreement, normality)
