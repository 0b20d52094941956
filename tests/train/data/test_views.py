"""Views against torchvision: the same operations with the same draws, and draws of the same distributions."""

import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from train.data.views import Augmentation, Draws, draw, normalize, transform, views

MEAN = torch.tensor([0.49, 0.48, 0.45])
STD = torch.tensor([0.25, 0.24, 0.26])
COINS = ("flip", "jitter", "grayscale", "blur", "solarize")
BOX = ("top", "left", "height", "width")
# Only the crop remains; a test adds what it is about.
CROP = Augmentation(flip=0, jitter=0, brightness=0, contrast=0, saturation=0, hue=0, grayscale=0, blur=0)
# A pixel on the threshold goes one way or the other by its last bit; resized pixels do fall on 0.3, and none on this.
ODD = 0.3183
# Not even the crop: the whole image, if it is square and of the views' size.
NOTHING = replace(CROP, scale=(1, 1), ratio=(1, 1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), generator=seeded(seed), dtype=torch.uint8)


def varied_images(height: int, width: int) -> Tensor:
    """Sixteen each of: noise, gray noise, smooth colors, crops of photographs, pixels of pure or no color."""
    random = noise(16, height, width)
    gray = noise(16, height, width, seed=1)[..., :1].expand(-1, -1, -1, 3)
    y, x = np.mgrid[:height, :width] / 10
    channels = [np.sin(x * math.cos(k) + y * math.sin(k) + 2 * k * c) for k in range(16) for c in range(3)]
    smooth = torch.from_numpy(127.5 + 127.5 * np.stack(channels)).view(16, 3, height, width).permute(0, 2, 3, 1)
    photographs = [
        torch.tensor(photograph[top : top + height, left : left + width])
        for photograph in load_sample_images().images
        for top, left in [(17 * k, 53 * k) for k in range(2, 10)]
    ]
    pure = noise(16, height, width, seed=2) // 128 * 255
    return torch.cat([random, gray, smooth.byte(), torch.stack(photographs), pure])


def torchvision_view(image: Tensor, draws: Draws, i: int, augmentation: Augmentation) -> Tensor:
    """The i-th draw applied to one (height, width, 3) uint8 image by torchvision alone."""
    size, kernel = augmentation.size, augmentation.blur_kernel
    view = TF.to_dtype(image.permute(2, 0, 1), torch.float32, scale=True)
    top, left, height, width = (int(getattr(draws, name)[i]) for name in BOX)
    view = TF.resized_crop(view, top, left, height, width, [size, size], antialias=True)
    if draws.flip[i]:
        view = TF.horizontal_flip(view)
    if draws.jitter[i]:
        for operation in draws.order[i]:
            name = ("brightness", "contrast", "saturation", "hue")[operation]
            view = getattr(TF, f"adjust_{name}")(view, getattr(draws, name)[i].item())
    if draws.grayscale[i]:
        view = TF.rgb_to_grayscale(view, num_output_channels=3)
    if draws.blur[i]:
        view = TF.gaussian_blur(view, [kernel, kernel], [draws.sigma[i].item()] * 2)
    if draws.solarize[i]:
        view = TF.solarize(view, augmentation.solarize_threshold)
    return torch.as_tensor(TF.normalize(view, MEAN.tolist(), STD.tolist()))


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (40, 28, 16), (40, 28, 32), (28, 40, 33)])
@pytest.mark.parametrize(
    "augmentation",
    [
        pytest.param(CROP, id="crop"),
        pytest.param(replace(CROP, scale=(0.01, 0.05), ratio=(0.2, 5)), id="enlarged crop"),
        pytest.param(replace(CROP, flip=1), id="flip"),
        pytest.param(replace(CROP, jitter=1, brightness=1.2), id="brightness"),
        pytest.param(replace(CROP, jitter=1, contrast=1.2), id="contrast"),
        pytest.param(replace(CROP, jitter=1, saturation=1.2), id="saturation"),
        pytest.param(replace(CROP, jitter=1, hue=0.5), id="hue"),
        pytest.param(replace(CROP, jitter=1, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2), id="jitter"),
        pytest.param(replace(CROP, grayscale=1), id="grayscale"),
        pytest.param(replace(CROP, blur=1), id="blur"),
        pytest.param(replace(CROP, blur=1, blur_kernel=31, blur_sigma=(0.5, 9)), id="blur up to the far border"),
        pytest.param(replace(CROP, solarize=1, solarize_threshold=ODD), id="solarize"),
        pytest.param(Augmentation(), id="default"),
        pytest.param(Augmentation(jitter=0.5, hue=0.5, blur_kernel=9, solarize=0.5), id="everything"),
    ],
)
def test_views_agree_with_torchvision_given_the_same_draws(
    augmentation: Augmentation, height: int, width: int, size: int
) -> None:
    augmentation = replace(augmentation, size=size)
    images = varied_images(height, width)
    draws = draw(len(images), height, width, augmentation, seeded(3))
    expected = torch.stack([torchvision_view(image, draws, i, augmentation) for i, image in enumerate(images)])
    error = (transform(images, draws, augmentation, MEAN, STD) - expected).abs().amax(dim=(1, 2, 3))
    assert error.max() < 1e-4  # 1e-3 is asked for; what is left is float32's rounding


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 16), (40, 28, 16), (40, 28, 48)])
def test_normalise_agrees_with_torchvision(height: int, width: int, size: int) -> None:
    images = varied_images(height, width)
    floats = TF.to_dtype(images.permute(0, 3, 1, 2), torch.float32, scale=True)
    expected = TF.normalize(TF.resize(floats, [size, size], antialias=True), MEAN.tolist(), STD.tolist())
    torch.testing.assert_close(normalize(images, MEAN, STD, size), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [None, 32])
