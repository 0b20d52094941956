"""How far a piece of work is: a bar on a terminal; in a file or a pipe a line every tenth, with rate and time left."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

SHORT = 5.0  # seconds: what ends sooner needs no line
UNKNOWN = 60.0  # seconds between two lines where nobody knows how much there is


class Progress:
    """A context around a piece of work, which calls `update` as it goes on.

    total: in units, None where nobody knows; initial: of them done before. leave: whether the bar stays when it is full.
    delay: seconds before a bar appears. silent: nothing appears at all.
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: float | None = None,
        *,
        initial: float = 0,
        leave: bool = True,
        delay: float = 0.0,
        scale: bool = False,
        silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bar: Any = None
        self._lines: _Lines | None = None
        if silent:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm  # late: it takes a tenth of a second

            self._bar = tqdm(
                desc=what, unit=f" {unit}", total=total, initial=initial, leave=leave, delay=delay, unit_scale=scale
            )
        else:
            self._lines = _Lines(what, unit, total, initial, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: float = 1) -> None:
        if self._bar is not None:
            self._bar.update(count)
        if self._lines is not None:
            self._lines.update(count)

    def note(self, text: str) -> None:
        """A few words on where the work is, behind the numbers."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
        if self._lines is not None:
            self._lines.text = text


class _Lines:
    """Lines for `update`s: one at the end of each tenth, from SHORT seconds on."""

    def __init__(self, what: str, unit: str, total: float | None, initial: float, clock: Callable[[], float]) -> None:
        self.what, self.unit, self.total, self.text = what, unit, total, ""
        self.clock, self.start, self.first = clock, clock(), initial
        self.count = initial
        self.last = self._part(0.0)

    def _part(self, seconds: float) -> int:
        """The last tenth that has ended; without a total the last minute."""
        if self.total is None:
            return int(seconds / UNKNOWN)
        return int(10 * self.count / self.total) if self.total else 10

    def update(self, count: float) -> None:
        self.count += count
        seconds = self.clock() - self.start
        if (part := self._part(seconds)) > self.last:
            self.last = part
            if seconds >= SHORT:
                print(self._line(seconds), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        rate = (self.count - self.first) / seconds
        units = self.unit if self.unit.isupper() else f"{self.unit}es" if self.unit.endswith("ch") else f"{self.unit}s"
        pace = f"{amount(rate)} {units}/s"
        if self.total is None:
            parts = [f"{amount(self.count)} {units}", pace]
        else:
            left = (self.total - self.count) / rate if rate else 0.0
            parts = [f"{self.count / self.total:.0%} of {amount(self.total)} {units}", pace]
            parts += [f"{duration(left)} left" if self.count < self.total else f"done in {duration(seconds)}"]
        return f"{self.what}: {', '.join([*parts, *filter(None, [self.text])])}".replace("%", " %")


def over(items: Iterable[T], what: str, unit: str, total: float | None = None, **options: Any) -> Iterator[T]:
    """The items one after another, with their progress. options: as of Progress."""
    count = len(items) if total is None and isinstance(items, Sized) else total
    with Progress(what, unit, count, **options) as progress:
        for item in items:
            yield item
            progress.update()


def amount(number: float) -> str:
    """Three digits at least: 12,345 or 3.21."""
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
