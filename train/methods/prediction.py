"""What SimSiam, BYOL and DSSL share: one view's projection, sent through a predictor, shall point where another view's points.

The methods differ in the target of a prediction, in the pairs of views, and in what the projector ends in.
"""

import copy
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.data.images import Images
from train.methods import siamese
from train.methods.method import Batch, Outputs
from train.methods.partners import Partners
from train.methods.ranges import AtLeast, Share
from train.models.heads import predictor
from train.tracking import Problem


@dataclass(frozen=True)
class Config(siamese.Config):
    target: Literal["stopped", "free", "moving"] = "stopped"
    """What predictions are compared with. stopped: the projections of other views, without gradient. free: the same with
    gradient. moving: those of a network whose weights are an average of this one's over the steps."""
    predictor: Literal["mlp", "none"] = "mlp"
    """mlp: two layers with a bottleneck between them; none: the projection is the prediction."""
    predictor_width: Annotated[int, AtLeast(0)] = 0
    """Width of the predictor's bottleneck, whatever --output-width; 0 takes a quarter of --projector-width."""
    predictor_rate: Annotated[float, AtLeast(0)] = 10.0
    """The predictor's learning rate, as a multiple of --learning-rate; it stays, where the others' rises and falls."""
    momentum: Annotated[float, Share()] = 0.9
    """With --target moving: the share of the average that a step leaves, at first; it rises to 1 along half a cosine."""

    PEELED: ClassVar[tuple[str, ...]] = ("target", "predictor")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target != "moving" and self.momentum != Config.momentum:
            raise Problem(f"--momentum {self.momentum:g} is read with --target moving only; add that")
        if self.predictor == "none":
            for flag, value, default in (
                ("predictor-width", self.predictor_width, Config.predictor_width),
                ("predictor-rate", self.predictor_rate, Config.predictor_rate),
            ):
                if value != default:
                    raise Problem(f"--{flag} {value:g} is read with --predictor mlp only; leave it out")


def similarity(p_vnd: Tensor, z_vnd: Tensor) -> Tensor:
    """cos(prediction of view i, target of view j), averaged over images: (v, w).

    p_vnd: (v, n, d). z_vnd: (w, n, d).
    """
    p, z = F.normalize(p_vnd, dim=-1), F.normalize(z_vnd, dim=-1)
    return torch.einsum("ind,jnd->ij", p, z) / p.shape[1]


def negative_cosine(p_vnd: Tensor, z_vnd: Tensor) -> Tensor:
    """-cos(prediction of view i, target of view j), averaged over images and over ordered pairs of views i != j.

    p_vnd, z_vnd: (v, n, d), v >= 2. Two views give eq. 2 of the paper: half the sum of both directions.
    """
    cosines, views = similarity(p_vnd, z_vnd), len(p_vnd)
    return (cosines.diagonal().sum() - cosines.sum()) / (views * (views - 1))


def momentum(start: float, progress: float) -> float:
    """Share of the average that a step leaves: `start` at first, 1 at the end, along half a cosine (Grill et al. 2020).

    progress: share of the steps that are done, from 0 to 1.
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class Prediction(siamese.Siamese):
    """The loss is -cos(prediction, target), a mean over images and ordered pairs of views, unless a method says otherwise."""

    config: Config
    terms: ClassVar[tuple[str, ...]] = ("similarity",)

    def __init__(self, config: Config, images: Images, partners: Partners | None = None) -> None:
        super().__init__(config, images, partners)
        width = config.projection
        bottleneck = config.predictor_width or max(1, config.projector_width // 4)
        self.predictor = predictor(width, bottleneck) if config.predictor == "mlp" else nn.Identity()
        if config.target == "moving":
            parts = nn.ModuleList([self.encoder, self.projector])
            self.target = copy.deepcopy(parts).requires_grad_(False)

    def forward(self, batch: Batch) -> Outputs:
        z = self.project(batch["views"])
        return {"prediction": self.predict(z), "target": self.aim(batch["views"], z)}

    def predict(self, z_vnd: Tensor) -> Tensor:
        """Projections (v, n, d) -> predictions (v, n, d), float32."""
        prediction: Tensor = self.predictor(z_vnd.flatten(0, 1)).float()
        return prediction.view_as(z_vnd)

    def aim(self, views: Tensor, z_vnd: Tensor) -> Tensor:
        """What the predictions are compared with, (v, n, d), of views (v, n, 3, s, s) whose projections are `z_vnd`."""
        if self.config.target != "moving":
            return z_vnd if self.config.target == "free" else z_vnd.detach()
        with torch.no_grad():
            encoder, projector = self.target
            z: Tensor = projector(encoder(views.flatten(0, 1))[1]).float()
        return z.view_as(z_vnd)

    def loss(self, outputs: Outputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = negative_cosine(outputs["prediction"], outputs["target"])
        return value, (-value,)

    def groups(self) -> list[dict[str, Any]]:
        """The predictor has to keep up with what it predicts: `--fix-pred-lr` of the authors' code."""
        steady = {
            "params": list(self.predictor.parameters()),
            "schedule": "constant",
            "times": self.config.predictor_rate,
        }
        return [{"params": [*self.encoder.parameters(), *self.projector.parameters()]}, steady]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the target's weights; its buffers are its own, filled by what it is shown."""
        if self.config.target == "moving":
            online: list[Tensor] = [*self.encoder.parameters(), *self.projector.parameters()]
            share = 1 - momentum(self.config.momentum, progress)
            torch._foreach_lerp_([*self.target.parameters()], online, share)
