"""What training costs: seconds of each epoch, measured on a machine that does nothing else."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.evidence.comparison import Interval
from eval.evidence.intervals import LEAST, interval

TOLERANCE = 0.1  # of a drift: epochs are then said to take the same time


def drift(seconds: ArrayLike) -> float:
    """Mean of the last third of the epochs over that of the first: 1 where all take the same time.

    seconds: (epochs,), three or more; a third is rounded down.
    """
    sample = _times(seconds)
    third = len(sample) // 3
    if not third:
        raise ValueError(f"{len(sample)} epochs have no thirds; train 3 or more")
    return float(sample[-third:].mean() / sample[:third].mean())


def steady(ratio: float, tolerance: float = TOLERANCE) -> bool:
    """Whether a drift lies within the tolerance of 1."""
    return abs(ratio - 1) <= tolerance


def per_thousand(seconds: ArrayLike, images: int) -> NDArray[np.float64]:
    """Seconds per 1,000 images: (epochs,). images: of one epoch."""
    if images < 1:
        raise ValueError(f"{images} images of an epoch; give 1 or more")
    return 1000 * _times(seconds) / images


def cost_ratio(a: ArrayLike, b: ArrayLike, seed: int, resamples: int = 10_000) -> tuple[float, Interval | None]:
    """Mean cost of `a` over that of `b`, and its 95 % interval over resampled epochs of both, None where one has a single epoch.

    a, b: seconds per 1,000 images of each epoch, in any number. The interval says nothing of other machines.
    """
    one, other = _times(a), _times(b)
    ratio = float(one.mean() / other.mean())
    if min(len(one), len(other)) < LEAST:
        return ratio, None
    rng = np.random.default_rng(seed)
    means = [sample[rng.integers(len(sample), size=(resamples, len(sample)))].mean(axis=1) for sample in (one, other)]
    return ratio, interval(means[0] / means[1])


def _times(seconds: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(seconds, np.float64)
    if not sample.size or not (sample > 0).all():
        raise ValueError(f"seconds of epochs {sample.tolist()}; give numbers above 0")
    return sample
