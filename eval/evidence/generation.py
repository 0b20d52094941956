"""How far samples of a generator are from real images: in the features of a judge, in sharpness, in bits.

A judge is a classifier that was trained on the data set. Distances by two judges have nothing in common.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from eval.evidence.comparison import Difference
from eval.evidence.intervals import Statistic, interval, two_sample

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

BLOCK = 1024  # rows at once: against 10,000 others a block of float64 has 80 MB
GUARD = 1e-3  # of a deviation, where all features are constant
FEWEST = 20  # images of a side: of fewer, resamples have too few different pairs for an interval
LEAST_INK = 0.02  # mean intensity: an empty image has no sharpness, and one stray pixel must not give it the highest
BLUR = 0.05  # a sample is blurry where it is less sharp than this share of real images
LEVELS = 256  # of 8-bit pixels


@dataclass(frozen=True)
class Reference:
    """The real images that samples are compared with. features: (n, d) of the judge, divided by `deviation`: the root of their
    mean variance, one for all.

    Each by its own would make a feature that is 0 for nearly all real images the largest one of a sample that stirs it.
    """

    features: Array
    deviation: float

    @classmethod
    def of(cls, features: NDArray[Any]) -> Self:
        """Raises ValueError where there are fewer than two rows, or one is not finite."""
        real = matrix(features, "real images")
        deviation = float(np.sqrt(real.var(axis=0).mean())) + GUARD
        return cls(real / deviation, deviation)

    def distance(self, features: NDArray[Any], resamples: int, random: np.random.Generator) -> Statistic:
        """The kernel distance (KID) of samples: the squared MMD with the kernel (u·v / d + 1)³ (Bińkowski et al. 2018).

        features: (m, d) of the samples, not divided. All pairs of different images count, so that it is unbiased for any
        number of images, and below 0 for about half of all draws of the real distribution. The interval is over resampled
        images of both sides, for this judge and deviation: too wide rather than too narrow, the more so the nearer the
        distance is to 0. None where a side has fewer than 20.
        """
        samples = self._scaled(features)
        ours, theirs = weights(len(self.features), resamples, random), weights(len(samples), resamples, random)
        draws = within(self.features, ours) + self._relative(samples, ours, theirs)
        return Statistic(float(draws[0]), self._interval(draws, len(samples)))

    def difference(
        self, one: NDArray[Any], other: NDArray[Any], resamples: int, random: np.random.Generator
    ) -> Difference:
        """The distance of `one` minus that of `other`, (m, d) and (l, d), over the same resamples of the real images.

        Equally many rows are resampled in pairs: samples of the same noise stand in the same rows. Independent ones may
        stand in any order.
        """
        first, second = self._scaled(one), self._scaled(other)
        ours, theirs = weights(len(self.features), resamples, random), weights(len(first), resamples, random)
        others = theirs if len(first) == len(second) else weights(len(second), resamples, random)
        draws = self._relative(first, ours, theirs) - self._relative(second, ours, others)
        return Difference(float(draws[0]), self._interval(draws, min(len(first), len(second))))

    def influences(self, features: NDArray[Any]) -> Array:
        """Of as many samples as real images, (n, d): numbers (n,) whose mean is the distance, those of the pairs of a sample and
        a real image, so that it can be resampled as a mean is.

        They are the jackknife's pseudo-values of the U-statistic over pairs (Efron & Stein 1981; Gretton et al. 2012, lemma 6,
        with the mean of all cross terms): the distance n times, less n - 1 times that without the pair.
        """
        samples, count = self._scaled(features), len(self.features)
        if len(samples) != count:
            raise ValueError(f"{len(samples)} samples and {count} real images make no pairs; give as many")
        if count < 3:
            raise ValueError(f"{count} pairs leave no distance when one is left out; give 3 or more")
        rows = np.zeros(
            (4, count)
        )  # sums of each image's kernels: among the real, among the samples, across, and across
        own = np.zeros((3, count))
        for part in blocks(count):
            x, y = self.features[part], samples[part]
            tables = [cube(a @ b.T / x.shape[1] + 1) for a, b in ((x, self.features), (y, samples), (x, samples))]
            places = np.arange(count)[part]
            for index, table in enumerate(tables):
                own[index, part] = table[np.arange(len(table)), places]
                rows[index, part] = table.sum(axis=1)
            rows[3] += tables[2].sum(axis=0)
        real, drawn, across = rows[0].sum() - own[0].sum(), rows[1].sum() - own[1].sum(), rows[2].sum()
        without = [
            real - 2 * (rows[0] - own[0]), drawn - 2 * (rows[1] - own[1]), across - rows[2] - rows[3] + own[2],
        ]  # fmt: skip
        pairs, left = count * (count - 1), (count - 1) * (count - 2)
        whole = (real + drawn) / pairs - 2 * across / count**2
        rest = (without[0] + without[1]) / left - 2 * without[2] / (count - 1) ** 2
        pseudo: Array = count * whole - (count - 1) * rest
        return np.asarray(pseudo + (whole - pseudo.mean()))  # the cross term's own pairs are a bias of order 1 / n²

    def _scaled(self, features: NDArray[Any]) -> Array:
        samples = matrix(features, "samples")
        if samples.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"samples have {samples.shape[1]} features and real images {self.features.shape[1]}; give those of one judge"
            )
        return samples / self.deviation

    def _relative(self, samples: Array, ours: Array, theirs: Array) -> Array:
        """The distance without the term of the real images alone, in each resample: (resamples + 1,)."""
        pairs = len(self.features) * len(samples)
        return within(samples, theirs) - 2 * kernel_sums(self.features, samples, ours, theirs) / pairs

    def _interval(self, draws: Array, samples: int) -> tuple[float, float] | None:
        return interval(draws[1:]) if len(draws) > 1 and min(len(self.features), samples) >= FEWEST else None


def matrix(features: NDArray[Any], label: str) -> Array:
    """`features` as (n, d) float64. Raises ValueError where they have another shape, fewer than two rows, or no numbers."""
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"features of {label} have the shape {rows.shape}; give a row for each of two or more images")
    if not np.isfinite(rows).all():
        raise ValueError(
            f"{np.isnan(rows).sum()} features of {label} are NaN and others may be infinite; judge them again"
        )
    return rows


def weights(count: int, resamples: int, random: np.random.Generator) -> Array:
    """How often each of `count` images comes up: once in the first row, then in each resample. (resamples + 1, count)."""
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, count)), drawn])


def within(x: Array, weights: Array) -> Array:
    """Mean kernel over the pairs of two different images, in each resample: (r,). x: (n, d). weights: (r, n), which sum to n.

    An image that was drawn twice makes no pair with itself, which would raise the distance.
    """
    squares = weights**2
    own = cube(np.einsum("nd,nd->n", x, x) / x.shape[1] + 1)
    return np.asarray((kernel_sums(x, x, weights, weights) - squares @ own) / (len(x) ** 2 - squares.sum(axis=1)))


def kernel_sums(a: Array, b: Array, a_weights: Array, b_weights: Array) -> Array:
    """Sum of the kernel over all pairs, each as often as it was drawn: (r,). a: (n, d), b: (m, d), weights: (r, n), (r, m)."""
    sums = np.zeros(len(a_weights))
    for rows in blocks(len(a)):
        kernel = cube(a[rows] @ b.T / a.shape[1] + 1)
        sums += np.einsum("rn,nr->r", a_weights[:, rows], kernel @ b_weights.T)
    return sums


def cube(x: Array) -> Array:
    return x * x * x  # numpy's x**3 takes ten times as long


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def frechet_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of two Gaussians with the means and covariances of `a`, (n, d), and `b`, (m, d): |μa - μb|² + tr(A + B - 2 (AB)^½)
    (Heusel et al. 2017). It is too large for few images, so that only equal numbers compare."""
    roots: list[Array] = []
    means: list[Array] = []
    for features in (matrix(a, "the first set"), matrix(b, "the second set")):
        means.append(features.mean(axis=0))
        # The covariance is r.T @ r. The trace of (AB)^½ is then the sum of the singular values of a product of both: no root
        # of a matrix, which is complex where features are constant.
        roots.append(np.asarray(np.linalg.qr((features - means[-1]) / np.sqrt(len(features) - 1), mode="r")))
    shared = np.linalg.norm(roots[0] @ roots[1].T, "nuc")
    return float(np.sum((means[0] - means[1]) ** 2) + sum(np.sum(root**2) for root in roots) - 2 * shared)


