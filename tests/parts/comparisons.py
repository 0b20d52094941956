"""Comparisons whose figures are made up, as eval.compare publishes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.evidence.comparison import Difference, Estimate, Interval, header, list_entry, measure_entries
from train.data.scores import Value

Ends = Sequence[float] | None
BySeed = Mapping[str, tuple[Sequence[float], Ends]]  # by variant: a value a seed, and the interval


def comparison_values(
    measures: Mapping[str, BySeed],
    differences: Mapping[tuple[str, str, str], tuple[float, Ends]] | None = None,
    lists: Mapping[str, Mapping[str, list[Any]]] | None = None,
    anomalies: str | None = "mnist",
) -> dict[str, Value]:
    """What eval.compare publishes of the data set `shapes`. measures: by path and variant, values by seed and interval.
    differences: by path and two variants, difference and interval. lists: by path and variant, a list by seed."""
    variants = dict.fromkeys(
        variant for by_variant in (*measures.values(), *(lists or {}).values()) for variant in by_variant
    )
    values = header([f"shapes-{variant}" for variant in variants], "shapes", anomalies, 1_000)
    values["compare/measures"] = list(measures)
    for path, by_variant in measures.items():
        estimates = {f"shapes-{v}": Estimate.of(seeds, interval(ends)) for v, (seeds, ends) in by_variant.items()}
        values |= measure_entries(path, estimates, {})
    for (path, one, other), (difference, ends) in (differences or {}).items():
        values |= measure_entries(
            path, {}, {(f"shapes-{one}", f"shapes-{other}"): Difference(difference, interval(ends))}
        )
    for path, by_list in (lists or {}).items():
        for variant, by_seed in by_list.items():
            values |= list_entry(path, f"shapes-{variant}", by_seed)
    return values


def interval(ends: Ends) -> Interval | None:
    return (float(ends[0]), float(ends[1])) if ends else None
