"""Small image sets, encoders and embeddings in the local store, with the origins that the stages would give them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.parts.embeddings import NoConfig
from train.data.embeddings import Embeddings
from train.data.images import SPLITS, UNLABELED, Images
from train.tracking import Problem, Stage


def images(name: str, embeddings: Embeddings, size: int = 8, seed: int = 0) -> Images:
    """Random pictures with the embeddings' labels."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, labels in (("train", embeddings.train_labels), ("test", embeddings.test_labels)):
        arrays[split] = rng.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = labels
    return Images.from_arrays(name, embeddings.classes, arrays)


def without_labels(labeled: Images, name: str | None = None) -> Images:
    """The same images, of which nobody says the classes."""
    none: dict[str, Any] = {f"{split}_labels": np.full(len(getattr(labeled, split)), UNLABELED) for split in SPLITS}
    return replace(labeled, name=name or labeled.name, classes=(), **none)


def publish_images(pixels: Images) -> None:
    with Stage("train.prepare", NoConfig()) as stage:
        stage.dataset = pixels.name
        stage.publish("images", pixels.save, {"dataset": pixels.name})


def publish_encoder(variant: str, dataset: str, seed: int = 0) -> None:
    """A stand-in for weights: evaluations read its digest alone."""
    with Stage("train.pretrain", NoConfig()) as stage:
        stage.about(stage.fetch("images", dataset))
        stage.variant, stage.seed = variant, seed
        stage.publish("encoder", lambda folder: write(folder / "weights", f"{variant} {seed}"))


def publish_embedded(embeddings: Embeddings, encoder: str, dataset: str, on: str | None = None) -> str:
    """Embeddings of `dataset` by `encoder`, as eval.embed publishes them; returns their alias."""
    with Stage("eval.embed", NoConfig()) as stage:
        stage.about(stage.fetch("encoder", encoder))
        stage.dataset = stage.fetch("images", dataset).dataset
        fields: dict[str, object] = {"variant": stage.variant, "seed": stage.seed}
        stage.publish("embeddings", replace(embeddings, own=on is None).save, fields | ({"images": on} if on else {}))
        return f"{stage.alias}-on-{on}" if on else stage.alias


def write(path: Path, text: str) -> None:
    path.write_text(text)


def refusal(run: Callable[[], object]) -> str:
    """The one line with which bad input was refused."""
    with pytest.raises(Problem) as error:
        run()
    line = str(error.value)
    assert "\n" not in line
    return line


class Silent:
    """A stage that keeps nothing."""

    variant = "silent"
    id = "silent"

    def resume(self, run: str) -> None:
        pass

    def log(self, values: dict[str, float]) -> None:
        pass

    def axis(self, axis: str, *metrics: str, summary: str | None = None) -> None:
        pass

    def panel(self, name: str, content: object) -> None:
        pass

    def register(self, registry: str | None) -> None:
        pass
