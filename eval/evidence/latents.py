"""Latent codes: how redundant their dimensions are, and which of them carry a class.

A unit is one dimension of the codes, over images. Codes are (n, d); of a variational autoencoder the means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ortho_group, rankdata

from eval.evidence.comparison import Difference, Interval
from eval.evidence.intervals import LEAST, interval

Codes = NDArray[np.floating[Any]]
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = NDArray[np.int64]
Ids = NDArray[np.int64]

ACTIVE = 0.01  # variance over images of a unit's mean: Burda et al. 2016, section 3.2
LARGEST = 4  # units that the report took to carry nearly all of a class

# -- redundancy --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Redundancy:
    """How far the dimensions that vary repeat one another.

    correlation: mean |Pearson r| of two different ones, None of fewer than two. whole_matrix: the mean over the correlation
    matrix with the ones on its diagonal, which is 1/d without any correlation. rank_share: effective rank of that matrix
    (exp of the entropy of its eigenvalues, Roy & Vetterli 2007) over d, 1 without any correlation. Both None where nothing
    varies. constant: dimensions that do not vary and are left out.
    """

    correlation: float | None
    whole_matrix: float | None
    rank_share: float | None
    constant: int


def redundancy(codes: Codes) -> Redundancy:
    """codes: (n, d). All three are of the basis as well as of the information: see `rotations`."""
    matrix = correlations(codes)
    constant = codes.shape[1] - len(matrix)
    if not len(matrix):
        return Redundancy(None, None, None, constant)
    eigenvalues = np.linalg.eigvalsh(matrix)
    shares = eigenvalues[eigenvalues > 1e-12] / len(matrix)
    rank = float(np.exp(-(shares * np.log(shares)).sum()))
    return Redundancy(_off_diagonal(matrix), float(np.abs(matrix).mean()), rank / len(matrix), constant)


def rotations(codes: Codes, count: int, random: np.random.Generator) -> Array | None:
    """Mean |Pearson r| off the diagonal of the standardized codes after random rotations: (count,), None where fewer than two
    dimensions vary.

    The information is the same in all of them: their spread is how much the measure says of the basis.
    """
    matrix = correlations(codes)
    if len(matrix) < 2:
        return None
    values = np.empty(count)
    for index in range(count):
        axes = ortho_group.rvs(len(matrix), random_state=random)
        covariance = axes.T @ matrix @ axes
        deviations = np.sqrt(np.diagonal(covariance).clip(1e-12))
        values[index] = _off_diagonal(covariance / np.outer(deviations, deviations))
    return values


def correlations(codes: Codes) -> Array:
    """Pearson correlations (v, v) of the v dimensions that vary, in their order."""
    z = standardized(codes)[:, varying(codes)]
    matrix: Array = (z.T @ z / max(len(z), 1)).clip(-1, 1)
    np.fill_diagonal(matrix, 1)
    return matrix


def _off_diagonal(matrix: Array) -> float | None:
    d = len(matrix)
    return float(np.abs(matrix)[~np.eye(d, dtype=bool)].mean()) if d > 1 else None


def varying(codes: Codes) -> Flags:
    """Which dimensions are not constant to float32 precision: (d,)."""
    mean, deviation = _moments(codes)
    above: Flags = deviation > np.finfo(np.float32).eps * np.abs(mean)
    return above


def standardized(codes: Codes) -> Array:
    """Codes (n, d) with mean 0 and standard deviation 1 in each dimension, 0 in constant ones."""
    mean, deviation = _moments(codes)
    keep = varying(codes)
    z: Array = np.where(keep, codes - mean, 0) / np.where(keep, deviation, 1)
    return z


def _moments(codes: Codes) -> tuple[Array, Array]:
    return codes.mean(axis=0, dtype=np.float64), codes.std(axis=0, dtype=np.float64)


# -- a measure against the number of dimensions ------------------------------------------------------------------------


def trend(values: Mapping[int, Sequence[float]], seed: int, resamples: int = 10_000) -> tuple[float, Interval | None]:
    """Spearman's correlation of d and the mean over seeds, and its 95 % interval over resampled seeds.

    values: by d, one a training seed. 0 where all means are equal. No interval where some d has a single seed; with three it is
    still too narrow. Raises ValueError for fewer than three d.
    """
    dimensions = sorted(values)
    if len(dimensions) < 3:
        raise ValueError(f"no trend over d = {dimensions}; give three or more")
    means = np.array([[np.mean(values[d]) for d in dimensions]])
    resampled = _resampled_means(values, dimensions, seed, resamples)
    return float(_rank_correlation(means)[0]), None if resampled is None else interval(_rank_correlation(resampled))


def flattening(
    values: Mapping[int, Sequence[float]],
    seed: int,
    dimensions: tuple[int, int, int] = (2, 6, 30),
    resamples: int = 10_000,
) -> Difference:
    """Fall per dimension from the first to the second d, less that from the second to the third: above 0 where a measure falls
    steeply first and slowly then.

    values: by d, one a training seed; the means over seeds count. Interval as of `trend`.
    """
    if missing := [d for d in dimensions if d not in values]:
        raise ValueError(f"nothing was measured at d = {missing}; known are {sorted(values)}")

    def gap(means: Array) -> Array:
        falls = -np.diff(means, axis=1) / np.diff(dimensions)
        return np.asarray(falls[:, 0] - falls[:, 1])

    means = np.array([[np.mean(values[d]) for d in dimensions]])
    resampled = _resampled_means(values, dimensions, seed, resamples)
    return Difference(float(gap(means)[0]), None if resampled is None else interval(gap(resampled)))


def _resampled_means(
    values: Mapping[int, Sequence[float]], dimensions: Sequence[int], seed: int, resamples: int
) -> Array | None:
    """(resamples, len(dimensions)). The draws of each d are its own, so that another d more or less changes none."""
    if min(len(values[d]) for d in dimensions) < LEAST:
        return None
    columns = []
    for d in dimensions:
        sample = np.asarray(values[d], np.float64)
        rows = np.random.default_rng([seed, d]).integers(len(sample), size=(resamples, len(sample)))
        columns.append(sample[rows].mean(axis=1))
    return np.stack(columns, axis=1)


def _rank_correlation(rows: Array) -> Array:
    """Spearman's correlation of each row with its ascending places: (len(rows),)."""
    ranks = rankdata(rows, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    places = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    norms = np.linalg.norm(ranks, axis=1) * np.linalg.norm(places)
    correlation: Array = np.divide(ranks @ places, norms, out=np.zeros(len(rows)), where=norms > 0)
    return correlation


# -- units and classes -------------------------------------------------------------------------------------------------


def active_units(codes: Codes, threshold: float = ACTIVE) -> Flags:
    """Which units of a variational autoencoder's means (n, d) vary over images: (d,). Burda et al. 2016.

    The threshold is a variance beside the prior's 1, and says nothing of codes without a prior: those have `varying`.
    """
    active: Flags = codes.var(axis=0, dtype=np.float64) > threshold
    return active


def class_means(codes: Codes, labels: Labels, classes: int) -> Array:
    """Mean of each class in each unit, in the unit's deviations from its mean: (classes, d); 0 in constant units.

    Labels of `random.permutation(labels)` give those of random groups as large. Raises ValueError where a class is missing.
    """
    sizes = np.bincount(labels, minlength=classes)
    if not sizes.all():
        raise ValueError(f"class {int(np.argmin(sizes))} has no image; give images of all {classes} classes")
    z = standardized(codes)
    return np.stack([z[labels == label].mean(axis=0) for label in range(classes)])


def class_share(means: Array, active: Flags, largest: int = LARGEST) -> Array:
    """Share of the summed squares of a class's means that its `largest` largest active units have: (classes,).

    means: (classes, d), of `class_means`. active: (d,). 1 where no more units are active; 0 where the class is nowhere apart
    from the mean of all images.
    """
    squares = np.sort(means[:, active] ** 2, axis=1)[:, ::-1]
    sums = squares.sum(axis=1)
    shares: Array = np.divide(squares[:, :largest].sum(axis=1), sums, out=np.zeros(len(means)), where=sums > 0)
    return shares


def top_units(codes: Codes, labels: Labels, classes: int, k: int, active: Flags | None = None) -> Ids:
    """The k units in which each class is farthest from the mean of all images, farthest first: (classes, k).

    active: (d,), the units that count; all where None. Raises ValueError where fewer than k do.
    """
    distances = np.abs(class_means(codes, labels, classes))
    keep = np.ones(distances.shape[1], bool) if active is None else active
    if keep.sum() < k:
        raise ValueError(f"{k} units of each class, and {keep.sum()} count; ask for fewer")
    return np.argsort(np.where(keep, -distances, np.inf), axis=1, kind="stable")[:, :k]


def agreement(
    codes: Codes, labels: Labels, classes: int, k: int, random: np.random.Generator, active: Flags | None = None
) -> Array:
    """Share of each class's k top units that two random halves of its images have in common: (classes,); k / d by chance.

    Raises ValueError where a class has a single image.
    """
    sizes = np.bincount(labels, minlength=classes)
    if sizes.min() < 2:
        raise ValueError(f"class {int(np.argmin(sizes))} has {sizes.min()} images; give two or more of each class")
    first = np.zeros(len(labels), bool)
    for label in range(classes):
        members = random.permutation(np.flatnonzero(labels == label))
        first[members[: len(members) // 2]] = True
    one, other = (top_units(codes[half], labels[half], classes, k, active) for half in (first, ~first))
    return np.array([len(np.intersect1d(a, b)) / k for a, b in zip(one, other, strict=True)])


def explained(codes: Codes, labels: Labels) -> Array:
    """Share of each unit's variance that the class explains, eta squared: (d,); 0 of constant units."""
    z = standardized(codes)
    between = np.zeros(z.shape[1])
    for label in np.unique(labels):
        members = z[labels == label]
        between += len(members) * members.mean(axis=0) ** 2
    return between / len(z)
