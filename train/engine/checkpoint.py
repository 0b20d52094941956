"""The state of a training in one file, written whole or not at all, and held by one process at a time."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from train.tracking import Problem


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held while a process trains towards `path`. Raises Problem where another one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Problem(f"another process is running this training (it holds {lock.name}); wait for it") from error
        yield


def save(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]
) -> None:
    """Replaces `path` (safetensors) with the weights, the optimizer's state and `progress` (JSON)."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    draft = path.with_suffix(".draft")
    # Clones: safetensors wants contiguous tensors that share no memory, and channels_last ones are not.
    own = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    save_file(own, draft, metadata={"progress": json.dumps(progress)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def load(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Brings modules and optimizer to the state in `path` and returns its progress; None where there is no such file."""
    if not path.exists():
        return None
    states: dict[str, dict[str, Tensor]] = {name: {} for name in [*modules, "optimizer"]}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a dictionary)
            name, _, rest = key.partition("/")
            states[name][rest] = file.get_tensor(key)
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    for name, module in modules.items():
        module.load_state_dict(states[name])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in states["optimizer"].items():
        index, _, entry = key.partition("/")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # The fused optimizers walk a parameter and its moments in one order: they must lie in memory alike.
            value = torch.empty_like(parameter).copy_(value)
        moments.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return progress


def remove(path: Path) -> None:
    for suffix in (path.suffix, ".draft", ".lock"):
        path.with_suffix(suffix).unlink(missing_ok=True)
