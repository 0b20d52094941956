"""What a stage measured: numbers, figures, pictures and samples, published as one artifact of type `scores`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import plotly.graph_objects as go
from numpy.typing import NDArray

from train.data.images import load_array, save_array
from train.data.pictures import open_png
from train.tracking.contents import LARGEST, read_json
from train.tracking.problem import Problem, reading
from train.tracking.stage import Stage
from train.tracking.store import files_below

Value = float | int | str | list[Any] | None


@dataclass
class Scores:
    """values: flat, by metric path (`probe/top1`); an interval is a list [low, high] under `probe/top1/interval`.
    figures and pictures: by panel path (`probe/confusion`). samples: by metric path, the measurement of each image whose
    mean (or rank) the metric is, in the order of the images; eval.compare resamples them."""

    values: dict[str, Value] = field(default_factory=dict)
    figures: dict[str, go.Figure] = field(default_factory=dict)
    pictures: dict[str, PIL.Image.Image] = field(default_factory=dict)
    samples: dict[str, NDArray[Any]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes scores.json, figures/PATH.json, pictures/PATH.png and samples/PATH.npy, the same bytes for the same
        content. Raises Problem where a value is NaN or infinite."""
        for name, value in self.values.items():
            try:
                json.dumps(value, allow_nan=False)
            except ValueError as error:
                raise Problem(
                    f"{name} came out as {value}, which is no number, and nothing was published; give more images, or train"
                    " again with a lower --learning-rate"
                ) from error
        (folder / "scores.json").write_text(json.dumps(self.values, indent=1, sort_keys=True, allow_nan=False))
        for name, figure in self.figures.items():
            _file(folder, "figures", name, "json").write_text(figure.to_json())
        for name, picture in self.pictures.items():
            picture.save(_file(folder, "pictures", name, "png"))
        for name, sample in self.samples.items():
            save_array(_file(folder, "samples", name, "npy"), sample)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where `folder` holds something else."""
        with reading(folder):
            return cls(
                read_json(folder / "scores.json", dict[str, Any]),
                {name: _figure(path) for name, path in _paths(folder, "figures").items()},
                {name: open_png(path) for name, path in _paths(folder, "pictures").items()},
                {name: _sample(path) for name, path in _paths(folder, "samples").items()},
            )

    def log(self, stage: Stage) -> None:
        """Shows everything in the stage's run: figures and pictures as panels, numbers as its summary, lists as tables."""
        for name, content in {**self.figures, **self.pictures}.items():
            stage.panel(name, content)
        stage.summarize(self.values)


def _file(folder: Path, kind: str, name: str, suffix: str) -> Path:
    path = folder / kind / f"{name}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _figure(path: Path) -> go.Figure:
    return go.Figure(read_json(path, dict[str, Any]))


def _sample(path: Path) -> NDArray[Any]:
    sample = load_array(path)
    if sample.ndim != 1 or not sample.size or sample.dtype.kind not in "biuf":
        raise ValueError(f"{path.name} is {sample.dtype} {sample.shape}, not a number of each image")
    if not (np.abs(sample.astype(np.float64)) <= LARGEST).all():
        raise ValueError(f"{path.name} holds NaN or values above {LARGEST:g}")
    return sample


def _paths(folder: Path, kind: str) -> Mapping[str, Path]:
    root = folder / kind
    return {
        path.relative_to(root).with_suffix("").as_posix(): path for path in (files_below(root) if root.exists() else ())
    }
