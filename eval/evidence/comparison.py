"""What eval.compare publishes: the estimates of every variant, the differences of each two, and lists by seed.

Every key of the flat scores (`probe/top1/digits-vicreg/mean`) is written and read here alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from eval.evidence.kinds import check_kinds
from eval.evidence.measures import Measure
from train.data.scores import Scores, Value
from train.tracking.problem import reading

Interval = tuple[float, float]
Direction = Literal["higher", "lower", "no difference shown", "not decided"]

# What a direction means for a measure of which more (1), or less (-1), is better.
WORDS: Mapping[tuple[Direction, int], str] = {
    ("higher", 1): "better",
    ("lower", 1): "worse",
    ("higher", -1): "worse",
    ("lower", -1): "better",
}

LISTS = ("probe/classes", "probe/counts", "probe/per_class", "probe/pairs")  # what the claims read, one list a seed


@dataclass(frozen=True)
class Estimate:
    """One measure of one variant over its n seeds. value: their mean. spread: their standard deviation, None for one seed.
    interval: 95 %, None where the measure has no samples."""

    value: float
    spread: float | None
    n: int
    interval: Interval | None
    seeds: tuple[float, ...]

    @classmethod
    def of(cls, seeds: Sequence[float], interval: Interval | None = None) -> Self:
        spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
        return cls(float(np.mean(seeds)), spread, len(seeds), interval, tuple(seeds))


@dataclass(frozen=True)
class Difference:
    """Of one measure of two variants: the first minus the second. interval: 95 %, paired; None where one of them has none."""

    value: float
    interval: Interval | None

    @property
    def verdict(self) -> Direction:
        """What the interval says: nothing is shown where it includes 0, nothing is decided where there is none."""
        if self.interval is None:
            return "not decided"
        low, high = self.interval
        return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"

    @property
    def decided(self) -> bool:
        return self.verdict in ("higher", "lower")

    def word(self, measure: Measure) -> str:
        """The verdict, as "better" or "worse" where the measure ranks."""
        return WORDS.get((self.verdict, measure.better), self.verdict)

    def __neg__(self) -> "Difference":
        """The second minus the first."""
        return Difference(-self.value, self.interval and (-self.interval[1], -self.interval[0]))


# -- the keys ----------------------------------------------------------------------------------------------------------


def header(variants: Sequence[str], dataset: str, anomalies: str | None, resamples: int) -> dict[str, Value]:
    """What was compared. anomalies: the image set that the variants were to detect."""
    return {
        "compare/variants": list(variants),
        "compare/dataset": dataset,
        "compare/anomalies": anomalies,
        "compare/resamples": resamples,
    }


def source_entry(variant: str, name: str, references: Sequence[str | None]) -> dict[str, Value]:
    """Which version of the artifact `name` was read, by seed."""
    return {f"compare/source/{variant}/{name}": list(references)}


def list_entry(path: str, variant: str, by_seed: Sequence[Any]) -> dict[str, Value]:
    return {f"{path}/{variant}/seeds": list(by_seed)}


def measure_entries(
    path: str, estimates: Mapping[str, Estimate], differences: Mapping[tuple[str, str], Difference]
) -> dict[str, Value]:
    """One measure: its estimates by variant, and its differences by the two variants, the first minus the second."""
    values: dict[str, Value] = {}
    for variant, estimate in estimates.items():
        values |= {
            f"{path}/{variant}/mean": estimate.value,
            f"{path}/{variant}/spread": estimate.spread,
            f"{path}/{variant}/n": estimate.n,
            f"{path}/{variant}/interval": list(estimate.interval) if estimate.interval else None,
            f"{path}/{variant}/seeds": list(estimate.seeds),
        }
    for (one, other), difference in differences.items():
        values |= {
            f"{path}/{one}-minus-{other}/difference": difference.value,
            f"{path}/{one}-minus-{other}/interval": list(difference.interval) if difference.interval else None,
            f"{path}/{one}-minus-{other}/verdict": difference.verdict,
        }
    return values


@dataclass(frozen=True)
class Comparison:
    """values: the flat scores that eval.compare published."""

    values: Mapping[str, Value]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        values = Scores.load(folder).values
        with reading(folder):
            check_kinds(values, "compare")
            if missing := {"compare/dataset", "compare/variants", "compare/anomalies"} - values.keys():
                raise ValueError(f"it has no {', '.join(sorted(missing))}")
            comparison = cls(values)
            for variant in comparison.variants:
                comparison._check_classes(variant)
        return comparison

    def _check_classes(self, variant: str) -> None:
        """Raises ValueError where the seeds of a variant have other classes, or more of them than accuracies."""
        classes = self.list_by_seed("probe/classes", variant)
        accuracies = self.list_by_seed("probe/per_class", variant)
        if any(names != classes[0] for names in classes) or (
            accuracies and [*map(len, accuracies)] != [*map(len, classes)]
        ):
            raise ValueError(f"the seeds of {variant} do not have an accuracy of each of the same classes")

    @property
    def dataset(self) -> str:
        return str(self.values["compare/dataset"])

    @property
    def variants(self) -> tuple[str, ...]:
        variants = self.values["compare/variants"]
        return tuple(map(str, variants)) if isinstance(variants, list) else ()

    @property
    def anomalies(self) -> str | None:
        """The image set that the variants were to detect, None where none was asked for."""
        name = self.values.get("compare/anomalies")
        return None if name is None else str(name)

    def full(self, variant: str) -> str:
        """The name of a variant that is named without its data set."""
        return f"{self.dataset}-{variant}"

    def versions(self, variant: str, name: str) -> list[str | None]:
        """Which version of the artifact `name` was read, by seed; none where the variant has no such artifact."""
        references = self.values.get(f"compare/source/{variant}/{name}")
        return references if isinstance(references, list) else []

    def list_by_seed(self, path: str, variant: str) -> list[Any]:
        """One of LISTS, by seed; none where it was not published."""
        lists = self.values.get(f"{path}/{variant}/seeds")
        return lists if isinstance(lists, list) else []

    def estimate(self, path: str, variant: str) -> Estimate | None:
        """None where the measure was not taken of the variant."""
        key = f"{path}/{variant}"
        if not isinstance(mean := self.values.get(f"{key}/mean"), int | float):
            return None
        seeds, spread = self.list_by_seed(path, variant), self.values.get(f"{key}/spread")
        return Estimate(
            float(mean),
            float(spread) if isinstance(spread, int | float) else None,
            len(seeds),
            _interval(self.values.get(f"{key}/interval")),
            tuple(map(float, seeds)),
        )

    def difference(self, path: str, one: str, other: str) -> Difference | None:
        """`one` minus `other`, in whichever order the two were compared; None where the measure was not taken of both."""
        for first, second in ((one, other), (other, one)):
            key = f"{path}/{first}-minus-{second}"
            if isinstance(value := self.values.get(f"{key}/difference"), int | float):
                difference = Difference(float(value), _interval(self.values.get(f"{key}/interval")))
                return difference if first == one else -difference
        return None


def _interval(ends: Value) -> Interval | None:
    return (float(ends[0]), float(ends[1])) if isinstance(ends, list) and ends else None
