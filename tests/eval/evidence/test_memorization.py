"""Nearest training images against scikit-learn, and the rule for copies on digits that were and were not copied."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from eval.evidence.memorization import Memorization, memorization, nearest_images


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1,000 training images, 400 held-out ones and 397 others: (n, 8, 8, 1) in [0, 1]."""
    images = load_digits().images[generator(1).permutation(1797), :, :, None] / 16
    return images[:1000], images[1000:1400], images[1400:]


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    return (images + generator(2).normal(0, deviation, images.shape)).clip(0, 1)


def verdict(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Memorization:
    return memorization(nearest_images(samples, train), nearest_images(held_out, train), 300, generator())


@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_nearest_images_agree_with_scikit_learn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.evidence.memorization.TRAIN_BLOCK", 130)
    train, _, samples = digits()
    if kind == "uint8":
        train, samples = ((255 * each).astype(np.uint8) for each in (train, samples))
    scale = 255 if kind == "uint8" else 1
    oracle = NearestNeighbors(n_neighbors=2).fit(train.reshape(1000, -1) / scale)
    distances, ids = oracle.kneighbors(samples.reshape(397, -1) / scale)
    nearest = nearest_images(samples, train)
    assert (nearest.ids == ids[:, 0]).mean() > 0.99  # of two equally near ones either may be named
    np.testing.assert_allclose(nearest.distances, distances[:, 0], atol=1e-5)
    np.testing.assert_allclose(nearest.second, distances[:, 1], atol=1e-5)
    np.testing.assert_allclose(nearest.ratios, distances[:, 0] / distances[:, 1], atol=1e-5)


def test_a_copy_has_its_image_at_no_distance_and_equal_training_images_count_once() -> None:
    train, _, _ = digits()
    rows = generator().integers(1000, size=60)
    once, thrice = nearest_images(train[rows], train), nearest_images(train[rows], np.tile(train, (3, 1, 1, 1)))
    assert (once.distances == 0).all() and (once.second > 0).all()
    np.testing.assert_array_equal(once.ids, rows)
    for name in ("ids", "distances", "second"):
        np.testing.assert_array_equal(getattr(once, name), getattr(thrice, name))


@pytest.mark.parametrize("noise", [0, 0.02, 0.05])
@pytest.mark.parametrize("repeats", [1, 2])
def test_copies_of_50_training_images_with_slight_noise_are_shown(noise: float, repeats: int) -> None:
    train, held_out, _ = digits()
    copies = noisy(np.tile(train[:50], (6, 1, 1, 1)), noise)
    result = verdict(copies, np.tile(train, (repeats, 1, 1, 1)), held_out)
    assert result.shown and result.copies.mean() > 0.9
    assert result.medians.verdict == "lower"


def test_copies_among_other_samples_are_shown_though_the_median_stays() -> None:
    train, held_out, new = digits()
    result = verdict(np.concatenate([new, noisy(train[:40], 0.02)]), train, held_out)
    assert result.shown and result.copies[-40:].mean() > 0.9 and result.copies[:-40].mean() < 0.05
    assert result.share.interval and result.share.interval[1] < 0.2


def test_other_real_images_and_blends_of_two_training_images_are_no_copies() -> None:
    train, held_out, new = digits()
    for samples in (new, (train[:300] + train[300:600]) / 2):
        result = verdict(samples, train, held_out)
        assert result.shown is False and result.copies.mean() < 0.04
    assert verdict(new, train, held_out).medians.verdict == "no difference shown"


def test_the_order_of_samples_and_of_held_out_images_changes_no_score() -> None:
    train, held_out, new = digits()
    samples = np.concatenate([new, train[:40]])
    one, other = verdict(samples, train, held_out), verdict(samples[::-1], train[::-1], held_out[::-1])
    assert one.share.value == other.share.value and one.medians.value == pytest.approx(other.medians.value, abs=1e-6)
    np.testing.assert_array_equal(one.copies, other.copies[::-1])


def test_held_out_images_that_equal_training_images_hide_no_copies() -> None:
    train, held_out, _ = digits()
    copies = noisy(train[:50], 0.02)
    leaky = np.concatenate([held_out, train[:100]])
    assert verdict(copies, train, leaky).share.value == verdict(copies, train, held_out).share.value
    with pytest.raises(ValueError, match="all 100 held-out images equal a training image"):
        verdict(copies, train, train[:100])


def test_nothing_is_shown_with_few_held_out_images() -> None:
    train, held_out, _ = digits()
    result = verdict(train[:50], train, held_out[:199])
    assert result.shown is None and result.share.interval is None and result.share.value > 0.9


def test_training_images_of_another_size_or_all_alike_are_refused() -> None:
    train, _, new = digits()
    with pytest.raises(ValueError, match=r"samples are \(7, 8, 1\) and training images \(8, 8, 1\)"):
        nearest_images(new[:, 1:], train)
    with pytest.raises(ValueError, match="1 of 5 training images differ"):
        nearest_images(new, np.repeat(train[:1], 5, axis=0))
