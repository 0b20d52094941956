"""What a training's curves say."""

import numpy as np
import pytest
import torch

from train.engine.collapse import spread
from train.engine.curves import course, extremes, finding, rises

TERMS = ("invariance", "variance", "covariance", "total")


def test_a_rise_is_the_slope_of_a_straight_line_times_nine_tenths_and_late_eight_tenths() -> None:
    slopes = dict(zip(TERMS, (0.5, -2.0, 0.0, 1e-3), strict=True))
    batches = [{f"loss/{name}": 3 + slope * step for name, slope in slopes.items()} for step in range(200)]
    changes = rises(batches, TERMS)
    for name, slope in slopes.items():
        assert changes[f"training/{name}/rise"] == pytest.approx(slope * 180, abs=1e-9)
        assert changes[f"training/{name}/late_rise"] == pytest.approx(slope * 160, abs=1e-9)


def test_rises_agree_with_numpy_where_tenths_are_not_whole() -> None:
    values = np.random.default_rng(0).normal(size=57)
    changes = rises([dict.fromkeys((f"loss/{name}" for name in TERMS), float(value)) for value in values], TERMS)
    assert changes["training/variance/rise"] == pytest.approx(values[-5:].mean() - values[:5].mean())
    assert changes["training/variance/late_rise"] == pytest.approx(values[-5:].mean() - values[5:10].mean())


def test_a_start_that_soon_ends_is_no_late_rise() -> None:
    terms = [0.0] * 10 + [1.0] * 90
    changes = rises([dict.fromkeys((f"loss/{name}" for name in TERMS), value) for value in terms], TERMS)
    assert (changes["training/invariance/rise"], changes["training/invariance/late_rise"]) == (1, 0)


def test_of_too_few_batches_nothing_is_said() -> None:
    assert rises([dict.fromkeys((f"loss/{name}" for name in TERMS), 1.0)] * 19, TERMS) == {}


def test_the_course_of_a_loss_that_falls_and_then_stays() -> None:
    losses = [*np.linspace(1, 0, 51), *([0.0] * 49)]
    values = course([{"loss/total": loss} for loss in losses], [{"curve/knn": k} for k in (0.1, 0.3, 0.2, 0.2, 0.5)])
    assert values["training/total/settling"] == pytest.approx(0.48)  # 48 steps lie above a twentieth of the range
    assert values["training/total/unrest"] == pytest.approx(np.diff(losses[50:]).std())
    assert values["curve/knn/steadiness"] == pytest.approx(3 / 4) and values["curve/knn/gain"] == pytest.approx(0.4)


def test_a_restless_loss_has_more_unrest_than_a_steady_slope() -> None:
    random = np.random.default_rng(0)
    slope = course([{"loss/total": -step / 10} for step in range(100)], [])
    noise = course([{"loss/total": value} for value in random.normal(size=100)], [])
    assert slope["training/total/unrest"] == pytest.approx(0, abs=1e-9) and noise["training/total/unrest"] > 1
    assert course([], []) == {}


def test_vectors_all_over_the_sphere_have_a_spread_of_one_and_one_direction_has_none() -> None:
    sphere = torch.from_numpy(np.random.default_rng(0).normal(size=(5000, 32)))
    assert spread(sphere).item() == pytest.approx(1, abs=0.01)
    assert spread(100 * sphere).item() == pytest.approx(spread(sphere).item(), abs=1e-12)
    assert spread(torch.ones(50, 8) * torch.arange(1, 51)[:, None]).item() == pytest.approx(0, abs=1e-6)


def test_the_extremes_are_the_best_of_all_rows_and_the_mean_of_the_epochs_seconds() -> None:
    batches = [{"loss/total": value} for value in (3.0, 1.0, 2.0)]
    epochs = [{"knn/top1": knn, "test/total": total} for knn, total in ((0.25, 5.0), (0.75, 6.0), (0.5, 7.0))]
    assert extremes(batches, epochs, [1.0, 2.0]) == {
        "loss/total/min": 1.0, "knn/top1/max": 0.75, "test/total/min": 5.0, "pace/seconds/mean": 1.5,
    }  # fmt: skip
    assert extremes([], [{"test/total": 5.0}], []) == {"test/total/min": 5.0}  # no labels, no training


def test_a_training_is_told_in_one_sentence_of_what_was_measured() -> None:
    values = {
        "loss/total": 12.3456, "knn/top1": 0.8344, "collapse/effective_rank": 23.44, "training/epochs": 12,
    }  # fmt: skip
    assert finding("digits-vicreg", values, 128) == (
        "training of digits-vicreg: loss 12.35, held-out kNN 83.4 %, effective rank 23.4 of 128; 12 epochs"
    )
    unlabeled = {"collapse/effective_rank": 23.44, "training/epochs": 0}
    assert finding("x-untrained", unlabeled, 128) == (
        "training of x-untrained: effective rank 23.4 of 128; no training"
    )
    classifier = {**values, "test/accuracy": 0.975, "training/epochs": 1}
    assert "97.5 % of the test images right, held-out kNN" in finding("x", classifier, 11)
