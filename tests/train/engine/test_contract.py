"""The engine through another method than the lab's own: it knows the interface alone, and resumes all that a method keeps."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.parts.artifacts import Silent
from tests.parts.trainings import continuation
from tests.train.engine.test_loop import TINY, dots
from train.data.images import Images
from train.data.views import batch, normalize
from train.engine.loop import Training
from train.methods import config
from train.methods.method import Batch, Method, Outputs

SETTINGS = {
    field.name: getattr(TINY, field.name) for field in dataclasses.fields(config.Config) if field.name != "method"
}


@dataclass(frozen=True)
class Config(config.Config):
    method: Literal["distilled"] = "distilled"
    """A method of this test."""


class Distilled(Method):
    """Predicts what an average of its own past encodes, of the images with noise; keeps a code of the first image."""

    configuration = Config
    config: Config
    terms = ("distance", "size")
    epoch_code: Tensor

    def __init__(self, config: Config, images: Images) -> None:
        super().__init__(config, images)
        self.predictor = nn.Linear(self.encoder.dimension, self.encoder.dimension)
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        self.register_buffer("epoch_code", torch.zeros(self.encoder.dimension))

    def batch(self, split: str, rows: NDArray[Any], draws: torch.Generator, share: slice) -> Batch:
        pixels = batch(getattr(self.images, split), rows)
        noise = torch.randn(len(rows), 3, self.images.size, self.images.size, generator=draws)
        return {"images": normalize(pixels[share], self.mean, self.std), "noise": noise[share]}

    def forward(self, batch: Batch) -> Outputs:
        with torch.no_grad():
            target = self.target(batch["images"])[1].float()
        code = self.encoder(batch["images"] + 0.1 * batch["noise"])[1]
        error = (self.predictor(code).float() - target).square().sum(dim=1)
        return {"error": error[None], "code": code.float()[None]}

    def loss(self, outputs: Outputs) -> tuple[Tensor, Sequence[Tensor]]:
        distance, size = outputs["error"].mean(), outputs["code"].square().mean()
        return distance + (size - 1).square(), (distance, size)

    def groups(self) -> list[dict[str, Any]]:
        return [
            {"params": list(self.encoder.parameters())},
            {"params": list(self.predictor.parameters()), "schedule": "constant", "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        share = 0.1 * (1 + math.cos(math.pi * progress))
        torch._foreach_lerp_(list(self.target.parameters()), list(self.encoder.parameters()), share)

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        pixels = normalize(batch(self.images.train, slice(0, 1)), self.mean, self.std)
        self.epoch_code.copy_(epoch * self.target.eval()(pixels)[1][0])


def training(images: Images, **changes: Any) -> Any:
    stage: Any = Silent()
    return Training(Distilled(Config(**{**SETTINGS, **changes}), images), stage, torch.device("cpu"))


def state(training: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.method.state_dict().items()}


@pytest.mark.parametrize("changes", [{}, {"optimizer": "muon"}, {"optimizer": "adam"}], ids=str)
def test_all_that_a_method_keeps_resumes_to_the_last_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    images = dots()
    born = state(training(images, **changes))
    expected = state(continuation(lambda: training(images, **changes), tmp_path)[0])
    assert {"epoch_code", "predictor.weight"} < expected.keys() and any(name.startswith("target.") for name in expected)
    for name in ("epoch_code", "predictor.weight", "target.head.0.weight", "encoder.head.0.weight"):
        assert not torch.equal(expected[name], born[name]), name


def test_a_group_with_a_constant_schedule_keeps_the_largest_rate() -> None:
    for optimizer in ("adamw", "muon"):
        loop = training(dots(), optimizer=optimizer, learning_rate=0.01, warmup=0.5)
        rates = []
        for _ in range(loop.steps):
            loop._train_step()
            predictor = {id(parameter) for parameter in loop.method.get_submodule("predictor").parameters()}
            for group in loop.optimizer.param_groups:
                if predictor & set(map(id, group["params"])):
                    rates.append((group["lr"], group["weight_decay"]))
        assert set(rates) == {(0.01, 0.0)} and len(rates) == loop.steps
        assert (
            loop.batches[0]["optimizer/learning_rate"]
            < 0.005
            < max(entry["optimizer/learning_rate"] for entry in loop.batches)
        )


def test_curves_and_scores_have_the_names_of_the_methods_terms(tmp_path: Path) -> None:
    loop = training(dots())
    loop.run(tmp_path / "checkpoint.safetensors")
    scores = loop.scores()
    assert [name for name in scores.figures if name.split("/")[1] in ("distance", "size", "total")] == [
        "training/distance", "training/size", "training/total",
    ]  # fmt: skip
    assert {"loss/distance", "test/size", "loss/total", "test/total"} <= scores.values.keys()
    assert not [name for name in scores.values if "variance" in name]


def test_what_a_frozen_module_holds_is_not_trained() -> None:
    loop = training(dots())
    frozen = {id(parameter) for parameter in Distilled.groups(loop.method)[0]["params"]}
    assert not frozen & {id(parameter) for parameter in loop.method.get_submodule("target").parameters()}
    plain = {id(parameter) for group in Method.groups(loop.method) for parameter in group["params"]}
    assert plain == {id(parameter) for parameter in loop.method.parameters() if parameter.requires_grad}
