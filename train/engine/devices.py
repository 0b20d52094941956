"""Where the networks are, and in what precision they multiply."""

from contextlib import AbstractContextManager, nullcontext

import torch

from train.tracking import Problem, environment
from train.tracking.problem import incident


def device_of(name: str) -> torch.device:
    """The device that --device names, for every stage that has networks. Of several processes on a machine each has a GPU
    of its own. Raises Problem where it cannot compute."""
    place = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if place == "cuda":
        place = f"cuda:{environment.rank().local}"
    try:
        number = torch.ones(1, device=place)
        number.item()  # of some devices there is a name, and nothing that computes
        return number.device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise incident(error) or Problem(
            f"--device {place} is not available on this machine; use cpu or auto"
        ) from error


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the networks run. precision: as the flag of that name."""
    bfloat16 = precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is the faster precision: elsewhere it is emulated, and slower than float32."""
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.11
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return device.type == "cuda"