@dataclass(frozen=True)
class Support:
    """The four measures are means. precision, density: (m,), of the samples. recall, coverage: (n,), of the real images."""

    precision: Flags
    recall: Flags
    density: Array
    coverage: Flags


def support(real: NDArray[Any], samples: NDArray[Any], k: int = 3) -> Support:
    """How far the supports of real images, (n, d), and samples, (m, d), overlap. A ball reaches to an image's k-th neighbor of
    its own set, that one included.

    precision: the sample is in the ball of a real image. recall: the real image is in the ball of a sample (Kynkäänniemi et
    al. 2019). density: how many balls of real images hold the sample, over k, 1 on average for the real distribution.
    coverage: the ball of the real image holds a sample (Naeem et al. 2020). All depend on n and m; for the real
    distribution precision and recall stay below 1. Raises ValueError where a set has at most k images.
    """
    reals, drawn = matrix(real, "real images"), matrix(samples, "samples")
    if (fewest := min(len(reals), len(drawn))) <= k:
        raise ValueError(f"k = {k} neighbors in a set of {fewest} images; give a smaller k or more images")
    real_radii, radii = neighbor_distances(reals, k), neighbor_distances(drawn, k)
    balls = np.zeros(len(drawn))
    recall, coverage = np.zeros(len(reals), bool), np.zeros(len(reals), bool)
    for rows in blocks(len(reals)):
        distances = cdist(reals[rows], drawn)
        inside = distances <= real_radii[rows, None]
        balls += inside.sum(axis=0)
        coverage[rows] = inside.any(axis=1)
        recall[rows] = (distances <= radii).any(axis=1)
    return Support(balls > 0, recall, balls / k, coverage)


