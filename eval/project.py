"""Draws the representations of the test images in two dimensions, by PCA and by t-SNE, colored by class.

A map's purity is the share of each image's 10 nearest images in that map that have its class; only images with labels take
part in it, and without any it is left out. How much the map by PCA looks like a line is measured twice: as a whole
(`elongation`) and around each image (`line`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.evidence.findings import finding
from eval.evidence.maps import SMALLEST, draw, lines, map_figure, pca, purities, tsne
from eval.evidence.validity import check, check_own, labeled_rows
from train.data.embeddings import Embeddings, Vectors
from train.data.scores import Scores, Value
from train.engine.collapse import dimension_std, effective_rank
from train.tracking import Command, Problem, Stage


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    sample: int = 10_000
    """Test images in the maps at most, drawn at random, the same for all variants and seeds of a data set; all where there
    are fewer."""

    def __post_init__(self) -> None:
        if self.sample < SMALLEST:
            raise Problem(f"--sample {self.sample} is too small for a map; give {SMALLEST} or more")


def main(config: Config) -> None:
    with Stage("eval.project", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        embeddings = Embeddings.load(source.folder)
        check_own(embeddings, config.embeddings, source.alias)
        check(embeddings)
        scores = project(embeddings, config.sample, stage.seed or 0)
        scores.log(stage)
        stage.finding = finding("project", stage.alias, scores.values)
        stage.publish("project", scores.save)


def project(embeddings: Embeddings, sample: int, seed: int) -> Scores:
    """`collapse/*` is measured on all test vectors, the rest on the sample.

    `project/purity/gain` is by how much the purity of t-SNE exceeds that of PCA. `project/pca/first` and `/both` are the
    shares of the variance in the map, `/elongation` is the share of what is in the map along its first axis; it is left
    out where all vectors are equal.
    """
    rows = draw(len(embeddings.test), sample, seed=0)
    vectors, labels = embeddings.test[rows], embeddings.test_labels[rows]
    linear, explained = pca(vectors, seed)
    nonlinear = tsne(vectors, seed)
    samples: dict[str, NDArray[Any]] = {
        **purity_samples(linear, nonlinear, labels, seed),
        "project/pca/line": lines(linear),
    }
    means = {path: float(sample.mean(dtype=np.float64)) for path, sample in samples.items()}
    z_nd = torch.from_numpy(np.array(embeddings.test))
    first, second = (f"component {i + 1} ({share:.1%} of the variance)" for i, share in enumerate(explained))
    values: dict[str, Value] = {
        **means,
        "project/pca/explained": list(explained),
        "project/pca/first": explained[0],
        "project/pca/both": sum(explained),
        "collapse/std": dimension_std(z_nd).item(),
        "collapse/effective_rank": effective_rank(z_nd).item(),
    }
    if sum(explained):
        values["project/pca/elongation"] = explained[0] / sum(explained)
    return Scores(
        values,
        samples=samples,
        figures={
            "project/pca": map_figure(
                title("PCA of the test images", means.get("project/pca/purity")),
                (first, second),
                linear,
                labels,
                embeddings.classes,
                rows,
            ),
            "project/tsne": map_figure(
                title("t-SNE of the test images", means.get("project/tsne/purity")),
                ("", ""),
                nonlinear,
                labels,
                embeddings.classes,
                rows,
            ),
        },
    )


def purity_samples(
    linear: Vectors, nonlinear: Vectors, labels: NDArray[np.int64], seed: int
) -> dict[str, NDArray[Any]]:
    """Of the images that have labels, in the maps of those alone; none of fewer than two."""
    rows = labeled_rows(labels)
    if len(rows) < 2:
        return {}
    by_pca, by_tsne = (purities(coordinates[rows], labels[rows], seed) for coordinates in (linear, nonlinear))
    return {"project/pca/purity": by_pca, "project/tsne/purity": by_tsne, "project/purity/gain": by_tsne - by_pca}


def title(words: str, purity: float | None) -> str:
    return words if purity is None else f"{words}: {purity:.0%} of the 10 nearest have the same class"


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
