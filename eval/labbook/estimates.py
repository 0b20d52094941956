"""What the lab book says of a measure: from the comparison over seeds, else from the variant's own artifact."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from eval.evidence.comparison import Comparison, Difference, Estimate, Interval
from eval.evidence.measures import Measure
from eval.evidence.numbers import number
from eval.labbook.book import Book


def estimate(book: Book, measure: Measure, variant: str) -> Estimate | None:
    """Over the seeds that were compared, else of the variant's own artifact; None without either."""
    value, interval = (
        book.value(measure.artifact, variant, path) for path in (measure.path, f"{measure.path}/interval")
    )
    own = _ends(interval)
    comparison = _comparison(book, measure)
    if comparison and (over_seeds := comparison.estimate(measure.path, variant)):
        # The artifact's own interval covers images alone, as that of a comparison of one seed does.
        return over_seeds if over_seeds.interval or over_seeds.n > 1 else dataclasses.replace(over_seeds, interval=own)
    return Estimate.of([float(value)], own) if isinstance(value, int | float) else None


def difference(book: Book, measure: Measure, first: str, second: str) -> Difference | None:
    """`first` minus `second`; where they were not compared that of their values, which decides nothing."""
    comparison = _comparison(book, measure)
    if comparison and (by_image := comparison.difference(measure.path, first, second)):
        return by_image
    one, other = (estimate(book, measure, variant) for variant in (first, second))
    return Difference(one.value - other.value, None) if one and other else None


def best(book: Book, measure: Measure) -> set[str]:
    """The variants with the best value, as `leaders` says."""
    estimates = {variant: estimate(book, measure, variant) for variant in book.variants}
    present = {variant: entry for variant, entry in estimates.items() if entry is not None}
    return leaders(measure, present, lambda first, second: difference(book, measure, first, second))


def leaders(
    measure: Measure, estimates: Mapping[str, Estimate], difference: Callable[[str, str], Difference | None]
) -> set[str]:
    """Of the variants those with the best value, as it reads, and those that are not shown to differ from them; none where
    there is no other to compare with. difference: of the first variant and another one."""
    values = {variant: entry.value for variant, entry in estimates.items()}
    if not measure.better or not values:
        return set()
    first = max(values, key=lambda variant: measure.better * values[variant])
    winners = {v for v, value in values.items() if number(value, measure.form) == number(values[first], measure.form)}
    for variant in values:
        gap = difference(first, variant) if variant != first else None
        if gap and gap.verdict == "no difference shown":
            winners.add(variant)
    return winners if len(winners) < len(values) else set()


def _comparison(book: Book, measure: Measure) -> Comparison | None:
    """The comparison, where its measure is the page's: of the same path, and of the same anomalies."""
    if book.compare is None or not measure.compared:
        return None
    comparison = Comparison(book.compare.scores.values)
    return None if measure.artifact == "anomaly" and comparison.anomalies != book.anomalies else comparison


def _ends(interval: Any) -> Interval | None:
    return (float(interval[0]), float(interval[1])) if isinstance(interval, list) and len(interval) == 2 else None
