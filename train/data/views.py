"""Random views of images, in batch: every image has its own draws, and every operation is a tensor operation.

The reference is torchvision.transforms.v2: `draw` samples what `RandomResizedCrop`, `ColorJitter` and the others sample,
and `transform` computes what `torchvision.transforms.v2.functional` computes on float images. Images come in as uint8
(n, height, width, 3) and go out normalized, float32 (n, 3, size, size) in channels_last. In between they are planes
(n, 3, height, width), scaled to [0, 1]. Call it outside autocast: half precision would show in the colors.
Draws stay on the CPU, wherever the images are: who is due an operation is decided there, so that no step waits for a GPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

TRIES = 10  # as torchvision's RandomResizedCrop
GRAY = (0.2989, 0.587, 0.114)  # ITU-R 601 luma, to torchvision's digits
COLOR_OPERATIONS = ("brightness", "contrast", "saturation", "hue")  # the numbers in Draws.order index these


@dataclass(frozen=True)
class Augmentation:
    """The distribution of the views. Raises ValueError for values that torchvision would refuse too.

    flip, jitter, grayscale, blur and solarize are probabilities. brightness, contrast, saturation and hue are strengths
    as in `ColorJitter`, scale and ratio ranges as in `RandomResizedCrop`. blur_sigma is a range in output pixels.
    """

    size: int = 32  # side of a view in pixels
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.5
    blur_kernel: int = 3
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grayscale", "blur", "solarize", "solarize_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; give a number from 0 to 1")
        for name in ("scale", "ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} = {(low, high)!r}; give (low, high) with 0 < low <= high")
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}; give 0 (off) or a positive strength")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue = {self.hue!r}; give a strength from 0 (off) to 0.5 (every hue)")
        if self.blur_kernel % 2 == 0 or not 0 < self.blur_kernel < 2 * self.size:
            raise ValueError(f"blur_kernel = {self.blur_kernel!r}; give an odd number below 2 * size = {2 * self.size}")


@dataclass(frozen=True)
class Draws:
    """What was drawn for each of n images; every tensor's first dimension is n."""

    top: Tensor  # int64, like left, height and width: the crop's box in pixels
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool, like jitter, grayscale, blur and solarize: whether the image gets the operation
    jitter: Tensor
    order: Tensor  # (n, 4) int64: place by place, which of COLOR_OPERATIONS is applied
    brightness: Tensor  # float32, like contrast and saturation: 1 leaves the image as it is
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # float32, in turns of the color wheel: 0 leaves the image as it is
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor  # float32, in output pixels
    solarize: Tensor

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, index: Tensor | slice) -> "Draws":
        """The draws of the indexed images, in the index's order."""
        return Draws(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device. The copy of what is on the CPU waits for nothing."""
    return values.to(device, non_blocking=True)


def draw(count: int, height: int, width: int, augmentation: Augmentation, generator: torch.Generator) -> Draws:
    """Independent draws for `count` images of height x width pixels, on the generator's device.

    Every image takes the same number of random numbers, all of them each time: what one image draws, or an operation
    switched off, shifts no other draw.
    """
    uniform = torch.rand(count, 2 * TRIES + 16, dtype=torch.float64, generator=generator, device=generator.device)
    area, ratio, position, coin, order, factor, sigma = torch.split(uniform, [TRIES, TRIES, 2, 5, 4, 4, 1], dim=1)

    box_height, box_width = box_sizes(area, ratio, height, width, augmentation)
    # The central crop, if all tries failed, is centered; torchvision draws a position only for a box that was tried.
    fits = box_height > 0
    central_height, central_width = central_box(height, width, augmentation.ratio)
    box_height = torch.where(fits, box_height, central_height)
    box_width = torch.where(fits, box_width, central_width)
    top = torch.where(fits, (position[:, 0] * (height - box_height + 1)).long(), (height - central_height) // 2)
    left = torch.where(fits, (position[:, 1] * (width - box_width + 1)).long(), (width - central_width) // 2)

    chances = (augmentation.flip, augmentation.jitter, augmentation.grayscale, augmentation.blur, augmentation.solarize)
    flip, jitter, grayscale, blur, solarize = (coin < coin.new_tensor(chances)).unbind(1)
    brightness, contrast, saturation = (
        between(factor[:, i], max(0.0, 1 - strength), 1 + strength).float()
        for i, strength in enumerate((augmentation.brightness, augmentation.contrast, augmentation.saturation))
    )
    return Draws(
        top=top,
        left=left,
        height=box_height,
        width=box_width,
        flip=flip,
        jitter=jitter,
        order=order.argsort(dim=1),  # the ranks of four independent numbers: all 24 orders alike
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=between(factor[:, 3], -augmentation.hue, augmentation.hue).float(),
        grayscale=grayscale,
        blur=blur,
        sigma=between(sigma[:, 0], *augmentation.blur_sigma).float(),
        solarize=solarize,
    )


def between(uniform: Tensor, low: float, high: float) -> Tensor:
    """Numbers from [0, 1) stretched to [low, high)."""
    return low + (high - low) * uniform


def box_sizes(
    area: Tensor, ratio: Tensor, height: int, width: int, augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    """Height and width of each image's first box that fits into height x width pixels; 0, 0 where none fits.

    area, ratio: (n, tries) uniform in [0, 1). Returns two (n,) int64. torchvision's RandomResizedCrop.make_params: area
    uniform in `scale`, ratio log-uniform in `ratio`, sides rounded half to even.
    """
    target = height * width * between(area, *augmentation.scale)
    aspect = between(ratio, *map(math.log, augmentation.ratio)).exp()
    widths = (target * aspect).sqrt().round().long()
    heights = (target / aspect).sqrt().round().long()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)  # argmax returns the first of equals
    return (heights * fits).gather(1, first).squeeze(1), (widths * fits).gather(1, first).squeeze(1)


def central_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest box whose width / height is within `ratio`, as torchvision falls back to."""
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


def transform(images: Tensor, draws: Draws, augmentation: Augmentation, mean: Tensor, std: Tensor) -> Tensor:
    """A view for each draw: of the images in turn, and in turn again where there are v times as many draws.

    images: (n, height, width, 3) uint8. mean, std: (3,), of images scaled to [0, 1]. Returns (v n, 3, size, size) float32,
    normalized, in channels_last. Only `size`, `blur_kernel` and `solarize_threshold` are read from the augmentation.
    """
    if not len(images) or len(draws) % len(images):
        raise ValueError(f"{len(draws)} draws for {len(images)} images; call draw with a multiple of {len(images)}")
    planes = crop(images, draws, augmentation.size)
    jitter_(planes, draws)
    apply_(grayscale, planes, draws.grayscale)
    apply_(lambda part, sigma: blur(part, sigma, augmentation.blur_kernel), planes, draws.blur, draws.sigma)
    apply_(lambda part: solarize(part, augmentation.solarize_threshold), planes, draws.solarize)
    return standardise(planes, mean, std)


def views(
    images: Tensor,
    count: int,
    augmentation: Augmentation,
    mean: Tensor,
    std: Tensor,
    generator: torch.Generator,
    rows: Tensor | None = None,
) -> Tensor:
    """`count` independent views of each image: (count, n, 3, size, size).

    images: (n, height, width, 3) uint8. mean, std: (3,), of images scaled to [0, 1]. `flatten(0, 1)` of the result is
    free and channels_last. rows: (m,) of the images whose views alone are made, as they are among all.
    """
    height, width = images.shape[1:3]
    draws = draw(count * len(images), height, width, augmentation, generator)
    if rows is not None and len(rows) < len(images):
        draws = draws[(torch.arange(count)[:, None] * len(images) + rows).flatten()]
        images = images[to_device(rows, images.device)]
    batch = transform(images, draws, augmentation, mean, std)
    return batch.view(count, len(images), *batch.shape[1:])


def batch(images: NDArray[np.uint8], index: NDArray[np.int64] | slice) -> Tensor:
    """The indexed images as a uint8 tensor of their own, (n, height, width, 3)."""
    return torch.from_numpy(np.array(images[index]))


def normalize(images: Tensor, mean: Tensor, std: Tensor, size: int | None = None) -> Tensor:
    """Whole images as an encoder takes them: (n, 3, size, size) float32, normalized, in channels_last.

    images: (n, height, width, 3) uint8. mean, std: (3,), of images scaled to [0, 1]. `size` resizes to a square,
    bilinear with antialiasing; without it the images keep their height and width.
    """
    planes = float_planes(images).contiguous().div_(255)
    if size is not None and planes.shape[2:] != (size, size):
        planes = F.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return standardise(planes, mean, std)


def float_planes(images: Tensor) -> Tensor:
    """uint8 (n, height, width, 3) -> float32 (n, 3, height, width), still 0 to 255 and in channels_last."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; give uint8 (n, height, width, 3)")
    return images.permute(0, 3, 1, 2).float()


def standardise(planes: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(planes - mean) / std, by channel, in channels_last. Overwrites `planes`."""
    mean, std = (statistic.to(planes).view(-1, 1, 1) for statistic in (mean, std))
    return planes.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def crop(images: Tensor, draws: Draws, size: int) -> Tensor:
    """Each draw's box, resized to size x size pixels and flipped: (v n, 3, size, size), in [0, 1]."""
    planes = float_planes(images)
    if bool((draws.height == size).all()) and bool((draws.width == size).all()):
        return cut(planes.contiguous().div_(255), draws, size)
    rows = interpolation(draws.top, draws.height, planes.shape[2], size, torch.zeros_like(draws.flip))
    columns = interpolation(draws.left, draws.width, planes.shape[3], size, draws.flip)
    rows.div_(255)  # to [0, 1] on the way
    return resample(planes, to_device(rows, planes.device), to_device(columns, planes.device))


def cut(planes: Tensor, draws: Draws, size: int) -> Tensor:
    """`crop` of planes (n, 3, height, width) where every box has the view's own size: its pixels, copied."""
    count, _, _, width = planes.shape
    place = torch.arange(size)
    rows = draws.top[:, None] + place
    columns = draws.left[:, None] + torch.where(draws.flip[:, None], size - 1 - place, place)
    pixels = to_device(rows[:, :, None] * width + columns[:, None], planes.device)
    pixels = pixels.view(-1, count, 1, size * size).expand(-1, -1, 3, -1)
    return planes.flatten(2).expand(len(pixels), -1, -1, -1).gather(3, pixels).view(-1, 3, size, size)


def interpolation(start: Tensor, length: Tensor, extent: int, size: int, flip: Tensor) -> Tensor:
    """Matrices that resample `length` pixels from `start` on, in lines of `extent` pixels, to `size` pixels.

    start, length: (n,) int64. flip: (n,) bool, whether the result is reversed. Returns (n, size, extent); rows sum to 1.
    The filter is torch's bilinear one with antialiasing: a triangle, one output pixel wide on either side, or one input
    pixel where the line is stretched, and cut off at the ends of the box.
    """
    scale = (length / size).view(-1, 1, 1)  # input pixels to an output pixel
    output = torch.arange(size, device=start.device) + 0.5
    center = torch.where(flip[:, None], size - output, output)[:, :, None] * scale  # (n, size, 1)
    pixel = (torch.arange(extent, device=start.device) - start[:, None] + 0.5)[:, None]  # (n, 1, extent), in the box
    pixel = pixel.masked_fill((pixel < 0) | (pixel > length.view(-1, 1, 1)), math.inf)  # out of the filter's reach
    weights = (pixel - center).abs_().div_(-scale.clamp_min(1)).add_(1).clamp_min_(0)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def resample(planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ plane @ columns^T for every channel, of the images in turn, v times.

    planes: (n, 3, height, width). rows: (v n, height', height). columns: (v n, width', width).
    """
    count, height, width = len(planes), rows.shape[1], columns.shape[1]
    # The channels of an image side by side, and the rows of all its views below each other: a few large products.
    rows = rows.unflatten(0, (-1, count)).transpose(0, 1).flatten(1, 2)  # (n, v * height', height)
    lines = torch.bmm(rows, planes.transpose(1, 2).flatten(2))  # (n, v * height', 3 * width)
    lines = lines.view(count, -1, height, 3, planes.shape[3]).permute(1, 0, 3, 2, 4)  # (v, n, 3, height', width)
    return torch.bmm(lines.reshape(len(columns), 3 * height, -1), columns.mT).view(-1, 3, height, width)


def apply_(operation: Callable[..., Tensor], planes: Tensor, mask: Tensor, *parameters: Tensor) -> None:
    """Overwrites the images of the mask with operation(images, their parameters); the others cost nothing.

    planes: (n, 3, height, width). mask: (n,) bool. parameters: (n,) each; as the mask on the CPU.
    """
    rows = mask.nonzero().squeeze(1)
    if len(rows):
        index = to_device(rows, planes.device)
        values = (to_device(parameter[rows], planes.device) for parameter in parameters)
        planes.index_copy_(0, index, operation(planes.index_select(0, index), *values))


def jitter_(planes: Tensor, draws: Draws) -> None:
    """Color jitter in place, the four operations in each image's own order."""
    operations = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
    factors = (draws.brightness, draws.contrast, draws.saturation, draws.hue)
    neutral = (1, 1, 1, 0)
    index = draws.jitter.nonzero().squeeze(1)
    images = planes.index_select(0, to_device(index, planes.device))
    for place in draws.order.unbind(1):
        # Images that are due the same operation are put side by side: a slice for each, and no copies of subsets.
        due = place[index]
        order = due.argsort()
        images, index = images.index_select(0, to_device(order, planes.device)), index[order]
        slices = zip(images.split(counts := due.bincount(minlength=4).tolist()), index.split(counts), strict=True)
        for i, (part, rows) in enumerate(slices):
            factor = factors[i][rows]
            if (factor != neutral[i]).any():
                operations[i](part, to_device(factor, planes.device))
    planes.index_copy_(0, to_device(index, planes.device), images)


def adjust_brightness(planes: Tensor, factor: Tensor) -> Tensor:
    """A blend with black. Overwrites `planes`, as the other color operations do."""
    return planes.mul_(per_image(factor)).clamp_(0, 1)


def adjust_contrast(planes: Tensor, factor: Tensor) -> Tensor:
    """A blend with the image's mean gray."""
    # On some processors the last bit of this product depends on how many images there are, as that of nothing else here.
    mean_gray = planes.mean(dim=(2, 3)) @ to_device(torch.tensor(GRAY), planes.device)
    return planes.mul_(per_image(factor)).add_(per_image((1 - factor) * mean_gray)).clamp_(0, 1)


def adjust_saturation(planes: Tensor, factor: Tensor) -> Tensor:
    """A blend with the gray image."""
    gray = luma(planes).mul_(per_image(1 - factor))
    return planes.mul_(per_image(factor)).add_(gray).clamp_(0, 1)


def adjust_hue(planes: Tensor, turn: Tensor) -> Tensor:
    """HSV hue turned by `turn` of the color wheel; saturation and value stay.

    planes: (n, 3, height, width) in [0, 1]. turn: (n,) in [-0.5, 0.5].

    torchvision's conversion to HSV and back picks one of six sectors for each pixel. Here is the same function without
    branches. With low, high the smallest and the largest channel and chroma = high - low, every channel is low + chroma
    * tent(hue), where tent is 1 within 1/6 of a turn of the channel's own hue, 0 beyond 2/6, and linear between. So a
    hue's distance from red is (1 + green + blue - red - low over chroma) / 6, on green's side where green > blue.
    """
    red, green, blue = planes.unbind(1)
    low = torch.minimum(red, green).minimum(blue)
    chroma = torch.maximum(red, green).maximum(blue).sub_(low)
    distance = green.add(blue).sub_(red).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)  # sixths of a turn; gray: any
    hue = distance.mul_(1 / 6).copysign_(green - blue)
    hue = hue.add_((turn + 1).view(-1, 1, 1)).frac_().mul_(6)  # + 1: frac keeps the sign of what it is given
    # Red's own hue is 0 and 6 alike, so its tent is upside down around 3.
    torch.addcmul(low, chroma, (hue - 3).abs_().sub_(1).clamp_(0, 1), out=red)
    torch.addcmul(low, chroma, (hue - 2).abs_().neg_().add_(2).clamp_(0, 1), out=green)
    torch.addcmul(low, chroma, hue.sub_(4).abs_().neg_().add_(2).clamp_(0, 1), out=blue)
    return planes


def grayscale(planes: Tensor) -> Tensor:
    """Gray images of three equal channels."""
    return luma(planes).expand_as(planes)


def blur(planes: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur over kernel x kernel pixels, reflected at the border without repeating it; sigma: (n,) in pixels."""
    rows, columns = (blur_matrices(sigma, kernel, extent) for extent in planes.shape[2:])
    return resample(planes, rows, columns)


def blur_matrices(sigma: Tensor, kernel: int, extent: int) -> Tensor:
    """The blur of a line of `extent` pixels as a banded matrix, reflection folded in: (n, extent, extent)."""
    offset = torch.arange(kernel, device=sigma.device) - kernel // 2
    weights = (-0.5 * (offset / sigma[:, None]).square()).softmax(dim=1)  # (n, kernel)
    source = (torch.arange(extent, device=sigma.device) + offset[:, None]).abs()  # (kernel, extent)
    source = torch.where(source < extent, source, 2 * (extent - 1) - source)
    taps = F.one_hot(source, extent).to(weights)  # (kernel, extent, extent): which pixel each tap reads
    return torch.einsum("nk,kij->nij", weights, taps)


def solarize(planes: Tensor, threshold: float) -> Tensor:
    """Channels at or above the threshold inverted."""
    return torch.where(planes >= threshold, planes.neg().add_(1), planes)


def luma(planes: Tensor) -> Tensor:
    """Gray value of each pixel, (n, 1, height, width)."""
    red, green, blue = planes[:, 0:1], planes[:, 1:2], planes[:, 2:3]
    return red.mul(GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def per_image(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1), to multiply images by."""
    return values.view(-1, 1, 1, 1)
