"""One line in place of a traceback: bad input, and what the disk, the file system or the memory refuses."""

import contextlib
import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path


class Problem(Exception):
    """Bad input. Its text is one line that names the value and the cure; the program ends with exit code 2."""


class Incident(Problem):
    """What no input is to blame for. Of several processes it may have befallen one alone: each tells of its own."""


_SPACE = "free some space"
_YOURS = "make it accessible to you, or set PEEL_HOME to a folder of yours"
_DISK = "check the disk"
_LOCAL = "set PEEL_HOME to a folder on a disk of this machine"
_FILES = "raise the limit on open files (ulimit -n)"
_MEMORY = "close other programs, or take fewer images or a smaller batch"
CURES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: _YOURS,
    errno.EACCES: _YOURS,
    errno.EPERM: _YOURS,
    errno.EIO: _DISK,
    errno.ENXIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ESTALE: "mount the folder again",
    errno.ENOTCONN: "mount the folder again",
    errno.EHOSTDOWN: "mount the folder again",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOLCK: _LOCAL,
    errno.EOPNOTSUPP: _LOCAL,
    errno.ENOSYS: _LOCAL,
    errno.ENAMETOOLONG: "set PEEL_HOME to a shorter path",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "close other programs, or raise the limit on processes (ulimit -u)",
}
ELSEWHERE = {number for number, cure in CURES.items() if "PEEL_HOME" in cure}  # another folder would do
# How native code says that memory is short, in exceptions of its own.
_MEMORY_SIGNS = ("allocate memory", "out of memory", "bad_alloc", "failed to map segment")
_THREAD_SIGN = "can't start new thread"


def one_line(error: object) -> str:
    """What an error says, or which it is where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def incident(error: BaseException) -> Incident | None:
    """The line for an error of the disk, the file system or the memory, also where native code met it; None for any
    other: that is a fault of the program, and its traceback is wanted."""
    number = _number(error)
    if number is None:
        return None
    text = one_line(error)
    if isinstance(error, OSError) and error.errno:
        name = error.filename2 or error.filename  # of a copy the second is what is written
        text = f"{os.fsdecode(name) if isinstance(name, str | bytes) else 'the disk'}: {os.strerror(number)}"
    elif number == errno.ENOMEM:
        text = f"the memory is short ({text})"
    return Incident(f"{text}; {CURES[number]} and run again")


def _number(error: BaseException) -> int | None:
    """Which of CURES is meant."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno:
        return error.errno if error.errno in CURES else None
    if isinstance(error, PermissionError):  # W&B's client raises it without a number
        return errno.EACCES
    text = str(error)
    if isinstance(error, RuntimeError | ImportError) and any(sign in text for sign in _MEMORY_SIGNS):
        return errno.ENOMEM
    if isinstance(error, RuntimeError) and _THREAD_SIGN in text:
        return errno.EAGAIN
    return next((number for number in CURES if os.strerror(number) in text), None)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[Path]:
    """What native code, or a call that takes no name, cannot do to the file at `path` is an OSError with that name."""
    try:
        yield path
    except Problem:
        raise
    except Exception as error:
        number = _number(error)
        if number is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While the files of an artifact are read, wherever it came from: what any parser makes of them is a Problem."""
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        raise incident(error) or Problem(
            f"{folder.name} does not hold what its stage writes ({one_line(error)}); make it again, or take another version"
        ) from error


def set_aside(path: Path) -> Path:
    """Renames what stands at `path`, whatever it is, and says where to: a file of ours that cannot be read is made anew, and
    nothing is lost. Raises Problem where that is not allowed."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
    target = next(name for name in names if not os.path.lexists(name))
    try:
        return path.rename(target)
    except OSError as error:
        raise Problem(f"{path} cannot be read, nor moved away: {error.strerror}; remove it") from error
