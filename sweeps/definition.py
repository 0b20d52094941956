"""A sweep file in W&B's schema: the part of it that can run here, read and checked. Any other key is refused by its name.

Pure but for reading the file. A Definition goes to the queue (what is drawn) and to the runner (the commands).
"""

import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweeps.hyperband import Hyperband
from train.tracking.declarations import clean_name, stages
from train.tracking.origin import digest_of
from train.tracking.problem import Problem, one_line

Value = bool | int | float | str | None

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
KEYS = ("program", "command", "method", "metric", "parameters", "run_cap", "early_terminate")
SERVER_KEYS = ("name", "description", "project", "entity")  # of the sweep at W&B; here they change nothing
DISTRIBUTIONS = {  # their own keys beside `distribution`
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
}
IN_A_GRID = ("constant", "categorical", "int_uniform")
PROGRAM = ("${interpreter}", "-m", "${program}")
MACROS = ("${env}", "${interpreter}", "${program}", "${args}")
COMMAND = '["${env}", "${interpreter}", "-m", "${program}", "${args}"]'


@dataclass(frozen=True)
class Parameter:
    """A field of the program's configuration. values: of a constant or a choice; else a range, both ends included.

    q: what the values are multiples of; 0 where they are not.
    """

    name: str
    distribution: str
    values: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    q: float = 0

    @property
    def constant(self) -> bool:
        return self.distribution == "constant"

    @property
    def whole(self) -> bool:
        """Whether a value of the range is an integer."""
        return self.distribution == "int_uniform" or (self.q != 0 and isinstance(self.q, int))

    @property
    def outermost(self) -> tuple[Value, ...]:
        """The values or both ends of the range: where the program takes these, it takes all between."""
        return self.values or (self.low, self.high)

    def nearest(self, value: float) -> float:
        """The multiple of q that is the nearest to `value`, as W&B rounds."""
        count = round(value / self.q)
        return count * self.q if isinstance(self.q, int) else float(f"{count * self.q:.12g}")


@dataclass(frozen=True)
class Definition:
    """A sweep, checked. name: of its study. content: the file's, with what `--set` replaced."""

    file: Path
    name: str
    content: Mapping[str, Any]
    program: str
    method: str
    metric: str
    goal: str
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    run_cap: int | None
    hyperband: Hyperband | None

    @property
    def swept(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if not parameter.constant)

    def points(self) -> Iterator[dict[str, Value]]:
        """Every point of a grid, the last parameter fastest."""
        ranges: list[Sequence[Value]] = [
            parameter.values or range(int(parameter.low), int(parameter.high) + 1) for parameter in self.swept
        ]
        for values in itertools.product(*ranges):
            yield dict(zip((parameter.name for parameter in self.swept), values, strict=True))

    def flags(self, point: Mapping[str, Value]) -> list[str]:
        """What W&B's agent puts in the place of ${args}."""
        constants = {parameter.name: parameter.values[0] for parameter in self.parameters if parameter.constant}
        values = {**constants, **point}
        return [f"--{parameter.name}={values[parameter.name]}" for parameter in self.parameters]

    def arguments(self, point: Mapping[str, Value]) -> list[str]:
        """What follows the interpreter: `-m`, the program, its flags."""
        macros = {"${program}": [self.program], "${args}": self.flags(point)}
        words = self.command[self.command.index(PROGRAM[0]) + 1 :]
        return [word for part in words for word in macros.get(part, [part])]

    def program_flags(self, point: Mapping[str, Value]) -> list[str]:
        """The flags alone, and those that the file's command holds beside them."""
        arguments = self.arguments(point)
        return arguments[arguments.index("-m") + 2 :]

    def command_line(self, point: Mapping[str, Value]) -> list[str]:
        """The whole command of a trial, in this interpreter."""
        before = self.command[: self.command.index(PROGRAM[0])]
        prefix = ["/usr/bin/env" if part == "${env}" else part for part in before]
        return [*prefix, sys.executable, *self.arguments(point)]