def test_normalise_agrees_with_numpy(size: int | None) -> None:
    images = noise(8, 32, 32)
    expected = (images.numpy() / 255 - MEAN.numpy()) / STD.numpy()
    actual = normalize(images, MEAN, STD, size).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def assert_same_moments(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Means, variances and covariances of the columns, each within 5 standard errors of their difference."""
    scale = np.abs(theirs).max(axis=0) + 1e-9
    left, right = np.triu_indices(ours.shape[1])
    moments = [np.hstack([x, x[:, left] * x[:, right]]) for x in (ours / scale, theirs / scale)]
    difference = moments[0].mean(axis=0) - moments[1].mean(axis=0)
    error = np.sqrt(sum(m.var(axis=0) / len(m) for m in moments))
    assert np.abs(difference / np.maximum(error, 1e-9)).max() < 5


def columns(draws: Draws, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([getattr(draws, name).numpy() for name in names], axis=1).astype(float)


def torchvision_boxes(count: int, height: int, width: int, augmentation: Augmentation) -> np.ndarray:
    """(count, 4): top, left, height, width by torchvision's RandomResizedCrop."""
    random_crop = v2.RandomResizedCrop(augmentation.size, augmentation.scale, augmentation.ratio)
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [random_crop.make_params([image]) for _ in range(count)]
    return np.array([[box[name] for name in BOX] for box in boxes], dtype=float)


@pytest.mark.parametrize(
    ("height", "width", "augmentation"),
    [
        pytest.param(32, 32, CROP, id="default"),
        pytest.param(40, 28, replace(CROP, scale=(0.08, 1)), id="upright"),
        pytest.param(28, 40, replace(CROP, scale=(0.5, 1), ratio=(0.4, 3)), id="lying"),
        pytest.param(40, 28, replace(CROP, ratio=(2, 3)), id="often no try fits, too wide"),
        pytest.param(28, 40, replace(CROP, ratio=(1 / 3, 1 / 2)), id="often no try fits, too high"),
        pytest.param(32, 32, replace(CROP, scale=(0.9, 1), ratio=(0.5, 2)), id="seldom fits, then the whole image"),
    ],
)
def test_boxes_are_distributed_as_torchvisions(height: int, width: int, augmentation: Augmentation) -> None:
    ours = columns(draw(100_000, height, width, augmentation, seeded()), BOX)
    theirs = torchvision_boxes(5_000, height, width, augmentation)

    def with_shape(boxes: np.ndarray) -> np.ndarray:
        area, log_ratio = boxes[:, 2] * boxes[:, 3], np.log(boxes[:, 3] / boxes[:, 2])
        return np.column_stack([boxes, area, log_ratio])

    assert_same_moments(with_shape(ours), with_shape(theirs))
    assert set(np.unique(theirs[:, 2:])) <= set(np.unique(ours[:, 2:]))
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= (height, width)).all()
    # Rare boxes, the fallback above all: as often as torchvision draws them.
    boxes, frequency = np.unique(theirs[:, 2:], axis=0, return_counts=True)
    box, expected = boxes[frequency.argmax()], frequency.max() / len(theirs)
    assert abs((ours[:, 2:] == box).all(axis=1).mean() - expected) < 5 * math.sqrt(expected / len(theirs)) + 1e-9


