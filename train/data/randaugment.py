"""RandAugment (Cubuk et al. 2020) of a batch: for each image some operations, drawn alike from fourteen, of one strength.

torchvision's operations and strengths (`transforms.v2.RandAugment`, nearest-neighbor interpolation, black beyond the border);
here the images that are due the same operation go through it together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as images

from train.data.views import to_device

TIMES = 2  # operations an image has, of magnitude 9 of 31: DSSL's released code
BINS = 31  # strengths from none to the largest, as the paper counts them
OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "saturation", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip


@dataclass(frozen=True)
class Choices:
    """What was drawn for each of n images: operations (n, times) int64, indices into OPERATIONS; negative (n, times) bool."""

    operations: Tensor
    negative: Tensor

    def __getitem__(self, index: Tensor) -> "Choices":
        return Choices(self.operations[index], self.negative[index])


def choose(count: int, generator: torch.Generator, times: int = TIMES) -> Choices:
    """Draws for `count` images, `times` operations each; every image takes the same number of random numbers."""
    operations = torch.randint(len(OPERATIONS), (count, times), generator=generator)
    return Choices(operations, torch.randint(2, (count, times), generator=generator).bool())


def randaugment(pixels: Tensor, choices: Choices, magnitude: int = 9) -> Tensor:
    """The chosen operations, one after another. pixels: (n, 3, height, width) uint8. magnitude: of BINS."""
    result = pixels.clone()
    for operations, negative in zip(choices.operations.unbind(1), choices.negative.unbind(1), strict=True):
        for number in operations.unique().tolist():
            for sign in (False, True):
                index = ((operations == number) & (negative == sign)).nonzero().squeeze(1)
                if len(index):
                    index = to_device(index, result.device)
                    part = result.index_select(0, index)
                    result.index_copy_(0, index, operation(OPERATIONS[number], part, magnitude, -1 if sign else 1))
    return result


def operation(name: str, pixels: Tensor, magnitude: int, sign: int) -> Tensor:
    """One operation on images (n, 3, height, width) uint8; `sign` turns the geometric ones and the blends around."""
    height, width = pixels.shape[-2:]
    share = sign * magnitude / (BINS - 1)  # of the largest strength
    degrees = float(torch.rad2deg(torch.atan(torch.tensor(0.3 * share))))
    actions: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: pixels,
        "shear_x": lambda: _affine(pixels, shear=[degrees, 0.0], center=[0, 0]),
        "shear_y": lambda: _affine(pixels, shear=[0.0, degrees], center=[0, 0]),
        "translate_x": lambda: _affine(pixels, translate=[int(150 / 331 * width * share), 0]),
        "translate_y": lambda: _affine(pixels, translate=[0, int(150 / 331 * height * share)]),
        "rotate": lambda: images.rotate(pixels, 30.0 * share),
        "brightness": lambda: images.adjust_brightness(pixels, 1 + 0.9 * share),
        "saturation": lambda: images.adjust_saturation(pixels, 1 + 0.9 * share),
        "contrast": lambda: images.adjust_contrast(pixels, 1 + 0.9 * share),
        "sharpness": lambda: images.adjust_sharpness(pixels, 1 + 0.9 * share),
        "posterize": lambda: images.posterize(pixels, 8 - round(magnitude / ((BINS - 1) / 4))),
        "solarize": lambda: images.solarize(pixels, 255 * (1 - magnitude / (BINS - 1))),
        "autocontrast": lambda: images.autocontrast(pixels),
        "equalize": lambda: images.equalize(pixels),
    }
    return actions[name]()


def _affine(pixels: Tensor, **changes: list[float] | list[int]) -> Tensor:
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **changes}
    result: Tensor = images.affine(pixels, **options)
    return result
