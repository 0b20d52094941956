"""What the trials of a sweep say: importances, parallel coordinates, and how W&B's runs become trials."""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from sklearn.linear_model import LinearRegression

from eval import sweep as stage
from eval.evidence.sweeps import Sweep, Trial, importance, read, trials_of_runs
from eval.sweep import axis, parallel_figure
from tests.eval.test_sweep import SEARCH, TERMS, grid, make_study, noisy
from tests.parts.embeddings import numbers

# -- importance --------------------------------------------------------------------------------------------------------


def sweep_of(definition: Mapping[str, Any], points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> Sweep:
    trials = zip(points, values, strict=True)
    return Sweep(
        definition, tuple(Trial(i, "finished", point, value, {}, ()) for i, (point, value) in enumerate(trials))
    )


def test_importance_on_a_full_grid_is_what_each_parameter_alone_explains_in_a_linear_model() -> None:
    points = [parameters for parameters, _, _ in grid(noisy)]
    values = np.random.default_rng(0).normal(size=len(points)) + [3.0 * (point["variance"] > 0) for point in points]
    shares, basis = importance(sweep_of(TERMS, points, values.tolist()))
    assert shares is not None
    for name, share in shares.items():
        dummies = pd.get_dummies(pd.Series([str(point[name]) for point in points])).to_numpy(float)
        assert share == pytest.approx(LinearRegression().fit(dummies, values).score(dummies, values)), name
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert "12 trials" in basis


def test_importance_with_gaps_in_the_grid_is_close_to_that_without() -> None:
    points = [parameters for parameters, _, _ in grid(noisy)] * 4
    values = [3.0 * (point["variance"] > 0) + 1.5 * (point["without"] == "crop") for point in points]
    full, _ = importance(sweep_of(TERMS, points, values))
    with_gaps, basis = importance(sweep_of(TERMS, points[:-1], values[:-1]))
    assert full == pytest.approx({"variance": 0.8, "without": 0.2, "seed": 0.0})  # 3² : 1.5²
    assert with_gaps == pytest.approx(full, abs=0.05)
    assert "fANOVA" in basis
    assert importance(sweep_of(TERMS, points[:-1], values[:-1])) == (with_gaps, basis)


def test_importance_of_what_is_drawn_on_a_logarithmic_scale_is_taken_on_that_scale() -> None:
    rng = np.random.default_rng(0)
    powers, flips = rng.uniform(-4, -1, 200), rng.uniform(0, 1, 200)
    points = [
        {"learning_rate": float(10**power), "flip": float(flip), "batch_size": 32}
        for power, flip in zip(powers, flips, strict=True)
    ]
    shares, _ = importance(sweep_of(SEARCH, points, (powers / 3 + flips).tolist()))  # both of variance 1/12
    assert shares is not None
    assert shares == pytest.approx({"learning_rate": 0.5, "flip": 0.5}, abs=0.1)


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        (grid(noisy)[:3], "finished trials 3"),
        (grid(lambda **_: 0.5), "same value"),
        ([trial for trial in grid(noisy) if trial[0]["seed"] == 0 and trial[0]["without"] == "crop"] * 2, "variance"),
    ],
)
def test_importance_that_cannot_be_told_is_left_out_and_explained(trials: Any, why: str) -> None:
    parameters, values, _ = zip(*trials, strict=True)
    scores = stage.score(sweep_of(TERMS, parameters, values), "terms")
    assert scores.values["sweep/importance"] is None
    assert why in str(scores.values["sweep/importance/basis"])
    assert set(scores.figures) == {"sweep/parallel"}


# -- parallel coordinates ----------------------------------------------------------------------------------------------


def test_every_line_passes_its_own_parameters_and_value() -> None:
    rng = np.random.default_rng(0)
    points = [
        {"learning_rate": float(10 ** rng.uniform(-4, -1)), "flip": float(rng.uniform()), "batch_size": size}
        for size in (64, 32, 64)
    ]
    sweep = sweep_of(SEARCH, points, [3.0, 1.0, 2.0])
    (lines,) = parallel_figure(sweep).data
    rate, flip, size, metric = lines.dimensions
    np.testing.assert_allclose(10 ** numbers(rate["values"]), [point["learning_rate"] for point in points])
    np.testing.assert_allclose(10.0 ** numbers(rate["tickvals"]), [float(text) for text in rate["ticktext"]])
    np.testing.assert_allclose(numbers(flip["values"]), [point["flip"] for point in points])
    assert [size["ticktext"][place] for place in size["values"]] == ["64", "32", "64"]
    assert list(metric["values"]) == list(lines.line.color) == [3.0, 1.0, 2.0]


def test_choices_stand_on_their_axis_in_the_order_of_the_sweep_file() -> None:
    make_study(TERMS, grid(noisy))
    sweep = read("terms")
    places = axis(sweep, "without", list(sweep.trials))
    assert places["ticktext"] == ["nothing", "crop"]
    assert [["nothing", "crop"][place] for place in places["values"]] == [  # type: ignore[attr-defined]
        trial.parameters["without"] for trial in sweep.trials
    ]


def test_trials_without_a_value_have_no_line() -> None:
    unfinished = {"variance": 25.0, "without": "nothing", "seed": 0}
    make_study(TERMS, [*grid(noisy)[:2], (unfinished, None, TrialState.FAIL), ({}, None, TrialState.RUNNING)])
    (lines,) = parallel_figure(read("terms")).data
    assert len(lines.line.color) == 2


# -- W&B ---------------------------------------------------------------------------------------------------------------


def test_runs_of_wandb_become_trials_in_the_order_in_which_they_began() -> None:
    def run(name: str, minute: int, state: str, summary: dict[str, Any], **config: Any) -> Any:
        return SimpleNamespace(
            id=name, created_at=f"2026-01-01T00:{minute:02}:00Z", state=state, summary_metrics=summary,
            config={"images": "digits", "width": 16, **config}, group="digits-vicreg",
        )  # fmt: skip

    runs = [
        run("b", 2, "crashed", {"_step": 3}, variance=0.0, without="crop", seed=1),
        run("a", 1, "finished", {"knn/top1": 0.5, "_runtime": 9, "x": "NaN", "y": math.nan}, variance=25.0, seed=0),
    ]
    first, second = trials_of_runs(TERMS, runs)
    assert (first.run, first.state, first.value, first.metrics) == ("a", "finished", 0.5, {"knn/top1": 0.5})
    assert first.parameters == {"variance": 25.0, "seed": 0}
    assert first.command == ("-m", "train.pretrain", "--images=digits", "--variance=25.0", "--seed=0")
    assert (second.number, second.state, second.value) == (1, "failed", None)
