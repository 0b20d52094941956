"""The parameters of a sweep: what W&B's schema says of each, checked, and each listed value in the type of the program's field."""

import dataclasses
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.document import Document
from train.tracking import Problem

Value = bool | int | float | str | None

DISTRIBUTIONS = {  # their own keys beside `distribution`
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
}
EXAMPLES = {"command": '["${env}", "${interpreter}", "-m", "${program}", "${args}"]'}
IN_A_GRID = ("constant", "categorical", "int_uniform")
FURTHEST = 2**53  # from 0; beyond it not every integer is a float, as which Optuna draws it
MOST_CHOICES = 1000  # the program reads each of them before the first trial
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@dataclass(frozen=True)
class Parameter:
    """A field of the program's configuration. values: of a constant or a choice; else a range, both ends included.

    q: what the values are multiples of; 0 where they are not. written: the values as they stand in the file.
    """

    name: str
    distribution: str
    values: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    q: float = 0
    written: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        return self.distribution == "constant"

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")

    @property
    def whole(self) -> bool:
        """Whether a value of the range is an integer."""
        return self.distribution == "int_uniform" or (self.q != 0 and isinstance(self.q, int))

    @property
    def outermost(self) -> tuple[Value, ...]:
        """The values or both ends of the range: where the program takes these, it takes all between."""
        return self.values or (self.low, self.high)

    @property
    def choices(self) -> Sequence[Value]:
        """Every value of a choice or of a range of integers."""
        return self.values or range(int(self.low), int(self.high) + 1)

    @property
    def count(self) -> int:
        """Of those; Python's own count of a range ends at 2**63."""
        return len(self.values) or int(self.high) - int(self.low) + 1

    def nearest(self, value: float) -> float:
        """The multiple of q that is the nearest to `value`, as W&B rounds."""
        count = round(value / self.q)
        return count * self.q if isinstance(self.q, int) else float(f"{count * self.q:.12g}")

    def in_types_of(self, configs: Sequence[object]) -> "Parameter":
        """With each value as the program's configuration of that value has it.

        Raises Problem where two values are one, and where the file's words say something else than what YAML reads.
        """
        values: list[Value] = []
        for value, text, config in zip(self.values, self.written, configs, strict=True):
            field = getattr(config, self.field)
            place = f"parameters.{self.name}"
            if isinstance(field, float) and not math.isfinite(field):
                raise Problem(f"'{place}': {text} is not a finite number; give one")
            if not isinstance(value, str) and not _says(text, value, field):
                cure = "put it in quotes" if isinstance(field, str) else f"write {value}"
                raise Problem(f"'{place}': YAML reads {text or 'nothing'} as {value}; {cure}")
            own = field if field is None or isinstance(field, Value) else value
            for other, earlier in zip(values, self.written, strict=False):
                if own == other:
                    raise Problem(f"'{place}.values' holds {shown(own)} twice, as {earlier} and {text}; leave one out")
            values.append(own)
        return dataclasses.replace(self, values=tuple(values))


def _says(text: str, value: Value, field: object) -> bool:
    """Whether `text` says `value` to whoever does not know YAML, of a field that took it as `field`."""
    if isinstance(field, str):
        return str(value) == text
    if isinstance(value, bool) or value is None:
        return True
    try:
        return float(text) == value
    except ValueError:
        return False


def read_parameter(name: object, entry: Document, method: str) -> Parameter:
    """One entry of `parameters`. Raises Problem where it is not one that can run here."""
    content, written = entry.content, entry.written
    if not isinstance(name, str) or not name.replace("-", "_").isidentifier() or name == "help":
        raise Problem(f"'parameters': {shown(name)} is not a flag; name a field of the program's, such as seed")
    place = f"parameters.{name}"
    if not isinstance(content, dict):
        raise Problem(f"'{place}' is {shown(content)}; write {{value: {shown(content)}}}, or {{values: [...]}}")
    if "parameters" in content:
        raise Problem(f"'{place}.parameters': nested parameters are not supported; name each field by itself")
    kind = content.get("distribution", _default_distribution(content))
    if kind == "log_uniform":
        raise Problem(f"'{place}.distribution': 'log_uniform' (exponents) is not supported; use log_uniform_values")
    one_of(f"{place}.distribution", kind, tuple(DISTRIBUTIONS))
    required = [key for key in DISTRIBUTIONS[kind] if key != "q"]
    check_keys(f"{place}.", content, ("distribution", *DISTRIBUTIONS[kind]), required)
    if method == "grid" and kind not in IN_A_GRID:
        raise Problem(f"'{place}': a grid cannot sweep a {kind!r}; list its values")
    if kind == "constant":
        return Parameter(name, kind, (_plain(f"{place}.value", content["value"]),), written=(str(written["value"]),))
    if kind == "categorical":
        return Parameter(name, kind, _choices(place, content["values"]), written=tuple(map(str, written["values"])))
    return _range(name, kind, content)


