"""What a representation keeps of an image when its view changes: cosines between views, standard and harder."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


def unit(vectors: NDArray[np.floating]) -> Array:
    """Vectors (..., d) on the unit sphere; one of length 0 stays."""
    doubles = np.asarray(vectors, np.float64)
    units: Array = doubles / np.maximum(np.linalg.norm(doubles, axis=-1, keepdims=True), 1e-12)
    return units


def matching(one: Array, other: Array) -> Flags:
    """Whether the nearest, by cosine, of an image's view among the other views of all images is its own: (n,).

    one, other: (n, d) unit vectors, a view of each image. Of equally near ones the first counts.
    """
    own: Flags = (one @ other.T).argmax(axis=1) == np.arange(len(one))
    return own


def contrast(one: Array, other: Array) -> Array:
    """Cosine of an image's two views, less the mean cosine of its view and the other images': (n,), 0 where views of an image
    are no more alike than views of two. one, other: (n, d) unit vectors, n >= 2."""
    cosines = one @ other.T
    own = np.diagonal(cosines)
    gap: Array = own - (cosines.sum(axis=1) - own) / (len(one) - 1)
    return gap


def distances(one: Array, other: Array) -> Array:
    """1 - cosine of an image's two views, over its mean between two images: (n,), 0 where they are alike, about 1 where they
    are no more alike than views of two images. NaN where all images are one point."""
    cosines = one @ other.T
    own = np.diagonal(cosines)
    between = 1 - (cosines.sum() - own.sum()) / (len(one) * (len(one) - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(between > 1e-12, (1 - own) / between, np.nan)


def farther(harder: Array, standard: Array, core: Array) -> Flags:
    """Whether an image's harder view lies farther from the mean of its views than the standard view that it was made from.

    harder, standard: (n, d) unit vectors. core: (n, d), the mean of many standard views of each image.
    """
    center = unit(core)
    beyond: Flags = (harder * center).sum(axis=1) < (standard * center).sum(axis=1)
    return beyond
