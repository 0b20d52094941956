"""Whether a representation has collapsed: how far its dimensions spread, and how many it fills."""

import torch
import torch.nn.functional as F
from torch import Tensor


def dimension_std(z_nd: Tensor) -> Tensor:
    """Standard deviation of each dimension over the images, averaged over dimensions; 0 of a single image. z_nd: (n, d)."""
    return z_nd.std(dim=0).mean() if len(z_nd) > 1 else torch.zeros((), dtype=z_nd.dtype)


def spread(z_nd: Tensor) -> Tensor:
    """Standard deviation of each dimension of the unit vectors, averaged over dimensions, times sqrt(d): about 1 where they
    are spread over the sphere, 0 where all point one way. z_nd: (n, d), n >= 2. Chen & He 2021, fig. 2."""
    deviation: Tensor = F.normalize(z_nd, dim=-1).std(dim=0).mean()
    return deviation * float(z_nd.shape[-1] ** 0.5)


def effective_rank(z_nd: Tensor) -> Tensor:
    """Number of dimensions that the centered vectors fill: exp of the entropy of the normalized singular values.

    z_nd: (n, d). Between 1 and min(n, d); 0 where all vectors are equal, or there is one. Roy & Vetterli 2007.
    """
    z_nd = z_nd.double()
    z_nd = z_nd - z_nd.mean(dim=0)
    gram = z_nd.T @ z_nd if len(z_nd) >= z_nd.shape[1] else z_nd @ z_nd.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    # Rounding leaves about eps * largest eigenvalue in the empty directions.
    singular = singular[singular > singular.max() * 1e-6]
    if not len(singular):
        return torch.zeros((), dtype=z_nd.dtype)
    share = singular / singular.sum()
    return torch.exp(-(share * share.log()).sum())
