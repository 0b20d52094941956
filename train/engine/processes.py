"""Several processes, as torchrun starts them, that train one encoder: each has its share of every batch.

The loss is that of the whole batch: the outputs of all shares are gathered with their gradient, and the gradients of
the shares add up. Statistics of batch normalization are each share's own; the first process's are published.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from train.tracking import environment
from train.tracking.problem import Incident, incident, one_line

PATIENCE = 900  # seconds: on a slow machine the first process may measure for minutes while the others wait


@dataclass(frozen=True)
class Processes:
    """rank: this one's number, from 0. count: of all of them, on all machines. patience: seconds for which it waits for the
    others where they exchange something; then, or when one of them is gone, it raises Incident."""

    rank: int = 0
    count: int = 1
    patience: int = PATIENCE

    @property
    def leads(self) -> bool:
        """Whether this one measures, and keeps the checkpoint."""
        return self.rank == 0

    def share(self, size: int) -> slice:
        """This process's rows of a batch of `size`, a multiple of the number of processes."""
        each = size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def gather(self, share: Tensor) -> Tensor:
        """The shares (v, n, ...) of all processes as one batch (v, count n, ...), with gradient for one's own share."""
        return share if self.count == 1 else _Gather.apply(share, self)

    def add_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Sums the gradients over the processes: each has those of the whole batch's loss by its own share."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        with self.meeting():
            dist.all_reduce(together)
        parts = together.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is set in any of the processes."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag), device=device)
        with self.meeting():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    @contextmanager
    def file(self, path: Path, device: torch.device) -> Iterator[Path]:
        """The first process's file at `path`, or that there is none, for each: on other machines a copy for a while."""
        if self.count == 1:
            yield path
            return
        content = np.empty(0, np.uint8)
        with suppress(OSError):  # what is no file, or cannot be read, is to the first process alone to set aside
            content = np.fromfile(path, np.uint8) if self.leads and path.exists() else content
        size = torch.tensor(len(content), device=device)
        with self.meeting():
            dist.broadcast(size, 0)
        tensor = (
            torch.from_numpy(content).to(device)
            if self.leads
            else torch.empty(int(size), dtype=torch.uint8, device=device)
        )
        with self.meeting():
            dist.broadcast(tensor, 0)
        if self.leads or not len(tensor):
            yield path
            return
        copy = path.with_suffix(f".rank{self.rank}")
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            tensor.cpu().numpy().tofile(copy)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    @contextmanager
    def meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            # Of gloo's words those between its place in a source file and its advice.
            reason = re.sub(r"^\[[^]]*\] ", "", one_line(error)).partition(". ")[0]
            what = f"was lost ({reason})"
            if "timed out" in reason.lower():
                what = f"gave no answer for {self.patience} s (--patience)"
            raise incident(error) or Incident(
                f"another process {what}; the same command goes on from the last checkpoint"
            ) from error


class _Gather(torch.autograd.Function):
    """All processes compute the same loss of what is gathered, so that the gradient of a share is its part of that."""

    @staticmethod
    def forward(context: Any, share: Tensor, processes: Processes) -> Tensor:
        context.processes, context.each = processes, share.shape[1]
        shares = [torch.empty_like(share, memory_format=torch.contiguous_format) for _ in range(processes.count)]
        with processes.meeting():
            dist.all_gather(shares, share.contiguous())
        return torch.cat(shares, dim=1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient[:, context.processes.share(context.each * context.processes.count)], None


@contextmanager
def process_group(device: torch.device, patience: int = PATIENCE) -> Iterator[Processes]:
    """This process among those that torchrun has started (its RANK and WORLD_SIZE); without torchrun the only one.
    patience: in seconds, as of `Processes`."""
    count = environment.rank().count
    if count == 1:
        yield Processes()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=patience))
    except (RuntimeError, ValueError) as error:
        raise Incident(
            f"the {count} processes cannot reach each other ({one_line(error)}); see torchrun --help"
        ) from error
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), patience)
    finally:
        dist.destroy_process_group()
