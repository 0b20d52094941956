"""Whitened random patches: a single layer that nobody trained (Coates, Lee & Ng 2011; Coates & Ng 2011)."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data.views import batch, normalize
from train.tracking.problem import Problem

SIDE = 6  # pixels; the receptive field that Coates, Lee & Ng found best for 32-pixel images
CONTRAST = (
    10.0 / 64**2
)  # added to a patch's variance: the paper's 10 for pixels of 0 to 255, whose deviation is about 64
WHITENING = 0.1  # added to the eigenvalues of the normalized patches: the paper's
THRESHOLD = 0.25  # of the soft threshold: Coates & Ng 2011, table 1


SAMPLE = 2_000  # images that patches are drawn from
CACHE = (
    3 << 19
)  # numbers of a map that stay in a CPU's cache from one operation to the next: half the time of larger ones


class WhitenedPatches(nn.Module):
    """Images (n, 3, s, s) -> (n, 8 * count): responses to `count` patches, their soft-thresholded positive and negative
    parts each averaged over the four quadrants of the map.

    Every 6x6 patch of an image is normalized (mean 0, its contrast 1) and whitened (ZCA) before its product with the bank
    of whitened, unit-length training patches; both are linear but for the contrast, so one convolution with the
    patches' own statistics does it.
    """

    bank: Tensor
    offset: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.features = 8 * count
        self.register_buffer("bank", torch.zeros(count, 3, SIDE, SIDE))  # whitening folded in
        self.register_buffer("offset", torch.zeros(count))  # the response to the mean patch

    def fit(self, images: NDArray[np.float32], random: np.random.Generator) -> None:
        """Takes the bank from normalized images (n, 3, s, s)."""
        bank, offset = whitened_patches(images, self.count, random)
        self.bank.copy_(bank)
        self.offset.copy_(offset)

    def forward(self, images: Tensor) -> Tensor:
        places = self.count * (images.shape[2] - SIDE + 1) * (images.shape[3] - SIDE + 1)
        together = CACHE // places if images.device.type == "cpu" else len(images)
        return torch.cat([self._parts(few) for few in images.split(max(1, together))])

    def _parts(self, images: Tensor) -> Tensor:
        pixels = 3 * SIDE**2
        box = torch.ones(1, 3, SIDE, SIDE, dtype=images.dtype, device=images.device)
        mean = F.conv2d(images, box) / pixels
        variance = (F.conv2d(images.square(), box) / pixels - mean.square()).clamp_min(0) * pixels / (pixels - 1)
        responses = F.conv2d(
            images, self.bank
        )  # the bank's rows sum to 0: subtracting the patch's mean changes nothing
        responses = responses / (variance + CONTRAST).sqrt() - self.offset[:, None, None]
        parts = torch.cat((F.relu(responses - THRESHOLD), F.relu(-responses - THRESHOLD)), dim=1)
        return F.adaptive_avg_pool2d(parts, 2).flatten(1)


def whitened_patches(
    images: NDArray[np.float32], count: int, generator: np.random.Generator, sample: int = 100_000
) -> tuple[Tensor, Tensor]:
    """The bank (count, 3, 6, 6) and offset (count,) of `WhitenedPatches`, from random patches of normalized images.

    images: (n, 3, s, s). `sample` patches give the mean and the whitening, `count` of them the bank. Raises Problem where
    fewer than `count` of them are not flat.
    """
    n, _, height, width = images.shape
    rows, tops, lefts = (generator.integers(0, high, sample) for high in (n, height - SIDE + 1, width - SIDE + 1))
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(2, 3))
    patches = windows[rows, :, tops, lefts].reshape(sample, -1).astype(np.float64)
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.sqrt(patches.var(axis=1, ddof=1, keepdims=True) + CONTRAST)
    mean = patches.mean(axis=0)
    eigenvalues, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
    whitening = (vectors / np.sqrt(eigenvalues + WHITENING)) @ vectors.T
    whitened = (patches - mean) @ whitening
    # Flat patches have no direction: they are passed over.
    lengths = np.linalg.norm(whitened, axis=1)
    rows = np.flatnonzero(lengths > 0.1 * np.median(lengths))[:count]
    if len(rows) < count:
        raise Problem(
            f"{len(rows)} of {sample:,} random patches of the training images are not flat, and {count} are needed;"
            " give images that are not all of one color"
        )
    bank = whitened[rows] / lengths[rows, None] @ whitening
    offset = bank @ mean
    bank -= bank.mean(axis=1, keepdims=True)
    return torch.from_numpy(bank.astype(np.float32)).view(-1, 3, SIDE, SIDE), torch.from_numpy(
        offset.astype(np.float32)
    )


def sample(images: NDArray[np.uint8], mean: Tensor, std: Tensor, random: np.random.Generator) -> Tensor:
    """The images that patches are drawn from: some of the uint8 images (n, s, s, 3), normalized, (m, 3, s, s)."""
    rows = np.sort(random.choice(len(images), min(SAMPLE, len(images)), replace=False))
    return normalize(batch(images, rows), mean, std)
