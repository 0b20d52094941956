"""Muon (Jordan et al. 2024): momentum whose singular values are made alike, for convolutions; AdamW for all else."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # the authors' coefficients: singular values end up between about 0.7 and 1.2


class Muon(torch.optim.AdamW):
    """One optimizer of two groups, so that it is saved and resumed as any other. times: Muon's learning rate over AdamW's."""

    def __init__(self, parameters: Iterable[nn.Parameter], times: float, **adamw: Any) -> None:
        every = list(parameters)
        groups = [
            {"params": [parameter for parameter in every if parameter.dim() != 4], "times": 1.0},
            {"params": [parameter for parameter in every if parameter.dim() == 4], "times": times},
        ]
        super().__init__(groups, **adamw)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        others, convolutions = self.param_groups
        self.param_groups = [others]
        try:
            super().step()
        finally:
            self.param_groups = [others, convolutions]
        for parameter in convolutions["params"]:
            state = self.state[parameter]
            if not state:  # AdamW looks for the step when it is loaded
                state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
            state["step"] += 1
            momentum = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
            step = orthogonalised(parameter.grad.lerp(momentum, MOMENTUM).flatten(1))  # Nesterov's
            scale = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
            parameter.add_(step.view_as(parameter), alpha=-convolutions["lr"] * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly U V^T of matrix = U S V^T, (m, n), by a Newton-Schulz iteration: products of matrices alone.

    The iteration x <- p(x x^T) x is made on the (m, m) side, m <= n, where a product costs m / n of one with x: p(x x^T) is a
    function of the first x x^T, so the steps' product is applied to x once, at the end.
    """
    wide: Tensor = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / (wide.norm() + 1e-7)
    gram = x @ x.T
    factor = product = _polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    x = product @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def _polynomial(gram: Tensor) -> Tensor:
    """a + b gram + c gram^2."""
    a, b, c = QUINTIC
    value = torch.addmm(b * gram, gram, gram, alpha=c)
    value.diagonal().add_(a)
    return value
