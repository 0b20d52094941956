"""SimSiam (Chen & He 2021): predicts another view's projection, which is held still: no negatives, no moving average.

The loss is -cos(prediction, target), a mean over images and ordered pairs of views: -1 where all agree, which is perfection
and collapse alike. The projector ends in batch normalization without affine, and the predictor keeps the largest learning
rate (`--fix-pred-lr` of the authors' code). --target free takes the stop-gradient away, --predictor none the predictor.
"""

from dataclasses import dataclass
from typing import Literal

from train.methods import prediction


@dataclass(frozen=True)
class Config(prediction.Config):
    method: Literal["simsiam"] = "simsiam"
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""

    @property
    def normalized(self) -> bool:
        return True


class SimSiam(prediction.Prediction):
    configuration = Config
    config: Config
