"""W&B's early termination: at certain points of its history a run must be among the better ones, or it is stopped.

The rule of W&B's own engine (sweeps, hyperband_stopping.py), so that a file means the same with its server and without.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

MOST = 1_000_000_000  # no history is as long


@dataclass(frozen=True)
class Hyperband:
    """bands: the places in a history, counted from 0, at which it is weighed. eta: one in eta may go on."""

    bands: tuple[int, ...]
    eta: float

    @classmethod
    def upwards(cls, min_iter: int, eta: float) -> Self:
        """min_iter, min_iter · eta, min_iter · eta² ..."""
        bands, band = [], float(min_iter)
        while band < MOST:
            bands.append(int(band))
            band *= eta
        return cls(tuple(bands), eta)

    @classmethod
    def downwards(cls, max_iter: int, s: int, eta: float) -> Self:
        """max_iter / eta, max_iter / eta² ..., s of them at most."""
        bands: list[int] = []
        while len(bands) < s and (band := max_iter / eta ** (len(bands) + 1)) >= 1:
            bands.append(int(band))
        return cls(tuple(sorted(bands)), eta)

    def stops(self, history: Sequence[float], histories: Iterable[Sequence[float]]) -> bool:
        """Whether the run with this history (the smaller, the better) is to be stopped.

        histories: those of all runs, this one's included. It is stopped if its best value so far is worse than that which
        one in eta of all runs had, where they stood at the last band that it has passed.
        """
        bands = [band for band in self.bands if band < len(history)]
        if not bands:
            return False
        values = sorted(other[bands[-1]] for other in histories if len(other) > bands[-1])
        return min(history) > values[int(len(values) / self.eta)]
