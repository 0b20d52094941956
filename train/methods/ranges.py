"""Marks beside the fields of a configuration: the values that a field takes. `flip: Annotated[float, Share()] = 0.5`."""

import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

from train.tracking import Problem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


SEEDS = 2**32  # scikit-learn, of all that take a seed, takes the fewest


@dataclass(frozen=True)
class AtLeast:
    least: float

    def __contains__(self, value: float) -> bool:
        return value >= self.least

    def __str__(self) -> str:
        return f"at least {self.least:g}"


@dataclass(frozen=True)
class Below:
    limit: int

    def __contains__(self, value: int) -> bool:
        return value < self.limit

    def __str__(self) -> str:
        return f"below {self.limit}"


@dataclass(frozen=True)
class Between:
    least: float
    most: float

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"between {self.least:g} and {self.most:g}"


@dataclass(frozen=True)
class Share:
    """A probability, or a part of a whole."""

    def __contains__(self, value: float) -> bool:
        return 0 <= value <= 1

    def __str__(self) -> str:
        return "between 0 and 1"


Range = AtLeast | Below | Between | Share


def fit_default(flag: str, value: int, default: int, most: int) -> int:
    """`value`, or `most` where that is less and nobody asked for another than the default, which is for sets of any size."""
    if value != default or not 0 < most < value:
        return value
    print(f"--{flag} {most}: the images are too few for {value}, the default")
    return most


def check_ranges(config: "DataclassInstance") -> None:
    """Raises Problem for the first field whose value is outside its range, or is NaN or an infinity, which no file holds."""
    for name, limit in _ranges(type(config)):
        value = getattr(config, name)
        if value not in limit:
            raise Problem(f"--{name.replace('_', '-')} {value:g} is not {limit}")
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise Problem(f"--{name.replace('_', '-')} {value:g} is not a finite number")


@cache
def _ranges(kind: Any) -> tuple[tuple[str, Range], ...]:
    """Fields and their ranges, in the order of the fields."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (field.name, mark)
        for field in dataclasses.fields(kind)
        for mark in getattr(hints[field.name], "__metadata__", ())
        if isinstance(mark, Range)
    )
