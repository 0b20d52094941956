"""RandAugment against torchvision's own, image by image."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandAugment

from train.data.randaugment import BINS, OPERATIONS, choose, operation, randaugment

NAMES = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "saturation": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "autocontrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip


def pictures(count: int = 3, size: int = 20) -> Tensor:
    smooth = np.random.default_rng(0).normal(size=(count, 3, size, size)).cumsum(2).cumsum(3)
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy(((smooth - low) / (high - low) * 255).astype(np.uint8))


def theirs(name: str, pixels: Tensor, magnitude: int, sign: int) -> Tensor:
    """torchvision's operation of that strength."""
    transform = RandAugment(magnitude=magnitude, num_magnitude_bins=BINS)
    strengths, signed = transform._AUGMENTATION_SPACE[NAMES[name]]
    values = strengths(BINS, *pixels.shape[-2:])
    strength = 0.0 if values is None else float(values[magnitude]) * (sign if signed else 1)
    return transform._apply_image_or_video_transform(  # type: ignore[no-any-return]
        pixels, NAMES[name], strength, InterpolationMode.NEAREST, transform._fill
    )


def test_every_operation_of_torchvisions_is_there() -> None:
    assert sorted(NAMES.values()) == sorted(RandAugment._AUGMENTATION_SPACE) and set(NAMES) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [0, 9, 20, 30])
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_operation_agrees_with_torchvisions(name: str, magnitude: int, sign: int) -> None:
    pixels = pictures()
    gap = operation(name, pixels, magnitude, sign).int() - theirs(name, pixels, magnitude, sign).int()
    assert gap.abs().max() <= 1, "torchvision's strengths are float32: a blend may be rounded the other way"


def test_a_batch_has_for_each_image_what_it_would_have_alone() -> None:
    pixels = pictures(40)
    choices = choose(40, torch.Generator().manual_seed(0))
    result = randaugment(pixels, choices)
    assert len(choices.operations.unique()) == len(OPERATIONS)
    for i in range(40):
        image = pixels[i : i + 1]
        for number, negative in zip(choices.operations[i].tolist(), choices.negative[i].tolist(), strict=True):
            image = operation(OPERATIONS[number], image, 9, -1 if negative else 1)
        assert torch.equal(result[i : i + 1], image), i
    assert torch.equal(pixels, pictures(40)), "what it was given stays"


def test_every_operation_is_drawn_alike() -> None:
    choices = choose(7_000, torch.Generator().manual_seed(0))
    counts = choices.operations.flatten().bincount(minlength=len(OPERATIONS))
    assert (counts - 1_000).abs().max() < 150 and abs(float(choices.negative.float().mean()) - 0.5) < 0.02
