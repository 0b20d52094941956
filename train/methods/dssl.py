"""DSSL (Bai et al. 2022): SimSiam on standard views, to which harder views are drawn, and never the other way.

A harder view is RandAugment of a standard view's own pixels. Standard views are compared with each other as in SimSiam. The
prediction of each harder view shall point where the standard view that it was made from points. No harder view is a target,
but with --soft, and no two harder views are compared, but with --pairs all, which is SimSiam on all of them: the control.
The two strengths pass the network apart, so that the harder ones are no part of the standard ones' batch statistics.

The loss is the paper's, from -2 to 2: SimSiam's of the standard views + the directed part, (1 - soft) of it where the
released code gives soft = 0.1 to the reverse part.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.randaugment import choose, randaugment
from train.data.views import standardise
from train.methods import prediction
from train.methods.config import Presets, extend
from train.methods.method import Batch, Outputs
from train.methods.ranges import Share
from train.tracking import Problem


@dataclass(frozen=True)
class Config(prediction.Config):
    method: Literal["dssl"] = "dssl"
    """What is learned. Each method has flags of its own: --method NAME --help lists them."""
    harder: int | None = None
    """Of the --view-count views, those that are harder, each made from a standard one. The default is half of them."""
    pairs: Literal["directed", "all"] = "directed"
    """directed: each harder view is drawn to the standard view that it was made from. all: SimSiam's loss on all views."""
    soft: Annotated[float, Share()] = 0.0
    """With --pairs directed: weight of the reverse, in which harder views are the targets; the directed part has the rest."""

    PEELED: ClassVar[tuple[str, ...]] = ("pairs", "harder", "soft", *prediction.Config.PEELED)
    PRESETS: ClassVar[Presets] = extend(
        prediction.Config.PRESETS, {"exercise": {"view_count": 4}, "gpu": {"view_count": 4}}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views == "neighbors":
            if self.harder:
                raise Problem(
                    f"--harder {self.harder}: with --views neighbors both views are whole images; leave it out"
                )
        elif not 1 <= self.hard <= self.view_count - self.hard or self.view_count - self.hard < 2:
            most = self.view_count // 2
            cure = f"give 1 to {most}" if self.view_count > 2 else "give a --view-count of at least 3"
            raise Problem(
                f"--harder {self.hard} of --view-count {self.view_count}: there must be 2 standard views, and one for each harder; {cure}"
            )
        if self.pairs == "all" and self.soft:
            raise Problem(f"--soft {self.soft:g} is read with --pairs directed only; leave it out")

    @property
    def normalized(self) -> bool:
        """On SimSiam's networks, or with a moving target on BYOL's."""
        return self.target != "moving"

    @property
    def hard(self) -> int:
        """Harder views of an image."""
        if self.harder is None:
            return 0 if self.views == "neighbors" else self.view_count // 2
        return self.harder


def parts(p_vnd: Tensor, z_vnd: Tensor, hard: int) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity of standard views to each other, of harder predictions to their standard targets (directed), and of standard
    predictions to their harder targets (reverse): means over images and pairs.

    p_vnd, z_vnd: (v, n, d), standard views first; the last `hard` are made from the first ones, in order. Without harder views
    the last two are 0.
    """
    standard = len(p_vnd) - hard
    among = -prediction.negative_cosine(p_vnd[:standard], z_vnd[:standard])
    if not hard:
        return among, among.new_zeros(()), among.new_zeros(())
    directed = prediction.similarity(p_vnd[standard:], z_vnd[:hard]).diagonal().mean()
    reverse = prediction.similarity(p_vnd[:hard], z_vnd[standard:]).diagonal().mean()
    return among, directed, reverse


class DSSL(prediction.Prediction):
    configuration = Config
    config: Config
    terms = ("standard", "directed", "reverse")

    def batch(self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice) -> Batch:
        """The standard views (v, m, 3, s, s), and the harder ones (w, m, 3, s, s), of the share's m images."""
        standard = self.views(split, rows, draws, share, self.config.view_count - self.config.hard)
        if not self.config.hard:
            return {"views": standard}
        choices = choose(self.config.hard * len(rows), draws)
        places = torch.arange(len(choices.operations)).view(self.config.hard, len(rows))[:, share].flatten()
        mean, std = self.mean.view(3, 1, 1), self.std.view(3, 1, 1)
        planes = (standard[: self.config.hard].flatten(0, 1) * std + mean).mul_(255).round_().clamp_(0, 255)
        pixels = randaugment(planes.to(torch.uint8), choices[places])
        harder = standardise(pixels.float().div_(255), self.mean, self.std)
        return {"views": standard, "harder": harder.view(self.config.hard, -1, *standard.shape[2:])}

    def forward(self, batch: Batch) -> Outputs:
        passes = []
        for views in batch.values():
            z = self.project(views)
            passes.append((self.predict(z), self.aim(views, z)))
        predictions, targets = zip(*passes, strict=True)
        return {"prediction": torch.cat(predictions), "target": torch.cat(targets)}

    def loss(self, outputs: Outputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        predictions, targets = outputs["prediction"], outputs["target"]
        standard, directed, reverse = parts(predictions, targets, self.config.hard)
        if self.config.pairs == "all":
            total = prediction.negative_cosine(predictions, targets)
        else:
            total = -standard - (1 - self.config.soft) * directed
            if self.config.soft:
                total = total - self.config.soft * reverse
        return total, (standard, directed, reverse)
