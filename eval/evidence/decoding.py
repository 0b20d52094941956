"""What a decoder makes of codes: how well it reconstructs, and how it passes from one image to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.floating[Any]]  # in [0, 1]
Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Ids = NDArray[np.int64]

CHUNK = 4_096  # rows: float64 copies stay small


def errors(images: Pixels, reconstructions: Pixels) -> Array:
    """Mean squared error of each image over its pixels and channels: (n,).

    images, reconstructions: (n, ...), of one shape. Reconstructions are clipped to [0, 1], as a picture of them is. Raises
    ValueError for images outside [0, 1].
    """
    if images.shape != reconstructions.shape:
        raise ValueError(f"reconstructions {reconstructions.shape} of images {images.shape}; give one of each image")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"pixels from {images.min()} to {images.max()}; scale them to [0, 1]")
    means = np.empty(len(images))
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        gaps = np.clip(reconstructions[rows].astype(np.float64), 0, 1) - images[rows]
        means[rows] = np.square(gaps).reshape(len(gaps), -1).mean(axis=1)
    return means


@dataclass(frozen=True)
class Principal:
    """Principal components of images: of all linear codes the ones with the least error, and so the floor of any encoder
    with as many dimensions.

    mean: (p,) pixels. axes: (p, p), one a column, the largest variance first. variances: (p,), along them.
    """

    mean: Array
    axes: Array
    variances: Array

    @classmethod
    def fit(cls, images: Pixels) -> Self:
        """images: (n, p), a training set. Beyond the rank of their covariance, axes are arbitrary and variances 0."""
        chunks = [slice(start, start + CHUNK) for start in range(0, len(images), CHUNK)]
        mean = sum((images[chunk].sum(axis=0, dtype=np.float64) for chunk in chunks), np.zeros(images.shape[1]))
        mean /= len(images)
        covariance = np.zeros((len(mean), len(mean)))
        for chunk in chunks:
            centered = images[chunk] - mean
            covariance += centered.T @ centered
        variances, axes = np.linalg.eigh(covariance / len(images))
        return cls(mean, axes[:, ::-1], variances[::-1].clip(0))

    def codes(self, images: Pixels, d: int) -> Array:
        """The first d coordinates of images (n, p): (n, d). Raises ValueError for a d below 1 or above p."""
        if not 1 <= d <= len(self.mean):
            raise ValueError(f"{d} components of {len(self.mean)} pixels; give 1 to {len(self.mean)}")
        codes: Array = (images - self.mean) @ self.axes[:, :d]
        return codes

    def reconstruct(self, images: Pixels, d: int) -> Array:
        """Images (n, p) from their first d coordinates, clipped to [0, 1]: (n, p)."""
        return np.clip(self.codes(images, d) @ self.axes[:, :d].T + self.mean, 0, 1)


def different_pairs(labels: Labels, count: int, random: np.random.Generator) -> Ids:
    """Random pairs of images of different classes: (count, 2) rows, every ordered pair equally likely, with replacement.

    labels: (n,), in any order. Raises ValueError where all images have one class.
    """
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    others = len(labels) - sizes[classes]  # images that each image can be paired with
    if not others.any():
        raise ValueError(f"all {len(labels)} images have one class; give images of two or more")
    first = random.choice(len(labels), count, p=others / others.sum())
    by_class = np.argsort(classes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    own = classes[first]
    position = random.integers(others[first])
    position += np.where(position >= starts[own], sizes[own], 0)  # past the images of its own class
    return np.stack([first, by_class[position]], axis=1)


def crossfades(first: Pixels, second: Pixels, alphas: Sequence[float]) -> Array:
    """Weighted means of the pixels of two images: the interpolation that needs no decoder.

    first, second: (pairs, ...). alphas: the weights of the second image. Returns (pairs, len(alphas), ...). Codes may stand
    in place of pixels: then these are the straight paths to decode.
    """
    weights = np.asarray(alphas, np.float64).reshape(-1, *[1] * (first.ndim - 1))
    fades: Array = (1 - weights) * first[:, None] + weights * second[:, None]
    return fades


def unevenness(frames: Pixels) -> Array:
    """Largest step of an interpolation over its mean step, L2 over pixels: (pairs,).

    frames: (pairs, frames, ...), two frames or more. 1 where all steps are equally long, as in a cross-fade in equal steps or
    where nothing changes; the number of steps where everything changes in one of them.
    """
    if frames.shape[1] < 2:
        raise ValueError(f"{frames.shape[1]} frames have no step; give 2 or more")
    gaps = np.diff(frames.astype(np.float64), axis=1)
    steps = np.linalg.norm(gaps.reshape(*gaps.shape[:2], -1), axis=2)
    means = steps.mean(axis=1)
    ratios: Array = np.divide(steps.max(axis=1), means, out=np.ones(len(means)), where=means > 0)
    return ratios


def third_class(predicted: Labels, first: Labels, second: Labels) -> NDArray[np.bool_]:
    """Whether an image between two is taken for neither's class: (pairs,). predicted, first, second: (pairs,) classes."""
    neither: NDArray[np.bool_] = (predicted != first) & (predicted != second)
    return neither
