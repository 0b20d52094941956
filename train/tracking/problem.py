"""Bad input: one line for whoever gave it."""

import contextlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path


class Problem(Exception):
    """Bad input. Its text is one line that names the value and the cure; the program ends with exit code 2."""


def one_line(error: object) -> str:
    """What an error says, or which it is where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While the files of an artifact are read, wherever it came from: what any parser makes of them is a Problem."""
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        raise Problem(
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
