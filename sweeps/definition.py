"""A sweep file in W&B's schema: the part of it that can run here, read and checked. Any other key is refused by its name.

Pure but for reading the file. A Definition goes to the queue (what is drawn) and to the runner (the commands).
"""

import dataclasses
import datetime
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps import document
from sweeps.document import Document
from sweeps.hyperband import Hyperband
from sweeps.parameters import EXAMPLES, FURTHEST, Parameter, Value, check_keys, number, one_of, read_parameter, shown
from train.tracking import Command, Problem
from train.tracking.declarations import check_alias, clean_name, stages
from train.tracking.origin import digest_of

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
KEYS = ("program", "command", "method", "metric", "parameters", "run_cap", "early_terminate")
TEXTS = ("name", "description")  # what people call a sweep, which is the same whatever they say
SERVER_KEYS = (*TEXTS, "project", "entity")  # of the sweep at W&B; here they change nothing
PROGRAM = ("${interpreter}", "-m", "${program}")
MACROS = ("${env}", "${interpreter}", "${program}", "${args}")
MOST_POINTS = 10_000  # of a grid, each a trial in the study from the start
LEAST_ETA = 1.01  # nearer to 1 there would be no end of the bands
COMMAND = EXAMPLES["command"]


@dataclass(frozen=True)
class Definition:
    """A sweep, checked. name: of its study; earlier: what a study was called that began when the texts had a part in its
    name. content: the file's, with what `--set` replaced."""

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
    earlier: str | None = None

    @property
    def swept(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if not parameter.constant)

    @property
    def count(self) -> int:
        """How many points a grid has."""
        return math.prod(parameter.count for parameter in self.swept)

    def points(self) -> Iterator[dict[str, Value]]:
        """Every point of a grid, the last parameter fastest."""
        for index in range(self.count):
            values: dict[str, Value] = {}
            for parameter in reversed(self.swept):
                index, place = divmod(index, parameter.count)
                values[parameter.name] = parameter.choices[place]
            yield {parameter.name: values[parameter.name] for parameter in self.swept}

    def in_types_of(self, program: Command[Any]) -> "Definition":
        """With every listed value in the type of the program's own field, as which `1e-4` and 0.0001 are one.

        Raises Problem unless the program takes every value of every parameter, the others at their first.
        """
        first = {parameter.name: parameter.outermost[0] for parameter in self.swept}
        try:
            base = program.parse(self.program_flags(first))
            parameters = []
            for parameter in self.parameters:
                others = [
                    program.parse(self.program_flags({**first, parameter.name: value}))
                    for value in parameter.outermost[1:]
                ]
                parameters.append(parameter.in_types_of([base, *others]) if parameter.values else parameter)
        except Problem as problem:
            raise Problem(f"{self.file}: {problem}") from None
        return dataclasses.replace(self, parameters=tuple(parameters))

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
    text = document.load(file)
    try:
        return _definition(file, text, replacements)
    except Problem as problem:
        raise Problem(f"{file}: {problem}") from None


def _definition(file: Path, text: Document, replacements: Sequence[str]) -> Definition:
    content = text.content
    check_keys("", content, (*KEYS, *SERVER_KEYS), ("program", "command", "method", "metric", "parameters"))
    content = {**content, **_texts(text)}
    if not isinstance(content["parameters"], dict) or not content["parameters"]:
        raise Problem("'parameters' holds no parameter; give at least one, such as seed: {values: [0, 1, 2]}")
    method = one_of("method", content["method"], METHODS)
    entries = {name: Document(entry, text.written["parameters"][name]) for name, entry in content["parameters"].items()}
    entries |= _constants(replacements, entries)
    parameters = tuple(read_parameter(name, entry, method) for name, entry in entries.items())
    for parameter in parameters:
        if sum(parameter.field == other.field for other in parameters) > 1:
            raise Problem(f"'parameters.{parameter.name}' stands twice, with '-' and with '_'; leave one out")
    sweep = {**content, "parameters": {name: entry.content for name, entry in entries.items()}}
    metric = content["metric"]
    check_keys("metric.", metric, ("name", "goal"), ("name",))
    if not isinstance(metric["name"], str):
        raise Problem(f"'metric.name' is {shown(metric['name'])}; give a text, such as knn/top1")
    run_cap = content.get("run_cap")
    if run_cap is not None:
        number("run_cap", run_cap, least=1, whole=True)
    replaced = sweep if sweep != content else None
    definition = Definition(
        file=file,
        name=_name(file, replaced and {key: value for key, value in replaced.items() if key not in TEXTS}),
        earlier=_name(file, replaced) if replaced else None,
        content=sweep,
        program=one_of("program", content["program"], stages()),
        method=method,
        metric=metric["name"],
        goal=one_of("metric.goal", metric.get("goal", "minimize"), GOALS),  # W&B's own default
        parameters=parameters,
        command=_command(content["command"]),
        run_cap=run_cap,
        hyperband=_hyperband(content["early_terminate"]) if "early_terminate" in content else None,
    )
    if method == "grid" and min(definition.count, run_cap or definition.count) > MOST_POINTS:
        raise Problem(
            f"the grid has {shown(definition.count)} points, more than {MOST_POINTS}; list fewer values, or add a run_cap"
        )
    return definition


