"""What a diffusion publishes as `generator`: the network that sees what is noise, its schedule, and how it draws images."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from train.data.images import SMALLEST
from train.models.denoiser import Denoiser
from train.models.encoder import LARGEST, load_network, save_network
from train.models.samplers import Estimate, denoise, estimator, levels
from train.models.schedule import SCHEDULES, Prediction, Schedule, diffuse
from train.tracking.contents import read_json
from train.tracking.problem import reading

Count = Annotated[int, Field(ge=1)]
STEPS = 25  # of DDIM: 10 already look like 50


@dataclass(frozen=True)
class Plan:
    """What rebuilds a diffuser. width: channels of the finest of `levels`; each next one has twice as many. steps: T."""

    width: Count
    levels: Count
    blocks: Count
    patch: Count
    attention: bool
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=SMALLEST, le=LARGEST)]
    schedule: Literal["cosine", "linear"]
    prediction: Prediction
    steps: Count
    kind: Literal["diffuser"] = "diffuser"

    @property
    def network(self) -> Denoiser:
        widths = [self.width << level for level in range(self.levels)]
        return Denoiser(self.channels, widths, self.blocks, self.patch, self.attention)


class Diffuser(nn.Module):
    """Noise (n, channels, size, size) -> images, step by step."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.network = plan.network

    @property
    def schedule(self) -> Schedule:
        return SCHEDULES[self.plan.schedule]

    @property
    def estimate(self) -> Estimate:
        return estimator(self.network, self.plan.prediction)

    def sample(
        self,
        count: int,
        draws: torch.Generator,
        steps: int = STEPS,
        eta: float = 0.0,
        watch: Callable[[Iterator[Tensor]], Iterator[Tensor]] = lambda states: states,
    ) -> Tensor:
        """Images (count, channels, size, size) in [0, 1]. eta: 0 is DDIM, 1 ancestral. watch: sees the steps go by."""
        plan = self.plan
        noise = torch.randn(count, plan.channels, plan.size, plan.size, generator=draws).to(self.device)
        return self._descend(noise, levels(self.schedule, steps), eta, draws, watch)

    def restore(
        self, images: Tensor, alpha_bar: float, draws: torch.Generator, steps: int = STEPS, eta: float = 0.0
    ) -> Tensor:
        """Images (n, channels, size, size) in [0, 1], diffused to alpha_bar and denoised from there in `steps` times the share of
        the way that this is."""
        level = torch.tensor([alpha_bar], dtype=torch.float64)
        noise = torch.randn(images.shape, generator=draws).to(images)
        start = float(self.schedule.time(level))
        path = levels(self.schedule, max(1, round(steps * start)), start)
        return self._descend(diffuse(2 * images - 1, noise, level), path, eta, draws)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _descend(
        self,
        x: Tensor,
        path: Tensor,
        eta: float,
        draws: torch.Generator,
        watch: Callable[[Iterator[Tensor]], Iterator[Tensor]] = lambda states: states,
    ) -> Tensor:
        for state in watch(denoise(self.estimate, x, path, eta, draws)):
            x = state
        return (x / 2 + 0.5).clamp(0, 1)

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
