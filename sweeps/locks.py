"""Locks on files: the system frees them with their holder, however that ends, and no clock takes part."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from train.tracking import Problem


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until nobody else on this machine is inside with the same path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        acquire(lock)
        yield


def acquire(lock: IO[str], wait: bool = True) -> bool:
    """Locks an open file until it is closed; False where another holder has it. Raises Problem where the file system has no
    locks, as some network drives."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Problem(
            f"cannot lock {lock.name}: {error.strerror}; set PEEL_HOME to a folder on a disk of this machine"
        ) from error
    return True


def is_held(path: Path) -> bool:
    """Whether somebody has locked the file and lives. Not so where there is no such file."""
    try:
        lock = path.open("r+")
    except FileNotFoundError:
        return False
    with lock:
        return not acquire(lock, wait=False)
