"""The command line of every stage: flags from its Config, one clear line for bad input."""

import contextlib
import dataclasses
import difflib
import errno
import gc
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from types import ModuleType
from typing import Any, Generic, TypeVar

from train.tracking import environment, remote
from train.tracking.origin import digest_of, identity
from train.tracking.problem import Incident, Problem, incident

C = TypeVar("C")


@dataclass(frozen=True)
class Command(Generic[C]):
    """`python -m MODULE`, where MODULE is that of `main`: a stage, or a program that runs stages.

    configured: the class of the configuration that `main` takes; or, where flags choose the class or its defaults, a
    function of the flags, {field: text}, that returns a configuration with what stands before any other flag.
    on_words: what the command does where it is given words before any flag.
    """

    main: Callable[[C], None]
    configured: Callable[[Mapping[str, str]], C] | type[C]
    on_words: "Command[Any] | None" = None

    @property
    def module(self) -> ModuleType:
        return sys.modules[self.main.__module__]

    @property
    def name(self) -> str:
        """The module path, also while it runs as `__main__`."""
        return self.module.__spec__.name if self.module.__spec__ else self.module.__name__

    def parse(self, arguments: Sequence[str]) -> C:
        """The configuration from flags, also as W&B's agent writes them (`--batch_size=256 --flag=False`). Raises Problem
        on a wrong flag."""
        import tyro

        program = f"python -m {self.name}"
        default: Any = tyro.MISSING_NONPROP
        if isinstance(self.configured, type):
            kind: Any = self.configured
        else:
            default = self.configured(dict(_flags(arguments)))
            kind = type(default)
            required = [field.name for field in dataclasses.fields(default) if field.default is dataclasses.MISSING]
            default = dataclasses.replace(default, **dict.fromkeys(required, tyro.MISSING))
        _check_names(arguments, [field.name for field in dataclasses.fields(kind)], program)
        message = io.StringIO()
        try:
            with contextlib.redirect_stderr(message):
                return tyro.cli(  # type: ignore[no-any-return]
                    kind,
                    args=list(arguments),
                    default=default,
                    prog=program,
                    description=self.module.__doc__,
                    config=(tyro.conf.FlagConversionOff,),
                )
        except SystemExit as end:
            if not end.code:
                raise
            raise Problem(f"{_one_line(message.getvalue())}; see {program} --help") from None

    def flags(self, values: Mapping[str, Any]) -> list[str]:
        """The shortest command line whose configuration has this identity (train.tracking.origin), in the order of its fields.

        A flag that chooses other defaults (`--preset`) stands in place of those that it explains. Raises Problem where no
        command line has it: another version of the command made it.
        """
        choices: dict[str, str] = {}
        while True:
            rest = self._differences(choices, values)
            left = {name: self._differences({**choices, name: str(values[name])}, values) for name in rest}
            best = min(left, key=lambda name: len(left[name]), default=None)
            if best is None or len(left[best]) >= len(rest) - 1:
                break
            choices[best] = str(values[best])
        arguments: list[str] = []
        for name in self._defaults(choices):
            if name in choices or name in rest:
                value = values[name] if isinstance(values[name], list | tuple) else [values[name]]
                arguments += [f"--{name.replace('_', '-')}", *map(_text, value)]
        config: Any = self.parse(arguments)
        if digest_of(identity(config)) != digest_of(values):
            raise Problem(f"no flags of python -m {self.name} stand for {dict(values)}")
        return arguments

    def _defaults(self, flags: Mapping[str, str]) -> Mapping[str, Any]:
        """Of every field, with these flags alone, in their order."""
        kind: Any = self.configured
        if isinstance(kind, type):
            return {field.name: field.default for field in dataclasses.fields(kind)}
        return dict(vars(kind(flags)))

    def _differences(self, flags: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
        """The fields that are not what they would be with these flags alone; all where such flags are refused."""
        try:
            defaults = self._defaults(flags)
        except Problem:
            return list(values)
        return [name for name in values if name not in flags and defaults.get(name, values) != values[name]]

    def run(self, arguments: Sequence[str]) -> None:
        """Runs `main` here, with these flags. Raises Problem on a wrong one, or where the environment is wrong."""
        config = self.parse(arguments)
        remote.client()
        before = sys.argv
        sys.argv = [str(self.module.__file__), *arguments]  # which W&B's client records, also in a process of a driver
        try:
            self.main(config)
        finally:
            sys.argv = before

    def launch(self) -> None:
        """Runs `main` with the flags given: exit code 2 and one line on bad input, 130 on Ctrl-C."""
        words = sys.argv[1:]
        command = self.on_words if self.on_words and words and not words[0].startswith("-") else self
        answer(self.name, lambda: command.run(words))


def choice(flags: Mapping[str, str], name: str, options: Sequence[str]) -> str:
    """Which of the options the flag `name` takes, the first unless it is there. Raises Problem for any other."""
    value = flags.get(name, options[0])
    if value not in options:
        raise Problem(f"no {name} {value!r}; choose one of: {', '.join(options)}")
    return value


def stage_command(name: str) -> Command[Any]:
    """The command `python -m NAME`. Raises ValueError where that module has none."""
    command = getattr(importlib.import_module(name), "COMMAND", None)
    if not isinstance(command, Command):
        raise ValueError(f"{name} has no COMMAND")
    return command


def _check_names(arguments: Sequence[str], names: Sequence[str], program: str) -> None:
    """Raises Problem for a flag that there is not: of a misspelt one tyro may say that another is missing."""
    for name, _ in _flags(arguments):
        if name not in (*names, "help"):
            likely = difflib.get_close_matches(name, names, n=1)
            cure = f"did you mean --{likely[0].replace('_', '-')}? " if likely else ""
            raise Problem(f"there is no flag --{name.replace('_', '-')}; {cure}see {program} --help")


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names (as fields) and values of the flags, written `--name value` or `--name=value`."""
    for argument, successor in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            yield name[2:].replace("-", "_"), value if equals else successor


def _text(value: object) -> str:
    """As a person types it."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _one_line(box: str) -> str:
    """What tyro's frame says above its first rule, as one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if line[:1] not in "╭╰"]
    return re.sub(r"\s+", " ", " ".join(takewhile(lambda line: not line.startswith("──"), lines))).strip(" .")


def answer(name: str, body: Callable[[], object]) -> None:
    """Runs the body of the command `name`, and ends the process with one line where it cannot go on. What it prints to a
    stream that is closed, or that nobody reads any more, is lost, and it goes on: its work is what it is for."""
    gc.freeze()  # what is loaded stays; each collection that walks through it takes 0.3 s
    _open_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # W&B's agents and schedulers stop a run so
    try:
        try:
            body()
        finally:
            _flush()
    except KeyboardInterrupt:
        sys.exit(_fail(name, "interrupted; the same command goes on from here", 130))
    except Exception as error:
        problem = error if isinstance(error, Problem) else incident(error)
        if problem is None:
            raise
        sys.exit(_fail(name, str(problem), 2, alone=isinstance(problem, Incident)))


class _Stream(io.FileIO):
    """A standard stream that takes what is written to it when its reader has gone (`| head`, a terminal that was shut)."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return len(content)


def _open_streams() -> None:
    """Gives the standard streams readers: one that is closed would be the next file that is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115, PTH123  # for as long as we run
        elif number and _descriptor(stream) == number:
            stream.flush()
            raw = _Stream(number, "w", closefd=False)
            buffer: Any = io.BufferedWriter(raw) if isinstance(stream.buffer, io.BufferedWriter) else raw
            text = io.TextIOWrapper(buffer, stream.encoding, stream.errors, None, stream.line_buffering)
            text.reconfigure(write_through=stream.write_through)
            setattr(sys, name, text)


def _flush() -> None:
    """Writes what was printed. Raises OSError where its disk is full: at the interpreter's end nobody would handle that."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # what could not be written is not tried again
        raise


def _descriptor(stream: Any) -> int | None:
    """Its number; None for one that is no file."""
    with contextlib.suppress(OSError, ValueError):
        return int(stream.fileno())
    return None


def _fail(name: str, line: str, code: int, alone: bool = False) -> int:
    """alone: whether it may have happened in this process and in no other that torchrun has started."""
    local = 0
    with contextlib.suppress(Problem):  # that the environment is wrong is what it says
        local = environment.rank().local
    if alone or not local:  # else once a machine, however many processes torchrun has started there
        with contextlib.suppress(OSError):  # it goes to a file on the disk that is full
            print(f"{name}: {line}", file=sys.stderr)
    return code
