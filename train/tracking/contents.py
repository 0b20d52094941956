"""The JSON in files that others may have written: numbers, texts and structure that all later code can work with."""

import json
import math
import reprlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

LARGEST = 1e150  # what was measured is squared, for spreads, and the square must be a number
DEEPEST = 64  # levels; figures have about ten


def read_json(path: Path, kind: type[T]) -> T:
    """The content of a file, as `parse` reads it."""
    return parse(path.read_bytes(), kind)


def parse(text: str | bytes, kind: type[T]) -> T:
    """JSON whose types, exactly, are those of `kind`: any that pydantic knows. Raises ValueError where it is something else.

    Numbers are finite and at most 1e150, texts are whole Unicode, a key stands once, and nothing is nested without end.
    """
    try:
        content = json.loads(
            text, parse_constant=_number, parse_float=_number, parse_int=_whole, object_pairs_hook=_object
        )
        _check(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return conform(content, kind)


def conform(content: Any, kind: type[T]) -> T:
    """What was parsed, as `kind`. Raises ValueError, with the place and the value, where it is something else."""
    import pydantic  # late: it takes longer than all else that `python -m train.tracking` needs

    try:
        # Strict, and yet lists become tuples and objects dataclasses, as they must from JSON.
        return cast(T, _adapter(cast(Any, kind)).validate_json(json.dumps(content), strict=True))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place or 'it'} is {reprlib.repr(first['input'])}: {first['msg'].lower()}") from error


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"{reprlib.repr(text)} is no number up to {LARGEST:g}")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > LARGEST:
        raise ValueError(f"{reprlib.repr(text)} is no number up to {LARGEST:g}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError(f"a key stands twice among {reprlib.repr([key for key, _ in pairs])}")
    return entries


def _check(value: Any, depth: int = 0) -> None:
    """Raises ValueError where a text could not be written again, or where values are nested too deeply."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, entry in value.items():
            key.encode()
            _check(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _check(entry, depth + 1)
