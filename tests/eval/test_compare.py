"""eval.compare: what it gathers, shows and refuses."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from eval import compare as stage
from eval.evidence.readings import gather
from tests.parts.artifacts import refusal
from tests.parts.embeddings import NoConfig
from train.data.scores import Scores, Value
from train.tracking import Problem, Stage
from train.tracking.store import Store


def publish(name: str, scores: Scores, variant: str, seed: int, dataset: str = "blobs", anomalies: str = "") -> None:
    producer = "train.pretrain" if name == "training" else f"eval.{name}"
    with Stage(producer, NoConfig()) as run:
        run.dataset, run.variant, run.seed = dataset, variant, seed
        fields = {"variant": variant, "seed": seed, "anomalies": anomalies} if anomalies else None
        run.publish(name, scores.save, fields)


def probe_scores(right: NDArray[np.bool_]) -> Scores:
    values: dict[str, Value] = {
        "probe/top1": float(right.mean()),
        "probe/top1/interval": [0.0, 1.0],
        "probe/classes": ["cat", "dog"],
        "probe/per_class": [0.5, 0.75],
        "probe/counts": [100, 100],
        "probe/pairs": [["cat", "dog", 0.25]],
    }
    return Scores(values, samples={"probe/top1": right})


def anomaly_scores(shift: float, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    normal, anomalies = rng.normal(size=150), rng.normal(shift, 1, size=90)
    auc = roc_auc_score(np.repeat([0, 1], [150, 90]), np.concatenate([normal, anomalies]))
    samples = {"anomaly/auc/normal": normal, "anomaly/auc/anomalies": anomalies}
    return Scores({"anomaly/auc": float(auc), "anomaly/against": "others"}, samples=samples)


RIGHT = {
    (variant, seed): np.random.default_rng([index, seed]).random(200) < share
    for index, (variant, share, seeds) in enumerate((("blobs-vicreg", 0.8, 3), ("blobs-pixels", 0.5, 1)))
    for seed in range(seeds)
}


@pytest.fixture
def lab() -> None:
    """Three seeds of blobs-vicreg, one of blobs-pixels, which has no training, and the last seed has no anomalies."""
    for (variant, seed), right in RIGHT.items():
        publish("probe", probe_scores(right), variant, seed)
        publish("project", Scores({"collapse/std": 2.0 + seed}), variant, seed)
        if seed < 2:
            publish("anomaly", anomaly_scores(1.0, seed), variant, seed, anomalies="others")
    publish("training", Scores({"collapse/std": 9.0, "training/variance/rise": -0.5}), "blobs-vicreg", 0)


def result() -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("compare", "blobs")))


def result_values() -> dict[str, Any]:
    return dict(result().values)


def config(*variants: str, **flags: Any) -> stage.Config:
    return stage.Config(
        variants or ("blobs-vicreg", "blobs-pixels"), **{"anomalies": "others", "resamples": 200, **flags}
    )


def test_stage_gathers_every_seed_and_says_which_versions_it_read(lab: None) -> None:
    stage.main(config())
    values = result_values()
    vicreg = [float(RIGHT["blobs-vicreg", seed].mean()) for seed in range(3)]
    assert values["probe/top1/blobs-vicreg/seeds"] == vicreg
    assert values["probe/top1/blobs-vicreg/mean"] == pytest.approx(np.mean(vicreg))
    assert values["probe/top1/blobs-pixels/n"] == 1
    assert values["probe/top1/blobs-vicreg-minus-blobs-pixels/verdict"] == "higher"
    assert values["anomaly/auc/blobs-vicreg/n"] == 2
    assert isinstance(values["anomaly/auc/blobs-vicreg-minus-blobs-pixels/interval"], list)
    assert values["collapse/std/blobs-vicreg/seeds"] == [2, 3, 4]  # of eval.project, not the training's own
    assert values["training/variance/rise/blobs-vicreg/mean"] == -0.5
    assert "training/variance/rise/blobs-pixels/mean" not in values
    assert "training/variance/rise/blobs-vicreg-minus-blobs-pixels/difference" not in values
    assert values["compare/measures"] == ["anomaly/auc", "collapse/std", "probe/top1", "training/variance/rise"]
    assert values["compare/variants"] == ["blobs-vicreg", "blobs-pixels"]
    assert (values["compare/dataset"], values["compare/anomalies"]) == ("blobs", "others")
    assert values["probe/pairs/blobs-pixels/seeds"] == [[["cat", "dog", 0.25]]]
    assert values["probe/per_class/blobs-vicreg/seeds"] == [[0.5, 0.75]] * 3

    store = Store()
    references = [store.get("anomaly", f"blobs-vicreg{seed}-vs-others").reference for seed in ("", "-s1")]
    assert values["compare/source/blobs-vicreg/anomaly"] == [*references, None]
    assert values["compare/source/blobs-pixels/probe"] == [store.get("probe", "blobs-pixels").reference]
    assert "compare/source/blobs-pixels/training" not in values


def test_figures_show_the_means_with_their_intervals_and_every_seed(lab: None) -> None:
    stage.main(config())
    values, figures = result_values(), result().figures
    assert set(figures) == {"compare/probe", "compare/anomaly"}
    means, seeds = figures["compare/probe"].data
    assert list(means.x) == ["blobs-vicreg", "blobs-pixels"]
    low, high = values["probe/top1/blobs-vicreg/interval"]
    assert means.y[0] - means.error_y.arrayminus[0] == pytest.approx(low)
    assert means.y[0] + means.error_y.array[0] == pytest.approx(high)
    assert sorted(seeds.y) == sorted(float(right.mean()) for right in RIGHT.values())


def table(home: Path, name: str) -> list[dict[str, Any]]:
    (file,) = home.glob(f"wandb/offline-run-*/files/media/table/compare/{name}*.json")
    content = json.loads(file.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_tables_have_a_row_for_each_measure_and_variant_and_for_each_difference(lab: None, peel_home: Path) -> None:
    stage.main(config())
    rows = table(peel_home, "table")
    assert len(rows) == 7  # four measures, of which pixels lack one
    values = result_values()
    first = next(row for row in rows if (row["measure"], row["variant"]) == ("probe/top1", "blobs-vicreg"))
    assert [first["low"], first["high"]] == values["probe/top1/blobs-vicreg/interval"]
    assert (first["n"], first["spread"]) == (3, values["probe/top1/blobs-vicreg/spread"])
    verdicts = {row["measure"]: row["verdict"] for row in table(peel_home, "differences")}
    expected = {"probe/top1": "higher", "collapse/std": "not decided"}
    assert verdicts == {**expected, "anomaly/auc": values["anomaly/auc/blobs-vicreg-minus-blobs-pixels/verdict"]}


def test_a_rerun_makes_no_new_version_and_a_new_seed_does(lab: None) -> None:
    for _ in range(2):
        stage.main(config())
    assert len(Store().versions("compare")) == 1
    publish("probe", probe_scores(RIGHT["blobs-pixels", 0]), "blobs-pixels", 1)
    stage.main(config())
    assert result().values["probe/top1/blobs-pixels/n"] == 2


def test_without_anomalies_none_are_read(lab: None) -> None:
    stage.main(config(anomalies=None))
    values = result_values()
    assert values["compare/anomalies"] is None
    assert not [path for path in values if path.startswith("anomaly")]


def test_what_cannot_be_compared_is_refused_and_nothing_published(lab: None) -> None:
    publish("probe", probe_scores(RIGHT["blobs-pixels", 0]), "others-pixels", 0, dataset="others")

    def error(*variants: str, **flags: Any) -> str:
        return refusal(lambda: stage.main(config(*variants, **flags)))

    assert "'blobs-vicrg'; known aliases:" in error("blobs-vicreg", "blobs-vicrg")
    assert "one seed of 'blobs-vicreg'" in error("blobs-vicreg-s1", "blobs-pixels")
    assert "others-pixels of others" in error("blobs-vicreg", "others-pixels")
    assert "against the anomalies 'nothing'" in error(anomalies="nothing")
    assert "'blobs-vicreg' twice" in error("blobs-vicreg", "blobs-vicreg")
    assert "--resamples 0" in error(resamples=0)
    assert "--seed -1" in error(seed=-1)
    assert "names no variant" in refusal(lambda: stage.Config(()))
    assert Store().versions("compare") == []


def test_evaluations_of_other_numbers_of_images_are_refused(lab: None) -> None:
    publish("probe", probe_scores(RIGHT["blobs-pixels", 0][:150]), "blobs-pixels", 0)
    assert "probe/top1 was measured on different numbers of images" in refusal(lambda: stage.main(config()))


@pytest.mark.parametrize("name", ["generate", "decode"])
def test_numbers_of_two_judges_are_not_compared(name: str) -> None:
    for variant, judge in (("blobs-vae", "a1"), ("blobs-ddpm", "a1"), ("blobs-ae", "b2")):
        publish(name, Scores({f"{name}/kid": 0.5, f"{name}/judge": judge}), variant, 0)
    publish(name, Scores({f"{name}/judge": "c3"}), "blobs-ddpm", 1)
    with Stage("eval.compare", config()) as run:
        stage.check_judges(gather(run, ["blobs-vae"], None, [name]))
        for variants, pair, judges in (
            (["blobs-vae", "blobs-ae"], f"{name}:blobs-vae and {name}:blobs-ae", "a1 and b2"),
            (["blobs-vae", "blobs-ddpm"], f"{name}:blobs-vae and {name}:blobs-ddpm-s1", "a1 and c3"),
        ):
            readings = gather(run, variants, None, [name])
            line = refusal(partial(stage.check_judges, readings))
            assert line == (
                f"{pair} were measured by two judges ({judges}), and cannot be compared; run python -m eval.{name} again"
                " for both with one --judge"
            )


def test_two_variants_are_contrasted_and_nothing_is_published(
    lab: None, capsys: pytest.CaptureFixture[str], peel_home: Path
) -> None:
    store = Store()
    runs = store.rows("SELECT id FROM runs")
    records = list(peel_home.glob("wandb/offline-run-*"))
    capsys.readouterr()
    stage.COMMAND.on_words.run(["blobs-vicreg", "blobs-pixels", "--resamples", "200"])  # type: ignore[union-attr]
    out = capsys.readouterr().out
    assert store.rows("SELECT id FROM runs") == runs and list(peel_home.glob("wandb/offline-run-*")) == records
    first = np.mean([RIGHT["blobs-vicreg", seed].mean() for seed in range(3)])
    second = RIGHT["blobs-pixels", 0].mean()
    (line,) = (line for line in out.splitlines() if line.startswith("probe/top1"))
    assert f"{100 * first:.1f} %" in line and f"{100 * second:.1f} %" in line and line.endswith("better")
    assert f"+{100 * (first - second):.1f} points" in line
    stage.main(config(anomalies=None))
    low, high = result_values()["probe/top1/blobs-vicreg-minus-blobs-pixels/interval"]
    assert f"{100 * low:.1f} to {100 * high:.1f} points" in line
    assert "collapse/std" in out and "training/variance/rise" not in out  # which one of them has not
    assert "anomaly/auc" not in out


def test_a_variant_that_was_not_made_cannot_be_contrasted(lab: None) -> None:
    with pytest.raises(Problem, match="nothing was made for the variant 'blobs-nothing'"):
        stage.contrast(stage.Pair("blobs-vicreg", "blobs-nothing"))
