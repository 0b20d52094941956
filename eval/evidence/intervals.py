"""Bootstrap 95 % intervals (percentile method, Efron and Tibshirani 1993, chapter 13): resampled with replacement."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = (2.5, 97.5)  # percentiles: 95 %
LEAST = 2  # values to resample: every resample of one is that one, as if it were certain


def accuracy_interval(correct: ArrayLike, seed: int, resamples: int = 10_000) -> tuple[float, float] | None:
    """Interval of an accuracy over resampled images, as `mean_interval`. correct: (n,) bool."""
    return mean_interval(np.asarray(correct, dtype=bool), seed, resamples)


def mean_interval(values: ArrayLike, seed: int, resamples: int = 10_000) -> tuple[float, float] | None:
    """Interval of the mean of `values`, (n,), over resampled entries. None of a single one, which says nothing of its spread;
    of equal ones that value, twice."""
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        raise ValueError("no values to resample")
    if sample.size < LEAST:
        return None
    rng = np.random.default_rng(seed)
    # How often each distinct value comes up in a resample is multinomial: an accuracy has two, precision@5 has six.
    distinct, counts = np.unique(sample, return_counts=True)
    if len(distinct) <= 100:
        means = rng.multinomial(sample.size, counts / sample.size, size=resamples) @ distinct / sample.size
    else:
        means = np.array([sample[rng.integers(sample.size, size=sample.size)].mean() for _ in range(resamples)])
    return interval(means)


def auc_interval(
    normal_scores: ArrayLike, anomaly_scores: ArrayLike, seed: int, resamples: int = 1_000
) -> tuple[float, float] | None:
    """Interval of the ROC AUC, normal and anomalous scores resampled apart, so that each resample has as many of both.
    None where one of them is a single score; (0.5, 0.5) where all are equal.

    normal_scores: (n,); anomaly_scores: (m,); anomalies should have the higher ones.
    """
    normal, anomalies = (np.asarray(scores) for scores in (normal_scores, anomaly_scores))
    if not normal.size or not anomalies.size:
        raise ValueError("no scores to resample")
    if min(normal.size, anomalies.size) < LEAST:
        return None
    distinct, rank = np.unique(np.concatenate([normal, anomalies]), return_inverse=True)
    normal_rank, anomaly_rank = rank[: normal.size], rank[normal.size :]
    rng = np.random.default_rng(seed)

    def draw_counts(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(ranks[rng.integers(len(ranks), size=len(ranks))], minlength=len(distinct))

    aucs = [auc_of_counts(draw_counts(normal_rank), draw_counts(anomaly_rank)) for _ in range(resamples)]
    return interval(np.array(aucs))


def auc_of_counts(normal: NDArray[np.int64], anomalies: NDArray[np.int64]) -> float:
    """ROC AUC of scores given as counts: (k,) each, how many have the first, second, ... distinct score, ascending.

    The share of (normal, anomaly) pairs in which the anomaly scores higher, ties counted as a half (Mann-Whitney).
    """
    below = np.cumsum(normal) - normal / 2
    return float(anomalies @ below / (normal.sum() * anomalies.sum()))


@dataclass(frozen=True)
class Statistic:
    """interval: 95 %, None where there is too little to resample."""

    value: float
    interval: tuple[float, float] | None


def two_sample(
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    resamples: int,
    random: np.random.Generator,
) -> Statistic:
    """`statistic` of two sets, (n,) and (m,), which are resampled apart, each to as many as it has."""
    if min(len(one), len(other)) < LEAST or not resamples:
        return Statistic(statistic(one, other), None)
    draws = [
        statistic(one[random.integers(len(one), size=len(one))], other[random.integers(len(other), size=len(other))])
        for _ in range(resamples)
    ]
    return Statistic(statistic(one, other), interval(np.array(draws)))


def interval(estimates: NDArray[np.float64]) -> tuple[float, float]:
    """What encloses 95 % of the resampled estimates, (resamples,)."""
    low, high = np.percentile(estimates, LEVEL)
    return float(low), float(high)
