"""The judge: how images are spoiled and moved, and what it learns to refuse."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d, zoom
from sklearn.datasets import load_digits

from tests.parts.artifacts import Silent, refusal
from train.data.images import SPLITS, UNLABELED, Images
from train.engine.loop import Training
from train.methods.supervised import Config, Supervised, blank, shifted, shuffled, softened, spoil, strangers
from train.models.judge import Judge, apart


def digits() -> Images:
    """The 8x8 digits at 16 pixels."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    pixels = pixels[..., None].repeat(3, axis=3)
    arrays = {"train": pixels[:1400], "test": pixels[1400:]}
    labels = labels.astype(np.int64)
    classes = tuple("0123456789")
    return Images.from_arrays(
        "digits", classes, {**arrays, "train_labels": labels[:1400], "test_labels": labels[1400:]}
    )


def test_a_classifier_learns_from_the_labeled_images_and_needs_some_of_both_splits() -> None:
    images = digits()
    labels, tests = images.train_labels.copy(), images.test_labels.copy()
    labels[::3], tests[5] = UNLABELED, UNLABELED
    part = replace(images, train_labels=labels, test_labels=tests).with_labels("train.supervise")
    rows = np.flatnonzero(labels >= 0)
    np.testing.assert_array_equal(part.train, images.train[rows])
    np.testing.assert_array_equal(part.train_labels, images.train_labels[rows])
    np.testing.assert_array_equal(part.test, np.delete(images.test, 5, axis=0))
    assert images.with_labels("train.supervise") is images
    for split in SPLITS:
        bare = replace(images, **{f"{split}_labels": np.full(len(getattr(images, split)), UNLABELED)})  # type: ignore[arg-type]
        line = refusal(lambda bare=bare: bare.with_labels("train.supervise"))  # type: ignore[misc]
        assert "digits is unlabeled, and train.supervise learns from labels" in line


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shift_moves_the_whole_image_and_lets_zeros_in() -> None:
    planes = torch.rand(50, 3, 8, 8, generator=generator())
    moved = shifted(planes, 2, generator(1))
    kinds = set()
    for before, after in zip(planes, moved, strict=True):
        matches = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                expected = torch.zeros_like(before)
                rows, columns = (slice(max(0, by), 8 + min(0, by)) for by in (down, right))
                source = before[:, max(0, -down) : 8 - max(0, down), max(0, -right) : 8 - max(0, right)]
                expected[:, rows, columns] = source
                if torch.equal(expected, after):
                    matches.append((down, right))
        assert len(matches) == 1
        kinds.add(matches[0])
    assert len(kinds) > 15  # of 25


def test_shuffled_blocks_are_the_same_pixels_in_another_order() -> None:
    planes = torch.rand(20, 1, 18, 18, generator=generator())
    mixed = shuffled(planes, generator(1))
    assert torch.equal(mixed.flatten(1).sort(dim=1).values, planes.flatten(1).sort(dim=1).values)
    assert (mixed != planes).any(dim=(1, 2, 3)).all()
    assert torch.equal(mixed[..., 16:, :], planes[..., 16:, :])  # 4 blocks of 4 pixels to a side, and 2 pixels over
    corner = mixed[0, 0, :4, :4]
    blocks = [planes[0, 0, top : top + 4, left : left + 4] for top in range(0, 16, 4) for left in range(0, 16, 4)]
    assert sum(torch.equal(corner, block) for block in blocks) == 1


def test_no_spoiled_image_is_the_image_itself() -> None:
    images = digits()
    rows = np.arange(200)
    planes, others = (
        torch.from_numpy(images.train[part] / 255).float().permute(0, 3, 1, 2)
        for part in (rows, strangers(images.train_labels, rows, generator(1)))
    )
    spoiled = spoil(planes, others, generator())
    assert (spoiled - planes).abs().amax(dim=(1, 2, 3)).min() > 0.05
    assert spoiled.min() >= 0 and spoiled.max() <= 1
    assert torch.equal(spoiled[:, 0], spoiled[:, 2])  # gray stays gray


