"""Whether a representation has collapsed: how far its dimensions spread, and how many it fills."""

import torch
from torch import Tensor


def dimension_std(z_nd: Tensor) -> Tensor:
    """Standard deviation of each dimension over the images, averaged over dimensions; 0 of a single image. z_nd: (n, d)."""
    return z_nd.std(dim=0).mean() if len(z_nd) > 1 else torch.zeros((), dtype=z_nd.dtype)


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
