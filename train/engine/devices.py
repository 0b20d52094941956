"""Where the networks are, and in what precision they multiply."""

from contextlib import AbstractContextManager, nullcontext

import torch

from train.methods.config import Config
from train.tracking import Problem, environment


def device_of(config: Config) -> torch.device:
    """Where `config` has the networks. Of several processes on a machine each has a GPU of its own."""
    name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{environment.rank().local}"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise Problem(f"--device {name} is not available on this machine; use cpu or auto") from error


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the networks run."""
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and multiplies_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is the faster precision: elsewhere it is emulated, and slower than float32."""
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.11
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return device.type == "cuda"
