"""What is said of a method's parts and of its gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.train.methods.test_prediction import method, outputs
from train.engine.anatomy import gradients, interaction, sizes
from train.methods.method import Outputs


def test_sizes_are_those_of_the_parts() -> None:
    of = method("byol")
    values = sizes(of)
    for part in ("encoder", "projector", "predictor", "target"):
        expected = sum(np.prod(parameter.shape) for parameter in getattr(of, part).parameters())
        assert values[f"anatomy/{part}/parameters"] == expected
    assert values["anatomy/predictor/layers"] == 2
    assert not [name for name in sizes(method("simsiam", predictor="none")) if "predictor" in name]


def test_gradients_are_those_of_a_step_and_a_target_has_none() -> None:
    of = method("byol")
    values = gradients(of, outputs(of))
    total, _ = of.loss(outputs(of))
    total.backward()
    for part in ("encoder", "projector", "predictor"):
        slopes = [parameter.grad for parameter in getattr(of, part).parameters() if parameter.grad is not None]
        expected = torch.cat([slope.flatten() for slope in slopes]).norm().item()
        assert expected > 0 and values[f"anatomy/{part}/gradient"] == pytest.approx(expected, rel=1e-4)
    assert values["anatomy/target/gradient"] == 0


def test_the_stop_gradient_leaves_the_projector_a_gradient_through_the_predictor() -> None:
    of = method("simsiam")
    assert gradients(of, outputs(of))["anatomy/projector/gradient"] > 0


@pytest.mark.parametrize(
    ("name", "sees"),
    [("simsiam", False), ("byol", False), ("dssl", False), ("vicreg", True), ("barlow", True), ("lejepa", True)],
)
def test_images_see_each_other_in_statistics_of_the_batch_and_in_nothing_else(name: str, sees: bool) -> None:
    of = method(name).eval()
    value = interaction(of, outputs(of))
    assert value > 0.01 if sees else value < 1e-6


def test_negatives_show_though_they_are_compared_by_cosine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    of = method("simsiam").eval()

    def contrast(values: Outputs) -> tuple[Tensor, tuple[Tensor, ...]]:  # NT-Xent of two views (Chen et al. 2020)
        one, other = (F.normalize(view, dim=-1) for view in values["prediction"][:2])
        total = F.cross_entropy(one @ other.T / 0.5, torch.arange(len(one)))
        return total + 0 * values["target"].sum(), (total,)

    monkeypatch.setattr(of, "loss", contrast)
    assert interaction(of, outputs(of)) > 0.01


def test_what_is_measured_leaves_the_method_as_it_was() -> None:
    of = method("byol").eval()
    before = {key: value.clone() for key, value in of.state_dict().items()}
    gradients(of, outputs(of))
    interaction(of, outputs(of))
    assert all(torch.equal(value, before[key]) for key, value in of.state_dict().items())
    assert all(parameter.grad is None for parameter in of.parameters())
