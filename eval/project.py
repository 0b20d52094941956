"""Draws the representations of the test images in two dimensions, by PCA and by t-SNE, coloured by class.

A map's purity is the share of each image's 10 nearest images in that map that have its class.
"""

from dataclasses import dataclass

import numpy as np
import torch

from eval.evidence.maps import SMALLEST, draw, map_figure, pca, purity, tsne
from eval.evidence.validity import check, check_own
from train.data.embeddings import Embeddings
from train.objectives.collapse import dimension_std, effective_rank
from train.tracking import Problem, Stage, launch
from train.tracking.scores import Scores


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    sample: int = 10_000
    """Test images in the maps at most, drawn at random; all where there are fewer."""

    def __post_init__(self) -> None:
        if self.sample < SMALLEST:
            raise Problem(f"--sample {self.sample} makes no map; give {SMALLEST} or more")


def main(config: Config) -> None:
    with Stage("eval.project", config) as stage:
        embeddings = Embeddings.load(stage.fetch("embeddings", config.embeddings))
        check_own(embeddings, config.embeddings, stage.alias)
        check(embeddings)
        scores = project(embeddings, config.sample, stage.seed or 0)
        scores.log(stage)
        stage.publish("project", scores.save)


def project(embeddings: Embeddings, sample: int, seed: int) -> Scores:
    """`collapse/*` is measured on all test vectors, the rest on the sample."""
    rows = draw(len(embeddings.test), sample, seed)
    vectors, labels = embeddings.test[rows], embeddings.test_labels[rows]
    linear, explained = pca(vectors, seed)
    nonlinear = tsne(vectors, seed)
    purities = {"pca": purity(linear, labels, seed), "tsne": purity(nonlinear, labels, seed)}
    z_nd = torch.from_numpy(np.array(embeddings.test))
    first, second = (f"component {i + 1} ({share:.1%} of the variance)" for i, share in enumerate(explained))
    return Scores(
        values={
            **{f"project/{name}/purity": value for name, value in purities.items()},
            "project/pca/explained": list(explained),
            "collapse/std": dimension_std(z_nd).item(),
            "collapse/effective_rank": effective_rank(z_nd).item(),
        },
        figures={
            "project/pca": map_figure(
                f"PCA of the test images: {purities['pca']:.0%} of the 10 nearest have the same class",
                (first, second),
                linear,
                labels,
                embeddings.classes,
                rows,
            ),
            "project/tsne": map_figure(
                f"t-SNE of the test images: {purities['tsne']:.0%} of the 10 nearest have the same class",
                ("", ""),
                nonlinear,
                labels,
                embeddings.classes,
                rows,
            ),
        },
    )


if __name__ == "__main__":
    launch(main)
