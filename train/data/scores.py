"""What a stage measured: numbers, figures, pictures and samples, published as one artifact of type `scores`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import plotly.graph_objects as go
import plotly.io
from numpy.typing import NDArray

from train.data.images import save_array
from train.tracking.problem import reading
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
        content."""
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
                dict(json.loads((folder / "scores.json").read_text())),
                {name: plotly.io.read_json(path) for name, path in _paths(folder, "figures").items()},
                {name: PIL.Image.open(path) for name, path in _paths(folder, "pictures").items()},
                {
                    name: np.load(path, mmap_mode="r", allow_pickle=False)
                    for name, path in _paths(folder, "samples").items()
                },
            )

    def log(self, stage: Stage) -> None:
        """Shows everything in the stage's run: figures and pictures as panels, numbers as its summary."""
        for name, content in {**self.figures, **self.pictures}.items():
            stage.panel(name, content)
        stage.run.summary.update({name: value for name, value in self.values.items() if value is not None})


def _file(folder: Path, kind: str, name: str, suffix: str) -> Path:
    path = folder / kind / f"{name}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _paths(folder: Path, kind: str) -> Mapping[str, Path]:
    root = folder / kind
    return {
        path.relative_to(root).with_suffix("").as_posix(): path for path in (files_below(root) if root.exists() else ())
    }
