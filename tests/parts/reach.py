"""Whether a test starts a process, W&B's client, a server or a browser: read from its code, so that nobody keeps a list."""

import inspect
import sys
import types
from collections.abc import Callable

OURS = {"tests", "train", "eval", "sweeps"}
STARTING = {
    "multiprocessing",
    "playwright.sync_api",
    "subprocess",
    "tests.loopback.server",
    "tests.parts.chain",
    "tests.parts.processes",
    "wandb",
}


def starts(*functions: Callable[..., object]) -> bool:
    """Whether one of them names something that starts, or code of ours that does, or whose code does, and so on.

    What a function names counts, called or not; what it reaches through an object of a class that it does not name is missed.
    """
    waiting: list[object] = list(functions)
    visited: set[int] = set()
    while waiting:
        value = waiting.pop()
        value = inspect.unwrap(value) if callable(value) else value
        origin = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if origin in STARTING:
            return True
        if id(value) in visited or str(origin).partition(".")[0] not in OURS:
            continue
        visited.add(id(value))
        if isinstance(value, type):
            members = [member.fget if isinstance(member, property) else member for member in vars(value).values()]
            waiting += [getattr(member, "__func__", member) for member in members if callable(member)]
            waiting += value.__bases__
        elif isinstance(value, types.FunctionType):
            names = named(value.__code__)
            if names & STARTING:  # imported where it is used
                return True
            values = [value.__globals__.get(name) for name in names] + [sys.modules.get(name) for name in names]
            modules = [module for module in values if isinstance(module, types.ModuleType)]
            if any(module.__name__ in STARTING for module in modules):
                return True
            waiting += [one for one in values if not isinstance(one, types.ModuleType)]
            waiting += [vars(module).get(name) for module in modules for name in names]
    return False


def named(code: types.CodeType) -> set[str]:
    """The names of globals, attributes and modules in it and in the functions that it makes."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(named, inner))
