"""Variants over their seeds and test images: a hierarchical, paired bootstrap (Davison and Hinkley 1997, section 3.8).

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

from eval.evidence.comparison import Difference, Estimate
from eval.evidence.intervals import LEAST, interval
from train.tracking.problem import Problem

Array = NDArray[np.float64]

# What one seed measured on each image: one array whose mean the measure is, or the anomaly scores of normal images and of
# anomalies, of which the measure is the AUC.
Sample = tuple[NDArray[Any], ...]

BLOCK = 50  # resamples at once: counts of 50,000 images have 20 MB


@dataclass(frozen=True)
class Seeds:
    """One measure of one variant, seed by seed. values: one a seed. samples: one a seed, none where the measure has none."""

    values: Sequence[float]
    samples: Sequence[Sample] = ()


def compare(
    path: str, measure: Mapping[str, Seeds], resamples: int, seed: int
) -> tuple[dict[str, Estimate], dict[tuple[str, str], Difference]]:
    """The estimate of each variant, and the difference of each two, which is paired where both have samples.

    measure: by variant. path: of the measure, for the error. Raises Problem where the samples are not of equally many images.
    """
    samples = {variant: seeds.samples for variant, seeds in measure.items() if seeds.samples}
    means = bootstrap(path, samples, resamples, seed)
    estimates = {
        variant: Estimate.of(seeds.values, interval(means[variant]) if variant in means else None)
        for variant, seeds in measure.items()
    }
    differences = {
        (one, other): Difference(
            estimates[one].value - estimates[other].value,
            interval(means[one] - means[other]) if one in means and other in means else None,
        )
        for one, other in combinations(measure, 2)
    }
    return estimates, differences


def bootstrap(path: str, samples: Mapping[str, Sequence[Sample]], resamples: int, seed: int) -> dict[str, Array]:
    """The measure of each variant in every resample: (resamples,) each, of the same images in the same order.

    samples: by variant, one a seed. path: of the measure, for the error. A variant's draws of seeds depend on its name, so
    that neither the other variants nor their order changes them. Nothing comes of a single image, which all resamples
    would show as certain.
    """
    columns = [sample for seeds in samples.values() for sample in seeds]
    shapes = {tuple(len(part) for part in sample) for sample in columns}
    if len(shapes) > 1:
        counts = {variant: [len(sample[0]) for sample in seeds] for variant, seeds in samples.items()}
        raise Problem(
            f"{path} was measured on different numbers of images ({counts}); run its evaluation again for all variants"
        )
    if not columns or min(len(part) for part in columns[0]) < LEAST:
        return {}
    by_column = over_images(columns, resamples, seed)
    means = {}
    start = 0
    for variant, seeds in samples.items():
        weights = seed_weights(variant, len(seeds), resamples, seed)
        means[variant] = np.einsum("rs,rs->r", weights, by_column[:, start : start + len(seeds)])
        start += len(seeds)
    return means


def seed_weights(variant: str, count: int, resamples: int, seed: int) -> Array:
    """The weight of each of `count` seeds in each resample, (resamples, count); rows sum to 1."""
    generator = np.random.default_rng([seed, zlib.crc32(variant.encode())])
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count


def over_images(columns: Sequence[Sample], resamples: int, seed: int) -> Array:
    """The measure of each column on each resample of the images, which all columns share: (resamples, columns)."""
    sizes = [len(part) for part in columns[0]]
    if len(sizes) == 1:
        values = [np.asarray(sample[0], np.float64) for sample in columns]
        # One product a column: in a product of matrices equal columns can come out unequal in the last bit.
        sums = [
            np.stack([weights @ column for column in values], axis=1) for (weights,) in counts(sizes, resamples, seed)
        ]
        return np.concatenate(sums) / sizes[0]
    ranks = [Ranks.of(*sample) for sample in columns]
    blocks = counts(sizes, resamples, seed)
    return np.concatenate([np.stack([column.auc(*block) for column in ranks], axis=1) for block in blocks])


def counts(sizes: Sequence[int], resamples: int, seed: int) -> Iterator[list[Array]]:
    """How often each image of each set comes up in each resample, in blocks: (block, size) for each of `sizes`."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        block = min(BLOCK, resamples - start)
        times = []
        for size in sizes:
            rows = generator.integers(size, size=(block, size)) + size * np.arange(block)[:, None]
            times.append(np.bincount(rows.ravel(), minlength=block * size).reshape(block, size).astype(np.float64))
        yield times


@dataclass(frozen=True)
class Ranks:
    """Anomaly scores, sorted once for all resamples. order: (n,) of the normal ones, ascending. below, up_to: (m,) how
    many normal scores are below each anomaly's, and not above it."""

    order: NDArray[np.int64]
    below: NDArray[np.int64]
    up_to: NDArray[np.int64]

    @classmethod
    def of(cls, normal: NDArray[Any], anomalies: NDArray[Any]) -> "Ranks":
        order = np.argsort(normal)
        ascending = normal[order]
        return cls(order, np.searchsorted(ascending, anomalies, "left"), np.searchsorted(ascending, anomalies, "right"))

    def auc(self, normal: Array, anomalies: Array) -> Array:
        """ROC AUC of resamples, (block,), of which a tie counts a half. normal: (block, n), anomalies: (block, m), how often
        each image came up."""
        cumulative = np.zeros((len(normal), normal.shape[1] + 1))
        np.cumsum(normal[:, self.order], axis=1, out=cumulative[:, 1:])
        wins = np.einsum("bm,bm->b", cumulative[:, self.below] + cumulative[:, self.up_to], anomalies) / 2
        return np.asarray(wins / (normal.shape[1] * anomalies.shape[1]))