def _range(name: str, kind: str, entry: Mapping[str, Any]) -> Parameter:
    place = f"parameters.{name}"
    low, high = (number(f"{place}.{end}", entry[end], whole=kind == "int_uniform") for end in ("min", "max"))
    if not low < high:
        raise Problem(f"'{place}': min {low} is not below max {high}; give a larger max")
    if not math.isfinite(high - low):
        raise Problem(f"'{place}': {low} to {high} is too wide a range; give a smaller one")
    if "log" in kind and low <= 0:
        raise Problem(f"'{place}.min': {low} has no logarithm; give more than 0")
    if kind == "int_uniform":
        return Parameter(name, kind, (), low, high)
    if not kind.startswith("q_"):
        return Parameter(name, kind, (), float(low), float(high))  # what is drawn is no integer
    q = number(f"{place}.q", entry.get("q", 1.0))  # W&B's own default, a float
    if not 0 < q <= high - low or not max(-low, high) / q < FURTHEST:
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
        raise Problem(f"'{place}.values' is {shown(entries)}; give a list of at least one value")
    if len(entries) > MOST_CHOICES:
        raise Problem(f"'{place}.values' holds {len(entries)} values; give at most {MOST_CHOICES}, or a range")
    values = tuple(_plain(f"{place}.values", value) for value in entries)
    seen: set[tuple[type, Value]] = set()
    for value in values:
        if (type(value), value) in seen:
            raise Problem(f"'{place}.values' holds {shown(value)} twice; leave one out")
        seen.add((type(value), value))
    return values


def _plain(place: str, value: Any) -> Value:
    if isinstance(value, dict | list | tuple | set):
        raise Problem(f"'{place}': {shown(value)} is nested; give a number, a text, true, false or null")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise Problem(f"'{place}': YAML reads {value} as a {type(value).__name__}; put it in quotes")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise Problem(f"'{place}': {shown(value)} is beyond 2**63; give less")
    if isinstance(value, str) and ("\0" in value or not _encodes(value)):
        raise Problem(f"'{place}': {shown(value)} cannot stand in a command line; leave the sign out")
    return value


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """A value for an error line, cut where it is long."""
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"


def check_keys(place: str, entry: Any, allowed: Sequence[str], required: Sequence[str]) -> None:
    """place: where the keys stand, with a dot behind; empty for the file itself."""
    if not isinstance(entry, dict):
        raise Problem(
            f"{place.rstrip('.') or 'the file'} is {shown(entry)}, not a mapping; give it the keys: {', '.join(required)}"
        )
    for key in entry:
        if key not in allowed:
            name = key if isinstance(key, str) and key.isprintable() and len(key) < 80 else shown(key)
            raise Problem(f"'{place}{name}' is not supported here; leave it out, or run the file with wandb sweep")
    for key in required:
        if key not in entry:
            example = f": {EXAMPLES[key]}" if key in EXAMPLES else ""
            raise Problem(f"'{place}{key}' is missing; add it{example}")


def one_of(place: str, value: Any, options: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in options:
        raise Problem(f"'{place}': {shown(value)} is not supported; choose one of: {', '.join(options)}")
    return value


def number(place: str, value: Any, least: float = -math.inf, whole: bool = False) -> float:
    if isinstance(value, str):
        raise Problem(f"'{place}': {shown(value)} is a text in YAML; write a number as 1.0e-4")
    if isinstance(value, int) and abs(value) > FURTHEST:
        raise Problem(f"'{place}': {shown(value)} is beyond {FURTHEST} (2**53); give less")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        raise Problem(f"'{place}': {shown(value)} is not {'an integer' if whole else 'a finite number'}; give one")
    if value < least:
        raise Problem(f"'{place}': {value} is below {least:g}; give {least:g} or more")
    return value
