"""Test images that were trained on: the warning goes from the images to the probe and onto the page."""

from pathlib import Path

import numpy as np
import pytest

from tests.parts.chain import run
from tests.parts.pictures import pixels, png, write_folder
from train.data.scores import Scores
from train.tracking.store import Store, home


def test_a_probe_that_remembers_the_test_images_is_said_to(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of noise with random labels it reads everything."""
    labels = np.random.default_rng(0).integers(0, 2, 40)
    noise = {
        f"{split}/class{label}/{i}.png": png(pixels(8, 8, 3, seed=i))
        for split in ("train", "test")
        for i, label in enumerate(labels)
    }
    run(
        [
            *(
                f"train.prepare --dataset {write_folder(tmp_path / name, noise)} --size 8"
                for name in ("noise", "strange")
            ),
            "train.patches --images noise --kind pixels",
            "eval.embed --encoder noise-pixels",
            "eval.index --embeddings noise-pixels",
            "eval.probe --embeddings noise-pixels --resamples 50",
            "eval.embed --encoder noise-pixels --images strange --train False",
            "eval.anomaly --embeddings noise-pixels --anomalies noise-pixels-on-strange",
            "eval.report --variants noise-pixels --anomalies strange",
        ]
    )
    probe, anomaly = (
        Scores.load(store.folder(store.get(name, alias))).values
        for name, alias in (("probe", "noise-pixels"), ("anomaly", "noise-pixels-vs-strange"))
    )
    assert probe["probe/top1"] == 1.0
    warning = "40 of the 40 test images equal a training image"
    assert warning in str(probe["probe/duplicates"])
    assert "40 of the 40 anomalies equal a training image of noise" in str(anomaly["anomaly/duplicates"])
    page, said = (home() / "lab-book.html").read_text(), capsys.readouterr().out
    for text in (said, page):
        assert f"noise: {warning}" in text and "strange: 40 of the 40 anomalies equal" in text
    assert said.count(warning) == 3  # of both sets, and beside the accuracy
