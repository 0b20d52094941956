"""The command line of every stage: flags from its Config, one clear line for bad input."""

import contextlib
import dataclasses
import difflib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile, zip_longest
from types import ModuleType
from typing import Any

from train.tracking.problem import Problem


def parse(module: ModuleType, arguments: Sequence[str]) -> Any:
    """A stage's `Config` from its flags, over the preset that `--preset` names where the stage has PRESETS, and over what
    a flag's value changes in the preset where it has OVERLAYS.

    Takes the flags as W&B's agent writes them too (`--batch_size=256 --flag=False`). Raises Problem on a wrong flag.
    """
    import tyro

    program = f"python -m {stage_name(module)}"
    _check_names(arguments, [field.name for field in dataclasses.fields(module.Config)], program)
    default: Any = tyro.MISSING_NONPROP
    presets: dict[str, Any] = getattr(module, "PRESETS", {})
    if presets:
        given = dict(_flags(arguments))
        chosen = given.get("preset", next(iter(presets)))
        if chosen not in presets:
            raise Problem(f"no preset {chosen!r}; choose one of: {', '.join(presets)}")
        default = presets[chosen]
        for (flag, value), changes in getattr(module, "OVERLAYS", {}).items():
            if given.get(flag) == value:
                default = dataclasses.replace(default, **{flag: value}, **changes)
        needed = [field.name for field in dataclasses.fields(default) if field.default is dataclasses.MISSING]
        default = dataclasses.replace(default, **dict.fromkeys(needed, tyro.MISSING))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                module.Config,
                args=list(arguments),
                default=default,
                prog=program,
                description=module.__doc__,
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise Problem(f"{_one_line(said.getvalue())}; see {program} --help") from None


def _check_names(arguments: Sequence[str], names: Sequence[str], program: str) -> None:
    """Raises Problem for a flag that there is not: of a misspelt one tyro may say that another is missing."""
    for name, _ in _flags(arguments):
        if name not in (*names, "help"):
            likely = difflib.get_close_matches(name, names, n=1)
            cure = f"did you mean --{likely[0].replace('_', '-')}? " if likely else ""
            raise Problem(f"there is no flag --{name.replace('_', '-')}; {cure}see {program} --help")


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names (as fields) and values of the flags, written `--name value` or `--name=value`."""
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, attached = argument.partition("=")
        if name.startswith("--"):
            yield name[2:].replace("-", "_"), attached if equals else following


def _one_line(box: str) -> str:
    """What tyro's frame says above its first rule, as one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if line[:1] not in "╭╰"]
    return re.sub(r"\s+", " ", " ".join(takewhile(lambda line: not line.startswith("──"), lines))).strip(" .")


def stage_name(module: ModuleType) -> str:
    """The module path of a stage, also while it runs as `__main__`."""
    return module.__spec__.name if module.__spec__ else module.__name__


def launch(main: Callable[[Any], None]) -> None:
    """Runs a stage's `main(config)` with the flags given: exit code 2 and one line on bad input, 130 on Ctrl-C."""
    module = sys.modules[main.__module__]
    answer(stage_name(module), lambda: main(parse(module, sys.argv[1:])))


def answer(name: str, body: Callable[[], object]) -> None:
    """Runs the body of the command `name`, and ends the process with one line where it cannot go on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # W&B's agents and schedulers stop a run so
    try:
        body()
    except Problem as problem:
        sys.exit(_fail(name, str(problem), 2))
    except KeyboardInterrupt:
        sys.exit(_fail(name, "interrupted; the same command goes on from here", 130))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        cure = (
            "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "set PEEL_HOME to a folder of yours"
        )
        sys.exit(_fail(name, f"{error.filename or 'the disk'}: {error.strerror}; {cure} and run again", 2))


def _fail(name: str, line: str, code: int) -> int:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once a machine, however many processes torchrun has started there
        print(f"{name}: {line}", file=sys.stderr)
    return code
