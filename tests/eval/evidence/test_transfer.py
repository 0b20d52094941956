"""Learners of few labels on blobs and small pictures, against scikit-learn and torch."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from eval.evidence.linear_probe import Standardisation
from eval.evidence.transfer import (
    BATCH,
    Check,
    Ids,
    Labels,
    Recipe,
    balanced_draws,
    choose,
    fine_tune,
    from_scratch,
    linear,
    mlps,
    nearest,
    side_by_side,
    stacked_layers,
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


def mlp(codes: Tensor, labels: Labels, test: Tensor, classes: int, seed: int, recipe: Recipe | None = None) -> Labels:
    """Classes (m,) by the layers of a single draw, which has all codes."""
    predicted: Labels = mlps(codes, labels, np.arange(len(codes))[None], test, classes, [seed], recipe)[0]
    return predicted


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


@pytest.mark.parametrize("count", [30, 200])
def test_layers_that_are_trained_at_once_agree_with_each_trained_by_torch_alone(count: int) -> None:
    codes, labels = make_blobs(400, 6, centers=4, cluster_std=3.0, random_state=1)
    x, y = torch.from_numpy(StandardScaler().fit_transform(codes)).float(), torch.from_numpy(labels)
    draws, seeds = balanced_draws(labels, count, 3, np.random.default_rng(0)), (5, 0, 8)
    stacked = stacked_layers(x, labels, draws, 4, seeds, Recipe(40, 1e-2), hidden=7)
    for place, (draw, seed) in enumerate(zip(draws, seeds, strict=True)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 4))
            optimizer = torch.optim.Adam(layers.parameters(), 1e-2)
            for _ in range(40):
                rows = draw[torch.randperm(count)[:BATCH].numpy()]
                optimizer.zero_grad()
                nn.functional.cross_entropy(layers(x[rows]), y[rows]).backward()
                optimizer.step()
        for ours, theirs in zip(stacked, layers.parameters(), strict=True):
            torch.testing.assert_close(ours[place], theirs.detach(), rtol=1e-3, atol=1e-4)


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


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads, for this test alone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_fits_side_by_side_follow_neither_the_number_of_threads_nor_their_order(threads: Callable[[int], None]) -> None:
    (images, labels), (test, _) = stripes(200, 0), stripes(200, 1)
    encoder, standardise = pretrained()

    def scratch(seed: int, check: Check) -> Labels:
        return from_scratch(network, images, labels, test, 2, seed, Recipe(6), check=check)

    def full(seed: int, check: Check) -> Labels:
        return fine_tune(encoder, images, labels, test, 2, seed, standardise, Recipe(6), check=check)

    fits = [partial(fit, seed) for seed in range(3) for fit in (scratch, full)]
    threads(1)
    expected = [fit(lambda: None) for fit in fits]
    assert len({tuple(predicted) for predicted in expected}) == 6
    state, calls = torch.get_rng_state(), []
    for cores in (1, 4):
        threads(cores)
        np.testing.assert_array_equal(side_by_side(fits, lambda: calls.append(1)), expected)
        np.testing.assert_array_equal(side_by_side(fits[::-1]), expected[::-1])
        assert torch.get_num_threads() == cores
    assert len(calls) == 12 and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_or_ctrl_c_ends_the_other_fits_at_their_next_step(
    error: type[BaseException], threads: Callable[[int], None]
) -> None:
    threads(2)
    whole: list[int] = []

    def long(check: Callable[[], object]) -> None:
        for _ in range(20_000):  # 20 s where nothing ends it
            check()
            time.sleep(1e-3)
        whole.append(1)

    def stop() -> None:
        raise error

    with pytest.raises(error):
        side_by_side([lambda check: None, long, long, long], stop)
    assert not whole and torch.get_num_threads() == 2
    images, labels = stripes(20, 0)
    with pytest.raises(error):
        from_scratch(network, images, labels, images, 2, 0, Recipe(10**9), check=stop)


# -- the choice of a recipe --------------------------------------------------------------------------------------------


def test_the_recipe_that_learns_is_chosen_on_images_that_no_draw_has() -> None:
    *_, test, truth = blobs()
    draws = balanced_draws(truth, 12, 3, np.random.default_rng(0))
    x = torch.from_numpy(test)
    asked: list[Ids] = []

    def learn(recipe: Recipe, rows: Ids, held_out: Ids) -> Labels:
        asked.append(held_out)
        return mlps(x, truth, rows, x[held_out], 4, [0] * len(rows), recipe)

    recipes = [Recipe(0), Recipe(100, 1e-2), Recipe(100, 1e-2)]
    choice = choose(recipes, learn, truth, draws, 60, np.random.default_rng(1))
    assert choice.recipe is recipes[1] and choice.accuracies[0] < 0.6 < 0.9 < choice.accuracies[1]
    assert choice.accuracies[1] == choice.accuracies[2]
    assert all(not np.isin(rows, draws).any() and len(set(rows)) == 60 for rows in asked)
    assert len(np.unique(truth[asked[0]])) == 4
    expected = [(mlp(x[draw], truth[draw], x[asked[0]], 4, 0, recipes[1]) == truth[asked[0]]).mean() for draw in draws]
    assert choice.accuracies[1] == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match="held-out images, and 0 are in no draw"):
        choose(recipes, learn, truth, np.arange(200)[None], 60, np.random.default_rng(1))