def read(file: Path, replacements: Sequence[str] = ()) -> Definition:
    """The sweep in `file`; each of the `replacements` (NAME=VALUE, the value as in YAML) fixes a parameter.

    Raises Problem, one line with the file's name, where the file is none that can run here.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise Problem(f"cannot read {file}: {error.strerror}; give the path of a sweep file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise Problem(f"{file} is not YAML: {one_line(error)}; correct it") from error
    try:
        return _definition(file, content, replacements)
    except Problem as problem:
        raise Problem(f"{file}: {problem}") from None


def _definition(file: Path, content: Any, replacements: Sequence[str]) -> Definition:
    _check_keys("", content, (*KEYS, *SERVER_KEYS), ("program", "command", "method", "metric", "parameters"))
    parameters = content["parameters"]
    if not isinstance(parameters, dict) or not parameters:
        raise Problem("'parameters' holds no parameter; give at least one, such as seed: {values: [0, 1, 2]}")
    sweep = {**content, "parameters": {**parameters, **_constants(replacements, parameters)}}
    method = _one_of("method", content["method"], METHODS)
    metric = content["metric"]
    _check_keys("metric.", metric, ("name", "goal"), ("name",))
    name = clean_name(file.stem)
    if not name:
        raise Problem("the file name has no letter or digit before its suffix; rename the file")
    run_cap = content.get("run_cap")
    if run_cap is not None:
        _number("run_cap", run_cap, least=1, whole=True)
    return Definition(
        file=file,
        name=name if sweep == content else f"{name[:121]}-{digest_of(sweep)[:6]}",
        content=sweep,
        program=_one_of("program", content["program"], stages()),
        method=method,
        metric=str(metric["name"]),
        goal=_one_of("metric.goal", metric.get("goal", "minimize"), GOALS),  # W&B's own default
        parameters=tuple(_parameter(str(key), entry, method) for key, entry in sweep["parameters"].items()),
        command=_command(content["command"]),
        run_cap=run_cap,
        hyperband=_hyperband(content["early_terminate"]) if "early_terminate" in content else None,
    )


def _constants(replacements: Sequence[str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    constants = {}
    for text in replacements:
        name, equals, value = text.partition("=")
        if not equals:
            raise Problem(f"--set {text!r} is not NAME=VALUE; write it as images=cifar10")
        if name not in parameters:
            raise Problem(f"--set {text!r}: the sweep has no parameter {name!r}; it has: {', '.join(parameters)}")
        try:
            constants[name] = {"value": yaml.safe_load(value)}
        except yaml.YAMLError as error:
            raise Problem(f"--set {text!r}: the value is not YAML; put it in quotes") from error
    return constants


def _parameter(name: str, entry: Any, method: str) -> Parameter:
    place = f"parameters.{name}"
    if not isinstance(entry, dict):
        raise Problem(f"'{place}' is {entry!r}; write {{value: {entry}}}, or {{values: [...]}}")
    if "parameters" in entry:
        raise Problem(f"'{place}.parameters': nested parameters are not supported; name each field by itself")
    kind = entry.get("distribution", _default_distribution(entry))
    if kind == "log_uniform":
        raise Problem(f"'{place}.distribution': 'log_uniform' (exponents) is not supported; use log_uniform_values")
    _one_of(f"{place}.distribution", kind, tuple(DISTRIBUTIONS))
    required = [key for key in DISTRIBUTIONS[kind] if key != "q"]
    _check_keys(f"{place}.", entry, ("distribution", *DISTRIBUTIONS[kind]), required)
    if method == "grid" and kind not in IN_A_GRID:
        raise Problem(f"'{place}': a grid cannot sweep a {kind!r}; list its values")
    if kind == "constant":
        return Parameter(name, kind, (_plain(f"{place}.value", entry["value"]),))
    if kind == "categorical":
        return Parameter(name, kind, _choices(place, entry["values"]))
    low, high = (_number(f"{place}.{end}", entry[end], whole=kind == "int_uniform") for end in ("min", "max"))
    if not low < high:
        raise Problem(f"'{place}': min {low} is not below max {high}; give a larger max")
    if "log" in kind and low <= 0:
        raise Problem(f"'{place}.min': {low} has no logarithm; give more than 0")
    if not kind.startswith("q_"):
        return Parameter(name, kind, (), low, high)
    q = _number(f"{place}.q", entry.get("q", 1.0))  # W&B's own default, a float
    if not 0 < q <= high - low:
        raise Problem(f"'{place}.q': {q} is out of range; give more than 0 and at most max - min")
    unrounded = Parameter(name, kind, (), low, high, q)
    ends = unrounded.nearest(low), unrounded.nearest(high)
    return Parameter(name, kind, (), max(ends[0], q) if "log" in kind else ends[0], ends[1], q)


def _default_distribution(entry: Mapping[str, Any]) -> str:
    """As W&B decides where none is named."""
    if "values" in entry:
        return "categorical"
    if "min" in entry or "max" in entry:
        return "int_uniform" if all(type(entry.get(end)) is int for end in ("min", "max")) else "uniform"
    return "constant"


def _choices(place: str, entries: Any) -> tuple[Value, ...]:
    if not isinstance(entries, list) or not entries:
        raise Problem(f"'{place}.values' is {entries!r}; give a list of at least one value")
    values = tuple(_plain(f"{place}.values", value) for value in entries)
    for index, value in enumerate(values):
        if value in values[:index]:
            raise Problem(f"'{place}.values' holds {value!r} twice; leave one out")
    return values


def _plain(place: str, value: Any) -> Value:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise Problem(f"'{place}': {value!r} is nested; give a number, a text, true, false or null")
    return value


def _command(entries: Any) -> tuple[str, ...]:
    """Raises Problem where W&B's agent would start something else than `python -m PROGRAM FLAGS`."""
    parts = tuple(map(str, entries)) if isinstance(entries, list) else ()
    for part in parts:
        if "${" in part and part not in MACROS:
            raise Problem(f"'command': {part!r} is not supported; write {COMMAND}")
    starts = [index for index in range(len(parts)) if parts[index : index + 3] == PROGRAM]
    if not starts or "${args}" not in parts[starts[0] :] or any(parts.count(macro) > 1 for macro in MACROS):
        raise Problem(f"'command' does not start the program as a module; write {COMMAND}")
    return parts


