"""Measures of decoders against numpy, scikit-learn and paths whose answer is known; the images are sorted by class."""

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import mean_squared_error

from eval.evidence import decoding
from eval.evidence.decoding import Principal, crossfades, different_pairs, errors, third_class, unevenness


def images(n: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 6, 5, 1)).astype(np.float32)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels, sorted by class."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.argsort(labels, kind="stable")
    return pixels[order] / 16, labels[order]


def test_errors_agree_with_scikit_learn_after_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 7)
    one = images()
    other = one + np.random.default_rng(1).normal(0, 0.5, one.shape)
    flat, clipped = one.reshape(40, -1), np.clip(other, 0, 1).reshape(40, -1)
    expected = mean_squared_error(flat.T, clipped.T, multioutput="raw_values")
    np.testing.assert_allclose(errors(one, other), expected, rtol=1e-6)
    assert (errors(one, other) < np.square(one - other).mean(axis=(1, 2, 3))).all()


def test_errors_follow_their_images_in_any_order() -> None:
    one, other = images(), images(seed=1)
    order = np.random.default_rng(2).permutation(len(one))
    np.testing.assert_array_equal(errors(one[order], other[order]), errors(one, other)[order])


def test_errors_refuse_bytes_and_unequal_shapes() -> None:
    with pytest.raises(ValueError, match=r"pixels from 0\.0 to 255\.0; scale them"):
        errors(np.array([[0.0, 255.0]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="one of each image"):
        errors(images(2), images(3))


def test_principal_components_agree_with_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 100)
    pixels, _ = digits()
    train, test = pixels[::2], pixels[1::2]
    principal = Principal.fit(train)
    for d in (1, 8, 30):
        reference = PCA(d, svd_solver="full").fit(train)
        expected = reference.transform(test)
        codes = principal.codes(test, d)
        np.testing.assert_allclose(codes * np.sign(codes[0] * expected[0]), expected, atol=1e-8)
        decoded = np.clip(reference.inverse_transform(expected), 0, 1)
        np.testing.assert_allclose(principal.reconstruct(test, d), decoded, atol=1e-8)
        scale = (len(train) - 1) / len(train)  # scikit-learn's variance is the unbiased one
        np.testing.assert_allclose(principal.variances[:d], reference.explained_variance_ * scale, rtol=1e-8)


def test_principal_components_of_all_pixels_give_the_images_and_of_training_images_the_smaller_variances() -> None:
    pixels, _ = digits()
    principal = Principal.fit(pixels)
    np.testing.assert_allclose(principal.reconstruct(pixels, 64), pixels, atol=1e-10)
    residual = np.square(principal.codes(pixels, 8) @ principal.axes[:, :8].T + principal.mean - pixels).mean()
    assert residual == pytest.approx(principal.variances[8:].sum() / 64)


def test_principal_components_do_not_depend_on_the_order_of_the_images() -> None:
    pixels, _ = digits()
    shuffled = np.random.default_rng(0).permutation(pixels)
    one, other = (Principal.fit(train).reconstruct(pixels, 8) for train in (pixels, shuffled))
    np.testing.assert_allclose(one, other, atol=1e-8)


@pytest.mark.parametrize("d", [0, 31])
def test_more_components_than_pixels_are_refused(d: int) -> None:
    pixels = images().reshape(40, -1)
    with pytest.raises(ValueError, match=f"{d} components of 30 pixels; give 1 to 30"):
        Principal.fit(pixels).codes(pixels, d)


def test_pairs_are_of_different_classes_and_every_one_is_equally_likely() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])  # sorted, and of unequal sizes
    pairs = different_pairs(labels, 44_000, np.random.default_rng(0))
    assert (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all()
    drawn = np.zeros((6, 6), int)
    np.add.at(drawn, tuple(pairs.T), 1)
    allowed = labels[:, None] != labels
    assert allowed.sum() == 22 and not drawn[~allowed].any()
    assert chisquare(drawn[allowed]).pvalue > 0.01


def test_pairs_of_a_sorted_set_have_every_class_and_repeat_with_their_seed() -> None:
    _, labels = digits()
    one, other = (different_pairs(labels, 500, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(labels[one[:, 0]])) == len(np.unique(labels[one[:, 1]])) == 10
    with pytest.raises(ValueError, match="all 4 images have one class"):
        different_pairs(np.full(4, 7), 1, np.random.default_rng(0))


def test_crossfades_agree_with_a_loop_and_end_in_their_images() -> None:
    first, second, alphas = images(3), images(3, 1), (0.0, 0.3, 1.0)
    fades = crossfades(first, second, alphas)
    for pair in range(3):
        for step, alpha in enumerate(alphas):
            np.testing.assert_allclose(fades[pair, step], (1 - alpha) * first[pair] + alpha * second[pair], atol=1e-7)
    np.testing.assert_array_equal(fades[:, 0], first)
    np.testing.assert_array_equal(fades[:, -1], second)


def test_a_crossfade_in_equal_steps_has_an_unevenness_of_one() -> None:
    fades = crossfades(images(5).astype(float), images(5, 1).astype(float), np.linspace(0, 1, 9).tolist())
    np.testing.assert_allclose(unevenness(fades), 1, atol=1e-12)
    quadratic = crossfades(images(5).astype(float), images(5, 1).astype(float), (np.linspace(0, 1, 9) ** 2).tolist())
    np.testing.assert_allclose(unevenness(quadratic), 15 / 8, atol=1e-12)  # the last of 8 steps is 15/64 of the way


def test_a_jump_has_an_unevenness_of_the_number_of_steps_and_a_still_path_of_one() -> None:
    jump = np.concatenate([np.zeros((2, 4, 3, 3)), np.ones((2, 5, 3, 3))], axis=1)
    np.testing.assert_array_equal(unevenness(jump), [8, 8])
    np.testing.assert_array_equal(unevenness(np.ones((2, 5, 3))), [1, 1])
    np.testing.assert_allclose(unevenness(jump[:, ::-1]), unevenness(jump))
    with pytest.raises(ValueError, match="1 frames have no step"):
        unevenness(np.ones((2, 1, 3)))


def test_a_third_class_is_neither_of_the_two() -> None:
    predicted, first, second = np.array([1, 2, 3, 1]), np.array([1, 1, 1, 0]), np.array([2, 2, 2, 1])
    assert third_class(predicted, first, second).tolist() == [False, False, True, False]
