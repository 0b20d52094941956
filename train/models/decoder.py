"""What an autoencoder publishes as `generator`: a decoder, and the distribution that its codes are drawn from."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from train.data.images import SMALLEST
from train.models.encoder import LARGEST, load_network, save_network
from train.models.strided import Transposed
from train.tracking.contents import read_json
from train.tracking.problem import reading

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Plan:
    """What rebuilds a decoder. likelihood: of pixels: gaussian is a mean in [-1, 1], bernoulli a logit, none a value in [0, 1].
    prior: of codes: `standard` was trained towards, `fitted` is the Gaussian of the training images' codes."""

    dimension: Count
    width: Count
    layers: Count
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=SMALLEST, le=LARGEST)]
    likelihood: Literal["gaussian", "bernoulli", "none"]
    prior: Literal["standard", "fitted"]
    kind: Literal["decoder"] = "decoder"


class Decoder(nn.Module):
    """Codes (n, d) -> what the likelihood takes of each pixel, (n, channels, size, size)."""

    center: Tensor
    factor: Tensor

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.network = Transposed(plan.dimension, plan.width, plan.size, plan.layers, plan.channels)
        self.log_deviation = nn.Parameter(torch.tensor(-2.0), requires_grad=plan.likelihood == "gaussian")
        self.register_buffer("center", torch.zeros(plan.dimension))
        self.register_buffer("factor", torch.eye(plan.dimension))
        self.to(memory_format=torch.channels_last)

    def forward(self, codes: Tensor) -> Tensor:
        values: Tensor = self.network(codes)
        return values

    def fit(self, codes: Tensor) -> None:
        """Takes the Gaussian that codes are drawn from off those of training images (n, d)."""
        self.center.copy_(codes.mean(dim=0))
        centered = (codes - self.center).double()
        values, vectors = torch.linalg.eigh(centered.T @ centered / max(1, len(codes) - 1))
        self.factor.copy_(vectors * values.clamp_min(0).sqrt())

    def pictures(self, codes: Tensor) -> Tensor:
        """The mean images of codes (n, d): (n, channels, size, size), float32 in [0, 1]."""
        values: Tensor = self(codes).float()
        if self.plan.likelihood == "bernoulli":
            return values.sigmoid()
        return (values / 2 + 0.5 if self.plan.likelihood == "gaussian" else values).clamp(0, 1)

    def sample(self, count: int, draws: torch.Generator) -> Tensor:
        """Images of codes from the prior: (count, channels, size, size) in [0, 1]."""
        noise = torch.randn(count, self.plan.dimension, generator=draws).to(self.center.device)
        return self.pictures(self.center + noise @ self.factor.T)

    def save(self, folder: Path) -> None:
        """Writes weights.safetensors and generator.json."""
        save_network(self, folder)
        (folder / "generator.json").write_text(json.dumps(dataclasses.asdict(self.plan), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            plan = read_json(folder / "generator.json", Plan)
            return load_network(lambda: cls(plan), folder)
