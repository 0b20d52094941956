"""The comparison of variants: the bootstrap, against scipy and scikit-learn."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from eval.evidence.bootstrap import BLOCK, Ranks, Seeds, bootstrap, counts, seed_weights
from eval.evidence.bootstrap import compare as estimates_and_differences
from eval.evidence.comparison import Comparison, measure_entries
from tests.parts.artifacts import refusal

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=400)  # how easy each image is, for all variants


def answers(shift: float, noise: float, seed: int) -> NDArray[np.float64]:
    return np.asarray(IMAGES + shift + noise * np.random.default_rng(seed).normal(size=IMAGES.size))


def by_mean(*seeds: NDArray[Any]) -> Seeds:
    return Seeds([float(seed.mean()) for seed in seeds], [(seed,) for seed in seeds])


def compare(path: str, measure: dict[str, Seeds], resamples: int, seed: int) -> dict[str, Any]:
    """As published."""
    return dict(measure_entries(path, *estimates_and_differences(path, measure, resamples, seed)))


def pair(measure: dict[str, Seeds], resamples: int = 4000) -> tuple[Any, Any, Any]:
    values = compare("m", measure, resamples, seed=0)
    one, other = measure
    difference, ends, verdict = (
        values[f"m/{one}-minus-{other}/{key}"] for key in ("difference", "interval", "verdict")
    )
    return difference, ends, verdict


def test_with_one_seed_the_intervals_are_scipys_paired_bootstrap() -> None:
    one, other = answers(0.1, 0.5, 1), answers(0, 0.5, 2)
    values = compare("m", {"a": by_mean(one), "b": by_mean(other)}, 20_000, seed=0)
    cases: list[tuple[str, tuple[NDArray[Any], ...], Any]] = [
        ("m/a/interval", (one,), np.mean),
        ("m/a-minus-b/interval", (one, other), lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis)),
    ]
    for path, data, statistic in cases:
        expected = stats.bootstrap(
            data, statistic, paired=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
        )
        interval = values[path]
        np.testing.assert_allclose(interval, expected.confidence_interval, atol=0.05 * expected.standard_error)


def test_with_several_seeds_the_interval_is_that_of_drawing_images_and_then_seeds() -> None:
    seeds = [answers(shift, 0.3, i) for i, shift in enumerate((0.0, 0.2, 0.5))]
    values = compare("m", {"a": by_mean(*seeds)}, 20_000, seed=0)
    draws, stacked = np.random.default_rng(9), np.stack(seeds)
    estimates = []
    for _ in range(20_000):
        images = draws.integers(400, size=400)
        estimates.append(stacked[draws.integers(3, size=3)][:, images].mean())
    interval = values["m/a/interval"]
    np.testing.assert_allclose(interval, np.percentile(estimates, [2.5, 97.5]), atol=0.06 * np.std(estimates))
    assert values["m/a/spread"] == pytest.approx(np.std([seed.mean() for seed in seeds], ddof=1))
    assert (values["m/a/n"], values["m/a/mean"]) == (3, pytest.approx(stacked.mean()))
    assert values["m/a/seeds"] == [float(seed.mean()) for seed in seeds]


@pytest.mark.parametrize("decimals", [1, 12], ids=["ties", "no ties"])
def test_auc_of_a_resample_is_scikit_learns(decimals: int) -> None:
    rng = np.random.default_rng(4)
    normal, anomalies = rng.normal(size=70).round(decimals), rng.normal(0.7, 1, 50).round(decimals)
    blocks = list(counts([70, 50], BLOCK + 3, seed=5))
    aucs = np.concatenate([Ranks.of(normal, anomalies).auc(*block) for block in blocks])
    assert len(aucs) == BLOCK + 3
    all_counts = (np.concatenate(part).astype(int) for part in zip(*blocks, strict=True))
    for auc, of_normal, of_anomalies in zip(aucs, *all_counts, strict=True):
        assert (of_normal.sum(), of_anomalies.sum()) == (70, 50)
        scores = np.concatenate([np.repeat(normal, of_normal), np.repeat(anomalies, of_anomalies)])
        assert auc == pytest.approx(roc_auc_score(np.repeat([0, 1], [70, 50]), scores), abs=1e-12)


def test_every_image_and_every_seed_is_drawn_equally_often() -> None:
    times = np.concatenate([block for (block,) in counts([20], 4000, seed=1)])
    assert times.shape == (4000, 20)
    np.testing.assert_allclose(times.mean(axis=0), 1, atol=5 / np.sqrt(4000))
    np.testing.assert_allclose(times.var(axis=0), 0.95, atol=0.15)  # of a binomial: 20 draws of a twentieth
    weights = seed_weights("v", 3, 4000, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=0.02)


def test_a_variant_does_not_differ_from_itself() -> None:
    seeds = [answers(0, 0.3, i) for i in range(3)]
    difference, interval, verdict = pair({"a": by_mean(*seeds), "b": by_mean(*seeds)})
    assert (difference, verdict) == (0, "no difference shown")
    assert interval[0] < 0 < interval[1]
    one_seed = pair({"a": by_mean(seeds[0]), "b": by_mean(seeds[0].copy())})
    assert one_seed == (0, [0, 0], "no difference shown")


def test_a_difference_is_called_by_its_side() -> None:
    far, near = by_mean(answers(0.5, 0.3, 1), answers(0.6, 0.3, 2)), by_mean(answers(0, 0.3, 3), answers(0.1, 0.3, 4))
    assert pair({"a": far, "b": near})[2] == "higher"
    assert pair({"a": near, "b": far})[2] == "lower"


def test_the_order_of_the_variants_changes_signs_alone() -> None:
    measure = {
        "a": by_mean(answers(0.1, 0.3, 1), answers(0, 0.3, 2)),
        "b": by_mean(answers(0, 0.3, 3)),
        "c": by_mean(RNG.normal(size=400)),
    }
    forth = compare("m", measure, 500, seed=0)
    back = compare("m", dict(reversed(measure.items())), 500, seed=0)
    for variant in measure:
        for key in ("mean", "interval", "spread"):
            assert back[f"m/{variant}/{key}"] == forth[f"m/{variant}/{key}"]
    signs = {"higher": "lower", "lower": "higher", "no difference shown": "no difference shown"}
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        there, here = f"m/{one}-minus-{other}", f"m/{other}-minus-{one}"
        low, high = forth[f"{there}/interval"]
        assert back[f"{here}/interval"] == pytest.approx([-high, -low], abs=1e-12)
        assert back[f"{here}/difference"] == pytest.approx(-forth[f"{there}/difference"])
        assert back[f"{here}/verdict"] == signs[str(forth[f"{there}/verdict"])]


def test_a_variant_more_changes_no_interval() -> None:
    two = {"a": by_mean(answers(0.1, 0.3, 1), answers(0, 0.3, 2)), "b": by_mean(answers(0, 0.3, 3), answers(0, 0.3, 4))}
    few = compare("m", two, 300, seed=0)
    more = compare("m", {"c": by_mean(answers(0, 0.1, 5), answers(0, 0.1, 6)), **two}, 300, seed=0)
    assert few.items() <= more.items()


def test_pairing_by_image_narrows_what_the_images_have_in_common() -> None:
    one, other = answers(0.1, 0.2, 1), answers(0, 0.2, 2)
    by_image = pair({"a": by_mean(one), "b": by_mean(other)})[1]
    at_random = pair({"a": by_mean(one), "b": by_mean(np.random.default_rng(0).permutation(other))})[1]
    expected = np.std(one - other) / np.sqrt(one.var() + other.var())
    assert (by_image[1] - by_image[0]) / (at_random[1] - at_random[0]) == pytest.approx(expected, rel=0.15)


def test_seeds_that_disagree_widen_the_interval() -> None:
    near, far = ([answers(shift * k, 0.3, k) for k in range(2)] for shift in (0, 1))
    narrow, wide = (compare("m", {"a": by_mean(*seeds)}, 1000, seed=0)["m/a/interval"] for seeds in (near, far))
    assert isinstance(narrow, list) and isinstance(wide, list)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert wide[0] < far[0].mean() + 0.1 and wide[1] > far[1].mean() - 0.1  # either seed alone may be drawn


def test_what_has_no_samples_is_averaged_and_not_decided() -> None:
    values = compare("m", {"a": Seeds([1.0, 3.0]), "b": by_mean(np.ones(5))}, 10, seed=0)
    assert (values["m/a/mean"], values["m/a/spread"], values["m/a/n"]) == (2, pytest.approx(np.sqrt(2)), 2)
    assert values["m/a/interval"] is None and values["m/b/interval"] == [1, 1]
    assert values["m/b/spread"] is None
    assert (values["m/a-minus-b/difference"], values["m/a-minus-b/interval"]) == (1, None)
    assert values["m/a-minus-b/verdict"] == "not decided"


def test_a_comparison_reads_what_was_published_in_either_order() -> None:
    measure = {
        "a": by_mean(answers(0.1, 0.3, 1), answers(0, 0.3, 2)),
        "b": by_mean(answers(0, 0.3, 3)),
        "c": Seeds([1.0, 3.0]),
    }
    estimates, differences = estimates_and_differences("m", measure, 300, seed=0)
    comparison = Comparison(json.loads(json.dumps(measure_entries("m", estimates, differences))))
    assert {variant: comparison.estimate("m", variant) for variant in measure} == estimates
    assert comparison.estimate("m", "d") is None and comparison.difference("m", "a", "d") is None
    for (one, other), difference in differences.items():
        assert comparison.difference("m", one, other) == difference
        back = comparison.difference("m", other, one)
        assert back and back.value == -difference.value
        if difference.interval:
            assert back.interval == (-difference.interval[1], -difference.interval[0])
        else:
            assert (back.interval, back.verdict) == (None, "not decided")


def test_samples_of_other_numbers_of_images_are_refused() -> None:
    assert "['run" not in refusal(lambda: bootstrap("m", {"a": [(np.ones(5),)], "b": [(np.ones(6),)]}, 10, seed=0))
    assert "{'a': [5], 'b': [6]}" in refusal(
        lambda: bootstrap("m", {"a": [(np.ones(5),)], "b": [(np.ones(6),)]}, 10, seed=0)
    )
