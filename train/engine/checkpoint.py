"""The state of a training in one file, written whole or not at all, and held by one process at a time."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from train.engine.processes import Processes
from train.models.encoder import check_weights
from train.tracking.contents import parse
from train.tracking.problem import incident, naming, one_line, set_aside

Count = Annotated[int, Field(ge=0)]
Entry = dict[str, int | float]
MOMENTS = ({"step", "exp_avg", "exp_avg_sq"}, {"step", "momentum"})  # AdamW's and Muon's, of a parameter
POLL = 1.0  # seconds between two looks at a lock


class Lock:
    """A file that one process has at a time, and that holds its process id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = False  # whether a process that had it came to its end, and removed the file, since this one asked
        strangers = [path.parent] if path.parent.is_file() else []
        strangers += [file for suffix in (".lock", ".draft") if (file := path.with_suffix(suffix)).is_dir()]
        for stranger in strangers:
            print(f"{stranger} is not what trainings keep there; it is now {set_aside(stranger)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a+")

    def acquire(self) -> bool:
        """Whether this process has it now."""
        while True:
            try:
                with naming(self.path):
                    fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self._is_current():
                break
            self.ended = True
            self.file.close()
            self.file = self.path.open("a+")
        self.file.truncate(0)
        print(os.getpid(), file=self.file, flush=True)
        return True

    def _is_current(self) -> bool:
        """Whether the file at the path is the one that is open."""
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def holder(self) -> str:
        self.file.seek(0)
        return f"process {self.file.read().strip() or 'unknown'}"


@contextmanager
def lock(path: Path, processes: Processes, device: torch.device) -> Iterator[bool]:
    """Held by the first of the processes while they train towards `path`. Waits while another training does that, and yields
    whether it came to its end meanwhile. What is at `path` is removed once the block has ended without an error."""
    own = Lock(path.with_suffix(".lock")) if processes.leads else None
    try:
        silent = True
        while processes.any(own is not None and not own.acquire(), device):
            if own and silent:
                line = f"{own.holder()} is running this training and holds {own.path}; waiting for it, Ctrl-C ends this"
                print(line, flush=True)
            silent = False
            time.sleep(POLL)
        yield processes.any(own is not None and own.ended, device)
        if own:
            for suffix in (path.suffix, ".draft", ".lock"):
                path.with_suffix(suffix).unlink(missing_ok=True)
    finally:
        if own:
            own.file.close()


class Misfit(Exception):
    """A checkpoint is not of this training. Its text says where they differ."""


@dataclass(frozen=True)
class Progress:
    """How far a training is. batches, epochs, glances: its curves, an entry each; processes: that share it; seconds: that the
    steps of each epoch took, of the last one so far; threads: of each process, 0 where an older Peel wrote it; run: the id
    of the run that it is logged in."""

    step: Count
    batches: tuple[Entry, ...]
    epochs: tuple[Entry, ...]
    processes: Annotated[int, Field(ge=1)] = 1
    glances: tuple[Entry, ...] = ()
    seconds: tuple[float, ...] = ()
    threads: Count = 0
    run: Annotated[str, Field(pattern=r"^[\w-]{0,128}$")] = ""


def save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Replaces `path` (safetensors) with the weights, the optimizer's state and `progress` (JSON).

    A weight's key begins with its part of the module: `encoder/head.0.weight`. No part may be called `optimizer`.
    """
    tensors = {_key(name): value for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    draft = path.with_suffix(".draft")
    # Clones: safetensors wants contiguous tensors that share no memory, and channels_last ones are not.
    own = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    try:
        with naming(draft):
            save_file(own, draft, metadata={"progress": json.dumps(asdict(progress))})
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def load(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, check: Callable[[Progress], None]
) -> Progress | None:
    """Brings module and optimizer to the state in `path` and returns its progress; None where there is nothing.

    check: raises ValueError for progress that this training cannot have made. Raises Misfit, and changes nothing, where the
    file is of another training, or no checkpoint.
    """
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise Misfit("it is no file")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dictionary)
            progress = parse(file.metadata()["progress"], Progress)
        check(progress)
        moments = {key: tensors.pop(key) for key in list(tensors) if key.startswith("optimizer/")}
        check_weights(tensors, {_key(name): value for name, value in module.state_dict().items()})
        check_weights(moments, {key: _parameter(parameters, key) for key in moments}, scalars=True)
        _check_moments(moments, progress.step)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise incident(error) or Misfit(one_line(error)) from error

    module.load_state_dict({name: tensors[_key(name)] for name in module.state_dict()})
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        _, index, entry = key.split("/", 2)
        if value.dim():
            # The fused optimizers walk a parameter and its moments in one order: they must lie in memory alike.
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        states.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return progress


def _key(name: str) -> str:
    """A weight's key in the file, of its name in the module."""
    return name.replace(".", "/", 1)


def _parameter(parameters: Sequence[Tensor], key: str) -> Tensor:
    """The parameter that a key of the optimizer's state belongs to."""
    index = int(key.split("/", 2)[1])
    if not 0 <= index < len(parameters):
        raise ValueError(f"it has {key}, and there are {len(parameters)} parameters")
    return parameters[index]


def _check_moments(moments: Mapping[str, Tensor], step: int) -> None:
    """Raises ValueError unless each parameter that has moments has all that an optimizer keeps of one, as of `step` steps."""
    entries: dict[str, set[str]] = {}
    for key in moments:
        _, index, entry = key.split("/", 2)
        entries.setdefault(index, set()).add(entry)
    for index, names in entries.items():
        if names not in MOMENTS:
            raise ValueError(f"it has {', '.join(sorted(names))} of parameter {index}")
        if not 0 <= float(moments[f"optimizer/{index}/step"]) <= step:
            raise ValueError(f"it has another step of parameter {index} than {step}")
        if "exp_avg_sq" in names and (moments[f"optimizer/{index}/exp_avg_sq"] < 0).any():
            raise ValueError(f"it has a mean of squares below 0 of parameter {index}")
