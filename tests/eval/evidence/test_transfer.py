"""Learners of few labels on blobs and small pictures, and their statistics against scipy and closed forms."""

import warnings
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import betainc
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

from eval.evidence.linear_probe import Standardisation
from eval.evidence.transfer import (
    Ids,
    Labels,
    Recipe,
    balanced_draws,
    choose,
    fine_tune,
    from_scratch,
    guessing,
    linear,
    mlp,
    nearest,
    paired,
    t_interval,
    turnover,
)

SORTED = np.repeat(np.arange(10), 50)


def blobs(spread: float = 1.0) -> tuple[np.ndarray, Labels, np.ndarray, Labels]:
    """40 labelled and 200 test codes of four classes, both sorted by class."""
    codes, labels = make_blobs(240, 6, centers=4, cluster_std=spread, center_box=(-3, 3), random_state=3)
    parts = []
    for rows in (np.arange(40), np.arange(40, 240)):
        order = rows[np.argsort(labels[rows], kind="stable")]
        parts += [codes[order].astype(np.float32), labels[order]]
    return tuple(parts)


def stripes(n: int, seed: int) -> tuple[Tensor, Labels]:
    """Pictures of lines, sorted by class: 0 horizontal, 1 vertical; their mean color says nothing."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n // 2)
    pictures = 0.3 * random.normal(size=(n, 1, 8, 8))
    for row, label in enumerate(labels):
        line = random.integers(8)
        pictures[row, 0, line if label == 0 else slice(None), line if label else slice(None)] += 2
    return torch.from_numpy(pictures).float(), labels


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


def pretrained() -> tuple[nn.Module, Standardisation]:
    """A random network with the statistics of 400 images."""
    torch.manual_seed(0)
    encoder = network()
    unlabelled, _ = stripes(400, 9)
    with torch.no_grad():
        for _ in range(60):
            encoder(unlabelled)
        return encoder.eval(), Standardisation.of(encoder(unlabelled).numpy())


# -- draws -------------------------------------------------------------------------------------------------------------


def test_draws_of_a_sorted_set_have_equally_many_of_each_class_and_no_image_twice() -> None:
    draws = balanced_draws(SORTED, 40, 20, np.random.default_rng(0))
    assert draws.shape == (20, 40)
    for draw in draws:
        assert len(set(draw)) == 40 and np.bincount(SORTED[draw]).tolist() == [4] * 10
    assert len({tuple(sorted(draw)) for draw in draws}) == 20


def test_what_is_left_over_goes_to_random_classes_once_each() -> None:
    draws = balanced_draws(SORTED, 13, 400, np.random.default_rng(0))
    counts = np.array([np.bincount(SORTED[draw], minlength=10) for draw in draws])
    assert set(counts.ravel()) == {1, 2} and (counts.sum(axis=1) == 13).all()
    assert stats.chisquare((counts == 2).sum(axis=0)).pvalue > 0.01
    few = balanced_draws(SORTED, 3, 5, np.random.default_rng(0))
    assert all(len(set(SORTED[draw])) == 3 for draw in few)


def test_a_class_with_too_few_images_gives_all_and_the_others_more() -> None:
    labels = np.repeat([3, 5, 8], [2, 30, 30])
    for draw in balanced_draws(labels, 20, 5, np.random.default_rng(0)):
        assert Counter(labels[draw].tolist()) == {3: 2, 5: 9, 8: 9}
    assert sorted(balanced_draws(labels, 62, 1, np.random.default_rng(0))[0]) == list(range(62))
    with pytest.raises(ValueError, match="63 labels of 62 images; give 1 to 62"):
        balanced_draws(labels, 63, 1, np.random.default_rng(0))


def test_every_image_of_a_class_is_drawn_equally_often_and_draws_repeat_with_their_seed() -> None:
    labels = np.repeat([0, 1], [6, 12])
    draws = balanced_draws(labels, 4, 6000, np.random.default_rng(1))
    times = np.bincount(draws.ravel(), minlength=18)
    # Two of a class, without repetition: the variance of a count is smaller than a multinomial's, so the test is lenient.
    assert stats.chisquare(times[:6]).pvalue > 0.01 and stats.chisquare(times[6:]).pvalue > 0.01
    np.testing.assert_array_equal(balanced_draws(labels, 4, 6000, np.random.default_rng(1)), draws)


# -- learners ----------------------------------------------------------------------------------------------------------


def test_nearest_and_linear_agree_with_scikit_learn() -> None:
    codes, labels, test, _ = blobs(3.0)
    expected = KNeighborsClassifier(1, algorithm="brute").fit(codes, labels).predict(test)
    np.testing.assert_array_equal(nearest(codes + 1000, labels, test + 1000), expected)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(nearest(codes[order], labels[order], test), expected)
    for strength in (1.0, 0.01):
        reference = LogisticRegression(C=strength, max_iter=1000).fit(codes, labels).predict(test)
        np.testing.assert_array_equal(linear(codes, labels, test, strength), reference)


def test_labels_of_one_class_predict_that_class() -> None:
    codes, _, test, _ = blobs()
    assert set(linear(codes, np.full(40, 3), test)) == {3} and set(nearest(codes, np.full(40, 3), test)) == {3}


def test_hidden_layers_separate_what_a_linear_learner_does_not() -> None:
    random = np.random.default_rng(0)
    codes, test = (random.uniform(-1, 1, (n, 2)).astype(np.float32) for n in (160, 1000))
    labels, truth = ((part[:, 0] * part[:, 1] > 0).astype(int) for part in (codes, test))  # exclusive or
    assert (linear(codes, labels, test) == truth).mean() < 0.75  # no line is right in all four quadrants
    predicted = mlp(torch.from_numpy(codes), labels, torch.from_numpy(test), 2, seed=0, recipe=Recipe(200))
    assert (predicted == truth).mean() > 0.9


def test_a_layer_on_blobs_is_as_accurate_as_scikit_learns_and_repeats_with_its_seed() -> None:
    codes, labels, test, truth = blobs()
    standardise = Standardisation.of(np.concatenate([codes, test]))
    x, y = standardise(codes), standardise(test)
    before = torch.get_rng_state()
    ours = [mlp(x, labels, y, 4, seed) for seed in range(6)]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(mlp(x, labels, y, 4, 2), ours[2])
    reference = [
        MLPClassifier(32, alpha=0, batch_size=40, learning_rate_init=1e-2, max_iter=60, random_state=seed)
        for seed in range(6)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 steps are what is compared
        expected = np.mean([model.fit(x.numpy(), labels).score(y.numpy(), truth) for model in reference])
    assert expected > 0.9 and np.mean([(predicted == truth).mean() for predicted in ours]) == pytest.approx(
        expected, abs=0.03
    )


def test_an_untrained_layer_guesses_and_predictions_follow_their_test_codes() -> None:
    codes, labels, test, truth = (torch.from_numpy(part) for part in blobs())
    untrained = [mlp(codes, labels.numpy(), test, 4, seed, Recipe(0)) for seed in range(30)]
    assert np.mean([(predicted == truth.numpy()).mean() for predicted in untrained]) == pytest.approx(0.25, abs=0.1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    one, other = (mlp(codes, labels.numpy(), part, 4, 0) for part in (test, test[order]))
    np.testing.assert_array_equal(one[order], other)


def test_fine_tuning_learns_and_leaves_the_network_as_it_is() -> None:
    encoder, standardise = pretrained()
    encoder.requires_grad_(False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    (images, labels), (test, truth) = stripes(40, 0), stripes(200, 1)
    one, other = (fine_tune(encoder, images, labels, test, 2, 0, standardise, Recipe(80, 1e-2, 1e-2)) for _ in range(2))
    assert (one == truth).mean() > 0.9
    np.testing.assert_array_equal(one, other)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(weights.requires_grad for weights in encoder.parameters())


def test_fine_tuning_at_rate_0_is_the_frozen_encoder() -> None:
    encoder, standardise = pretrained()
    (images, labels), (test, _) = stripes(40, 0), stripes(200, 1)
    with torch.no_grad():
        codes, test_codes = (standardise(encoder(part).numpy()) for part in (images, test))
    whole = fine_tune(encoder, images, labels, test, 2, 5, standardise, Recipe(40, 1e-2, 0.0))
    frozen = mlp(codes, labels, test_codes, 2, 5, Recipe(40, 1e-2))
    assert (whole == frozen).mean() > 0.99  # the same layers and steps, up to float32's rounding
    moved = fine_tune(encoder, images, labels, test, 2, 5, standardise, Recipe(40, 1e-2, 1e-2))
    assert (whole != moved).any()


def test_fine_tuning_keeps_the_statistics_of_batch_normalization(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spy(nn.BatchNorm2d):
        modes: ClassVar[list[bool]] = []  # deep copies share it

        def forward(self, x: Tensor) -> Tensor:
            self.modes.append(self.training)
            return super().forward(x)

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), Spy(4), nn.AdaptiveMaxPool2d(1), nn.Flatten())

    (images, labels), (test, _) = stripes(20, 0), stripes(20, 1)
    encoder = build().train()
    fine_tune(encoder, images, labels, test, 2, 0, Standardisation(np.zeros(4), np.ones(4)), Recipe(3))
    assert Spy.modes == [False] * 4 and encoder.training
    Spy.modes.clear()
    from_scratch(build, images, labels, test, 2, 0, Recipe(3))
    assert Spy.modes == [False, True, True, True, False]  # its width, three steps, the test images


def test_an_encoder_that_gives_features_too_is_tuned_on_its_representation() -> None:
    class Pair(nn.Module):
        def __init__(self, encoder: nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return torch.full((len(images), 99), torch.nan), self.encoder(images)

    encoder, standardise = pretrained()
    (images, labels), (test, _) = stripes(20, 0), stripes(100, 1)
    one, other = (fine_tune(part, images, labels, test, 2, 0, standardise) for part in (encoder, Pair(encoder)))
    np.testing.assert_array_equal(one, other)


def test_a_network_from_scratch_learns_from_many_labels_and_follows_its_seed() -> None:
    (images, labels), (test, truth) = stripes(200, 0), stripes(200, 1)
    recipe = Recipe(80, 1e-2, 1e-2)
    before = torch.get_rng_state()
    one, other = (from_scratch(network, images, labels, test, 2, 0, recipe) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one, other)
    assert (one == truth).mean() > 0.9
    untrained = [(from_scratch(network, images, labels, test, 2, s, Recipe(0)) == truth).mean() for s in range(20)]
    assert np.mean(untrained) < 0.7


# -- the choice of a recipe --------------------------------------------------------------------------------------------


def test_the_recipe_that_learns_is_chosen_on_images_that_no_draw_has() -> None:
    *_, test, truth = blobs()
    draws = balanced_draws(truth, 12, 3, np.random.default_rng(0))
    x = torch.from_numpy(test)
    asked: list[Ids] = []

    def learn(recipe: Recipe, rows: Ids, held_out: Ids) -> Labels:
        asked.append(held_out)
        return mlp(x[rows], truth[rows], x[held_out], 4, 0, recipe)

    recipes = [Recipe(0), Recipe(100, 1e-2), Recipe(100, 1e-2)]
    choice = choose(recipes, learn, truth, draws, 60, np.random.default_rng(1))
    assert choice.recipe is recipes[1] and choice.accuracies[0] < 0.6 < 0.9 < choice.accuracies[1]
    assert choice.accuracies[1] == choice.accuracies[2]
    assert all(not np.isin(rows, draws).any() and len(set(rows)) == 60 for rows in asked)
    assert len(np.unique(truth[asked[0]])) == 4
    expected = [(learn(recipes[1], draw, asked[0]) == truth[asked[0]]).mean() for draw in draws]
    assert choice.accuracies[1] == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match="held-out images, and 0 are in no draw"):
        choose(recipes, learn, truth, np.arange(200)[None], 60, np.random.default_rng(1))


# -- accuracies over draws ---------------------------------------------------------------------------------------------


def test_paired_differences_agree_with_scipys_paired_t_test() -> None:
    random = np.random.default_rng(0)
    draw = random.normal(0.5, 0.1, 20)
    a, b = draw + random.normal(0.03, 0.02, 20), draw + random.normal(0, 0.02, 20)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    difference = paired(a, b)
    assert difference.value == pytest.approx(a.mean() - b.mean())
    assert difference.interval == pytest.approx((expected.low, expected.high)) and difference.verdict == "higher"
    turned = paired(b[::-1], a[::-1])
    assert turned.interval == pytest.approx((-expected.high, -expected.low))


def test_a_single_draw_has_no_interval_and_unequal_numbers_of_draws_are_refused() -> None:
    assert paired([0.5], [0.3]).interval is None and t_interval([1.0]) is None
    assert paired([0.5, 0.75], [0.25, 0.5]).interval == (0.25, 0.25)
    with pytest.raises(ValueError, match="3 and 2 draws cannot be paired"):
        paired([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="0 and 0 draws"):
        paired([], [])


def test_a_difference_turns_over_where_its_line_in_the_logarithm_crosses_zero() -> None:
    counts, slope = [10, 40, 160], -0.05
    differences = [slope * np.log(n / 77) for n in counts]
    assert turnover(counts, differences) == pytest.approx(77)
    assert turnover(counts[::-1], differences[::-1]) == pytest.approx(77)
    assert turnover(counts, [-3 * d for d in differences]) == pytest.approx(77)
    expected = np.exp(np.interp(0, [-4.7, 1.3], np.log([40, 160])))
    assert turnover([10, 40, 160], [7.1, 4.7, -1.3]) == pytest.approx(expected)


def test_a_difference_that_keeps_its_sign_never_turns_over() -> None:
    assert turnover([10, 40, 160], [3, 2, 1]) is None and turnover([10, 40], [1, 0]) is None
    assert turnover([10, 40, 160], [1, 0, 1]) is None and turnover([10, 40], [0, 1]) is None
    assert turnover([10, 40, 160], [1, 0, -2]) == pytest.approx(40)
    assert turnover([10, 20, 40, 80], [1, -1, 1, 1]) == pytest.approx(np.sqrt(200))  # the first of two
    assert turnover([], []) is None and turnover([10], [1]) is None


@pytest.mark.parametrize("counts", [[10, 10], [0, 10], [10]])
def test_counts_that_are_no_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="one for each count above 0"):
        turnover(counts, [1, -1])


def figures(mean: float, deviation: float, n: int = 28) -> np.ndarray:
    """Values with exactly this mean and unbiased deviation."""
    values = np.random.default_rng(0).normal(size=n)
    return np.asarray(mean + deviation * (values - values.mean()) / values.std(ddof=1))


@pytest.mark.parametrize(("mean", "p"), [(11.2, 0.14), (8.8, 0.09)])
def test_the_reports_accuracies_are_those_of_guessing(mean: float, p: float) -> None:
    """28 results each: what is known are their mean and p, and from those the deviation."""
    error = abs(mean - 10) / stats.t.isf(p / 2, 27)
    deviation = error * np.sqrt(28)
    result = guessing(figures(mean, deviation), 10)
    assert result.p == pytest.approx(p) and result.mean == pytest.approx(mean)
    half = stats.t.isf(0.025, 27) * error
    assert result.interval == pytest.approx((mean - half, mean + half))
    assert result.interval[0] < 10 < result.interval[1]
    assert guessing(figures(mean, deviation / 3), 10).p < 0.001


def test_guessing_agrees_with_the_incomplete_beta_function() -> None:
    values = np.random.default_rng(3).normal(0.12, 0.04, 9)
    t = (values.mean() - 0.1) / (values.std(ddof=1) / 3)
    assert guessing(values, 0.1).p == pytest.approx(betainc(4, 0.5, 8 / (8 + t**2)))


def test_guesses_at_random_are_found_out_and_equal_accuracies_have_no_spread() -> None:
    random = np.random.default_rng(0)
    guesses = random.binomial(2000, 0.1, size=(400, 20)) / 2000
    refused = np.mean([guessing(row, 0.1).p < 0.05 for row in guesses])
    assert refused == pytest.approx(0.05, abs=0.035)
    assert (guessing([0.1] * 4, 0.1).p, guessing([0.3] * 4, 0.1).p) == (1, 0)
    assert guessing([0.3] * 4, 0.1).interval == (0.3, 0.3)
    with pytest.raises(ValueError, match="1 accuracies have no spread"):
        guessing([0.1], 0.1)
