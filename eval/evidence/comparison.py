"""Variants compared over seeds and test images: a hierarchical, paired bootstrap (Davison and Hinkley 1997, section 3.8).

One resample draws the images with replacement, the same for all variants and seeds, and then each variant's seeds with
replacement. What it measures of a variant is the mean over the drawn seeds. With one seed the intervals are over images
alone and say nothing of other seeds; with two or three they are still too narrow, since the variance between s drawn
seeds is on average (s - 1) / s of the true one.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.evidence.intervals import interval
from train.data.scores import Value
from train.tracking.problem import Problem

Estimates = NDArray[np.float64]

# What one seed measured on each image: one array whose mean the measure is, or the anomaly scores of normal images and of
# anomalies, of which the measure is the AUC.
Sample = tuple[NDArray[Any], ...]

BLOCK = 50  # resamples at once: counts of 50,000 images have 20 MB


@dataclass(frozen=True)
class Measured:
    """One measure of one variant. values: one a seed. samples: one a seed, none where the measure has none."""

    values: Sequence[float]
    samples: Sequence[Sample] = ()


def compare(path: str, measured: Mapping[str, Measured], resamples: int, seed: int) -> dict[str, Value]:
    """Mean, spread and interval of the measure `path` for each variant, and the difference of each two, as eval.compare
    publishes them.

    A difference whose interval holds 0 is not shown; one without an interval is not decided. Raises Problem where the
    samples are not of equally many images.
    """
    sampled = {variant: found.samples for variant, found in measured.items() if found.samples}
    estimates = bootstrap(path, sampled, resamples, seed)
    values: dict[str, Value] = {}
    for variant, found in measured.items():
        values |= {
            f"{path}/{variant}/mean": float(np.mean(found.values)),
            f"{path}/{variant}/spread": float(np.std(found.values, ddof=1)) if len(found.values) > 1 else None,
            f"{path}/{variant}/n": len(found.values),
            f"{path}/{variant}/interval": list(interval(estimates[variant])) if variant in estimates else None,
            f"{path}/{variant}/seeds": list(found.values),
        }
    for one, other in combinations(measured, 2):
        both = one in estimates and other in estimates
        ends = interval(estimates[one] - estimates[other]) if both else None
        values |= {
            f"{path}/{one}-minus-{other}/difference": float(
                np.mean(measured[one].values) - np.mean(measured[other].values)
            ),
            f"{path}/{one}-minus-{other}/interval": list(ends) if ends else None,
            f"{path}/{one}-minus-{other}/verdict": verdict(ends),
        }
    return values


def verdict(ends: tuple[float, float] | None) -> str:
    """What an interval of a difference says."""
    if ends is None:
        return "not decided"
    low, high = ends
    return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"


def bootstrap(path: str, samples: Mapping[str, Sequence[Sample]], resamples: int, seed: int) -> dict[str, Estimates]:
    """The measure of each variant in every resample: (resamples,) each, of the same images in the same order.

    samples: by variant, one a seed. path: of the measure, for the error. A variant's draws of seeds depend on its name, so
    that neither the other variants nor their order changes them.
    """
    columns = [sample for seeds in samples.values() for sample in seeds]
    shapes = {tuple(len(part) for part in sample) for sample in columns}
    if len(shapes) > 1:
        counts = {variant: [len(sample[0]) for sample in seeds] for variant, seeds in samples.items()}
        raise Problem(
            f"{path} was measured on different numbers of images ({counts}); run its evaluation again for all variants"
        )
    if not columns:
        return {}
    measured = over_images(columns, resamples, seed)
    estimates = {}
    start = 0
    for variant, seeds in samples.items():
        drawn = seed_weights(variant, len(seeds), resamples, seed)
        estimates[variant] = np.einsum("rs,rs->r", drawn, measured[:, start : start + len(seeds)])
        start += len(seeds)
    return estimates


def seed_weights(variant: str, count: int, resamples: int, seed: int) -> Estimates:
    """The weight of each of `count` seeds in each resample, (resamples, count); rows sum to 1."""
    generator = np.random.default_rng([seed, zlib.crc32(variant.encode())])
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count


def over_images(columns: Sequence[Sample], resamples: int, seed: int) -> Estimates:
    """The measure of each column on each resample of the images, which all columns share: (resamples, columns)."""
    sizes = [len(part) for part in columns[0]]
    if len(sizes) == 1:
        values = [np.asarray(sample[0], np.float64) for sample in columns]
        # One product a column: in a product of matrices equal columns can come out unequal in the last bit.
        return (
            np.concatenate(
                [np.stack([drawn @ column for column in values], axis=1) for (drawn,) in counts(sizes, resamples, seed)]
            )
            / sizes[0]
        )
    ranked = [Ranked.of(*sample) for sample in columns]
    blocks = counts(sizes, resamples, seed)
    return np.concatenate([np.stack([ranks.auc(*drawn) for ranks in ranked], axis=1) for drawn in blocks])


def counts(sizes: Sequence[int], resamples: int, seed: int) -> Iterator[list[Estimates]]:
    """How often each image of each set comes up in each resample, in blocks: (block, size) for each of `sizes`."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        block = min(BLOCK, resamples - start)
        drawn = []
        for size in sizes:
            rows = generator.integers(size, size=(block, size)) + size * np.arange(block)[:, None]
            drawn.append(np.bincount(rows.ravel(), minlength=block * size).reshape(block, size).astype(np.float64))
        yield drawn


@dataclass(frozen=True)
class Ranked:
    """Anomaly scores, sorted once for all resamples. order: (n,) of the normal ones, ascending. below, up_to: (m,) how
    many normal scores are below each anomaly's, and not above it."""

    order: NDArray[np.int64]
    below: NDArray[np.int64]
    up_to: NDArray[np.int64]

    @classmethod
    def of(cls, normal: NDArray[Any], anomalies: NDArray[Any]) -> "Ranked":
        order = np.argsort(normal)
        ascending = normal[order]
        return cls(order, np.searchsorted(ascending, anomalies, "left"), np.searchsorted(ascending, anomalies, "right"))

    def auc(self, normal: Estimates, anomalies: Estimates) -> Estimates:
        """ROC AUC of resamples, (block,), of which a tie counts a half. normal: (block, n), anomalies: (block, m), how often
        each image came up."""
        passed = np.zeros((len(normal), normal.shape[1] + 1))
        np.cumsum(normal[:, self.order], axis=1, out=passed[:, 1:])
        wins = np.einsum("bm,bm->b", passed[:, self.below] + passed[:, self.up_to], anomalies) / 2
        return np.asarray(wins / (normal.shape[1] * anomalies.shape[1]))
