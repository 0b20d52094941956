"""What a run's summary has of measurements: numbers and texts under names of their own, and tables of what is a list."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

INTERVAL = "/interval"  # behind a measure's path: [low, high]


def scalars(values: Mapping[str, Any], panels: Collection[str] = ()) -> dict[str, Any]:
    """The numbers and texts among `values`, an interval as NAME/low and NAME/high. panels: names that a summary has for
    media; what has one of these is called NAME/value."""
    numbers = {}
    for name, value in values.items():
        if name.endswith(INTERVAL) and value is not None:
            measure = name.removesuffix(INTERVAL)
            numbers[f"{measure}/low"], numbers[f"{measure}/high"] = value
        elif isinstance(value, int | float | str):
            numbers[f"{name}/value" if name in panels else name] = value
    return numbers


def tables(values: Mapping[str, Any]) -> "dict[str, pandas.DataFrame]":
    """The lists among `values`, but for intervals. Those of one length are the columns of one table, ROOT/lists, or
    ROOT/lists/LENGTH where they have several; ROOT is what their paths begin with. A list of lists, or of entries with
    names, is a table of its own, NAME/rows."""
    import pandas

    content: dict[str, pandas.DataFrame] = {}
    columns: dict[str, dict[int, dict[str, list[Any]]]] = {}
    for name, value in values.items():
        if not isinstance(value, list) or not value or name.endswith(INTERVAL):
            continue
        if isinstance(value[0], list | dict):
            content[f"{name}/rows"] = pandas.DataFrame(value, dtype=object)
        else:
            root, _, column = name.partition("/")
            columns.setdefault(root, {}).setdefault(len(value), {})[column] = value
    for root, by_length in columns.items():
        for length, group in by_length.items():
            name = f"{root}/lists" if len(by_length) == 1 else f"{root}/lists/{length}"
            content[name] = pandas.DataFrame(group, dtype=object)
    return content