def neighbor_distances(points: Array, k: int) -> Array:
    """L2 distance from each of `points`, (n, d), to its k-th neighbor, itself excluded: (n,)."""
    # Differences and no product of matrices: a point on the edge of a ball has the same distance in both tables.
    nearest = [np.partition(cdist(points[rows], points), k, axis=1)[:, k] for rows in blocks(len(points))]
    return np.concatenate(nearest)


def acceptance(probabilities: NDArray[Any], classes: int, threshold: float = 0.9) -> Flags:
    """Whether the judge takes each sample for an image of some class, with at least the probability `threshold`: (n,).

    probabilities: (n, classes + 1), the last one of spoiled images. Without that class noise would be accepted: a classifier
    is sure of what it has never seen. Raises ValueError where rows do not sum to 1.
    """
    rows = np.asarray(probabilities, np.float64)
    if rows.ndim != 2 or rows.shape[1] != classes + 1:
        raise ValueError(
            f"probabilities have the shape {rows.shape}; give {classes + 1} columns, the last one of spoiled images"
        )
    if not np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            f"probabilities of one image sum to {rows.sum(axis=1).min():.4g}; give the softmax of the logits"
        )
    return np.asarray(rows[:, :classes].max(axis=1) >= threshold)


def intensities(images: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels in [0, 1], of uint8 or of such floats, (n, height, width, channels). Raises ValueError for other floats."""
    if images.ndim != 4:
        raise ValueError(f"images have the shape {images.shape}; give (n, height, width, channels)")
    if images.dtype == np.uint8:
        return np.asarray(images / np.float32(255), np.float32)
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"pixels reach from {images.min():.4g} to {images.max():.4g}; clip them to [0, 1] first")
    return images.astype(np.float32)


def sharpness(images: NDArray[Any]) -> Array:
    """Mean absolute Laplacian of each image over its mean intensity: (n,). High for thin strokes, 0 for an even image.

    images: uint8 or in [0, 1], (n, height, width, channels). Fragments and noise are sharp too: it is no measure of quality.
    """
    values = np.empty(len(images))
    for rows in blocks(len(images)):
        x = intensities(images[rows]).astype(np.float64)
        center = x[:, 1:-1, 1:-1]
        laplacian = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] - 4 * center
        values[rows] = np.abs(laplacian).mean(axis=(1, 2, 3)) / np.maximum(x.mean(axis=(1, 2, 3)), LEAST_INK)
    return values


@dataclass(frozen=True)
class Blur:
    """relative: (m,), the sharpness of each sample over the real images' mean. blurry: (m,), whether it is below their 5 %
    quantile. ratio, share: their means, with intervals over resampled images of both sides."""

    relative: Array
    blurry: Flags
    ratio: Statistic
    share: Statistic


def blur(real: Array, samples: Array, resamples: int, random: np.random.Generator) -> Blur:
    """real, samples: (n,) and (m,), the sharpness of each. Raises ValueError where the real images have none."""
    if not real.mean() > 0:
        raise ValueError(
            f"the mean sharpness of the {len(real)} real images is {real.mean():.4g}; give images with edges"
        )

    def ratio(samples: Array, real: Array) -> float:
        return float(samples.mean() / real.mean())

    def share(samples: Array, real: Array) -> float:
        return float(np.mean(samples < np.quantile(real, BLUR)))

    return Blur(
        samples / real.mean(),
        samples < np.quantile(real, BLUR),
        two_sample(ratio, samples, real, resamples, random),
        two_sample(share, samples, real, resamples, random),
    )


def histogram_floors(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> tuple[float, float]:
    """Bits per dimension of the test images by histograms of the training images: one for all pixels, and one a pixel.

    A likelihood that knows no picture has these; a generator should need less. train, test: (n, height, width, channels).
    One is added to each of the 256 counts.
    """
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"training images are {train.shape[1:]} and test images {test.shape[1:]}; give images of one size"
        )
    seen, new = level_counts(train), level_counts(test)
    floors = []
    for counts, times in ((seen.sum(axis=0, keepdims=True), new.sum(axis=0, keepdims=True)), (seen, new)):
        shares = (counts + 1) / (counts + 1).sum(axis=1, keepdims=True)
        floors.append(float(-(times * np.log2(shares)).sum() / times.sum()))
    return floors[0], floors[1]


def level_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many images have each level at each place: (height · width · channels, 256)."""
    if images.dtype != np.uint8 or not images.size:
        raise ValueError(f"{len(images)} images of {images.dtype}; give 8-bit images")
    places = int(np.prod(images.shape[1:]))
    offsets = LEVELS * np.arange(places)
    counts = np.zeros(places * LEVELS, np.int64)
    for rows in blocks(len(images)):
        counts += np.bincount((images[rows].reshape(-1, places) + offsets).ravel(), minlength=len(counts))
    return counts.reshape(places, LEVELS)
