"""BYOL (Grill et al. 2020): predicts what a slowly moving average of the network says of another view.

The loss is the squared distance of the unit vectors, summed over both directions of a pair, a mean over images and pairs of
views: 4 + 4 L, where L is SimSiam's, so from 0 to 8. The projector has no normalization at its end. With --target stopped
the target is the network itself: BYOL without its moving average.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from train.methods import prediction
from train.methods.method import Outputs


@dataclass(frozen=True)
class Config(prediction.Config):
    method: Literal["byol"] = "byol"
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""
    target: Literal["stopped", "free", "moving"] = "moving"
    """What predictions are compared with. moving: the projections of other views by a network whose weights are an average
    of this one's over the steps. stopped: this one's own, without gradient. free: those with gradient."""


class BYOL(prediction.Prediction):
    configuration = Config
    config: Config

    def loss(self, outputs: Outputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        negative, terms = super().loss(outputs)
        return 4 + 4 * negative, terms
