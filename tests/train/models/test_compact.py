"""Convolutions of small maps as products: the values and gradients of torch's own, and their bits in evaluation."""

import pytest
import torch
from torch import nn

from train.models.compact import PLACES, Block, Convolution

SHAPES = [
    (2, 3, 1, 1),
    (4, 3, 2, 1),
    (3, 3, 2, 1),
    (2, 1, 1, 0),
    (1, 3, 1, 1),
    (4, 4, 2, 1),
]  # size, kernel, stride, padding


def pair(kernel: int, stride: int, padding: int) -> tuple[Convolution, nn.Conv2d]:
    ours = Convolution(3, 5, kernel, stride, padding, bias=False).double()
    torchs = nn.Conv2d(3, 5, kernel, stride, padding, bias=False).double()
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), SHAPES)
def test_few_places_have_the_values_and_gradients_of_a_convolution(
    size: int, kernel: int, stride: int, padding: int
) -> None:
    modules = pair(kernel, stride, padding)
    images = torch.randn(6, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for module in modules:
        x = images.clone().requires_grad_()
        y = module(x)
        assert y.shape[2] * y.shape[3] <= PLACES
        (y.square().sum() + y.sin().sum()).backward()
        assert x.grad is not None and module.weight.grad is not None
        results.append((y.detach(), x.grad, module.weight.grad))
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


def test_an_evaluation_has_the_bits_of_a_convolution() -> None:
    ours, torchs = pair(3, 1, 1)
    images = torch.randn(6, 3, 2, 2, dtype=torch.float64)
    assert torch.equal(ours.eval()(images), torchs(images))
    large = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    assert torch.equal(ours.train()(large), torchs(large))  # and one of many places has them in training


def test_many_networks_are_trained_at_once_as_one_by_one() -> None:
    """As eval.transfer does, by vmap over stacked weights."""
    block = Block(4, 8, stride=2).double()
    names = [name for name, _ in block.named_parameters()]
    images = torch.randn(3, 5, 4, 4, 4, dtype=torch.float64)
    stacks = {name: torch.randn(3, *value.shape, dtype=torch.float64) for name, value in block.named_parameters()}
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var, module.num_batches_tracked = (
                False,
                None,
                None,
                None,
            )

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(block, weights, (x,)).square().sum()
        return result

    together = torch.func.vmap(torch.func.grad(loss))(stacks, images)
    for index in range(3):
        alone = torch.func.grad(loss)({name: stacks[name][index] for name in names}, images[index])
        for name in names:
            torch.testing.assert_close(together[name][index], alone[name], rtol=1e-9, atol=1e-9)
