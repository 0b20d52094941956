"""What judges the trials of a sweep over images without labels."""

from pathlib import Path

import pytest

from sweeps.definition import Definition, read
from sweeps.run import label_free
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_images, refusal, without_labels
from tests.parts.embeddings import blobs
from train.engine.monitor import INSTANCES

FILE = """
program: train.pretrain
command: ["${env}", "${interpreter}", "-m", "${program}", "${args}"]
method: grid
metric: {name: METRIC, goal: GOAL}
parameters:
  images: IMAGES
  epochs: {values: [0, 1]}
"""
LABELED = pictures("labeled", blobs(3, 10, 4, seed=0))


def definition(folder: Path, images: str, metric: str = "knn/top1", goal: str = "maximize") -> Definition:
    path = folder / "views.yaml"
    path.write_text(FILE.replace("METRIC", metric).replace("GOAL", goal).replace("IMAGES", images))
    return read(path)


@pytest.fixture(autouse=True)
def sets() -> None:
    publish_images(LABELED)
    publish_images(without_labels(LABELED, "plain"))


def test_trials_on_unlabeled_images_are_judged_by_instances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = label_free(definition(tmp_path, "{value: plain}"))
    assert (judged.metric, judged.goal) == (INSTANCES, "maximize")
    assert judged.content["metric"] == {"name": INSTANCES, "goal": "maximize"}
    assert f"plain: unlabeled, so that trials are judged by {INSTANCES} in place of knn/top1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "metric", "goal"),
    [("{value: labeled}", "knn/top1", "maximize"), ("{value: plain}", "test/total", "minimize")],
)
def test_any_other_sweep_is_judged_as_its_file_says(images: str, metric: str, goal: str, tmp_path: Path) -> None:
    sweep = definition(tmp_path, images, metric, goal)
    assert label_free(sweep) == sweep


def test_labeled_and_unlabeled_images_are_not_compared(tmp_path: Path) -> None:
    sweep = definition(tmp_path, "{values: [labeled, plain]}")
    assert "plain is unlabeled and labeled is not" in refusal(lambda: label_free(sweep))