@pytest.mark.parametrize(("ratio", "height", "width"), [((5, 6), 40, 28), ((0.1, 0.2), 28, 40), ((5, 6), 28, 28)])
def test_a_box_that_never_fits_becomes_torchvisions_central_crop(
    ratio: tuple[float, float], height: int, width: int
) -> None:
    augmentation = replace(CROP, scale=(0.95, 1), ratio=ratio)
    expected = torchvision_boxes(1, height, width, augmentation)
    actual = columns(draw(50, height, width, augmentation, seeded()), BOX)
    np.testing.assert_array_equal(actual, np.repeat(expected, 50, axis=0))


def test_jitter_factors_are_distributed_as_torchvisions() -> None:
    strengths = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1}  # 1.5: factors stop at 0
    color_jitter = v2.ColorJitter(**strengths)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [color_jitter.make_params([]) for _ in range(5_000)]
    theirs = np.array([[params[f"{name}_factor"] for name in strengths] for params in draws])
    augmentation = Augmentation(**(asdict(CROP) | strengths))
    assert_same_moments(columns(draw(50_000, 32, 32, augmentation, seeded()), tuple(strengths)), theirs)


def test_every_order_of_the_color_operations_is_equally_likely() -> None:
    order = draw(48_000, 32, 32, Augmentation(), seeded()).order
    orders, frequency = torch.unique(order, dim=0, return_counts=True)
    assert (orders.sort(dim=1).values == torch.arange(4)).all()
    assert len(orders) == 24
    assert chisquare(frequency.numpy()).pvalue > 1e-3


