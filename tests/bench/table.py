"""What a benchmark measures: rows of one table, each with its limit."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """values: of each repetition. limit: at least (`>=`) or at most (`<=`) so much; None is reported without one."""

    what: str
    values: tuple[float, ...]
    unit: str
    limit: tuple[str, float] | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        sign, bound = self.limit
        return self.median >= bound if sign == ">=" else self.median <= bound

    def cells(self) -> tuple[str, ...]:
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}" if len(self.values) > 1 else ""
        limit = f"{self.limit[0]} {self.limit[1]:.4g}" if self.limit else ""
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return (self.what, f"{self.median:.3g} {self.unit}", spread, str(len(self.values)), limit, met, self.note)


HEADER = ("what", "median", "spread", "n", "limit", "met", "")


def table(rows: Sequence[Row]) -> str:
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def seconds(body: Callable[[], object]) -> float:
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], count: int
) -> tuple[list[float], list[float]]:
    """Seconds of each, taken in turns after a first, unmeasured turn, so that both meet the same load of the machine."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(count)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))
