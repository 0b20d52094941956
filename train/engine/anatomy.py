"""What a method is made of, and where its gradient goes: the size of its parts, and whether images see each other."""

import math

import torch
from torch import Tensor, nn

from train.methods.method import Method, Outputs


def sizes(method: Method) -> dict[str, float]:
    """`anatomy/PART/parameters` and `anatomy/PART/layers`, its linear and convolutional layers, of each part that has any."""
    values: dict[str, float] = {}
    for name, part in method.named_children():
        if count := sum(parameter.numel() for parameter in part.parameters()):
            layers = [layer for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
            values |= {f"anatomy/{name}/parameters": count, f"anatomy/{name}/layers": len(layers)}
    return values


def gradients(method: Method, outputs: Outputs) -> dict[str, float]:
    """`anatomy/PART/gradient`: the norm of the loss's gradient in each part that has parameters, 0 where it has none.

    outputs: of a batch, with the graph that they came from.
    """
    total, _ = method.loss(outputs)
    parts = {name: list(part.parameters()) for name, part in method.named_children()}
    parts = {name: parameters for name, parameters in parts.items() if parameters}
    trained = [parameter for parameters in parts.values() for parameter in parameters if parameter.requires_grad]
    slopes = torch.autograd.grad(total, trained, allow_unused=True, retain_graph=True)
    by_parameter = dict(zip(map(id, trained), slopes, strict=True))
    return {
        f"anatomy/{name}/gradient": _norm([by_parameter.get(id(one)) for one in own]) for name, own in parts.items()
    }


def interaction(method: Method, outputs: Outputs) -> float:
    """How much the loss's gradient at the first half of the images changes, relative to its norm, when the others are other
    images: 0 where an image's loss sees no other image.

    Others: twice their outputs, from the last dimension to the first. A loss of cosines does not see the factor, and one of single
    numbers no order of dimensions.
    """
    half = next(iter(outputs.values())).shape[1] // 2
    others = {name: value.detach()[:, half:] for name, value in outputs.items()}
    changed = {name: 2 * value.flip(-1) for name, value in others.items()}
    first, second = (_slopes(method, outputs, half, rest) for rest in (others, changed))
    norm = _norm(first)
    return _norm([one - other for one, other in zip(first, second, strict=True)]) / norm if norm else 0.0


def _slopes(method: Method, outputs: Outputs, half: int, others: Outputs) -> list[Tensor]:
    """The gradient at the outputs of the first `half` images, where the rest are `others`."""
    own = {name: value.detach()[:, :half].requires_grad_() for name, value in outputs.items()}
    total, _ = method.loss({name: torch.cat([own[name], others[name]], dim=1) for name in outputs})
    slopes = torch.autograd.grad(total, list(own.values()), allow_unused=True)  # some outputs are for the terms alone
    return [torch.zeros_like(z) if slope is None else slope for z, slope in zip(own.values(), slopes, strict=True)]


def _norm(tensors: list[Tensor | None] | list[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors if tensor is not None))
