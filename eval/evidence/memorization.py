"""Whether samples of a generator are copies of its training images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.evidence.comparison import Difference
from eval.evidence.generation import Array, Flags, blocks, intensities
from eval.evidence.intervals import Statistic, two_sample
from train.data.duplicates import digests
from train.data.neighbors import Ids

TRAIN_BLOCK = 4096  # training images at once: those of 32 x 32 x 3 have 50 MB
RARE = 0.01  # share of held-out images that are as near to a training image as a copy
FEWEST = 200  # held-out images: the 1 % quantile of fewer is about their least ratio, below which many new ones are


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of n images. ids: (n,), its row, the first of equal ones. distances: (n,), L2 of
    pixels in [0, 1]. second: (n,), the distance to the nearest training image that differs from it."""

    ids: Ids
    distances: Array
    second: Array

    @property
    def ratios(self) -> Array:
        """distances / second: 0 for a copy, up to 1 for an image that is as near to two. (n,)."""
        return self.distances / self.second


def nearest_images(images: NDArray[Any], train: NDArray[Any]) -> Nearest:
    """images, train: uint8 or in [0, 1], (n, height, width, channels). Every pair is compared, in blocks.

    Equal training images count as one: else a copy of an image that stands twice in the training set would have two at the
    same distance, as if it lay between. Raises ValueError where fewer than two training images differ.
    """
    if images.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"samples are {images.shape[1:]} and training images {train.shape[1:]}; give images of one size"
        )
    different = np.sort(np.unique(digests(train), return_index=True)[1])
    if len(different) < 2:
        raise ValueError(f"{len(different)} of {len(train)} training images differ; give two or more")
    parts = [nearest_two(images[rows], train, different) for rows in blocks(len(images))]
    ids, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Nearest(ids[:, 0], distances[:, 0], distances[:, 1])


def nearest_two(images: NDArray[Any], train: NDArray[Any], rows: Ids) -> tuple[Ids, Array]:
    """The two of the training images `rows` that are nearest to each of `images`, nearest first, and their distances: (n, 2)."""
    queries = intensities(images).reshape(len(images), -1)
    best = np.full((len(images), 2), np.inf, np.float32)
    ids = np.zeros((len(images), 2), np.int64)
    for block in blocks(len(rows), TRAIN_BLOCK):
        candidates = intensities(train[rows[block]]).reshape(len(rows[block]), -1)
        # Squared distances, less those of the queries to 0, which change no order.
        squares = np.einsum("nd,nd->n", candidates, candidates) - 2 * (queries @ candidates.T)
        squares = np.concatenate([best, squares], axis=1)
        places = np.concatenate([ids, np.broadcast_to(rows[block], (len(images), len(candidates)))], axis=1)
        two = np.argpartition(squares, 1, axis=1)[:, :2]
        best, ids = np.take_along_axis(squares, two, 1), np.take_along_axis(places, two, 1)
    # A product of matrices in float32 has an error of 1e-3, and a copy a distance of 0.
    exact = queries.astype(np.float64)
    distances = np.stack(
        [np.linalg.norm(exact - intensities(train[column]).reshape(len(images), -1), axis=1) for column in ids.T],
        axis=1,
    )
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)


@dataclass(frozen=True)
class Memorization:
    """copies: (m,), whether the ratio of a sample is below the held-out images' 1 % quantile. share: their mean.
    medians: the median ratio of samples minus that of held-out images; below 0 samples are nearer to single images."""

    copies: Flags
    share: Statistic
    medians: Difference

    @property
    def shown(self) -> bool | None:
        """Whether samples are copies more often than new images are: the interval of `share` lies above 2 %, twice the share
        of held-out images. None where `share` has no interval."""
        return self.share.interval and self.share.interval[0] > 2 * RARE


def memorization(samples: Nearest, held_out: Nearest, resamples: int, random: np.random.Generator) -> Memorization:
    """Whether the generator repeats training images, by how much nearer the nearest one is than the second.

    A copy with slight noise is far nearer to one training image than to any other (ratio near 0); a new image is about as
    near to several (ratio near 1), however far all of them are, so that blur and contrast change little. The rule: a sample
    counts as a copy where its ratio is below the 1 % quantile of the held-out images', which never were in the training;
    copies are shown where the interval of their share lies above 2 %. The medians say whether most samples lean to single
    images; a few copies do not move them. Intervals are over resampled images of both sides; with fewer than 200 held-out
    images the share has none, and nothing is shown.

    held_out: the nearest training images of real images that the generator has not seen. Those that equal a training image
    are left out. Copies of images that have a near-duplicate in the training set are not recognized.
    Raises ValueError where no held-out image is left.
    """
    ratios, real = samples.ratios, held_out.ratios[held_out.distances > 0]
    if not len(real):
        raise ValueError(f"all {len(held_out.ids)} held-out images equal a training image; give new ones")

    def share(samples: Array, real: Array) -> float:
        return float(np.mean(samples < np.quantile(real, RARE)))

    def medians(samples: Array, real: Array) -> float:
        return float(np.median(samples) - np.median(real))

    difference = two_sample(medians, ratios, real, resamples, random)
    return Memorization(
        ratios < np.quantile(real, RARE),
        two_sample(share, ratios, real, resamples if len(real) >= FEWEST else 0, random),
        Difference(difference.value, difference.interval),
    )
