"""The optimizers and their learning rate. Muon (Jordan et al. 2024): momentum whose singular values are made alike, for
convolutions; AdamW for all else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from train.methods.config import Config

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # the authors' coefficients: singular values end up between about 0.7 and 1.2

Groups = Sequence[Mapping[str, Any]]  # as `Method.groups` gives them


def optimizer(config: Config, groups: Groups, device: torch.device) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    options["fused"] = device.type in ("cpu", "cuda")
    if config.optimizer == "muon":
        return Muon(groups, config.muon_rate / config.learning_rate, **options)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind([dict(group) for group in groups], **options)


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Rises linearly over the warm-up, then stays, or falls to 0 along half a cosine."""
    warmup = config.warmup * steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def set_rates(optimizer: torch.optim.Optimizer, rate: float, largest: float) -> None:
    """Sets each group's learning rate: `rate`, or `largest` where its schedule is constant, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = (largest if group.get("schedule") == "constant" else rate) * group.get("times", 1.0)


class Muon(torch.optim.AdamW):
    """One optimizer, so that it is saved and resumed as any other; each group is divided into two, AdamW's and Muon's.

    times: Muon's learning rate over AdamW's.
    """

    def __init__(self, groups: Groups, times: float, **adamw: Any) -> None:
        halves = []
        for group in groups:
            factor = group.get("times", 1.0)
            others = [parameter for parameter in group["params"] if parameter.dim() != 4]
            convolutions = [parameter for parameter in group["params"] if parameter.dim() == 4]
            halves.append({**group, "params": others, "times": factor, "orthogonal": False})
            halves.append({**group, "params": convolutions, "times": factor * times, "orthogonal": True})
        super().__init__(halves, **adamw)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._step_convolutions(group)

    def _step_convolutions(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:  # AdamW looks for the step when it is loaded
                state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
            state["step"] += 1
            momentum = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
            step = orthogonal(parameter.grad.lerp(momentum, MOMENTUM).flatten(1))  # Nesterov's
            scale = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
            parameter.add_(step.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
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
