"""A judge of representations that needs no label: whether views tell which image they are of.

Each image is a class of its own, and its views are the members: what a linear probe is asked of labeled images, Fisher's
discriminant is asked of these. sweeps/README.md says how far that agrees with the probe.
"""

import torch
from torch import Tensor

from train.data.views import Augmentation, draw, transform

LEARNED = 2  # views of an image that the discriminant is learned from; it is asked about the others
SHRINKAGE = 1e-3  # of the scatter within images, towards its mean over the axes


def reciprocal_rank(views: Tensor, learned: int = LEARNED, shrinkage: float = SHRINKAGE) -> float:
    """Mean of 1 / rank over all views that were not learned from: the rank of a view's own image among all, by distance to the
    means of the learned views in the metric of Fisher's linear discriminant.

    views: (v, n, d), v views of each of n images, v > learned >= 2. 1 where every view is nearest to its own image, about
    log(n) / n by chance. Of images equally near the own one comes last, so that what has collapsed is worth 1 / n.
    """
    z = views.double() - views.double().mean(dim=(0, 1))
    means = z[:learned].mean(dim=0)
    within = (z[:learned] - means).flatten(0, 1)
    scatter = within.T @ within / (len(means) * (learned - 1))
    spreads, axes = torch.linalg.eigh(scatter)
    spreads = spreads.clamp_min(0) + shrinkage * spreads.clamp_min(0).mean()
    scales = torch.where(spreads > 0, spreads, 1).rsqrt()
    centers, queries = means @ axes * scales, z[learned:] @ axes * scales
    distances = torch.cdist(queries, centers.expand(len(queries), -1, -1))  # (v - learned, n, n)
    own = distances.diagonal(dim1=1, dim2=2)[..., None]
    return float((distances <= own).sum(dim=2).double().reciprocal().mean())


def standard_views(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """A view of each image (n, height, width, 3) uint8: (n, 3, size, size) uint8."""
    draws = draw(len(images), images.shape[1], images.shape[2], augmentation, generator)
    planes = transform(images, draws, augmentation, torch.zeros(3), torch.ones(3))
    return planes.mul(255).round().clamp(0, 255).to(torch.uint8)
