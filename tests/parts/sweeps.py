"""Sweep files of small sweeps, the images that their programs read, and their studies as others read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from numpy.typing import NDArray

from sweeps.definition import read
from sweeps.queue import Queue
from tests.parts.embeddings import NoConfig
from tests.parts.pictures import pixels
from train.data.images import Images
from train.tracking import Stage
from train.tracking.store import home

COMMAND = ["${env}", "${interpreter}", "-m", "${program}", "${args}"]
FLOORS = {
    "program": "train.patches",
    "command": COMMAND,
    "method": "grid",
    "metric": {"name": "patches/features", "goal": "maximize"},
    "parameters": {"images": {"value": "tiny"}, "patches": {"values": [2, 3, 4]}},
}
TRAINING = {
    **FLOORS,
    "program": "train.pretrain",
    "metric": {"name": "knn/top1", "goal": "maximize"},
    "parameters": {
        "images": {"value": "tiny"},
        "preset": {"value": "small"},
        "width": {"value": 4},
        "view_count": {"value": 2},
        "epochs": {"value": 1},
        "batch_size": {"values": [10, 2000]},
    },
}
SEARCH = {**FLOORS, "method": "random", "run_cap": 3, "parameters": {"images": {"value": "tiny"}, "patches": {"min": 2, "max": 90}}}  # fmt: skip


def write_sweep(folder: Path, content: Mapping[str, Any], name: str = "floors", **parameters: Any) -> Path:
    path = folder / f"{name}.yaml"
    sweep = {**content, "parameters": {**content["parameters"], **parameters}}
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return path


def open_queue(path: Path, *replacements: str) -> Queue:
    return Queue(read(path, replacements), home() / "sweeps")


def publish_images() -> None:
    """images:tiny, 60 random pictures of 8 pixels in two classes."""
    arrays: dict[str, NDArray[Any]] = {}
    for split, count in (("train", 40), ("test", 20)):
        arrays[split] = pixels(count, 8, 8, 3, seed=count)
        arrays[f"{split}_labels"] = np.arange(count) % 2
    with Stage("train.prepare", NoConfig()) as stage:
        stage.publish("images", Images.from_arrays("tiny", ("a", "b"), arrays).save, {"dataset": "tiny"})


def read_study(name: str) -> optuna.Study:
    """As others read it: with nothing but Optuna."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.load_study(study_name=name, storage=f"sqlite:///{home() / 'sweeps' / f'{name}.sqlite'}")