def _texts(text: Document) -> dict[str, Any]:
    """What stands for W&B's server alone, as texts where YAML reads what cannot be stored."""
    texts = {}
    for key in SERVER_KEYS:
        value = text.content.get(key)
        if isinstance(value, datetime.date) or (isinstance(value, int) and abs(value) > FURTHEST):
            texts[key] = text.written[key]
        elif value is not None and not isinstance(value, Value):
            raise Problem(f"'{key}' is {shown(value)}; give a text")
    return texts


def _name(file: Path, replaced: Mapping[str, Any] | None) -> str:
    """Of the study, and the alias of what eval.sweep makes of it. replaced: the sweep where it is not the file's own."""
    name = clean_name(file.stem)
    if not name:
        raise Problem("the file name has no letter or digit before its suffix; rename the file")
    if replaced is not None:
        name = f"{name[:121]}-{digest_of(replaced)[:6]}"
    try:
        return check_alias(name)
    except Problem as problem:
        raise Problem(f"{problem}: rename the file") from None


def _constants(replacements: Sequence[str], parameters: Mapping[Any, Any]) -> dict[str, Document]:
    constants = {}
    for text in replacements:
        name, equals, value = text.partition("=")
        if not equals:
            raise Problem(f"--set {shown(text)} is not NAME=VALUE; write it as images=cifar10")
        if name not in parameters:
            names = ", ".join(map(str, parameters))
            raise Problem(f"--set {shown(text)}: the sweep has no parameter {shown(name)}; it has: {names}")
        try:
            entry = document.parse(value)
        except Problem as problem:
            raise Problem(f"--set {shown(text)}: the value {problem}, or put it in quotes") from None
        constants[name] = Document({"value": entry.content}, {"value": entry.written})
    return constants


def _command(entries: Any) -> tuple[str, ...]:
    """Raises Problem where W&B's agent would start something else than `python -m PROGRAM FLAGS`."""
    if not isinstance(entries, list) or not all(isinstance(entry, str | int | float) for entry in entries):
        raise Problem(f"'command' is {shown(entries)}, not a list of words; write {COMMAND}")
    parts = tuple(map(str, entries))
    for part in parts:
        if ("${" in part and part not in MACROS) or part == "-h" or part.startswith("--help"):
            raise Problem(f"'command': {shown(part)} is not supported; write {COMMAND}")
    if PROGRAM[0] in parts:
        for part in parts[: parts.index(PROGRAM[0])]:
            if part != MACROS[0]:
                raise Problem(
                    f"'command': {shown(part)} would be run, or set, for the program; write {COMMAND}, and put it before"
                    " python -m sweeps.run"
                )
    starts = [index for index in range(len(parts)) if parts[index : index + 3] == PROGRAM]
    if not starts or "${args}" not in parts[starts[0] :] or any(parts.count(macro) > 1 for macro in MACROS):
        raise Problem(f"'command' does not start the program as a module; write {COMMAND}")
    return parts


def _hyperband(entry: Any) -> Hyperband:
    place = "early_terminate."
    check_keys(place, entry, ("type", "min_iter", "max_iter", "s", "eta"), ("type",))
    one_of(f"{place}type", entry["type"], ("hyperband",))
    eta = number(f"{place}eta", entry.get("eta", 3))
    if eta < LEAST_ETA:
        raise Problem(f"'{place}eta': {eta} is below {LEAST_ETA}; give {LEAST_ETA} or more")
    if "max_iter" in entry:
        check_keys(place, entry, ("type", "max_iter", "s", "eta"), ("s",))
        last = number(f"{place}max_iter", entry["max_iter"], least=1, whole=True)
        hyperband = Hyperband.downwards(int(last), int(number(f"{place}s", entry["s"], least=1, whole=True)), eta)
        if not hyperband.bands:
            raise Problem(
                f"'{place}max_iter': {last} is below eta ({eta}), so that no trial would ever be compared; give more"
            )
        return hyperband
    check_keys(place, entry, ("type", "min_iter", "eta"), ("min_iter",))
    return Hyperband.upwards(int(number(f"{place}min_iter", entry["min_iter"], least=1, whole=True)), eta)
