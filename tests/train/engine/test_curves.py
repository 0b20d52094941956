"""What a training's curves say."""

import numpy as np
import pytest

from train.engine.curves import rises

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