def test_blur_sigmas_are_distributed_as_torchvisions() -> None:
    gaussian_blur = v2.GaussianBlur(3, (0.1, 2.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([gaussian_blur.make_params([])["sigma"][:1] for _ in range(5_000)])
    assert_same_moments(columns(draw(50_000, 32, 32, Augmentation(), seeded()), ("sigma",)), theirs)


@pytest.mark.parametrize("name", COINS)
def test_operations_are_as_frequent_as_their_probabilities(name: str) -> None:
    count = 40_000
    for probability in (0.0, 0.2, 0.5, 0.9, 1.0):
        augmentation = Augmentation(**(asdict(CROP) | {name: probability}))
        draws = getattr(draw(count, 8, 8, augmentation, seeded()), name)
        spread = math.sqrt(probability * (1 - probability) / count)  # 0 at 0 and 1: never and always
        assert abs(draws.float().mean().item() - probability) <= 5 * spread


def all_columns(draws: Draws) -> np.ndarray:
    """(n, 18): every number that was drawn, the order by each operation's place."""
    single = tuple(field.name for field in fields(Draws) if field.name != "order")
    return np.hstack([columns(draws, single), draws.order.argsort(dim=1).numpy()])


def test_draws_of_different_images_are_uncorrelated() -> None:
    count = 20_000
    draws = all_columns(draw(count, 40, 28, Augmentation(solarize=0.3), seeded()))
    assert (draws.std(axis=0) > 0).all()
    for distance in (1, 2, count // 2):
        pair = np.hstack([draws[:-distance], draws[distance:]])
        across = np.corrcoef(pair, rowvar=False)[: draws.shape[1], draws.shape[1] :]
        assert np.abs(across).max() < 5 / math.sqrt(count - distance)


def test_draws_of_different_operations_are_uncorrelated() -> None:
    count = 20_000
    draws = draw(count, 40, 28, Augmentation(solarize=0.3), seeded())
    operations = [field.name for field in fields(Draws) if field.name not in ("order", *BOX)]
    groups = [columns(draws, BOX), draws.order.argsort(dim=1).numpy()]
    groups += [columns(draws, (name,)) for name in operations]
    labels = np.repeat(np.arange(len(groups)), [group.shape[1] for group in groups])
    correlations = np.corrcoef(np.hstack(groups), rowvar=False)
    assert np.abs(correlations[labels[:, None] != labels]).max() < 5 / math.sqrt(count)


def test_views_of_one_image_are_as_independent_as_views_of_different_images() -> None:
    # A flat image shows its brightness factor, so that a view tells what was drawn for it.
    count = 2_000
    flat = torch.full((count, 4, 4, 3), 100, dtype=torch.uint8)
    augmentation = replace(CROP, size=4, jitter=1, brightness=0.4)
    brightness = views(flat, 3, augmentation, torch.zeros(3), torch.ones(3), seeded())[:, :, 0, 0, 0] * 255 / 100
    uniform = np.random.default_rng(0).uniform(0.6, 1.4, (5_000, 1))
    for view in brightness:
        assert_same_moments(view[:, None].double().numpy(), uniform)
    between_views = torch.corrcoef(brightness) - torch.eye(3)
    between_images = torch.corrcoef(torch.stack([brightness[0, :-1], brightness[0, 1:], brightness[1, 1:]]))
    assert between_views.abs().max() < 5 / math.sqrt(count)
    assert (between_images - torch.eye(3)).abs().max() < 5 / math.sqrt(count)


def test_every_view_is_of_its_own_image() -> None:
    images = noise(20, 16, 16)
    actual = views(images, 3, replace(NOTHING, size=16, flip=0.5), MEAN, STD, seeded())
    whole = torch.from_numpy((images.numpy() / 255 - MEAN.numpy()) / STD.numpy()).float().permute(0, 3, 1, 2)
    upright, mirrored = ((actual - image).abs().amax(dim=(2, 3, 4)) < 1e-5 for image in (whole, whole.flip(3)))
    assert (upright ^ mirrored).all()
    assert upright.any()
    assert mirrored.any()


def test_permuting_images_with_their_draws_permutes_the_views() -> None:
    augmentation = Augmentation(solarize=0.3, size=24)
    images = varied_images(40, 28)
    draws = draw(len(images), 40, 28, augmentation, seeded())
    permutation = torch.randperm(len(images), generator=seeded(1))
    expected = transform(images, draws, augmentation, MEAN, STD)[permutation]
    actual = transform(images[permutation], draws[permutation], augmentation, MEAN, STD)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("contrast", [0.4, 0])
def test_a_view_does_not_depend_on_the_rest_of_the_batch_and_without_contrast_not_by_a_bit(contrast: float) -> None:
    augmentation = Augmentation(solarize=0.3, contrast=contrast)
    images = varied_images(32, 32)
    draws = draw(len(images), 32, 32, augmentation, seeded())
    together = transform(images, draws, augmentation, MEAN, STD)
    for i in range(0, len(images), 5):
        alone = transform(images[i : i + 1], draws[i : i + 1], augmentation, MEAN, STD)
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5 if contrast else 0, rtol=0)


def test_equal_seeds_give_equal_views_and_other_seeds_other_views() -> None:
    images = noise(32, 32, 32)
    first, again, other = (views(images, 2, Augmentation(), MEAN, STD, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert ((first - other).abs().amax(dim=(2, 3, 4)) > 0.01).all()
    assert ((first[0] - first[1]).abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_a_generator_gives_other_views_at_the_next_call() -> None:
    images, generator = noise(32, 32, 32), seeded()
    first, second = (views(images, 1, Augmentation(), MEAN, STD, generator) for _ in range(2))
    assert ((first - second).abs().amax(dim=(2, 3, 4)) > 0.01).all()


def test_switching_an_operation_off_shifts_no_other_draw() -> None:
    generators = seeded(), seeded()
    full = draw(64, 40, 28, Augmentation(solarize=0.3), generators[0])
    off = draw(64, 40, 28, Augmentation(flip=0, solarize=0, brightness=0, scale=(0.1, 0.2)), generators[1])
    for name in ("jitter", "order", "contrast", "saturation", "hue", "grayscale", "blur", "sigma"):
        assert torch.equal(getattr(full, name), getattr(off, name))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.parametrize("flip", [0, 1])
def test_views_without_crop_and_color_are_the_images_or_their_mirror_images(flip: int) -> None:
    images = noise(16, 32, 32)
    expected = (images.numpy()[:, :, :: -1 if flip else 1] / 255 - MEAN.numpy()) / STD.numpy()
    actual = views(images, 1, replace(NOTHING, flip=flip), MEAN, STD, seeded())[0].permute(0, 2, 3, 1)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


def test_boxes_of_the_views_own_size_are_cut_out() -> None:
    images, native = varied_images(40, 32), replace(CROP, size=16, scale=(0.2, 0.2), ratio=(1, 1), flip=0.5)
    draws = draw(2 * len(images), 40, 32, native, seeded())
    assert (draws.height == 16).all() and (draws.width == 16).all() and 50 < draws.flip.sum() < 110
    for i, view in enumerate(transform(images, draws, native, MEAN, STD)):
        expected = torchvision_view(images[i % len(images)], draws, i, native)
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-6)


def test_more_draws_than_images_are_views_of_the_images_in_turn() -> None:
    images, augmentation = noise(5, 24, 32), Augmentation(size=16)
    draws = draw(15, 24, 32, augmentation, seeded())
    mean, std = torch.rand(3, generator=seeded()), torch.rand(3, generator=seeded()) + 0.5
    together = transform(images, draws, augmentation, mean, std)
    apart = transform(images.repeat(3, 1, 1, 1), draws, augmentation, mean, std)
    assert torch.allclose(together, apart, atol=1e-6)
    with pytest.raises(ValueError, match="14 draws for 5 images"):
        transform(images, draws[:14], augmentation, mean, std)


def test_jitter_without_strength_leaves_the_images_as_they_are() -> None:
    images = varied_images(32, 32)
    plain, neutral = (views(images, 1, replace(NOTHING, jitter=p), MEAN, STD, seeded()) for p in (0, 1))
    assert torch.equal(neutral, plain)


def test_images_and_draws_are_left_as_they_were() -> None:
    images = noise(32, 32, 32)
    augmentation = Augmentation(solarize=0.3)
    draws = draw(len(images), 32, 32, augmentation, seeded())
    statistics = MEAN.clone(), STD.clone()
    before, draws_before = images.clone(), all_columns(draws)
    transform(images, draws, augmentation, *statistics)
    normalize(images, *statistics, 16)
    views(images, 2, augmentation, *statistics, seeded())
    assert torch.equal(images, before)
    np.testing.assert_array_equal(all_columns(draws), draws_before)
    assert torch.equal(torch.stack(statistics), torch.stack([MEAN, STD]))


def test_flattening_the_views_copies_nothing_and_is_channels_last() -> None:
    batch = views(noise(6, 32, 32), 2, Augmentation(), MEAN, STD, seeded())
    flat = batch.flatten(0, 1)
    assert flat.data_ptr() == batch.data_ptr()
    for images in (flat, *batch, normalize(noise(6, 40, 28), MEAN, STD, 32)):
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", 1.5),
        ("solarize_threshold", -0.1),
        ("scale", (1.0, 0.2)),
        ("blur_sigma", (0.0, 1.0)),
        ("contrast", -0.4),
        ("hue", 0.6),
        ("blur_kernel", 4),
        ("blur_kernel", 65),
    ],
)
def test_an_augmentation_that_torchvision_would_refuse_names_the_value(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name) as error:
        Augmentation(**(asdict(Augmentation()) | {name: value}))
    assert repr(value) in str(error.value)


def test_wrong_images_are_named() -> None:
    draws = draw(2, 32, 32, Augmentation(), seeded())
    with pytest.raises(ValueError, match="3 images"):
        transform(noise(3, 32, 32), draws, Augmentation(), MEAN, STD)
    with pytest.raises(ValueError, match="float32"):
        transform(noise(2, 32, 32).float(), draws, Augmentation(), MEAN, STD)
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\)"):
        normalize(noise(2, 32, 32).permute(0, 3, 1, 2), MEAN, STD)