def _hyperband(entry: Any) -> Hyperband:
    place = "early_terminate."
    _check_keys(place, entry, ("type", "min_iter", "max_iter", "s", "eta"), ("type",))
    _one_of(f"{place}type", entry["type"], ("hyperband",))
    eta = _number(f"{place}eta", entry.get("eta", 3))
    if eta <= 1:
        raise Problem(f"'{place}eta': {eta} is not above 1; give more than 1")
    if "max_iter" in entry:
        _check_keys(place, entry, ("type", "max_iter", "s", "eta"), ("s",))
        last = _number(f"{place}max_iter", entry["max_iter"], least=1, whole=True)
        hyperband = Hyperband.downwards(int(last), int(_number(f"{place}s", entry["s"], least=1, whole=True)), eta)
        if not hyperband.bands:
            raise Problem(
                f"'{place}max_iter': {last} is below eta ({eta}), so that no trial would ever be compared; give more"
            )
        return hyperband
    _check_keys(place, entry, ("type", "min_iter", "eta"), ("min_iter",))
    return Hyperband.upwards(int(_number(f"{place}min_iter", entry["min_iter"], least=1, whole=True)), eta)


def _check_keys(place: str, entry: Any, allowed: Sequence[str], required: Sequence[str]) -> None:
    """place: where the keys stand, with a dot behind; empty for the file itself."""
    if not isinstance(entry, dict):
        raise Problem(
            f"{place.rstrip('.') or 'the file'} is {entry!r}, not a mapping; give it the keys: {', '.join(required)}"
        )
    for key in entry:
        if key not in allowed:
            raise Problem(f"'{place}{key}' is not supported here; leave it out, or run the file with wandb sweep")
    for key in required:
        if key not in entry:
            example = f": {COMMAND}" if key == "command" else ""
            raise Problem(f"'{place}{key}' is missing; add it{example}")


def _one_of(place: str, value: Any, options: Sequence[str]) -> str:
    if value not in options:
        raise Problem(f"'{place}': {value!r} is not supported; choose one of: {', '.join(options)}")
    return str(value)


def _number(place: str, value: Any, least: float = -math.inf, whole: bool = False) -> float:
    if isinstance(value, str):
        raise Problem(f"'{place}': {value!r} is a text in YAML; write a number as 1.0e-4")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        raise Problem(f"'{place}': {value!r} is not {'an integer' if whole else 'a finite number'}; give one")
    if value < least:
        raise Problem(f"'{place}': {value} is below {least:g}; give {least:g} or more")
    return value
