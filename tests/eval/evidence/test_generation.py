"""Measures of samples against torchmetrics, scipy, scikit-learn, and cases whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import laplace
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors
from torchmetrics.image.kid import poly_mmd

from eval.evidence.generation import (
    Reference,
    acceptance,
    blur,
    frechet_distance,
    histogram_floors,
    sharpness,
    support,
    weights,
    within,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clouds(n: int = 90, m: int = 90, d: int = 8, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    random = generator(3)
    return random.normal(size=(n, d)), random.normal(shift, 1.2, size=(m, d))


# -- kernel distance ---------------------------------------------------------------------------------------------------


def test_kid_agrees_with_torchmetrics_on_features_that_are_divided_by_one_deviation() -> None:
    real, samples = clouds()
    scale = np.sqrt(real.var(axis=0).mean()) + 1e-3
    expected = poly_mmd(torch.from_numpy(real) / scale, torch.from_numpy(samples) / scale)
    value = Reference.of(real).distance(samples, 0, generator()).value
    assert value == pytest.approx(float(expected), abs=1e-6) and value > 0.1


def test_a_feature_that_real_images_seldom_stir_has_no_larger_part_in_the_distance_than_any_other() -> None:
    real, samples = clouds()
    flat = np.concatenate([real, 1e-3 * generator().random((len(real), 1))], axis=1)
    one, other = (np.concatenate([samples, np.full((len(samples), 1), height)], axis=1) for height in (0.0, 0.1))
    near, far = (Reference.of(flat).distance(part, 0, generator()).value for part in (one, other))
    assert far == pytest.approx(near, rel=0.1)


def test_kid_of_unequal_sets_is_the_sum_over_pairs_of_different_images() -> None:
    real, samples = clouds(7, 11, 3)
    reference = Reference.of(real)
    x, y = reference.features, samples / reference.deviation

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(
            np.mean([(u @ v / 3 + 1) ** 3 for i, u in enumerate(a) for j, v in enumerate(b) if a is not b or i != j])
        )

    expected = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert reference.distance(samples, 5, generator()).value == pytest.approx(expected, abs=1e-12)


def test_a_resample_is_the_set_with_repeated_images_less_the_pairs_of_an_image_with_itself() -> None:
    x, _ = clouds(9, 1, 3)
    times = weights(9, 4, generator())
    for row, value in zip(times, within(x, times), strict=True):
        drawn = np.repeat(np.arange(9), row.astype(int))
        pairs = [(x[i] @ x[j] / 3 + 1) ** 3 for i in drawn for j in drawn if i != j]
        assert value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert (times[0] == 1).all() and times[1:].max() > 1


def test_blocks_of_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, samples = clouds(50, 70)
    whole = Reference.of(real).distance(samples, 20, generator()), support(real, samples)
    monkeypatch.setattr("eval.evidence.generation.blocks", lambda n: (slice(i, i + 7) for i in range(0, n, 7)))
    distance, overlap = Reference.of(real).distance(samples, 20, generator()), support(real, samples)
    assert distance.value == pytest.approx(whole[0].value, abs=1e-12)
    assert distance.interval == pytest.approx(whole[0].interval, abs=1e-12)
    for name in ("precision", "recall", "density", "coverage"):
        np.testing.assert_array_equal(getattr(overlap, name), getattr(whole[1], name))


def populations(seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """30 points with the kernel of each two, and the probabilities of three distributions over them: p, and two others."""
    random = generator(seed)
    points = random.normal(size=(30, 4))
    p, q, r = (random.dirichlet(np.ones(30)) for _ in range(3))
    return points, (points @ points.T / 4 + 1) ** 3, [p, q, r], random.integers(2**32, size=150)


def test_the_interval_of_kid_covers_the_distance_of_the_distributions() -> None:
    points, kernel, (p, q, _), seeds = populations(0)
    truth = (p - q) @ kernel @ (p - q)
    values, covers, widths = [], [], []
    for seed in seeds:
        random = generator(seed)
        real, samples = points[random.choice(30, 200, p=p)], points[random.choice(30, 150, p=q)]
        distance = Reference(real, 1.0).distance(samples, 200, random)
        assert distance.interval
        values.append(distance.value)
        low, high = distance.interval
        covers.append(low <= truth <= high)
        widths.append(high - low)
    assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values) / np.sqrt(len(values)))  # unbiased
    assert np.mean(covers) >= 0.9
    assert np.mean(widths) < 1.3 * 2 * 1.96 * np.std(values)  # and not by its width


def test_the_interval_of_a_difference_covers_and_is_narrower_for_the_same_noise() -> None:
    points, kernel, (p, q, r), seeds = populations(1)
    r = 0.8 * q + 0.2 * r
    truth = (p - q) @ kernel @ (p - q) - (p - r) @ kernel @ (p - r)
    covers, ratios = [], []
    for seed in seeds:
        random = generator(seed)
        real = Reference(points[random.choice(30, 150, p=p)], 1.0)
        noise = random.random(120)
        one, other = (points[np.searchsorted(np.cumsum(each)[:-1], noise)] for each in (q, r))
        paired, crossed = real.difference(one, other, 200, random), real.difference(one, other[::-1], 200, random)
        assert paired.interval and crossed.interval
        covers.append([low <= truth <= high for low, high in (paired.interval, crossed.interval)])
        ratios.append(np.ptp(paired.interval) / np.ptp(crossed.interval))
        assert paired.value == pytest.approx(crossed.value, abs=1e-10)
    assert (np.mean(covers, axis=0) >= 0.9).all()
    assert np.mean(ratios) < 0.9


def test_a_difference_is_that_of_the_distances_and_turns_over_with_the_sets() -> None:
    real, samples = clouds(60, 50)
    worse = samples[:40] + 1
    reference = Reference.of(real)
    one, other = (reference.distance(each, 0, generator()) for each in (samples, worse))
    difference = reference.difference(samples, worse, 200, generator())
    assert difference.value == pytest.approx(one.value - other.value, abs=1e-10)
    assert difference.verdict == "lower" and reference.difference(worse, samples, 200, generator()).verdict == "higher"
    same = reference.difference(samples, samples, 200, generator())
    assert same.value == 0 and same.interval == (0, 0)


def test_influences_are_the_jackknifes_pseudo_values_and_their_mean_is_the_distance() -> None:
    real, samples = clouds(12, 12, 3)
    reference = Reference.of(real)
    x, y = reference.features, samples / reference.deviation

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        n = len(x)
        tables = [(a @ b.T / 3 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
        within = sum(table.sum() - table.trace() for table in tables[:2]) / (n * (n - 1))
        return float(within - 2 * tables[2].mean())

    left_out = [distance(np.delete(x, i, axis=0), np.delete(y, i, axis=0)) for i in range(12)]
    pseudo = 12 * distance(x, y) - 11 * np.array(left_out)
    influences = reference.influences(samples)
    assert influences.mean() == pytest.approx(distance(x, y), abs=1e-10)
    assert influences.mean() == pytest.approx(reference.distance(samples, 0, generator()).value, abs=1e-10)
    np.testing.assert_allclose(influences - influences.mean(), pseudo - pseudo.mean(), atol=1e-9)


def test_the_standard_error_of_influences_is_that_of_resampling_both_sides() -> None:
    real, samples = clouds(400, 400)
    reference = Reference.of(real)
    error = reference.influences(samples).std(ddof=1) / np.sqrt(400)
    interval = reference.distance(samples, 1000, generator()).interval
    assert interval and error == pytest.approx(np.ptp(interval) / (2 * 1.96), rel=0.2)


def test_influences_need_as_many_samples_as_real_images() -> None:
    real, samples = clouds(30, 29)
    with pytest.raises(ValueError, match="29 samples and 30 real images make no pairs"):
        Reference.of(real).influences(samples)


def test_few_images_have_a_distance_and_no_interval() -> None:
    real, samples = clouds(90, 19)
    assert Reference.of(real).distance(samples, 100, generator()).interval is None
    assert Reference.of(samples).distance(real, 100, generator()).interval is None
    assert Reference.of(real).difference(real, samples, 100, generator()).interval is None


def test_a_set_that_is_sorted_by_class_has_the_scores_of_the_shuffled_one() -> None:
    random = generator(5)
    centers = random.normal(size=(10, 6)) * 2
    real, samples = (centers[np.repeat(np.arange(10), 30)] + random.normal(size=(300, 6)) * s for s in (1, 1.3))
    orders = random.permutation(300), random.permutation(300)
    shuffled = real[orders[0]], samples[orders[1]]
    one = Reference.of(real).distance(samples, 1000, generator())
    other = Reference.of(shuffled[0]).distance(shuffled[1], 1000, generator())
    assert other.value == pytest.approx(one.value, abs=1e-10) and one.interval and other.interval
    assert other.interval == pytest.approx(one.interval, abs=0.15 * np.ptp(one.interval))
    assert frechet_distance(*shuffled) == pytest.approx(frechet_distance(real, samples), abs=1e-10)
    sorted_support, support_ = support(real, samples), support(*shuffled)
    for name, order in (("precision", 1), ("density", 1), ("recall", 0), ("coverage", 0)):
        np.testing.assert_array_equal(getattr(sorted_support, name)[orders[order]], getattr(support_, name))


def test_features_that_cannot_be_compared_are_refused() -> None:
    real, samples = clouds()
    with pytest.raises(ValueError, match="samples have 7 features and real images 8"):
        Reference.of(real).distance(samples[:, :7], 10, generator())
    with pytest.raises(ValueError, match=r"real images have the shape \(1, 8\)"):
        Reference.of(real[:1])
    samples[3, 2] = np.nan
    with pytest.raises(ValueError, match="1 features of samples are NaN"):
        Reference.of(real).distance(samples, 10, generator())


# -- Fréchet distance --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 400])  # fewer images than features, and more
def test_frechet_distance_agrees_with_scipys_root_of_a_matrix(n: int) -> None:
    a, b = clouds(n, 300)
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), abs=1e-10)


def test_frechet_distance_of_shifted_features_is_the_squared_shift_where_some_are_constant() -> None:
    a, _ = clouds()
    a[:, 3] = 0
    assert frechet_distance(a, a + np.array([0, 0, 2, 1, 0, 0, 0, 0])) == pytest.approx(5, abs=1e-10)


# -- precision, recall, density, coverage ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_support_agrees_with_scikit_learns_neighbors_and_loops(k: int) -> None:
    real, samples = clouds(40, 50, 2, shift=1.0)
    reach, sample_reach = (NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1] for x in (real, samples))
    precision, recall, density, coverage = [False] * 50, [False] * 40, [0.0] * 50, [False] * 40
    for i in range(40):
        for j in range(50):
            distance = np.linalg.norm(real[i] - samples[j])
            if distance <= reach[i]:
                precision[j] = coverage[i] = True
                density[j] += 1 / k
            recall[i] |= bool(distance <= sample_reach[j])
    result = support(real, samples, k)
    assert 0.2 < np.mean(precision) < 0.9 and np.mean(precision) != np.mean(recall)
    np.testing.assert_array_equal(result.precision, precision)
    np.testing.assert_array_equal(result.recall, recall)
    np.testing.assert_allclose(result.density, density, atol=1e-12)
    np.testing.assert_array_equal(result.coverage, coverage)


@pytest.mark.parametrize("repeats", [1, 5])  # of five equal images the third neighbor is at a distance of 0
def test_equal_sets_are_wholly_within_each_other(repeats: int) -> None:
    real = np.tile(clouds()[0], (repeats, 1))
    result = support(real, real[::-1])
    assert result.precision.all() and result.recall.all() and result.coverage.all()
    assert result.density.mean() == pytest.approx(
        max(4, repeats) / 3
    )  # the ball of an image has it and three neighbors


def test_two_draws_of_a_uniform_distribution_have_the_density_and_coverage_that_are_expected_of_it() -> None:
    real, samples = generator(0).random((2, 1500, 3))
    result = support(real, samples, k=3)
    missed = np.prod([(1500 - i) / (3000 - i) for i in (1, 2, 3)])  # Naeem et al. 2020, section 3.4
    assert result.coverage.mean() == pytest.approx(1 - missed, abs=0.03)
    assert result.density.mean() == pytest.approx(1, abs=0.05)


def test_samples_of_one_mode_are_precise_and_recall_little_and_noise_the_other_way_round() -> None:
    random = generator(2)
    real = np.concatenate([random.normal(size=(200, 4)), random.normal(8, 1, size=(200, 4))])
    mode = support(real, random.normal(0, 0.5, size=(300, 4)))
    noise = support(real, random.uniform(-20, 30, size=(300, 4)))
    assert mode.precision.mean() > 0.95 and mode.recall.mean() < 0.5 and not mode.coverage[200:].any()
    assert noise.precision.mean() < 0.05 and noise.recall.mean() > 0.9 and noise.density.mean() < 0.05


def test_support_of_no_more_images_than_neighbors_is_refused() -> None:
    real, samples = clouds(50, 3)
    with pytest.raises(ValueError, match="k = 3 neighbors in a set of 3 images"):
        support(real, samples)


# -- acceptance and sharpness ------------------------------------------------------------------------------------------


def test_samples_are_accepted_for_one_sure_class_and_not_for_the_spoiled_one() -> None:
    logits = np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [1, 1, 0], [2, 0, 0]])
    probabilities = softmax(logits, axis=1)
    assert acceptance(probabilities, 2).tolist() == [True, True, False, False, False]
    assert acceptance(probabilities, 2, probabilities[4, 0]).tolist() == [True, True, False, False, True]


def test_logits_and_judges_without_a_spoiled_class_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 6; give the softmax"):
        acceptance(np.array([[1.0, 2, 3]]), 2)
    with pytest.raises(ValueError, match="give 4 columns"):
        acceptance(np.full((2, 3), 1 / 3), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_agrees_with_scipys_laplacian(channels: int) -> None:
    images = generator().integers(0, 256, size=(5, 9, 12, channels), dtype=np.uint8)
    pixels = images / 255
    edges = np.stack([[laplace(image[..., c])[1:-1, 1:-1] for c in range(channels)] for image in pixels])
    expected = np.abs(edges).mean(axis=(1, 2, 3)) / pixels.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(sharpness(images), expected, rtol=1e-5)
    np.testing.assert_allclose(sharpness(pixels), expected, rtol=1e-5)


def test_an_even_or_empty_image_has_no_sharpness_and_one_pixel_little() -> None:
    images = np.zeros((3, 28, 28, 1))
    images[1], images[2, 9, 9] = 0.4, 1
    assert sharpness(images).tolist() == pytest.approx([0, 0, 8 / 26**2 / 0.02], abs=1e-6)


def test_pixels_outside_of_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from -0.2 to 1; clip them"):
        sharpness(np.array([-0.2, 0.5, 1.0]).reshape(1, 1, 3, 1))


def test_blur_of_half_the_sharpness_is_shown_and_that_of_other_real_images_is_not() -> None:
    random = generator(0)
    real, others = random.gamma(40, size=(2, 1500))
    alike, blurred = (blur(real, samples, 400, random) for samples in (others, others / 2))
    for ratio, result in ((1, alike), (0.5, blurred)):
        assert result.ratio.interval and result.ratio.interval[0] < ratio < result.ratio.interval[1]
        assert result.ratio.value == pytest.approx(result.relative.mean())
        assert result.share.value == result.blurry.mean()
    # The ratio of two means of independent draws: relative variances add up.
    deviation = 0.5 * np.sqrt(2 / (40 * 1500))
    assert blurred.ratio.interval and np.ptp(blurred.ratio.interval) == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    assert alike.share.interval and alike.share.interval[0] < 0.05 < alike.share.interval[1]
    assert blurred.share.value > 0.95


# -- histograms --------------------------------------------------------------------------------------------------------


def test_histogram_floors_are_cross_entropies_by_scipy() -> None:
    random = generator()
    train, test = (random.binomial(255, 0.3, size=(n, 2, 3, 1)).astype(np.uint8) for n in (50, 20))
    train[:, 0] //= 4
    test[:, 0] //= 4

    def bits(train: np.ndarray, test: np.ndarray) -> float:
        p, q = (np.bincount(each.ravel(), minlength=256) for each in (test, train))
        return float(entropy(p, base=2) + entropy(p, q + 1, base=2))

    whole, by_pixel = histogram_floors(train, test)
    assert whole == pytest.approx(bits(train, test), abs=1e-12)
    each = [bits(train[:, i, j], test[:, i, j]) for i in range(2) for j in range(3)]
    assert by_pixel == pytest.approx(np.mean(each), abs=1e-12)
    assert by_pixel != pytest.approx(whole, abs=0.1)


def test_uniform_noise_has_8_bits_and_images_of_another_kind_are_refused() -> None:
    noise = generator().integers(0, 256, size=(4000, 4, 4, 1), dtype=np.uint8)
    assert histogram_floors(noise, noise[:50])[0] == pytest.approx(8, abs=0.01)
    with pytest.raises(ValueError, match="4000 images of float64; give 8-bit"):
        histogram_floors(noise / 255, noise)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give images of one size"):
        histogram_floors(noise, noise[:, :3])