def test_a_blank_has_one_value_or_the_mean_colors_of_its_quarters() -> None:
    planes = torch.rand(60, 3, 8, 8, generator=generator())
    blanks = blank(planes, generator(1)).double().numpy()
    single = np.ptp(blanks, axis=(1, 2, 3)) == 0
    assert 15 < single.sum() < 45 and len(np.unique(blanks[single][:, 0, 0, 0])) == single.sum()
    quarters = planes.double().numpy().reshape(60, 3, 2, 4, 2, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(blanks[~single][..., ::7, ::7], quarters[~single], atol=1e-6)  # its corners
    expected = zoom(quarters[~single], (1, 1, 4, 4), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(blanks[~single], expected, atol=1e-6)


def test_a_cross_fade_is_with_another_class_where_the_batch_has_one() -> None:
    labels = np.repeat(np.arange(10), 30)  # sorted
    rows = np.arange(30)
    partners = np.concatenate([strangers(labels, rows, generator(seed)) for seed in range(20)])
    assert (labels[partners] > 0).all() and len(np.unique(labels[partners])) == 9
    assert len(strangers(np.zeros(5, np.int64), np.arange(5), generator())) == 5


def test_a_soft_image_is_that_of_scipy_and_the_others_stay() -> None:
    planes = torch.rand(40, 1, 9, 9, generator=generator())
    assert torch.equal(softened(planes, 0, generator(1)), planes)
    soft, draws = softened(planes, 0.5, generator(1)), generator(1)
    amounts = torch.rand(3, 40, 1, 1, 1, generator=draws).double().numpy()
    chosen = (torch.rand(40, 1, 1, 1, generator=draws) < 0.5).flatten()
    assert 10 < int(chosen.sum()) < 30 and torch.equal(soft[~chosen], planes[~chosen])
    expected = planes.double().numpy()
    for amount in amounts[:2]:
        blurred = expected
        for axis in (2, 3):
            blurred = convolve1d(blurred, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
        expected = expected + amount * (blurred - expected)
    expected = expected * (1 - 0.2 * amounts[2])
    np.testing.assert_allclose(soft[chosen].numpy(), expected[chosen.numpy()], atol=1e-6)


def test_spoiled_images_do_not_shape_the_features_that_pictures_are_measured_by() -> None:
    judge = Judge(4, 8, 1)
    spoiled = torch.tensor([True, False, True, False])
    features = apart(judge(torch.rand(4, 3, 8, 8, generator=generator())), spoiled)
    gradients = torch.autograd.grad(features[spoiled].sum(), list(judge.own.parameters()), allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    judge.zero_grad()
    features = apart(judge(torch.rand(4, 3, 8, 8, generator=generator())), spoiled)
    (features[spoiled].sum() + features[~spoiled].square().sum()).backward()
    weights = [*judge.doubts.parameters(), next(judge.own.parameters())]
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


def test_it_reads_digits_and_refuses_noise_and_cross_fades(tmp_path: Path) -> None:
    images = digits()
    config = Config(**{"images": "digits", **Config.PRESETS["tiny"], "precision": "float32", "seed": 0})
    stage: Any = Silent()
    training = Training(Supervised(config, images), stage, torch.device("cpu"))
    training.run(tmp_path / "checkpoint.safetensors")
    values = training.scores().values
    assert values["anatomy/interaction"] == 0 and values["test/accuracy"] > 0.93  # type: ignore[operator]
    judge = training.method.encoder.eval()
    test = images.test
    answers = judge.encode(test, 0, len(test))[1].argmax(dim=1).numpy()
    assert (answers == images.test_labels).mean() > 0.93 and (answers == 10).mean() < 0.04
    whole = len(test) // 64 * 64  # of the batches of 64
    assert values["test/images_refused"] == pytest.approx((answers[:whole] == 10).mean())
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (300, 16, 16, 1), dtype=np.uint8).repeat(3, axis=3)
    one, other = random.permutation(len(test))[:300], random.permutation(len(test))[:300]
    apart = images.test_labels[one] != images.test_labels[other]
    fades = ((test[one][apart].astype(int) + test[other][apart]) // 2).astype(np.uint8)
    for strange in (noise, fades):
        refused = judge.encode(strange, 0, len(strange))[1].argmax(dim=1).numpy() == 10
        assert refused.mean() > 0.8


def test_a_share_of_the_rows_has_what_the_whole_batch_draws_for_it() -> None:
    of = Supervised(Config(**{"images": "digits", **Config.PRESETS["tiny"]}), digits())
    rows = np.arange(12)
    whole = of.batch("train", rows, generator(3), slice(None))
    half = of.batch("train", rows, generator(3), slice(6, 12))
    assert all(torch.equal(half[name], whole[name][:, 6:]) for name in ("views", "labels"))
    assert torch.equal(half["there"], (half["labels"].flatten() >= 0).nonzero().squeeze(1)) and len(half["there"]) >= 6
