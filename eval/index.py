"""Finds the nearest training images of every image, by L2 distance of the representations."""

from dataclasses import dataclass

from eval.evidence.neighbors import distances_figure, occurrences_figure
from eval.evidence.validity import check_own
from train.data.embeddings import Embeddings
from train.data.neighbors import find_neighbors
from train.tracking import Problem, Stage, launch


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    k: int = 10
    """How many neighbors of each image; an image is never among its own."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise Problem(f"--k {self.k} is no number of neighbors; give 1 or more")


def main(config: Config) -> None:
    with Stage("eval.index", config) as stage:
        embeddings = Embeddings.load(stage.fetch("embeddings", config.embeddings))
        check_own(embeddings, config.embeddings, stage.alias)
        neighbors = find_neighbors(embeddings, config.k)
        stage.panel("neighbors/distances", distances_figure(neighbors))
        stage.panel("neighbors/occurrences", occurrences_figure(neighbors))
        stage.publish("neighbors", neighbors.save)


if __name__ == "__main__":
    launch(main)
